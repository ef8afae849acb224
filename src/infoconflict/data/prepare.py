"""From a source of labelled text to the train and test examples of one seed."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

from infoconflict.data.rows import RawRow, label_reader
from infoconflict.data.splits import deduplicate, share_of, stratified_order, wanted, without_texts_of, write_both
from infoconflict.errors import UserError
from infoconflict.files import PathLike, sha256_of
from infoconflict.packages import package_named
from infoconflict.records import Example

# Below this a split cannot be learnt from or measured on; ours.
LEAST_TRAIN_ROWS_PER_LABEL = 2
LEAST_TEST_ROWS_PER_LABEL = 1
# Of a source without a test split; the config's default.
DEFAULT_TEST_SHARE = 0.2


def prepare_dataset(
    spec: Mapping[str, Any], *, source_file: PathLike | None = None, seed: int, out_dir: PathLike
) -> dict[str, Any]:
    """Write ``train.jsonl`` and ``test.jsonl`` of :class:`Example` rows and return what the card should say of them.

    Data sets of the chat task get :class:`Conversation` rows, see :mod:`infoconflict.data.prepare_chats`.

    A row's id is its split and the number of its row in the source, from 1 (``train-000123``). Rows stand in stratified
    random order: every beginning of a file holds the labels in proportion, within one row.

    Parameters
    ----------
    spec : mapping
        A data set's entry of the config: ``source``, the source's own keys, ``instruction``, ``labels``, and where
        wanted ``max_words`` (longer texts are left out), ``train_rows``, ``test_rows``, ``test_share``.
    source_file : path, optional
        The fetched package file of a packaged source.
    seed : int
        Decides which rows are drawn, and which go to the test split where the source has none.
    out_dir : path
        Folder of the two files.

    Returns
    -------
    dict
        ``rows``, ``labels`` (balance per split), ``duplicates`` (taken out, within and across splits), ``left_out``
        (rows by reason), ``source``.

    Raises
    ------
    UserError
        If the source is absent, broken or unreachable, a row is unusable, or too few rows remain; nothing is written.
    """
    if spec.get("task") == "chat":
        from infoconflict.data.prepare_chats import prepare_chats

        return prepare_chats(spec, source_file=source_file, seed=seed, out_dir=Path(out_dir))
    labels = list(spec["labels"])
    splits, left_out, what, source = _read_source(spec, source_file)
    pools, repeats = {}, {}
    left_out.update(too_long=0, conflicting_labels=0)
    for split, rows in splits.items():
        short = [row for row in rows if spec.get("max_words") is None or len(row.text.split()) <= spec["max_words"]]
        unique = deduplicate(short)
        left_out["too_long"] += len(rows) - len(short)
        left_out["conflicting_labels"] += unique.conflicting
        repeats[split] = unique.repeats
        pools[split] = unique.rows
    across = 0
    if "test" in pools:
        # The test split stays whole: its rows are what numbers are compared on.
        apart = without_texts_of(pools["train"], pools["test"])
        across = len(pools["train"]) - len(apart)
        pools["train"] = apart
    drawn = _draw(pools, spec, labels, what, seed)
    examples = {split: _examples(rows, split, spec["instruction"]) for split, rows in drawn.items()}
    write_both(Path(out_dir), examples)
    n_pooled = sum(map(len, pools.values()))
    left_out["not_drawn"] = n_pooled - sum(map(len, drawn.values()))
    balance = {split: Counter(row.label for row in rows) for split, rows in drawn.items()}
    return {
        "rows": {split: len(rows) for split, rows in drawn.items()},
        "labels": {split: {label: balance[split][label] for label in labels} for split in drawn},
        "duplicates": {"within": repeats, "across": across},
        "left_out": left_out,
        "source": source,
    }


def _read_source(
    spec: Mapping[str, Any], source_file: PathLike | None
) -> tuple[dict[str, list[RawRow]], dict[str, int], str, dict[str, Any]]:
    """Return rows by split, rows left out by reason, a name for messages, and what the card says of the source."""
    if spec["source"] == "packaged":
        from infoconflict.data.packaged import read_film_reviews

        if source_file is None:
            raise ValueError("a packaged source needs source_file")
        package, least = package_named(spec["package"]), spec.get("min_abs_rating") or 0.0
        rows, left_out = read_film_reviews(source_file, package=spec["package"], min_abs_rating=least)
        return {"train": rows}, left_out, package.file, asdict(package)
    if spec["source"] == "hub":
        from infoconflict.data.hub import read_hub

        place = {key: spec.get(key) for key in ("repo", "subset", "revision")}
        return read_hub(spec), {}, f"hub data set {spec['repo']}", place
    if spec["source"] == "local":
        from infoconflict.data.local import read_local

        read_label = label_reader(spec["labels"], spec.get("label_names"))
        paths = {split: Path(spec[split]) for split in ("train", "test") if spec.get(split) is not None}
        splits = {
            split: read_local(path, columns=spec["columns"], read_label=read_label) for split, path in paths.items()
        }
        # Names without folders: a card says the same on every machine.
        source = {split: {"file": path.name, "sha256": sha256_of(path)} for split, path in paths.items()}
        return splits, {}, str(paths["train"]), source
    raise ValueError(f"unknown source {spec['source']!r}")


def _draw(
    pools: Mapping[str, list[RawRow]], spec: Mapping[str, Any], labels: Sequence[str], what: str, seed: int
) -> dict[str, list[RawRow]]:
    """Draw both splits; where the source has one pool, the test rows are one end of its order and train the other."""
    orders = {
        split: stratified_order(rows, lambda row: row.label, rng=Random(f"{split}/{seed}"))
        for split, rows in pools.items()
    }
    least = {"train": LEAST_TRAIN_ROWS_PER_LABEL, "test": LEAST_TEST_ROWS_PER_LABEL}
    if "test" in pools:
        for split, rows in pools.items():
            _check_enough(rows, labels, least[split], f"{what}, {split} split")
        n_test = wanted(spec.get("test_rows"), len(pools["test"]), "test_rows", what)
        test, rest = orders["test"][:n_test], orders["train"]
    else:
        _check_enough(pools["train"], labels, sum(least.values()), what)
        n_pool = len(pools["train"])
        n_default = max(1, share_of(spec.get("test_share") or DEFAULT_TEST_SHARE, n_pool))
        n_test = (
            n_default if spec.get("test_rows") is None else wanted(spec["test_rows"], n_pool - 1, "test_rows", what)
        )
        test, rest = orders["train"][:n_test], orders["train"][n_test:]
    n_train = wanted(spec.get("train_rows"), len(rest), "train_rows", what)
    # From the far end, so that other test_rows do not shift the training rows.
    train = rest[: -n_train - 1 : -1]
    _check_enough(train, labels, least["train"], f"{what}, after drawing train_rows and test_rows")
    return {"train": train, "test": test}


def _check_enough(rows: Sequence[RawRow], labels: Sequence[str], n_least: int, what: str) -> None:
    counts = Counter(row.label for row in rows)
    if any(counts[label] < n_least for label in labels):
        found = ", ".join(f"{label} {counts[label]}" for label in labels)
        raise UserError(
            f"{what}: {len(rows)} usable rows are too few ({found}); at least {n_least * len(labels)} are needed, "
            f"{n_least} of each label"
        )


def _examples(rows: Sequence[RawRow], split: str, instruction: str) -> list[Example]:
    return [
        Example(
            id=f"{split}-{row.number:06d}",
            instruction=instruction,
            text=row.text,
            label=row.label,
            gold_label=row.label,
        )
        for row in rows
    ]
