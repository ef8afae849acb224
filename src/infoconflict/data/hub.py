"""Labelled text from the Hugging Face hub, by name, through the ``datasets`` library."""

from collections.abc import Mapping
from typing import Any

from infoconflict.data.rows import RawRow, check_column, label_reader, normal_text
from infoconflict.errors import UserError, did_you_mean


def read_hub(spec: Mapping[str, Any]) -> dict[str, list[RawRow]]:
    """Return the rows of each split that the spec names under ``splits`` (``train`` and, where there is one, ``test``).

    Raw integer labels are named by ``label_names``, else by the data set's own class names.

    Raises
    ------
    UserError
        If the hub cannot be reached or has no such data set, or a split, column or label is not there.
    """
    text, label = spec["columns"]["text"], spec["columns"]["label"]
    repo = f"hub data set {spec['repo']}"
    loaded = load_hub(spec["repo"], spec.get("subset"), spec.get("revision"))
    rows = {}
    for split in ("train", "test"):
        name = spec["splits"].get(split)
        if name is None:
            continue
        if name not in loaded:
            hint = did_you_mean(name, loaded) or ";"
            raise UserError(f"{repo}: no split '{name}'{hint} splits found: {', '.join(loaded)}")
        table, where = loaded[name], f"{repo}, split {name}"
        check_column(text, table.column_names, where)
        check_column(label, table.column_names, where)
        own_names = getattr(table.features[label], "names", None)
        read_label = label_reader(spec["labels"], spec.get("label_names") or own_names)
        rows[split] = [
            RawRow(
                number=number,
                text=normal_text(raw_text, f"{where}, row {number}"),
                label=read_label(raw_label, f"{where}, row {number}"),
            )
            for number, (raw_text, raw_label) in enumerate(zip(table[text], table[label], strict=True), start=1)
        ]
    return rows


def load_hub(
    repo: str, subset: str | None, revision: str | None, *, data_files: Mapping[str, str] | None = None
) -> Mapping[str, Any]:
    """Return the splits of a data set of the hub, or those that ``data_files`` makes of single files of its repository.

    Raises
    ------
    UserError
        If the hub cannot be reached or has no such data set.
    """
    import datasets

    options = {} if data_files is None else {"data_files": dict(data_files)}
    try:
        return datasets.load_dataset(repo, subset, revision=revision, **options)
    # The library raises its own, the hub client's, requests', fsspec's and builtin errors for one and the same cause.
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), "no reason given")
        raise UserError(
            f"hub data set {repo} (subset {subset or 'default'}, revision {revision or 'main'}) cannot be loaded "
            f"({type(error).__name__}: {reason}); check the name, the network and HF_HUB_OFFLINE, "
            f"or use files with source: local"
        ) from error
