import csv
import gzip
import io
import json
import re

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoconflict.data.local import read_local
from infoconflict.data.rows import label_reader
from infoconflict.errors import UserError

COLUMNS = {"text": "text", "label": "label"}
ROWS = [
    ("a warm film, quietly moving", "positive"),
    ('dull, and "old"', "negative"),
    ("na\u00efve\u2028but good", "positive"),
    ("null", "negative"),
]


def read(path, columns=COLUMNS, labels=("negative", "positive"), label_names=None):
    return read_local(path, columns=columns, read_label=label_reader(labels, label_names))


def write_csv(path, rows, **dialect):
    text = io.StringIO(newline="")
    writer = csv.writer(text, **dialect)
    writer.writerows([("label", "text"), *((label, text) for text, label in rows)])
    path.write_bytes(text.getvalue().encode())


def write(path, rows):
    plain = path.with_name(path.name.removesuffix(".gz"))
    if plain.suffix == ".csv":
        write_csv(plain, rows)
    elif plain.suffix == ".tsv":
        write_csv(plain, rows, delimiter="\t", quoting=csv.QUOTE_NONE, quotechar=None, lineterminator="\n")
    elif plain.suffix == ".jsonl":
        lines = [json.dumps({"text": text, "label": label}, ensure_ascii=False) for text, label in rows]
        plain.write_text("\n".join(lines) + "\n\n", encoding="utf-8", newline="")
    else:
        pd.DataFrame(rows, columns=["text", "label"]).to_parquet(plain)
    if path != plain:
        path.write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()


KINDS = [f"{kind}{packed}" for kind in ("csv", "tsv", "jsonl", "parquet") for packed in ("", ".gz")]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_rows(tmp_path, kind):
    path = tmp_path / f"reviews.v2.{kind}"
    write(path, ROWS)
    rows = read(path)
    assert [(row.text, row.label) for row in rows] == [(" ".join(text.split()), label) for text, label in ROWS]
    assert [row.number for row in rows] == [1, 2, 3, 4]


@settings(max_examples=30)
@given(
    rows=st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["C"])).map("x{}".format), st.sampled_from(["a", "b"])),
        min_size=1,
    )
)
def test_whatever_csv_and_jsonl_can_hold_comes_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("rows")
    for kind in ("csv", "jsonl"):
        write(folder / f"rows.{kind}", rows)
    from_csv, from_jsonl = (read(folder / f"rows.{kind}", labels=("a", "b")) for kind in ("csv", "jsonl"))
    assert from_csv == from_jsonl
    assert [row.label for row in from_csv] == [label for _, label in rows]


def test_columns_have_the_names_of_the_config(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,review,stars\n7,good,1\n8,bad,0\n")
    rows = read(path, columns={"text": "review", "label": "stars"}, label_names=["negative", "positive"])
    assert [(row.text, row.label) for row in rows] == [("good", "positive"), ("bad", "negative")]


def test_a_byte_order_mark_and_windows_line_ends_are_tolerated(tmp_path):
    for name, content in {
        "a.csv": "\ufefftext,label\r\ngood,positive\r\n",
        "a.jsonl": '\ufeff{"text": "good", "label": "positive"}\r\n',
    }.items():
        (tmp_path / name).write_text(content, encoding="utf-8", newline="")
        assert [row.text for row in read(tmp_path / name)] == ["good"]


def test_quotes_in_tsv_are_ordinary_characters(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n" good\tpositive\n')
    assert read(path)[0].text == '" good'


def test_a_long_field_is_no_error(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"text,label\n{'long ' * 50_000},positive\n")
    assert len(read(path)[0].text) > 131_072  # the csv module's own limit


BAD = {
    "a.csv": [
        ("txt,label\ngood,positive\n", "line 1: no column 'text'; did you mean 'txt'? columns found: txt, label"),
        ("good,positive\n", "line 1: no column 'text'; columns found: good, positive"),
        ("text,label\ngood,positive\n ,negative\n", "line 3: the text is empty"),
        ("text,label\ngood,postive\n", "line 2: unknown label 'postive'; did you mean 'positive'?"),
        ("text,label\ngood, but long,positive\n", "line 2: 3 fields where the header has 2; quote fields"),
        ('text,label\n"good,positive\n', "line 2: not readable as a table"),
        ("text,label\n", "holds no rows"),
        ("", "holds no rows"),
        (b"text,label\ngood,positive\ncaf\xe9,positive\n", "not UTF-8 at byte 28, line 3; save the file as UTF-8"),
        ("text,label\ngood,positive\n".encode("utf-16"), "not UTF-8 at byte 0, line 1 (it looks like UTF-16)"),
    ],
    "a.jsonl": [
        ('{"text": "good"\n', "line 1: not valid JSON"),
        ('["good", "positive"]\n', "line 1: holds a list; each line must be one object"),
        ('{"text": "good", "label": "positive"}\n{"text": "bad"}\n', "line 2: no column 'label'; columns found: text"),
        ('{"text": null, "label": "positive"}\n', "line 1: the text is missing"),
        ('{"text": "\\ud83d", "label": "positive"}\n', "line 1: the text is empty"),
        ('{"text": "a \\ud83d", "label": "positive"}\n', "line 1: the text holds half of a surrogate pair"),
    ],
    "a.parquet": [(b"PAR1 and then nothing", "broken parquet file")],
    "a.csv.gz": [
        (b"text,label\n", "broken gzip file"),
        (gzip.compress(b"text,label\n" * 99, mtime=0)[:-9], "broken gzip file"),
    ],
    "a.xlsx": [("", "files of this kind are not read; use one of .csv, .tsv, .jsonl, .parquet")],
    "a": [("", "files of this kind are not read")],
}


@pytest.mark.parametrize(
    ("name", "content", "complaint"), [(name, *case) for name, cases in BAD.items() for case in cases]
)
def test_bad_files_get_one_sentence(tmp_path, name, content, complaint):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}(, |: ){re.escape(complaint)}") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_absent_file_and_folder(tmp_path):
    with pytest.raises(UserError, match=r"absent\.csv: no such file"):
        read(tmp_path / "absent.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=r"folder\.csv: cannot be read"):
        read(tmp_path / "folder.csv")


def test_a_parquet_column_that_is_missing_is_named(tmp_path):
    pd.DataFrame({"sentence": ["good"], "label": [1]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: no column 'text'; columns found: sentence, label"):
        read(tmp_path / "a.parquet")
