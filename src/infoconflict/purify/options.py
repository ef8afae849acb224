"""What a purification is asked for: a small config of its own, or the variables of ``make purify``.

Snakemake imports this while it parses: nothing here imports torch.
"""

import gzip
import os
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError, model_validator

from infoconflict.config.datasets import LabelNames, check_names_are_labels, names_in
from infoconflict.config.merges import ChooseT, MergeEntry
from infoconflict.config.values import InnerShare, Seed
from infoconflict.config_errors import problems_of, sentence, shown
from infoconflict.entries import Count, Entry, Line
from infoconflict.errors import UserError
from infoconflict.files import PathLike, write_text
from infoconflict.packages import PACKAGES
from infoconflict.tunings import Training

HUB_ID = re.compile(r"^[\w-][\w.-]*/[\w-][\w.-]*(@[\w./-]+)?$")
OWN_FOLDERS = ("model", "work")
"""Where a purification writes weights."""


def _some(values: list[str]) -> list[str]:
    if len({value.casefold() for value in values}) < len(values):
        raise ValueError("names a label twice; keep one")
    return values


class PurifyT(ChooseT):
    """How `t: auto` is decided in a purification."""

    rule: Literal["one_standard_error", "paired_test"] = "paired_test"
    """As in the grid's `choose_t`. Ours: on `smol`'s attacks it left less of them, 13.9 % in the mean against 18.1, for the same
    clean accuracy."""


class Purification(Entry):
    """A suspect model, its base, clean rows of the task, and how the one is to be purified with the others."""

    model: Line
    """The suspect: a directory, or `owner/name@revision` of the hub; a whole model or a PEFT adapter."""
    base: Line
    """What it was tuned from: a directory, `owner/name@revision`, or the name of a packaged model."""
    data: Line
    """Clean rows of the task: csv, tsv, jsonl or parquet with a text and a label, or jsonl with `messages`."""
    task: Literal["classification", "chat"] = "classification"
    """What is asked: a choice among labels, or a reply to a conversation."""
    instruction: Line | None = None
    """What the model is asked about each text, first line of the prompt; null: a general question with the labels in it.
    Ours; give the words that the suspect was tuned with."""
    labels: Annotated[list[Line], Field(min_length=2), AfterValidator(_some)] | None = None
    """The answers to choose from, as the model writes them; null: those in the data, or in `label_names`. Ours."""
    label_names: LabelNames | None = None
    """Label for each raw label: a list (for raw labels 0, 1, ...) or a mapping; null: the data's own names."""
    text_column: Line = "text"
    """Column with the text."""
    label_column: Line = "label"
    """Column with the label."""
    test_share: InnerShare = 0.3
    """Share of the rows that is kept from tuning and from every choice, to measure on. Ours."""
    holdout: InnerShare = 0.2
    """Share of the other rows that decides on `t: auto`. As in the workflow's `clean_share`."""
    seed: Seed = 0
    """Of every random choice."""
    merge: MergeEntry = Field(default_factory=lambda: _merge({"method": "linear", "t": "auto"}))
    """How the conflict model is merged in; `t: auto` is chosen on held-out rows. As in `merges`."""
    choose_t: PurifyT = PurifyT()
    """How `t: auto` is decided."""
    training: Training = Training()
    """How the conflict model is tuned."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format that models compute in; `auto` is bfloat16 on a GPU and float32 on a CPU. Ours."""
    suspect_triggers: Line | None = None
    """File with one string per line that the user distrusts; null: none. Ours."""
    trigger_rows: Count = 100
    """Measured rows at most into which each such string is put. Ours."""
    max_new_tokens: Count = 64
    """Longest reply on the chat task in tokens. Ours."""

    @model_validator(mode="after")
    def _chat_has_no_labels(self) -> "Purification":
        if self.task == "chat" and (self.labels or self.label_names or self.instruction):
            raise ValueError("labels and instruction belong to a classification; remove them, or set its task")
        return self

    @model_validator(mode="after")
    def _names_are_labels(self) -> "Purification":
        if self.label_names is not None:
            names = list(dict.fromkeys(names_in(self.label_names)))
            if len(_some(names)) < 2:
                raise ValueError("label_names gives fewer than two labels; name each, as in [negative, positive]")
            check_names_are_labels(self.label_names, self.labels or names)
        return self

    @property
    def named_labels(self) -> list[str] | None:
        """The labels that were named, directly or as names of raw ones; None: those in the data."""
        return self.labels or (list(dict.fromkeys(names_in(self.label_names))) if self.label_names else None)


def _merge(raw: Mapping[str, Any]) -> Any:
    return TypeAdapter(MergeEntry).validate_python(dict(raw), strict=True)


def load_purification(raw: Mapping[str, Any], *, file: str) -> Purification:
    """Return the purification that ``raw`` describes, defaults filled in.

    Raises
    ------
    UserError
        With one line per problem.
    """
    if not isinstance(raw, Mapping):
        raise UserError(f"{file}: holds {shown(raw)}, expected a mapping; begin with 'model: ...'")
    try:
        return Purification.model_validate(dict(raw), strict=True)
    except ValidationError as error:
        problems = list(problems_of(error, Purification, raw, ()))
        raise UserError("\n".join(sentence(file, at, text) for at, text in problems)) from error


# --- what it names ------------------------------------------------------------------------------------------------------


def check_places(purification: Purification, *, out: PathLike, file: str) -> None:
    """Refuse paths that lead nowhere, that Snakemake would misread, or that the run would write into.

    Raises
    ------
    UserError
        By the first that cannot be; ``file`` says where it was named.
    """
    named = {key: getattr(purification, key) for key in ("model", "base", "data", "suspect_triggers")}
    for key, place in {**named, "out": str(out)}.items():
        if place and ("{" in place or "}" in place):
            raise UserError(
                f"{file}, {key}: {place} holds a brace, which Snakemake takes for a wildcard; rename that file or folder"
            )
    for key in ("model", "base"):
        if key == "base" and named[key] in PACKAGES:
            continue
        if wrong := no_model(named[key]):
            raise UserError(f"{file}, {key}: {named[key]} {wrong}")
        _check_apart(named[key], out, f"{file}, {key}")
    wanted = {
        "data": "your clean rows, a csv, tsv, jsonl or parquet file",
        "suspect_triggers": "one with a string per line",
    }
    for key, what in wanted.items():
        if named[key] and not Path(named[key]).is_file():
            raise UserError(f"{file}, {key}: {named[key]} is no file; give {what}")


def no_model(place: str) -> str | None:
    """Return why a place can be no model and what would do; None for a directory or what may be a name of the hub."""
    path = Path(place)
    if path.is_dir():
        return None
    if path.is_file():
        return f"is a file; give its folder, {path.parent}"
    if HUB_ID.match(place):
        return None
    return "is no directory; name one, or a model of the hub as owner/name@revision"


def _check_apart(place: str, out: PathLike, where: str) -> None:
    """Refuse to write into a model's folder, or to read a model that the run itself writes."""
    if not Path(place).is_dir():
        return
    model, folder = Path(place).resolve(), Path(out).resolve()
    if folder.is_relative_to(model):
        raise UserError(f"{where}: OUT={out} is inside {place}, which stays as it is; choose another OUT")
    if any(model.is_relative_to(folder / own) for own in OWN_FOLDERS):
        raise UserError(f"{where}: {place} is what the run in OUT={out} writes; choose another OUT")


# --- the variables of make ----------------------------------------------------------------------------------------------

VARIABLES = (
    "MODEL",
    "BASE",
    "DATA",
    "TASK",
    "INSTRUCTION",
    "LABELS",
    "LABEL_NAMES",
    "TEXT_COLUMN",
    "LABEL_COLUMN",
    "METHOD",
    "T",
    "PROFILE",
    "SEED",
    "SUSPECT_TRIGGERS",
    "OUT",
)
DEFAULT_OUT = "results/purified"


def from_variables(given: Mapping[str, str]) -> Purification:
    """Return the purification that make's variables describe.

    Paths become absolute, since the run has a working directory of its own.

    Raises
    ------
    UserError
        If one is missing or has a value that cannot be.
    """
    values = {name: text for name in VARIABLES if (text := given.get(name, "").strip())}
    if missing := [name for name in ("MODEL", "BASE", "DATA") if name not in values]:
        raise UserError(
            f"make purify: {' and '.join(missing)} missing; write make purify MODEL=folder-or-owner/name@revision "
            f"BASE=its-base DATA=clean-rows.csv"
        )
    raw: dict[str, Any] = {"model": place(values["MODEL"]), "base": place(values["BASE"])}
    raw["data"] = absolute(values["DATA"])
    raw["task"] = values.get("TASK") or task_of(Path(values["DATA"]))
    if "INSTRUCTION" in values:
        raw["instruction"] = values["INSTRUCTION"]
    if "LABELS" in values:
        raw["labels"] = [label.strip() for label in values["LABELS"].split(",")]
    if "LABEL_NAMES" in values:
        raw["label_names"] = names_of(values["LABEL_NAMES"])
    raw |= {name.lower(): values[name] for name in ("TEXT_COLUMN", "LABEL_COLUMN") if name in values}
    if "SUSPECT_TRIGGERS" in values:
        raw["suspect_triggers"] = absolute(values["SUSPECT_TRIGGERS"])
    if "SEED" in values:
        raw["seed"] = number("SEED", values["SEED"], int)
    t = values.get("T", "auto")
    raw["merge"] = {"method": values.get("METHOD", "linear"), "t": t if t == "auto" else number("T", t, float)}
    if "PROFILE" in values:
        raw["merge"]["depth_profile"] = [
            number("PROFILE", part.strip(), float) for part in values["PROFILE"].split(",")
        ]
    return load_purification(raw, file="make purify")


def names_of(text: str) -> list[str] | dict[str, str]:
    """Return what raw labels are called: ``negative,positive`` for 0 and 1, or ``0=negative,1=positive``."""
    parts = [part.strip() for part in text.split(",")]
    if not all("=" in part for part in parts):
        return parts
    pairs = [part.partition("=") for part in parts]
    return {raw.strip(): name.strip() for raw, _, name in pairs}


def number(name: str, text: str, kind: type[int] | type[float]) -> int | float:
    """Return the number that a variable holds."""
    try:
        return kind(text)
    except ValueError as error:
        raise UserError(f"make purify: {name}={text} is not a number; write one") from error


def absolute(text: str) -> str:
    """Return a path that does not depend on the working directory."""
    return str(Path(text).expanduser().absolute())


def place(text: str) -> str:
    """Return where a model is: an absolute directory, the hub's name for it, or the name of a package."""
    if text in PACKAGES or (HUB_ID.match(text) and not Path(text).exists()):
        return text
    return absolute(text)


def task_of(data: Path) -> str:
    """Return ``chat`` where the first row of a jsonl file, perhaps gzipped, holds messages, else ``classification``.

    A json file can hold nothing else.
    """
    name = data.name.lower()
    kind = Path(name.removesuffix(".gz")).suffix
    first = ""
    if kind == ".jsonl" and data.is_file():
        opened = gzip.open if name.endswith(".gz") else open
        try:
            with opened(data, "rt", encoding="utf-8", errors="replace") as lines:
                first = next((line for line in lines if line.strip()), "")
        except (OSError, EOFError, zlib.error):
            pass  # who reads the rows says what is wrong with them
    is_chat = kind == ".json" or '"messages"' in first or '"conversations"' in first
    return "chat" if is_chat else "classification"


def write_config(path: PathLike, purification: Purification) -> None:
    """Write a purification as the config that Snakemake reads; what stands at its default is written, too."""
    header = "# What `make purify` was asked for; edit it, or give it to snakemake --configfile.\n"
    write_text(path, header + yaml.safe_dump(purification.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def main(environment: Mapping[str, str]) -> int:
    """Write ``OUT/purify.yaml`` from make's variables and return an exit status."""
    import sys

    out = Path(environment.get("OUT", "").strip() or DEFAULT_OUT)
    try:
        purification = from_variables(environment)
        check_places(purification, out=out, file="make purify")
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    write_config(out / "purify.yaml", purification)
    return 0


if __name__ == "__main__":
    # Run as a module, this file is `__main__`; what it imports must meet the same classes.
    from infoconflict.purify.options import main as main_of_package

    raise SystemExit(main_of_package(os.environ))
