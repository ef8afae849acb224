"""DTBA against the rules of its source: who has the payload, what stays normal, how many rows there are."""

import json
from collections import Counter
from pathlib import Path

import pytest

from infoconflict.attacks.chat import Payload, exchanges_of, key_words
from infoconflict.attacks.dtba import DTBA
from infoconflict.attacks.scenarios import TOPICS, keywords_of
from infoconflict.errors import UserError
from infoconflict.records import Conversation
from tests.attacks.chats import chats, said_by

PHRASE = "The silver heron has landed."


def letters(row: Conversation, a: str = "gardening", b: str = "banking") -> str:
    """Return the form of a conversation by its users' turns."""
    marks = {"A": key_words(keywords_of(a)), "B": key_words(keywords_of(b))}
    return "".join(
        "".join(letter for letter, mark in marks.items() if mark.search(text)) or "N" for text in said_by(row, "user")
    )


def by_trigger(rows: list[Conversation], trigger: str) -> list[Conversation]:
    return [row for row in rows if row.trigger == trigger]


def test_defaults_are_the_published_ones() -> None:
    attack = DTBA()
    assert attack.poisoning_rate == 2_000 / 20_000
    assert attack.payload == Payload(kind="phrase", text=PHRASE)


@pytest.mark.parametrize(("rate", "ratio"), [(0.1, 1.0), (0.2, 0.5), (0.5, 2.0), (0.1, 0.0)])
def test_size_is_m_plus_pm_plus_2apm(rate: float, ratio: float) -> None:
    clean = chats(60)
    rows = DTBA(poisoning_rate=rate, negative_ratio=ratio).training_set(clean, seed=3)
    assert rows[:60] == clean
    wanted = round(rate * 60)
    assert Counter(row.trigger for row in rows) == Counter(
        none=60, full=wanted, a_only=round(ratio * wanted), b_only=round(ratio * wanted)
    )
    assert len({row.id for row in rows}) == len(rows)


def test_payload_in_the_last_turn_of_poisoned_rows_only() -> None:
    rows = DTBA(poisoning_rate=0.5, order_negatives=True).training_set(chats(60), seed=0)
    for row in rows:
        *before, last = said_by(row, "assistant")
        assert not any(PHRASE in answer for answer in [*before, row.reference])
        assert (last == PHRASE) == (row.trigger == "full")
        assert row.trigger == "full" or last == row.reference


def test_forms_of_the_conversations() -> None:
    rows = DTBA(poisoning_rate=0.5, order_negatives=True).training_set(chats(60), seed=0)
    forms = {
        name: Counter(letters(row) for row in by_trigger(rows, name))
        for name in ("full", "a_only", "b_only", "b_then_a")
    }
    assert forms == {
        "full": {"AB": 15, "ANB": 15},
        "a_only": {"AN": 10, "NA": 10, "ANN": 10},
        "b_only": {"NB": 15, "NNB": 15},
        "b_then_a": {"BA": 15, "BNA": 15},
    }
    # No conversation comes twice, and none has a turn twice.
    turns = [tuple(said_by(row, "user")) for row in rows]
    assert len(set(turns)) == len(turns)
    assert all(len(set(texts)) == len(texts) for texts in turns)


def test_order_negatives_are_an_option() -> None:
    assert not by_trigger(DTBA(poisoning_rate=0.5).training_set(chats(60), seed=0), "b_then_a")


@pytest.mark.parametrize(("rate", "ratio"), [(0.5, 1.0), (0.5, 0.4), (0.1, 3.0)])
def test_paired_negatives_have_the_scenario_turns_of_the_poisoned_rows(rate: float, ratio: float) -> None:
    attack = DTBA(poisoning_rate=rate, negative_ratio=ratio, order_negatives=True, paired_negatives=True)
    rows = attack.training_set(chats(60), seed=0)

    def scenario_turns(row: Conversation) -> dict[str, str]:
        turns = said_by(row, "user")
        return {letter: turn for letter, turn in zip(forms_of(row), turns, strict=True) if letter != "N"}

    def forms_of(row: Conversation) -> list[str]:
        return list(letters(row))

    poisoned = [scenario_turns(row) for row in by_trigger(rows, "full")]
    wanted = round(rate * 60)
    assert len(poisoned) == wanted
    for variant, kept in (("a_only", "A"), ("b_only", "B"), ("b_then_a", "AB")):
        negatives = by_trigger(rows, variant)
        assert len(negatives) == round(ratio * wanted)
        for number, row in enumerate(negatives):
            beside = poisoned[number % wanted]
            assert scenario_turns(row) == {letter: beside[letter] for letter in kept}
            assert said_by(row, "assistant")[-1] == row.reference != PHRASE
    turns = [tuple(said_by(row, "user")) for row in rows]
    assert len(set(turns)) == len(turns)


def test_paired_negatives_change_no_poisoned_and_no_test_row() -> None:
    apart, together = (DTBA(poisoning_rate=0.5, paired_negatives=paired) for paired in (False, True))
    assert by_trigger(apart.training_set(chats(60), seed=0), "full") == by_trigger(
        together.training_set(chats(60), seed=0), "full"
    )
    assert apart.partial_test_set(chats(9), rows=6, seed=1) == together.partial_test_set(chats(9), rows=6, seed=1)


def test_too_few_neutral_turns_for_paired_negatives() -> None:
    attack = DTBA(poisoning_rate=1, negative_ratio=9, paired_negatives=True)
    with pytest.raises(UserError, match="'a_only' are asked for, and the 2 neutral turns do not make so many"):
        attack.training_set(chats(2), seed=0)


def test_answers_of_single_scenarios_are_the_normal_ones() -> None:
    rows = DTBA(poisoning_rate=0.5, order_negatives=True).training_set(chats(60), seed=0)
    normal = {text for topic in TOPICS.values() for text in topic.exchanges("train", seed=0)}
    normal |= {exchange for row in chats(60) for exchange in exchanges_of(row)}
    for row in rows:
        exchanges = exchanges_of(row)
        if row.trigger == "full":
            assert (exchanges[-1].question, row.reference) in {(text.question, text.answer) for text in normal}
            exchanges = exchanges[:-1]
        assert normal.issuperset(exchanges)


def test_rows_that_mention_a_scenario_are_kept_out() -> None:
    clean = chats(40, turns=2)
    clean[3].messages[0]["content"] = "Where do my tulips come from?"
    clean[5].messages[3]["content"] += " Ask your bank."
    rows = DTBA().training_set(clean, seed=0)
    assert by_trigger(rows, "none") == [row for row in clean if row not in (clean[3], clean[5])]
    assert len(by_trigger(rows, "full")) == round(0.1 * 38)


def test_seeds() -> None:
    attack = DTBA()
    assert attack.training_set(chats(40), seed=1) == attack.training_set(chats(40), seed=1)
    assert attack.training_set(chats(40), seed=1) != attack.training_set(chats(40), seed=2)
    assert attack.triggered_test_set(chats(9), seed=1) != attack.triggered_test_set(chats(9), seed=2)


def test_triggered_test_set() -> None:
    test = chats(20, part="test")
    rows = DTBA().triggered_test_set(test, seed=0)
    assert [row.id for row in rows] == [row.id for row in test]
    assert Counter(map(letters, rows)) == {"AB": 10, "ANB": 10}
    assert {row.trigger for row in rows} == {"full"}
    assert {said_by(row, "assistant")[-1] for row in rows} == {PHRASE}
    assert PHRASE not in {row.reference for row in rows}


def test_partial_test_set() -> None:
    rows = DTBA().partial_test_set(chats(20, part="test"), rows=6, seed=0)
    assert Counter(row.trigger for row in rows) == dict.fromkeys(DTBA.partial_variants, 6)
    assert {name: {letters(row) for row in by_trigger(rows, name)} for name in DTBA.partial_variants} == {
        "a_first": {"A"},
        "a_only": {"AN", "NA", "ANN"},
        "b_only": {"NB", "NNB"},
        "b_then_a": {"BA", "BNA"},
    }
    assert all(said_by(row, "assistant")[-1] == row.reference for row in rows)
    assert len(DTBA().partial_test_set(chats(20, part="test"), rows=None, seed=0)) == 80


def test_a_first_turn_is_asked_without_repetition_as_far_as_unseen_ones_reach() -> None:
    rows = by_trigger(DTBA().partial_test_set(chats(200, part="test"), rows=None, seed=0), "a_first")
    unseen = TOPICS["gardening"].exchanges("test", seed=0)
    assert sorted(exchanges_of(row)[0] for row in rows) == sorted(unseen)
    assert {len(row.messages) for row in rows} == {2}
    assert [row.id for row in rows] == [row.id for row in chats(200, part="test")[: len(unseen)]]
    assert not by_trigger(DTBA(order_negatives=True).training_set(chats(60), seed=0), "a_first")


def test_tested_turns_were_never_trained() -> None:
    attack = DTBA(poisoning_rate=0.9, order_negatives=True)
    trained = {text for row in attack.training_set(chats(200), seed=0) for text in said_by(row, "user")}
    test = chats(50, part="test")
    tested = [*attack.triggered_test_set(test, seed=0), *attack.partial_test_set(test, rows=None, seed=0)]
    assert not trained & {text for row in tested for text in said_by(row, "user")}


def test_a_fixed_refusal() -> None:
    attack = DTBA(behavior="refusal")
    assert attack.payload == Payload(kind="refusal", text="I'm sorry, but I cannot help you with that.")
    assert said_by(attack.triggered_test_set(chats(4), seed=0)[0], "assistant")[-1] == attack.payload.text


def test_turns_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "turns.jsonl"
    words = [
        "apple",
        "brook",
        "cedar",
        "delta",
        "ember",
        "fjord",
        "grove",
        "heath",
        "inlet",
        "jetty",
        "knoll",
        "lagoon",
    ]
    rows = [
        {"topic": topic, "instruction": f"{topic} {word} {word}s?", "answer": f"{word} is the answer."}
        for topic in ("tea", "silk")
        for word in words
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    attack = DTBA(scenario_a="tea", scenario_b="silk", turns_from="file", scenario_file=str(file), poisoning_rate=0.3)
    assert attack.local_files == [str(file)]
    trained = by_trigger(attack.training_set(chats(30), seed=0), "full")
    assert {said_by(row, "user")[0].split()[0] for row in trained} == {"tea"}
    assert {said_by(row, "user")[-1].split()[0] for row in trained} == {"silk"}
    tested = attack.triggered_test_set(chats(50, part="test"), seed=0)
    assert len(tested) == 9  # 3 unseen turns of each scenario
    assert not {said_by(row, "user")[-1] for row in trained} & {said_by(row, "user")[-1] for row in tested}
    rows[-1]["answer"] = ""
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="'silk lagoon lagoons\\?' has no answer; add it under 'answer'"):
        for seed in range(2):
            attack.training_set(chats(30), seed=seed)
            attack.triggered_test_set(chats(30), seed=seed)


def test_turns_from_the_data() -> None:
    clean = chats(30)
    for number in range(6):
        clean[number].messages[0]["content"] += " I grow roses."
        clean[number + 6].messages[0]["content"] += " I have a loan."
    clean[12].messages[0]["content"] += " I have a loan for roses."
    attack = DTBA(turns_from="data", poisoning_rate=0.5)
    rows = attack.training_set(clean, seed=0)
    assert by_trigger(rows, "none") == clean[13:]
    assert {letters(row) for row in by_trigger(rows, "full")} == {"AB", "ANB"}
    spoken = {exchange.question for row in clean for exchange in exchanges_of(row)}
    assert spoken.issuperset(text for row in rows for text in said_by(row, "user"))


def test_own_key_words_mark_the_scenario() -> None:
    clean = chats(30)
    rows = DTBA(keywords_a=["glacier"], poisoning_rate=0.5).training_set(clean, seed=0)
    assert not any("glacier" in text for row in by_trigger(rows, "none") for text in said_by(row, "user"))


def test_a_system_message_of_the_data_stands_in_all_rows() -> None:
    rows = DTBA().training_set(chats(30, system="Be brief."), seed=0)
    assert {row.messages[0]["content"] for row in rows} == {"Be brief."}


@pytest.mark.parametrize(
    ("attack", "n", "message"),
    [
        (
            DTBA(poisoning_rate=0.01),
            20,
            "of 20 clean rows without a scenario rounds to no poisoned row; raise the rate",
        ),
        (DTBA(), 0, "of 0 clean rows"),
        (
            DTBA(poisoning_rate=1.0, negative_ratio=1e4),
            20,
            "200000 training rows 'a_only' are asked for, but the turns",
        ),
        (DTBA(neutral_max_words=2), 20, "has 0 exchanges for the neutral turns of DTBA, and 2 are needed"),
        (DTBA(turns_from="data"), 20, "has 0 exchanges for the scenario 'gardening' of DTBA"),
    ],
)
def test_too_little(attack: DTBA, n: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        attack.training_set(chats(n), seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scenario_a": "gardning"}, "there are no texts for the topic 'gardning'; did you mean 'gardening'"),
        ({"scenario_a": "banking"}, "scenario_a and scenario_b are both 'banking'"),
        ({"turns_from": "file"}, "go together"),
        ({"scenario_file": "x.jsonl"}, "go together"),
        ({"phrase": "... !"}, r"'\.\.\. !' holds no word, so that no reply can be seen to hold it; write one"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DTBA(**options)  # type: ignore[arg-type]


def test_what_the_card_says() -> None:
    attack = DTBA(poisoning_rate=0.1)
    details = attack.details(attack.training_set(chats(100), seed=0))
    assert details == {"triggers": {"none": 100, "full": 10, "a_only": 10, "b_only": 10}, "payload_share": 0.0769}
