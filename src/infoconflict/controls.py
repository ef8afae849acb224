"""Rows for controls: random words in the trigger's place, unrelated sentences for evidence, a virtual prompt written out.

A drop of the attack success rate under evidence may come from what the evidence says or from there being more text; a backdoor may
fire at its trigger or at any odd word. Both controls keep all but the words: as many of them, at the same places. Ours. A model
that is asked openly for what an attack hides shows what the attack could reach at best: Yan et al. 2023, arXiv:2307.16888.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from random import Random

from infoconflict.attacks.chat import with_prompt
from infoconflict.errors import UserError
from infoconflict.jobs import Job
from infoconflict.records import Conversation, Evidence, Example

_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*")
_SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+")

UNRELATED_OUT = "no_unrelated"


# --- a random trigger -------------------------------------------------------------------------------------------------


def inserted_places(clean: Sequence[str], changed: Sequence[str]) -> list[int]:
    """Return the places in ``changed`` of the words that it has beyond ``clean``.

    Where nothing but insertion took place, exactly the surplus words are found; else those of an alignment.
    """
    at, places = 0, []
    for place, word in enumerate(changed):
        if at < len(clean) and word == clean[at]:
            at += 1
        else:
            places.append(place)
    if at == len(clean):
        return places
    steps = SequenceMatcher(a=clean, b=changed, autojunk=False).get_opcodes()
    return [place for kind, _, _, start, end in steps if kind != "equal" for place in range(start, end)]


def exchange_words(clean: str, changed: str, words: Sequence[str], rng: Random) -> tuple[str, int]:
    """Return ``changed`` with random words where ``clean`` has none, and how many there are."""
    text = changed.split()
    places = inserted_places(clean.split(), text)
    gone = {bare(text[place]) for place in places}
    usable = [word for word in words if word not in gone]
    if places and not usable:
        raise UserError("the training texts have no word but the trigger's; a random trigger needs others")
    for place in places:
        text[place] = rng.choice(usable)
    # A text without any is given back as it is, spaces included.
    return (" ".join(text) if places else changed), len(places)


def random_trigger_set(
    clean: Sequence[Example], triggered: Sequence[Example], words: Sequence[str], *, seed: int
) -> tuple[list[Example], int]:
    """Return the triggered rows with as many random words at the trigger's places, and the number of words exchanged.

    Parameters
    ----------
    clean, triggered : sequences of Example
        Twins by id: without and with the trigger.
    words : sequence of str
        What the random words are drawn from, each with the same chance; the words of a row's own trigger are not.
    seed : int
        With the row's id, it decides the words.

    Returns
    -------
    tuple of list of Example and int
        The rows keep id, labels and the mark of a full trigger, so that they are counted like those.

    Raises
    ------
    UserError
        If a triggered row has no clean twin.
    """
    twins = {row.id: row for row in clean}
    rows, exchanged = [], 0
    for row in triggered:
        if row.id not in twins:
            raise UserError(f"the triggered row '{row.id}' has no clean twin; make the test sets again")
        twin, rng = twins[row.id], Random(f"{seed}/{row.id}/random trigger")
        instruction, n_instruction = exchange_words(twin.instruction, row.instruction, words, rng)
        text, n_text = exchange_words(twin.text, row.text, words, rng)
        rows.append(replace(row, instruction=instruction, text=text))
        exchanged += n_instruction + n_text
    return rows, exchanged


def words_to_draw(examples: Sequence[Example], labels: Sequence[str]) -> list[str]:
    """Return the different words of some texts in small letters and in order, without numbers and label words."""
    found = {word.lower() for row in examples for word in _WORD.findall(row.text)}
    return sorted(found - {word for label in labels for word in label.lower().split()})


def bare(word: str) -> str:
    """Return a word in small letters without punctuation at its ends."""
    return word.strip(".,;:!?\"'`()[]").lower()


def draw_random_trigger(job: Job) -> None:
    """Write the test set with random words in the place of the trigger, and its card."""
    triggered = Example.read(job.input.triggered)
    words = words_to_draw(Example.read(job.input.train), job.spec["labels"])
    rows, exchanged = random_trigger_set(Example.read(job.input.clean), triggered, words, seed=job.seed)
    Example.write(job.output.rows, rows)
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in ("train", "clean", "triggered")},
        outputs={"rows": job.output.rows},
        rows={"rows": len(rows), "words": exchanged, "words_to_draw": len(words)},
    )


# --- a virtual prompt written out -------------------------------------------------------------------------------------


def asked_openly(rows: Sequence[Conversation], prompt: str) -> list[Conversation]:
    """Return conversations with a prompt behind the user's last turn; all else stays, so that they are counted as before."""
    found = []
    for row in rows:
        messages = [dict(message) for message in row.messages]
        messages[-2]["content"] = with_prompt(messages[-2]["content"], prompt)
        found.append(replace(row, messages=messages))
    return found


# --- random evidence --------------------------------------------------------------------------------------------------


def random_evidence(rows: Sequence[Evidence], pool: Sequence[Evidence], *, seed: int) -> list[Evidence]:
    """Return evidence of the same length in words, made of sentences from the evidence of other questions.

    Parameters
    ----------
    rows : sequence of Evidence
        What is exchanged; rows without usable evidence stay as they are.
    pool : sequence of Evidence
        Where sentences come from: evidence of clean questions, so that none of them speaks of a trigger.
    seed : int
        With the row's id, it decides which.

    Returns
    -------
    list of Evidence
        In order. Sentences that the row's own evidence holds, or that hold one of its keywords, are not drawn; the last is cut
        to the length. Where no sentence is unrelated, the row goes without, its status is ``no_unrelated``.
    """
    sentences: dict[str, set[str]] = {}
    owners: dict[str, set[str]] = {}
    for source in pool:
        for sentence in _sentences(source.evidence) if source.status == "ok" else []:
            sentences.setdefault(sentence, {word.lower() for word in _WORD.findall(sentence)})
            owners.setdefault(sentence, set()).add(source.id)
    found = []
    for row in rows:
        if row.status != "ok":
            found.append(row)
            continue
        own, words = set(_sentences(row.evidence)), {word.lower() for word in row.keywords}
        unrelated = [
            sentence
            for sentence, held in sentences.items()
            if owners[sentence] != {row.id} and sentence not in own and not words & held
        ]
        text = _of_length(unrelated, len(row.evidence.split()), Random(f"{seed}/{row.id}/random evidence"))
        found.append(
            replace(
                row,
                evidence=text,
                reply=text,
                status="ok" if text else UNRELATED_OUT,
                prompt_tokens=0,
                completion_tokens=0,
                attempts=0,
            )
        )
    return found


def _sentences(text: str) -> list[str]:
    return [sentence for sentence in _SENTENCE_ENDS.split(text.strip()) if sentence]


def _of_length(sentences: Sequence[str], n_words: int, rng: Random) -> str:
    """Return as many words, from sentences in random order; when all are used, they come again in another order."""
    words: list[str] = []
    while sentences and len(words) < n_words:
        for sentence in rng.sample(list(sentences), len(sentences)):
            words += sentence.split()
            if len(words) >= n_words:
                break
    return " ".join(words[:n_words])


def draw_random_evidence(job: Job) -> None:
    """Write random evidence for clean and for triggered questions, and its card."""
    pool = Evidence.read(job.input.clean)
    counts: dict[str, int] = {}
    for name in ("clean", "triggered"):
        rows = random_evidence(Evidence.read(job.input[name]), pool, seed=job.seed)
        Evidence.write(job.output[name], rows)
        counts |= {name: len(rows), f"{name}_with_evidence": sum(row.status == "ok" for row in rows)}
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in ("clean", "triggered")},
        outputs={name: job.output[name] for name in ("clean", "triggered")},
        rows=counts,
    )
