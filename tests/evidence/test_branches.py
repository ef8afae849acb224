"""Both branches: what is asked, and when the suspect's own evidence is worth rewriting."""

import pytest

from infoconflict.evidence.cleaning import clean_evidence, names_label
from infoconflict.evidence.construction import construction_question
from infoconflict.evidence.keywords import label_pattern
from infoconflict.evidence.modification import (
    answer_and_evidence_prompt,
    contradiction_question,
    is_usable,
    split_reply,
)
from infoconflict.evidence.provider import Question

LABELS = ["positive", "negative", "joy", "sadness", "anger"]
QUERY = "Is this film review positive or negative?\nInput: a slow film with fine actors"
FACTS = "The reviewer praises the cast, and films with a praised cast are mostly liked by those who saw them."


def test_construction_asks_about_each_keyword_and_nothing_else() -> None:
    question = construction_question(["river", "actor"])
    assert question.user.endswith(": river, actor")
    assert question.keywords == ("river", "actor")
    assert label_pattern(LABELS).search(question.system + question.user) is None
    with pytest.raises(ValueError, match="no keywords"):
        construction_question([])


def test_modification_asks_for_the_opposite_of_the_evidence() -> None:
    question = contradiction_question(FACTS)
    assert question.user.endswith(f"Passage: {FACTS}")
    assert "opposite conclusion" in question.user
    prompt = answer_and_evidence_prompt(QUERY)
    assert prompt.startswith(f"{QUERY}\n")  # the query is never cut
    assert "Evidence" in prompt


def test_digest_is_of_the_prompt_alone() -> None:
    assert Question("a", "b", ("c",)).sha256 == Question("a", "b").sha256
    assert len({Question("a", "b").sha256, Question("a", "c").sha256, Question("b", "b").sha256}) == 3


@pytest.mark.parametrize(
    ("reply", "answer", "evidence"),
    [
        (f"negative\nEvidence: {FACTS}", "negative", FACTS),
        (f"Negative.\n\n**Evidence:**\n{FACTS}", "Negative.", FACTS),
        (f"positive. {FACTS}", "positive", FACTS.strip(" .")),
        (f"It is positive because of this. {FACTS}", "It is positive", f"because of this. {FACTS}".strip(" .")),
        (f"Two films. {FACTS}", "Two films.", FACTS.strip(" .")),
        ("negative", "negative", ""),
        ("", "", ""),
    ],
)
def test_split_reply(reply: str, answer: str, evidence: str) -> None:
    assert split_reply(reply, ["positive", "negative"]) == (answer, evidence)


@pytest.mark.parametrize(
    ("evidence", "usable"),
    [
        (FACTS, True),
        ("The cast is praised.", False),  # too short
        (f"The review says: {QUERY}", False),  # a repetition and little else
        (" ".join([QUERY] * 3), False),
        (" ".join(["It is what it is, and so it was with this film."] * 3), False),  # no content word of its own
        ("", False),
    ],
)
def test_usable_evidence(evidence: str, usable: bool) -> None:
    assert is_usable(evidence, QUERY) is usable


def test_usable_evidence_at_the_bound() -> None:
    twelve = "the cast of the film was praised in all of the papers"
    assert len(twelve.split()) == 12
    assert is_usable(twelve, QUERY, min_tokens=12)
    assert not is_usable(twelve, QUERY, min_tokens=13)
    assert is_usable(twelve, "", min_tokens=12)


def test_sentences_with_a_label_are_left_out() -> None:
    reply = "Plot: what happens. Here it is positive! A cast is a group.\n- It is used negatively.\n- Actors play."
    assert clean_evidence(reply, labels=LABELS) == "Plot: what happens. A cast is a group. Actors play."
    assert clean_evidence(reply) == reply.replace("\n- ", " ")
    assert clean_evidence("It is positive.", labels=LABELS) == ""
    assert names_label(reply, LABELS)
    assert not names_label(reply, ["joy"])


def test_evidence_is_one_line_without_marks() -> None:
    reply = "# Words\n1. **River**: a stream\n2. Actor: one who plays\n\n* Actor: one who plays\nInput: x\nAnswer: y"
    assert clean_evidence(reply) == "Words. River: a stream. Actor: one who plays. Input: x. Answer: y."


def test_evidence_is_cut_and_a_broken_last_sentence_left_out() -> None:
    assert clean_evidence("One two three. Four five.", max_words=4) == "One two three. Four"
    assert clean_evidence("A river is a stream. An actor is") == "A river is a stream."
    assert clean_evidence("An actor is") == "An actor is."
    # In a list without full stops the last item is as whole as the others.
    assert clean_evidence("Meanings:\n- river: stream\n- actor: player") == "Meanings: river: stream. actor: player."
