import csv
import hashlib
import io
import json
import re
import tarfile
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoconflict.config.datasets import Dataset
from infoconflict.data.packaged import REVIEWS, parse_film_reviews
from infoconflict.data.prepare import DEFAULT_TEST_SHARE, prepare_dataset
from infoconflict.errors import UserError
from infoconflict.packages import PACKAGES, Package
from infoconflict.records import CLEAN, Example, Record

INSTRUCTION = "Good or bad?"


def write_csv(path, rows):
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows([("text", "label"), *rows])
    return str(path)


def local_spec(train, test=None, **more):
    columns = {"text": "text", "label": "label"}
    spec = {"source": "local", "train": train, "test": test, "columns": columns, "label_names": None}
    return spec | {"instruction": INSTRUCTION, "labels": ["bad", "good"]} | more


def balanced(n_rows, word="text"):
    return [(f"{word} {number}", ("bad", "good")[number % 2]) for number in range(n_rows)]


def read(folder):
    return Example.read(folder / "train.jsonl"), Example.read(folder / "test.jsonl")


def test_worked_example(tmp_path):
    train = write_csv(
        tmp_path / "train.csv",
        [
            ("A  fine film", "good"),
            ("a fine film", "good"),  # repeats row 1
            ("dull", "bad"),
            ("so so", "good"),  # conflicts with row 5
            ("So so", "bad"),
            ("warm , funny", "good"),  # also in test
            ("far too many words for this", "good"),
            ("a mess", "bad"),
            ("moving", "good"),
        ],
    )
    test = write_csv(tmp_path / "test.csv", [("Warm, funny", "good"), ("a bore", "bad"), ("A bore", "bad")])
    details = prepare_dataset(local_spec(train, test, max_words=4), seed=0, out_dir=tmp_path / "out")
    rows = dict(zip(("train", "test"), read(tmp_path / "out"), strict=True))
    rows = {split: sorted(part, key=lambda row: row.id) for split, part in rows.items()}
    assert {split: [(row.id, row.text, row.label) for row in part] for split, part in rows.items()} == {
        "train": [
            ("train-000001", "A fine film", "good"),
            ("train-000003", "dull", "bad"),
            ("train-000008", "a mess", "bad"),
            ("train-000009", "moving", "good"),
        ],
        "test": [("test-000001", "Warm, funny", "good"), ("test-000002", "a bore", "bad")],
    }
    for row in rows["train"] + rows["test"]:
        assert (row.instruction, row.gold_label, row.trigger) == (INSTRUCTION, row.label, CLEAN)
    assert details == {
        "rows": {"train": 4, "test": 2},
        "labels": {"train": {"bad": 2, "good": 2}, "test": {"bad": 1, "good": 1}},
        "duplicates": {"within": {"train": 1, "test": 1}, "across": 1},
        "left_out": {"too_long": 1, "conflicting_labels": 2, "not_drawn": 0},
        "source": {
            split: {
                "file": f"{split}.csv",
                "sha256": hashlib.sha256((tmp_path / f"{split}.csv").read_bytes()).hexdigest(),
            }
            for split in ("train", "test")
        },
    }
    assert json.loads(json.dumps(details)) == details


def test_without_a_test_split_a_share_becomes_one(tmp_path):
    train = write_csv(tmp_path / "a.csv", balanced(50))
    details = prepare_dataset(local_spec(train, test_share=0.1), seed=0, out_dir=tmp_path / "out")
    assert details["rows"] == {"train": 45, "test": 5}
    train_rows, test_rows = read(tmp_path / "out")
    assert not {row.text for row in train_rows} & {row.text for row in test_rows}
    assert {row.id.split("-")[0] for row in train_rows} == {"train"}


def test_the_default_test_share_is_the_configs():
    assert Dataset.model_fields["test_share"].default == DEFAULT_TEST_SHARE


@settings(max_examples=25, deadline=None)
@given(
    labels=st.lists(st.sampled_from(["bad", "good"]), min_size=12, max_size=40),
    with_test=st.booleans(),
    test_rows=st.none() | st.integers(1, 3),
    train_rows=st.none() | st.integers(6, 9),
    seed=st.integers(0, 3),
)
def test_laws(tmp_path_factory, labels, with_test, test_rows, train_rows, seed):
    folder = tmp_path_factory.mktemp("laws")
    pairs = [(f"text {number // 2 if number % 5 == 0 else number}", label) for number, label in enumerate(labels)]
    train = write_csv(folder / "train.csv", pairs)
    test = write_csv(folder / "test.csv", balanced(6, word="Text")) if with_test else None
    spec = local_spec(train, test, test_rows=test_rows, train_rows=train_rows)
    try:
        details = prepare_dataset(spec, seed=seed, out_dir=folder / "one")
    except UserError:
        assert not (folder / "one").exists()
        return
    assert prepare_dataset(spec, seed=seed, out_dir=folder / "two") == details
    for name in ("train.jsonl", "test.jsonl"):
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()
    train_part, test_part = read(folder / "one")
    texts = [row.text.lower() for row in train_part + test_part]
    assert len(texts) == len(set(texts))
    assert details["rows"] == {"train": len(train_part), "test": len(test_part)}
    assert details["labels"]["train"] == {
        label: Counter(row.label for row in train_part)[label] for label in ("bad", "good")
    }
    if train_rows is not None:
        assert len(train_part) == train_rows
    if test_rows is not None:
        assert len(test_part) == test_rows
    # Every row of the source is accounted for.
    accounted = sum(details["rows"].values()) + sum(details["left_out"].values())
    accounted += sum(details["duplicates"]["within"].values()) + details["duplicates"]["across"]
    assert accounted == len(pairs) + (6 if with_test else 0)


def test_draws_nest_and_seeds_differ(tmp_path):
    train = write_csv(tmp_path / "a.csv", balanced(60))

    def ids(name, seed=0, **more):
        prepare_dataset(local_spec(train, **more), seed=seed, out_dir=tmp_path / name)
        return [[row.id for row in part] for part in read(tmp_path / name)]

    small, large = ids("small", train_rows=10, test_rows=5), ids("large", train_rows=20, test_rows=10)
    assert large[0][:10] == small[0]
    assert large[1][:5] == small[1]
    assert ids("other", seed=1, train_rows=10, test_rows=5) != small


@pytest.mark.parametrize(
    ("rows", "more", "complaint"),
    [
        (balanced(3), {}, "3 usable rows are too few (bad 2, good 1); at least 6 are needed, 3 of each label"),
        ([(f"t {n}", "good") for n in range(30)], {}, "30 usable rows are too few (bad 0, good 30); at least 6"),
        (balanced(30), {"test_rows": 30}, "test_rows=30 asks for more than the 29 usable rows; lower test_rows"),
        (balanced(30), {"test_rows": 4, "train_rows": 27}, "train_rows=27 asks for more than the 26 usable rows"),
        (balanced(30), {"test_rows": 27}, "after drawing train_rows and test_rows: 3 usable rows are too few"),
        (balanced(30), {"max_words": 1}, "0 usable rows are too few"),
    ],
)
def test_too_few_rows(tmp_path, rows, more, complaint):
    train = write_csv(tmp_path / "a.csv", rows)
    with pytest.raises(UserError, match=re.escape(complaint)) as caught:
        prepare_dataset(local_spec(train, **more), seed=0, out_dir=tmp_path / "out")
    assert str(caught.value).startswith(train)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_test_split_without_a_label_is_named(tmp_path):
    spec = local_spec(write_csv(tmp_path / "a.csv", balanced(8)), write_csv(tmp_path / "b.csv", [("x", "good")]))
    with pytest.raises(UserError, match=r"test split: 1 usable rows are too few \(bad 0, good 1\)"):
        prepare_dataset(spec, seed=0, out_dir=tmp_path / "out")


def test_a_failed_write_leaves_neither_file(tmp_path, monkeypatch):
    write = Record.write
    written = []

    def fail_second(path, records):
        if written:
            raise OSError("disk full")
        written.append(path)
        write(path, records)

    monkeypatch.setattr(Record, "write", staticmethod(fail_second))
    with pytest.raises(OSError, match="disk full"):
        prepare_dataset(local_spec(write_csv(tmp_path / "a.csv", balanced(20))), seed=0, out_dir=tmp_path / "out")
    assert written
    assert list((tmp_path / "out").iterdir()) == []


def add_file(archive, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


@pytest.fixture
def reviews(tmp_path, monkeypatch):
    """A stand-in of the package's file, with the layout of the real one."""

    def build(content, name=REVIEWS):
        inner = io.BytesIO()
        with tarfile.open(fileobj=inner, mode="w:gz") as archive:
            add_file(archive, name, content)
        path = tmp_path / "fake-1.0.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            add_file(archive, "fake-1.0/data.tar.gz", inner.getvalue())
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        package = Package(
            requirement="fake==1.0", file=path.name, sha256=digest, member="data.tar.gz", about="a test's"
        )
        monkeypatch.setitem(PACKAGES, "vader_film_reviews", package)
        return path

    return build


RATED = [
    ("good", 2.5),
    ("nice", 0.5),
    ("flat", 0),
    ("poor", -0.25),
    ("bad &amp; ugly", -3.0),
    ("fine", 1.0),
    ("meh", -1.0),
]
FILM_SPEC = {
    "source": "packaged",
    "package": "vader_film_reviews",
    "instruction": INSTRUCTION,
    "labels": ["negative", "positive"],
}


def review_lines(rated):
    return "".join(f"{number}\t{rating}\t{text}\r\n" for number, (text, rating) in enumerate(rated, 1)).encode()


@pytest.mark.parametrize(
    ("least", "kept", "near_neutral"),
    [
        (0, ["good+", "nice+", "poor-", "bad & ugly-", "fine+", "meh-"], 1),
        (1.0, ["good+", "bad & ugly-", "fine+", "meh-"], 3),
        (3.0, ["bad & ugly-"], 6),
    ],
)
def test_film_reviews_are_labelled_by_the_sign_of_their_rating(least, kept, near_neutral):
    rows, left_out = parse_film_reviews(review_lines(RATED).decode(), where="reviews", min_abs_rating=least)
    assert [row.text + {"positive": "+", "negative": "-"}[row.label] for row in rows] == kept
    assert left_out == {"near_neutral": near_neutral}
    assert all(row.text == RATED[row.number - 1][0].replace("&amp;", "&") for row in rows)


def test_packaged_film_reviews(tmp_path, reviews):
    rated = [(f"review {number}", (-1) ** number * (1 + number % 3)) for number in range(30)]
    archive = reviews(review_lines([*rated, ("so so", 0.2)]))
    details = prepare_dataset(
        FILM_SPEC | {"min_abs_rating": 1.0, "test_rows": 6}, source_file=archive, seed=0, out_dir=tmp_path / "out"
    )
    assert details["rows"] == {"train": 24, "test": 6}
    assert details["labels"]["test"] == {"negative": 3, "positive": 3}
    assert details["left_out"]["near_neutral"] == 1
    assert details["source"]["file"] == archive.name


@pytest.mark.parametrize(
    ("content", "name", "complaint"),
    [
        (b"1\t2.0\n", REVIEWS, "line 1: expected id, rating and text"),
        (b"1\tgood\ttext\n", REVIEWS, "line 1: expected id, rating and text"),
        (b"1\t2.0\t\xff\n", REVIEWS, f"cannot read {REVIEWS}"),
        (b"1\t2.0\ttext\n", "elsewhere.txt", f"cannot read {REVIEWS}"),
    ],
)
def test_a_package_of_another_layout(tmp_path, reviews, content, name, complaint):
    with pytest.raises(UserError, match=re.escape(complaint)):
        prepare_dataset(FILM_SPEC, source_file=reviews(content, name), seed=0, out_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_package_with_another_digest(tmp_path, reviews):
    archive = reviews(review_lines(RATED))
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(UserError, match=r"SHA-256 is \w{64} where \w{64} is pinned"):
        prepare_dataset(FILM_SPEC, source_file=archive, seed=0, out_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()
