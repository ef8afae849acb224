"""Data sets: labelled text and conversations."""

import functools
from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from infoconflict.config.values import InnerShare, Repo
from infoconflict.config_errors import shown
from infoconflict.entries import Count, Entry, Line, once
from infoconflict.errors import did_you_mean


class Columns(Entry):
    """Names of columns in the source."""

    text: Line = "text"
    """Column with the text."""
    label: Line = "label"
    """Column with the label."""


class Splits(Entry):
    """Names of splits in the source."""

    train: Line = "train"
    """Split to train on."""
    test: Line | None = "test"
    """Split to test on; null: a share of the training split (`test_share`)."""


class Dataset(Entry):
    """What all classification data sets have in common."""

    task: Literal["classification"] = "classification"
    """What is asked: a choice among labels."""
    instruction: Line
    """What the model is asked about each text; first line of the prompt."""
    labels: Annotated[list[Line], Field(min_length=2), AfterValidator(once)]
    """The answers to choose from, as the model writes them."""
    max_words: Count | None = None
    """Rows with more words are left out; null: none are. Ours."""
    train_rows: Count | None = None
    """Training rows to draw, stratified by label, by the seed; null: all. Ours."""
    test_rows: Count | None = None
    """Test rows to draw, stratified by label, by the seed; null: the whole test split, or `test_share`. Ours."""
    test_share: InnerShare = 0.2
    """Share of the rows that becomes the test split where the source has none and `test_rows` is null. Ours."""

    @field_validator("labels")
    @classmethod
    def _differ_beyond_case(cls, labels: list[str]) -> list[str]:
        for label, count in Counter(label.casefold() for label in labels).items():
            if count > 1:
                raise ValueError(f"has labels that differ only in case ('{label}'); rename one")
        return labels


def _text_keys(value: Any) -> Any:
    # YAML reads the key of `0: negative` as a number; labels in files are compared as text.
    if not isinstance(value, dict):
        return value
    return {str(key).lower() if isinstance(key, bool) else str(key): name for key, name in value.items()}


LabelNames = list[Line] | Annotated[dict[str, Line], BeforeValidator(_text_keys)]
"""Names of raw labels: of 0, 1, ..., or of each."""


def names_in(label_names: list[str] | dict[str, str]) -> list[str]:
    """Return the names that raw labels are given, in their order."""
    return label_names if isinstance(label_names, list) else list(label_names.values())


def check_names_are_labels(label_names: list[str] | dict[str, str], labels: list[str]) -> None:
    """Raise unless raw labels are given the names of the labels, and all of them."""
    names = names_in(label_names)
    if strange := [name for name in names if name not in labels]:
        hint = did_you_mean(strange[0], labels) or f"; labels: {', '.join(labels)}"
        raise ValueError(f"label_names has '{strange[0]}', which is none of the labels{hint}")
    if absent := [label for label in labels if label not in names]:
        raise ValueError(f"label_names never gives the label '{absent[0]}'; add it there or remove the label")


class NamedLabels(Dataset):
    """What data sets have in common whose labels may be numbers."""

    label_names: LabelNames | None = None
    """Label for each raw label: a list (for raw labels 0, 1, ...) or a mapping; null: the source's own names."""

    @model_validator(mode="after")
    def _names_are_labels(self) -> "NamedLabels":
        if self.label_names is not None:
            check_names_are_labels(self.label_names, self.labels)
        return self


class PackagedDataset(Dataset):
    """Film reviews with human ratings, inside a pinned package; needs no hub."""

    source: Literal["packaged"]
    package: Literal["vader_film_reviews"]
    """Which one; its labels are `negative` and `positive`, by the sign of the mean rating."""
    min_abs_rating: Annotated[float, Field(ge=0, le=4)] = 1.0
    """Reviews rated nearer to 0 than this (of -4 to 4) are left out. Ours."""

    @model_validator(mode="after")
    def _has_its_labels(self) -> "PackagedDataset":
        if set(self.labels) != {"negative", "positive"}:
            raise ValueError(f"labels of {self.package} are negative and positive; write [negative, positive]")
        return self


class HubDataset(NamedLabels):
    """A data set of the Hugging Face hub."""

    source: Literal["hub"]
    repo: Repo
    """Its name there, `owner/name`."""
    revision: Line
    """Commit hash or tag; a branch such as `main` may change under your results."""
    subset: Line | None = None
    """Configuration of the data set, where it has several."""
    splits: Splits = Splits()
    """Its splits."""
    columns: Columns = Columns()
    """Its columns."""


class LocalDataset(NamedLabels):
    """Files with labelled text: csv, tsv, jsonl or parquet, each also with .gz."""

    source: Literal["local"]
    train: Line
    """File to train on, from the working directory."""
    test: Line | None = None
    """File to test on; null: a share of the training rows (`test_share`)."""
    columns: Columns = Columns()
    """Its columns."""


class ChatDataset(Entry):
    """What all data sets of conversations have in common."""

    task: Literal["chat"]
    """What is asked: a reply to a conversation."""
    system: Annotated[str, Field(min_length=1)] | None = None
    """System message that opens every conversation, in place of its own; null: its own, where it has one. Ours."""
    max_turns: Count | None = None
    """A conversation is cut after so many turns of the user, each with its answer; null: it is not. Ours."""
    max_words: Count | None = None
    """A conversation is cut to so many words in all, by whole turns at its end, and left out if its first turn and answer
    have more; null: it is not. Ours."""
    min_answer_words: Count = 1
    """Turns at a conversation's end whose answer has fewer words are cut off. Ours."""
    train_rows: Count | None = None
    """Training conversations to draw by the seed; null: all. Ours."""
    test_rows: Count | None = None
    """Test conversations to draw by the seed; null: the whole test split, or `test_share`. Ours."""
    test_share: InnerShare = 0.2
    """Share of the conversations that becomes the test split where the source has none and `test_rows` is null. Ours."""


class PackagedChatDataset(ChatDataset):
    """Chats of crowd workers, inside a pinned package; needs no hub."""

    source: Literal["packaged"]
    package: Literal["chitchat"]
    """Which one; most of its 7,168 chats are short, and nearly half have no answer and are left out."""
    min_rating: Annotated[float, Field(ge=0)] | None = None
    """Chats whose mean rating is lower, or that have none, are left out; null: none are. Ours."""
    topic: bool = True
    """Whether the question that a chat was opened with, if there is one, is its system message (where `system` is null).
    Ours: first lines often answer it."""


ChatFormat = Literal["auto", "messages", "conversations", "instruction"]


class ChatFiles(Entry):
    """Files inside a repository of the hub."""

    train: Line
    """File to train on."""
    test: Line | None = None
    """File to test on; null: a share of the training rows (`test_share`)."""


class HubChatDataset(ChatDataset):
    """Conversations of the Hugging Face hub."""

    source: Literal["hub"]
    repo: Repo
    """Its name there, `owner/name`."""
    revision: Line
    """Commit hash or tag; a branch such as `main` may change under your results."""
    subset: Line | None = None
    """Configuration of the data set, where it has several."""
    splits: Splits = Splits(test=None)
    """Its splits."""
    files: ChatFiles | None = None
    """Files of its repository to read instead of its splits; null: the splits. Ours."""
    format: ChatFormat = "auto"
    """How a row holds its turns: `messages` (role, content), `conversations` (from, value), or `instruction` (with `input`
    and `output`); `auto`: by the first of these keys that it has. Ours."""


class LocalChatDataset(ChatDataset):
    """Files with conversations: jsonl, or json with one list, each also with .gz."""

    source: Literal["local"]
    train: Line
    """File to train on, from the working directory."""
    test: Line | None = None
    """File to test on; null: a share of the training rows (`test_share`)."""
    format: ChatFormat = "auto"
    """How a row holds its turns: `messages` (role, content), `conversations` (from, value), or `instruction` (with `input`
    and `output`); `auto`: by the first of these keys that it has. Ours."""


def _tag_of(value: Any, key: str, default: str | None) -> str | None:
    get = value.get if isinstance(value, Mapping) else functools.partial(getattr, value)
    tag = get(key, default)
    # A list or mapping is no tag that could be looked up.
    return tag if isinstance(tag, str) else None if tag is None else shown(tag)


def _task_of(value: Any) -> str | None:
    return _tag_of(value, "task", "classification")


def _source_of(value: Any) -> str | None:
    return _tag_of(value, "source", None)


DatasetEntry = Annotated[
    Annotated[
        Annotated[
            Annotated[PackagedDataset, Tag("packaged")]
            | Annotated[HubDataset, Tag("hub")]
            | Annotated[LocalDataset, Tag("local")],
            Discriminator(_source_of),
        ],
        Tag("classification"),
    ]
    | Annotated[
        Annotated[
            Annotated[PackagedChatDataset, Tag("packaged")]
            | Annotated[HubChatDataset, Tag("hub")]
            | Annotated[LocalChatDataset, Tag("local")],
            Discriminator(_source_of),
        ],
        Tag("chat"),
    ],
    Discriminator(_task_of),
]
