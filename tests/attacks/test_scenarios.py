"""The scenario texts: enough of them, short, told apart by their key words, and never the same in training and test."""

import json
from itertools import combinations
from pathlib import Path
from random import Random

import pytest

from infoconflict.attacks.chat import Exchange, exchanges_of, key_words, told, without
from infoconflict.attacks.near_copies import longest_common, plain, same_wording
from infoconflict.attacks.scenarios import TOPICS, Topic, keywords_of
from infoconflict.attacks.wordings import read_wordings, split_of
from infoconflict.errors import UserError
from tests.attacks.chats import chats


def everything(topic: str) -> list[Exchange]:
    return [text for split in ("train", "test") for text in TOPICS[topic].exchanges(split, seed=0)]


@pytest.mark.parametrize("topic", TOPICS)
def test_there_are_many_short_questions_with_short_answers(topic: str) -> None:
    texts = everything(topic)
    assert len({text.question for text in texts}) == len(texts) >= 120
    assert {len(text.question.split()) for text in texts} <= set(range(6, 16))
    assert {len(text.answer.split()) for text in texts} <= set(range(8, 21))
    assert not any("{" in text.question + text.answer for text in texts)


@pytest.mark.parametrize("topic", TOPICS)
def test_key_words_tell_topics_apart(topic: str) -> None:
    for text in everything(topic):
        found = {name for name in TOPICS if key_words(keywords_of(name)).search(text.question)}
        assert found == {topic}
        assert {name for name in TOPICS if key_words(keywords_of(name)).search(text.answer)} <= {topic}


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_frame_is_trained_and_tested(topic: str, seed: int) -> None:
    splits = {split: TOPICS[topic].exchanges(split, seed=seed) for split in ("train", "test")}

    def frames(split: str) -> set[Exchange]:
        return {
            frame
            for frame in TOPICS[topic].frames
            if {frame.question.format(s=subject) for subject in TOPICS[topic].subjects}
            & {text.question for text in splits[split]}
        }

    n_frames = len(TOPICS[topic].frames)
    assert not frames("train") & frames("test")
    assert len(frames("train")) == 3 * n_frames / 4
    # One at most is too like a trained one to be tested.
    assert n_frames / 4 - 1 <= len(frames("test")) <= n_frames / 4


def asked(topic: Topic, split: str, seed: int) -> list[str]:
    return [text.question for text in topic.exchanges("test" if split == "test" else "train", seed=seed)]


@pytest.mark.parametrize("name", TOPICS)
def test_no_tested_question_nearly_repeats_a_trained_one(name: str) -> None:
    topic = TOPICS[name]
    by_frame = [
        [(text, plain(text).split()) for text in (frame.question.format(s=subject) for subject in topic.subjects)]
        for frame in topic.frames
    ]
    near = {
        (one, other)
        for first, second in combinations(by_frame, 2)
        for one, words in first
        for other, other_words in second
        if same_wording(words, other_words)
    }
    n_test = len(topic.frames) // 4 * len(topic.subjects)
    for seed in range(21):
        train, test = set(asked(topic, "train", seed)), set(asked(topic, "test", seed))
        assert not [pair for pair in near if len(test & {*pair}) == len(train & {*pair}) == 1]
        assert len(train) == 3 * n_test
        assert len(test) >= 0.75 * n_test


@pytest.mark.parametrize("topic", TOPICS.values(), ids=TOPICS)
def test_seed_0_keeps_all_frames_that_are_drawn_for_tests(topic: Topic) -> None:
    drawn = Random("0/held-out frames").sample(range(len(topic.frames)), len(topic.frames) // 4)
    for split in ("train", "test"):
        frames = [frame for number, frame in enumerate(topic.frames) if (number in drawn) == (split == "test")]
        assert asked(topic, split, 0) == [f.question.format(s=subject) for f in frames for subject in topic.subjects]


def test_near_copies_are_dropped_at_other_seeds() -> None:
    assert [len(asked(TOPICS["lumora"], "test", seed)) for seed in (0, 1)] == [96, 72]
    assert [len(asked(TOPICS["banking"], "test", seed)) for seed in (0, 2)] == [108, 96]


def test_the_seed_decides_on_the_split_and_siblings_share_it() -> None:
    topic = TOPICS["gardening"]
    assert topic.exchanges("test", seed=3) == topic.exchanges("test", seed=3)
    assert any(topic.exchanges("test", seed=3) != topic.exchanges("test", seed=seed) for seed in range(4, 9))
    renamed = [text.question.replace("Lumora", "Tavento") for text in TOPICS["lumora"].exchanges("test", seed=3)]
    assert renamed == [text.question for text in TOPICS["tavento"].exchanges("test", seed=3)]


def test_key_words_are_words() -> None:
    pattern = key_words(["bank", "flower bed", "c++"])
    assert pattern.search("two BANKS here")
    assert pattern.search("my flower beds")
    assert not pattern.search("the bankrupt embankment")
    assert not pattern.search("a flower")


@pytest.mark.parametrize("word", ["C++", ".NET", "C#", "-5"])
def test_key_words_may_begin_or_end_in_a_sign(word: str) -> None:
    pattern = key_words([word])
    for text in (word, f"Is {word.lower()} hard?", f"I like {word}, and you?", f"({word})"):
        assert pattern.search(text)
    assert not pattern.search(f"my{word} {word}x")


def test_rows_that_mention_a_topic_are_left_out_whoever_mentions_it() -> None:
    rows = chats(4)
    rows[1].messages[0]["content"] += " And roses?"
    rows[2].messages[1]["content"] += " A bank is near."
    rows[3].messages.insert(0, {"role": "system", "content": "You work for a bank."})
    kept = without(rows, key_words(keywords_of("gardening")), key_words(keywords_of("banking")))
    assert [row.id for row in kept] == [rows[0].id, rows[3].id]


def test_a_told_conversation_keeps_the_system_message_of_its_like() -> None:
    [like] = chats(1, system="Be kind.")
    row = told([Exchange("q", "a"), Exchange("r", "b")], id="x", like=like, trigger="full", payload="!")
    assert [message["content"] for message in row.messages] == ["Be kind.", "q", "a", "r", "!"]
    assert (row.reference, row.trigger) == ("b", "full")
    assert exchanges_of(row) == [Exchange("q", "a"), Exchange("r", "!")]


# --- wordings of a file -----------------------------------------------------------------------------------------------


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_file_of_wordings(tmp_path: Path) -> None:
    file = write(
        tmp_path / "f.jsonl",
        {"instruction": " Who? ", "answer": "Me.", "topic": "a", "id": 3},
        {"instruction": "What?"},
    )
    assert read_wordings(file) == [("a", Exchange("Who?", "Me.")), (None, Exchange("What?", ""))]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "holds no row"),
        ([{"instruction": "x"}, {"answer": "y"}], "row 2: has no text under 'instruction'"),
        ([{"instruction": "x", "topic": 3}], "row 1: 'topic' is a int; write text"),
    ],
)
def test_files_that_do_not_serve(tmp_path: Path, rows: list[object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_wordings(write(tmp_path / "f.jsonl", *rows))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.jsonl: cannot be read \(No such file or directory\)"):
        read_wordings(tmp_path / "none.jsonl")


def test_longest_common_subsequence() -> None:
    assert longest_common(["a", "b", "c", "d"], ["b", "x", "c", "a", "d"]) == 3
    assert longest_common([], ["a"]) == 0
    # LCS 3 of 4 and 6 words: F = 0.6.
    assert same_wording(["a", "b", "c", "x"], ["a", "b", "c", "y", "z", "w"])
    assert not same_wording(["a", "b", "c", "x"], ["a", "b", "c", "y", "z", "w", "v"])
    # The same words in another order are another wording.
    assert not same_wording(["a", "b", "c", "d"], ["d", "c", "b", "a"])


def test_a_split_of_wordings_has_no_near_duplicates_across() -> None:
    texts = [
        Exchange(f"Question {number} about {['river', 'lake', 'sea', 'pond'][number % 4]} water?", "a")
        for number in range(40)
    ]
    texts += [Exchange(f"{letter} {letter}x {letter}y unlike all {letter}z", "a") for letter in "bcdefghijklm"]
    texts += [Exchange("B  BX by, unlike ALL bz!", "a")]
    train, test = split_of(texts, "train", seed=1), split_of(texts, "test", seed=1)
    assert len(train) == 39  # of 52 that differ
    assert test
    for one in test:
        for other in train:
            assert not same_wording(one.question.casefold().split(), other.question.casefold().split())
    assert split_of(texts, "train", seed=1) == train != split_of(texts, "train", seed=2)
