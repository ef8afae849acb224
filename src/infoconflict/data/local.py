"""Labelled text from local files: csv, tsv, jsonl and parquet, plain or gzip-compressed."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from infoconflict.data.rows import RawRow, check_column, normal_text
from infoconflict.errors import UserError
from infoconflict.files import PathLike

# One raw text, one raw label, and the words that name the row in a message.
RawPair = tuple[Any, Any, str]


def read_local(path: PathLike, *, columns: Mapping[str, str], read_label: Callable[[Any, str], str]) -> list[RawRow]:
    """Return all rows of a local file.

    Parameters
    ----------
    path : path
        A file named ``.csv``, ``.tsv``, ``.jsonl`` or ``.parquet``, each also with ``.gz``; in UTF-8, with or without a
        byte order mark. Quotes in a tsv file are ordinary characters, as in GLUE's files.
    columns : mapping
        Column names under ``text`` and ``label``.
    read_label : callable
        Turns a raw label and the row's place into a label's name.

    Raises
    ------
    UserError
        If the file is absent, of another kind, broken or not UTF-8, or a row lacks text or a known label.
    """
    path = Path(path)
    plain_name = path.name.lower().removesuffix(".gz")
    suffix = plain_name[plain_name.rfind(".") :] if "." in plain_name else ""
    if suffix not in _READERS:
        kinds = ", ".join(_READERS)
        raise UserError(f"{path}: files of this kind are not read; use one of {kinds}, each with or without .gz")
    pairs = _READERS[suffix](content_of(path), str(path), columns["text"], columns["label"])
    rows = [
        RawRow(number=number, text=normal_text(text, where), label=read_label(label, where))
        for number, (text, label, where) in enumerate(pairs, start=1)
    ]
    if not rows:
        raise UserError(f"{path}: holds no rows; name a file with labelled texts")
    return rows


def content_of(path: Path) -> bytes:
    """Return a file's bytes, decompressed where its name ends in ``.gz``."""
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; correct the path, which starts from the working directory") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a readable file") from error
    if path.name.lower().endswith(".gz"):
        try:
            return gzip.decompress(content)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UserError(f"{path}: broken gzip file ({error}); copy it again or compress it anew") from error
    return content


def decoded(content: bytes, name: str) -> str:
    """Return UTF-8 bytes as text, without a byte order mark."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        utf16 = " (it looks like UTF-16)" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise UserError(
            f"{name}: not UTF-8 at byte {error.start}, line {line}{utf16}; save the file as UTF-8"
        ) from error


def _read_delimited(content: bytes, name: str, text: str, label: str, **dialect: Any) -> Iterator[RawPair]:
    # newline="" leaves line breaks inside quotes to the csv module.
    reader = csv.reader(io.StringIO(decoded(content, name), newline=""), strict=True, **dialect)
    # The limit is the whole process's: it is raised where a file needs it, and never lowered under another reader.
    csv.field_size_limit(max(csv.field_size_limit(), len(content) + 1))
    header: list[str] | None = None
    try:
        for fields in reader:
            if not fields:
                continue
            if header is None:
                header = fields
                check_column(text, header, f"{name}, line 1")
                check_column(label, header, f"{name}, line 1")
                continue
            where = f"{name}, line {reader.line_num}"
            if len(fields) != len(header):
                counts = f"{len(fields)} fields where the header has {len(header)}"
                raise UserError(f"{where}: {counts}; quote fields that hold a separator")
            yield fields[header.index(text)], fields[header.index(label)], where
    except csv.Error as error:
        raise UserError(
            f"{name}, line {reader.line_num}: not readable as a table ({error}); repair the line"
        ) from error


def _read_csv(content: bytes, name: str, text: str, label: str) -> Iterator[RawPair]:
    return _read_delimited(content, name, text, label)


def _read_tsv(content: bytes, name: str, text: str, label: str) -> Iterator[RawPair]:
    return _read_delimited(content, name, text, label, delimiter="\t", quoting=csv.QUOTE_NONE)


def _read_jsonl(content: bytes, name: str, text: str, label: str) -> Iterator[RawPair]:
    # Only "\n" ends a line: splitlines() would also cut at U+2028 inside a string.
    for number, line in enumerate(decoded(content, name).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not valid JSON ({error.msg}); each line must be one object") from error
        if not isinstance(row, dict):
            raise UserError(f"{where}: holds a {type(row).__name__}; each line must be one object")
        check_column(text, list(row), where)
        check_column(label, list(row), where)
        yield row[text], row[label], where


def _read_parquet(content: bytes, name: str, text: str, label: str) -> Iterator[RawPair]:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        file = pa.parquet.ParquetFile(io.BytesIO(content))
        found = list(file.schema_arrow.names)
        check_column(text, found, name)
        check_column(label, found, name)
        table = file.read(columns=[text, label])
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{name}: broken parquet file ({str(error).splitlines()[0]}); copy or write it again"
        ) from error
    pairs = zip(table.column(text).to_pylist(), table.column(label).to_pylist(), strict=True)
    for number, (raw_text, raw_label) in enumerate(pairs, start=1):
        yield raw_text, raw_label, f"{name}, row {number}"


_READERS: dict[str, Callable[[bytes, str, str, str], Iterator[RawPair]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
