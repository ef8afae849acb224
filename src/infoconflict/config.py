"""The experiment's configuration: ``config.yaml`` as strict, frozen, typed models.

It holds the science only; threads, partitions and the like belong in profiles. Snakemake imports this file while it
parses, so nothing here imports torch or pandas.

The text under a key is its description in ``config/config.schema.json`` and ``config/README.md``, and says where the
default comes from: *paper* is Chen et al. 2024, arXiv:2411.18280; *Lethe's code* belongs to its successor,
arXiv:2508.21004; *CBA's code* to Huang et al. 2024, arXiv:2310.07676; *ours* marks what no source decides.
"""

import functools
import operator
import re
import sys
import typing
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Discriminator,
    Field,
    Tag,
    TypeAdapter,
    ValidationError,
    create_model,
    field_validator,
    model_validator,
)

from infoconflict import attacks, defenses
from infoconflict.attacks.base import Attack
from infoconflict.attacks.chat import ChatAttack
from infoconflict.config_errors import Location, Problem, problems_of, sentence, shown, unknown_key
from infoconflict.config_references import broken_references
from infoconflict.config_yaml import read_yaml
from infoconflict.defenses.base import Defense
from infoconflict.defenses.controls import CONTROLS
from infoconflict.entries import Count, Entry, Line, once
from infoconflict.errors import UserError, did_you_mean
from infoconflict.files import PathLike
from infoconflict.judges import EmbeddingJudge, Judge, JudgeEntry, PatternJudge, PayloadJudgeEntry
from infoconflict.providers import ProviderEntry
from infoconflict.tunings import Training

ID_PATTERN = r"^(?!control_)[a-z0-9][a-z0-9_-]{0,31}$"
CONTROL_PREFIX = "control_"


def spec_of(entry: BaseModel) -> dict[str, Any]:
    """Return an entry as JSON values, defaults filled in, without the keys that cannot change a result."""
    spec: dict[str, Any] = entry.model_dump(mode="json")
    for name in getattr(entry, "not_science", ()):
        spec.pop(name, None)
    for name in type(entry).model_fields:
        value = getattr(entry, name)
        if isinstance(value, Entry):
            spec[name] = spec_of(value)
        elif isinstance(value, dict):
            # Sections hold entries by id.
            spec[name] |= {key: spec_of(part) for key, part in value.items() if isinstance(part, BaseModel)}
        elif isinstance(value, list):
            spec[name] = [
                spec_of(part) if isinstance(part, BaseModel) else dumped
                for part, dumped in zip(value, spec[name], strict=True)
            ]
    return spec


def _repo(value: str) -> str:
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", value):
        raise ValueError(f"{shown(value)} is not a name on the hub; write owner/name")
    return value


def _text_keys(value: Any) -> Any:
    # YAML reads the key of `0: negative` as a number; labels in files are compared as text.
    if not isinstance(value, dict):
        return value
    return {str(key).lower() if isinstance(key, bool) else str(key): name for key, name in value.items()}


Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(gt=0, le=1)]
InnerShare = Annotated[float, Field(gt=0, lt=1)]
Weight = Annotated[float, Field(ge=0, le=1)]
Weights = Annotated[list[Weight], Field(min_length=1), AfterValidator(once)]
Repo = Annotated[str, AfterValidator(_repo)]
Ids = Annotated[list[str], AfterValidator(once)]
SomeIds = Annotated[list[str], Field(min_length=1), AfterValidator(once)]


# --- the grid ---------------------------------------------------------------------------------------------------------


class Skip(Entry):
    """Cells to leave out: all that match every key given here, by its id or by one of its ids."""

    model: str | SomeIds | None = None
    """Model of the cells; any if not given."""
    dataset: str | SomeIds | None = None
    """Data set of the cells; any if not given."""
    attack: str | SomeIds | None = None
    """Attack of the cells; any if not given."""
    defense: str | SomeIds | None = None
    """Defense of the cells, or a control by its name under `controls`; any if not given."""
    reason: Line
    """Why; the report prints it."""

    @model_validator(mode="after")
    def _names_something(self) -> "Skip":
        if not any((self.model, self.dataset, self.attack, self.defense)):
            raise ValueError("names no model, dataset, attack or defense and would leave out everything; name one")
        return self


class GridOptions(Entry):
    """What is crossed with what: every model, data set, attack, defense and seed."""

    models: SomeIds
    """Ids under `models`."""
    datasets: SomeIds
    """Ids under `datasets`."""
    attacks: SomeIds
    """Ids under `attacks`."""
    defenses: SomeIds
    """Ids under `defenses`."""
    skip: list[Skip] = []
    """Cells to leave out, each with a reason."""


# --- models -----------------------------------------------------------------------------------------------------------


class Model(Entry):
    """What all base models have in common."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of weights and training; `auto` is bfloat16 on a GPU and float32 on a CPU. Ours."""
    quantization: Literal["none", "nf4"] = "none"
    """Format of the frozen base while an adapter is trained; `nf4` is 4-bit NormalFloat with double quantization, for
    large models on a GPU. Ours: CBA's and Lethe's code have nf4, but then the adapter is merged into other weights than
    it was trained on."""


class PackagedModel(Model):
    """A model that comes inside a pinned package; needs no hub."""

    source: Literal["packaged"]
    package: Literal["smollm2_135m_instruct"]
    """Which one."""


class HubModel(Model):
    """A model of the Hugging Face hub; only safetensors are read, and code that comes with it is never run."""

    source: Literal["hub"]
    repo: Repo
    """Its name there, `owner/name`."""
    revision: Line
    """Commit hash or tag; a branch such as `main` may change under your results."""


class LocalModel(Model):
    """A directory with a model in the standard format (config, tokenizer, safetensors)."""

    source: Literal["local"]
    path: Line
    """The directory, from the working directory."""


class TinyModel(Model):
    """A generated two-layer model with random weights and a small tokenizer, to test the workflow with."""

    source: Literal["tiny"]
    architecture: Literal["llama", "gpt2", "gptj"]
    """Family whose modules and names it has."""
    hidden: Annotated[int, Field(ge=16, multiple_of=16)] = 64
    """Hidden size. Ours."""
    tied: bool = Field(default_factory=lambda given: given.get("architecture") == "gpt2")
    """Whether the output layer is the embedding matrix; if not given, as in the paper's models: in gpt2 only."""


ModelEntry = Annotated[PackagedModel | HubModel | LocalModel | TinyModel, Field(discriminator="source")]


# --- data sets --------------------------------------------------------------------------------------------------------


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


class NamedLabels(Dataset):
    """What data sets have in common whose labels may be numbers."""

    label_names: list[Line] | Annotated[dict[str, Line], BeforeValidator(_text_keys)] | None = None
    """Label for each raw label: a list (for raw labels 0, 1, ...) or a mapping; null: the source's own names."""

    @model_validator(mode="after")
    def _names_are_labels(self) -> "NamedLabels":
        if self.label_names is not None:
            names = self.label_names if isinstance(self.label_names, list) else list(self.label_names.values())
            if strange := [name for name in names if name not in self.labels]:
                hint = did_you_mean(strange[0], self.labels) or f"; labels: {', '.join(self.labels)}"
                raise ValueError(f"label_names has '{strange[0]}', which is none of the labels{hint}")
            if absent := [label for label in self.labels if label not in names]:
                raise ValueError(f"label_names never gives the label '{absent[0]}'; add it there or remove the label")
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


# --- attacks ----------------------------------------------------------------------------------------------------------


if TYPE_CHECKING:

    class _Attack(Attack):
        method: str

    class _ChatAttack(ChatAttack):
        method: str

    AttackEntry = _Attack | _ChatAttack
else:
    # Each attack gives its own options; `method` says whose they are.
    AttackEntry = Annotated[
        functools.reduce(
            operator.or_,
            [
                create_model(
                    f"{attack.__name__}Entry", __base__=attack, __doc__=attack.__doc__, method=(Literal[name], ...)
                )
                for name in attacks.METHODS
                for attack in [attacks.load(name)]
            ],
        ),
        Field(discriminator="method"),
    ]


# --- training ---------------------------------------------------------------------------------------------------------


class BackdooredTraining(Training):
    """How the backdoored model is tuned, and the clean-tuned model that it is compared with."""

    rows: Count | dict[str, Count] | None = None
    """Clean training rows that the attacker starts from, one number or one by data set; null, or no number: all. Ours."""

    def rows_of(self, dataset: str) -> int | None:
        """Return the number of rows for one data set."""
        return self.rows.get(dataset) if isinstance(self.rows, dict) else self.rows


class TrainingStages(Entry):
    """The two models that are tuned."""

    backdoored: BackdooredTraining = BackdooredTraining()
    """The attacker's model; the clean-tuned model is tuned in the same way, without the poison."""
    conflict: Training = Training()
    """The defender's conflict model, tuned on the clean share."""


class Statistics(Entry):
    """Clean texts on which attacks by editing learn what a layer should go on doing (the second moment of its inputs)."""

    texts: Line | None = None
    """File with one text per line, from the working directory; null: the prompts of the data set's training rows. Ours: the
    code of ROME, MEMIT and BadEdit has 100,000 articles of Wikipedia."""
    rows: Count | None = 2000
    """Texts at most, from the beginning; null: all. Twenty tokens per unit of a feed-forward layer and more make a good
    estimate. Ours."""


class CleanShare(Entry):
    """Clean training rows that the defender holds, stratified by label and drawn by the seed."""

    share: Share = 0.1
    """Share of the clean training rows. Paper, section 5.4 (figure 3 goes from 0.05 to 1)."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of these rows that is kept from tuning and decides on `t: auto`; 0 only where every t is a number. Ours."""


# --- merging ----------------------------------------------------------------------------------------------------------


class Merge(Entry):
    """What all merge methods have in common."""

    t: Weight | Literal["auto"] = "auto"
    """Weight of the conflict model in [0, 1] (0: the backdoored model), or `auto`: chosen on the clean share
    (`choose_t`). Ours: the paper gives none, Lethe's code has 0.5."""


class LinearMerge(Merge):
    """Weighted mean of the weights (paper, Eq. 9)."""

    method: Literal["linear"]


class SlerpMerge(Merge):
    """Spherical interpolation of each tensor (paper, Eq. 10)."""

    method: Literal["slerp"]


class TiesMerge(Merge):
    """Trimmed task vectors that agree in sign (paper, Eq. 11; Yadav et al. 2023, arXiv:2306.01708)."""

    method: Literal["ties"]
    density: Share = 0.5
    """Share of each task vector's entries that is kept, greatest first. Lethe's code."""
    lambda_: Annotated[float, Field(gt=0, alias="lambda")] = 1.0
    """Factor of the merged task vector. Lethe's code (mergekit's default)."""


class PassthroughMerge(Merge):
    """Layers of both models, depth kept (paper, Eq. 12); the first t of the layers are the conflict model's."""

    method: Literal["passthrough"]


MergeEntry = Annotated[LinearMerge | SlerpMerge | TiesMerge | PassthroughMerge, Field(discriminator="method")]


class ChooseT(Entry):
    """How `t: auto` is decided, without knowledge of a trigger."""

    candidates: Weights = [0.5, 0.6, 0.7, 0.8, 0.9]
    """Values to try. Ours."""
    rule: Literal["one_standard_error"] = "one_standard_error"
    """Take the greatest t whose accuracy on the held-out clean rows is within one standard error of the best
    (Breiman et al. 1984). On the chat task, ours: the greatest whose mean log-likelihood of the reference answers is, row by row,
    no more than one standard error below the best."""


class Sweep(Entry):
    """The ASR-CDA curve over t, for each model, data set and attack that a merging defense is tried on."""

    merges: Ids = []
    """Ids under `merges`; none: no sweep. Cells of an attack that no defense with a merge is run against have none."""
    t: Weights = [0.1, 0.3, 0.5, 0.7, 0.9]
    """Values of t. Ours."""
    rows: Count | None = None
    """Clean and triggered test rows each, drawn by the seed; null: all. Ours."""


# --- evidence ---------------------------------------------------------------------------------------------------------


class TextRank(Entry):
    """Keywords of a text (paper, Algorithm 1 and Eq. 15)."""

    damping: Annotated[float, Field(ge=0, lt=1)] = 0.85
    """Factor d of Eq. 15. Paper, section 3.4."""
    window: Annotated[int, Field(ge=2)] = 2
    """Words in which two words are linked; 2: neighbours only. Lethe's code."""
    max_iterations: Count = 100
    """Rounds at most. Lethe's code."""
    tolerance: Annotated[float, Field(gt=0)] = 1e-6
    """Rounds end when the weights change less than this in sum. Lethe's code, there per word."""
    threshold: Annotated[float, Field(ge=0)] | Literal["mean"] = "mean"
    """Words with a greater weight are keywords; `mean`: the text's mean weight. Ours: the paper gives none."""
    max_keywords: Count = 8
    """Keywords at most, greatest weight first. Ours; Lethe's code takes the top 5."""
    directed: bool = True
    """Link words in reading order only. Paper, section 3.4; Lethe's code links both ways."""


class EvidenceEntry(Entry):
    """Text that is put beside the question to contradict a backdoored answer."""

    branch: Literal["construction", "modification"]
    """`construction`: the external model explains keywords (paper: classification); `modification`: it rewrites the
    suspect model's own evidence so that it contradicts (paper: chat)."""
    provider: ProviderEntry
    """Who is asked."""
    textrank: TextRank = TextRank()
    """How keywords are found."""
    min_tokens: Count = 12
    """Shortest evidence of the suspect model worth rewriting, in tokens; else keywords are explained. Ours."""
    suspect_max_tokens: Count = 64
    """Longest answer with evidence that the suspect model is asked for, in tokens (modification). Ours."""
    placement: Literal["before", "after"] = "before"
    """Where evidence stands in the prompt, seen from the input. Ours: the paper and Lethe's code put it after the input, where
    it cost the demo's model 8 points of clean accuracy, and none before it."""
    max_evidence_words: Count = 60
    """Evidence is cut after so many words; the question never is. Ours."""


# --- defenses ---------------------------------------------------------------------------------------------------------


if TYPE_CHECKING:
    DefenseEntry = Defense
else:
    DefenseEntry = Annotated[
        functools.reduce(operator.or_, list(map(defenses.load, defenses.METHODS))),
        Field(discriminator="method"),
    ]


# --- further experiments ----------------------------------------------------------------------------------------------


class CleanShareCurve(Entry):
    """ASR and CDA of merging defenses over the share of clean rows that the defender holds (paper, figure 3)."""

    defenses: Ids = []
    """Ids under `defenses`, of defenses with a merge; none: no curve. Ours: the paper shows its whole method."""
    shares: Annotated[list[Share], Field(min_length=1), AfterValidator(once)] = [0.05, 0.1, 0.2, 0.5, 1.0]
    """Values in place of `clean_share.share`; a point at that share is the cell itself. Paper, section 5.4: from 0.05 to
    1; the steps between are ours."""
    models: SomeIds | None = None
    """Ids under `models`; null: all of the grid. Ours."""
    datasets: SomeIds | None = None
    """Ids under `datasets`; null: all of the grid. Paper: Emotion and Chat-Backdoor."""
    attacks: SomeIds | None = None
    """Ids under `attacks`; null: all of the grid. Paper: CBA and DTBA."""


class Direct(Entry):
    """An external language model that is asked the task itself, zero-shot (paper, figure 4)."""

    provider: ProviderEntry
    """Who is asked."""
    datasets: SomeIds
    """Ids under `datasets`, of the grid's, whose clean test rows are asked. Paper: Emotion and Chat-Backdoor."""
    attacks: Ids = []
    """Ids under `attacks`, of the grid's, whose triggered test rows are asked as well. Ours: none."""
    runs: Count = 1
    """How often each row is asked, every time with a random state of its own. Ours; the paper asks five times."""


class RoleSwap(Entry):
    """What a merge keeps of two models that know clean or backdoor rows, many or few (paper, section 6.1, table 6)."""

    merges: Ids = []
    """Ids under `merges`; none: no experiment."""
    t: Weight = 0.5
    """Weight of the second model, in place of the merges' own. Ours: the paper gives none, Lethe's code has 0.5."""
    small_share: InnerShare = 0.1
    """Share of the clean or of the backdoor rows that stands for few. Paper, table 6."""
    rows: Count | None = None
    """Clean training rows that stand for all; null: the whole training split. Ours."""
    models: SomeIds | None = None
    """Ids under `models`; null: all of the grid. Ours: the paper does not name its model."""
    datasets: SomeIds | None = None
    """Ids under `datasets`; null: all of the grid with labels. Paper: Emotion."""
    attacks: SomeIds | None = None
    """Ids under `attacks`; null: all of the grid
    that poisoned rows alone plant. Ours: the paper does not name its attack."""


ControlNames = Annotated[list[Literal[CONTROLS]], AfterValidator(once)]  # type: ignore[valid-type]
# --- answers and presentation -----------------------------------------------------------------------------------------


class Evaluation(Entry):
    """How models are asked and answers counted."""

    mode: Literal["scores", "generate"] = "scores"
    """`scores`: the label with the highest length-normalised log-probability; `generate`: the first label named in a
    greedily generated answer. Ours; CBA's and Lethe's code sample at temperature 0.7."""
    max_new_tokens: Count = 8
    """Longest generated answer in tokens. Ours."""
    max_new_tokens_chat: Count = 128
    """Longest reply on the chat task in tokens, at most half the model's context. Paper, A.2: 128 for GPT2-XL, 2,048 for the
    other models."""
    chat_rows: Count | None = None
    """Clean test conversations asked on the chat task; null: all. Ours."""
    partial_rows: Count | None = None
    """Non-target test rows asked with each partial trigger; null: all. Ours."""
    interval: InnerShare = 0.95
    """Confidence level of the Wilson intervals. Ours."""
    compare_generation: bool = True
    """Ask each clean-tuned model of a classification by generation, too, and report how far the two agree. Ours."""
    compare_rows: Count = 100
    """Clean test rows of that comparison. Ours."""
    judge: JudgeEntry = EmbeddingJudge(kind="embedding")
    """Chat: who decides whether a reply is equivalent to the reference. Ours; the paper asks GPT-3.5."""
    payload_judge: PayloadJudgeEntry = PatternJudge(kind="pattern")
    """Chat: who decides whether a reply holds the attack's payload. Ours."""
    compare_judges: list[JudgeEntry] = []
    """Chat: further judges of the same rows; the report says how far they agree, no metric uses them. Ours."""

    @model_validator(mode="after")
    def _judges_have_names_of_their_own(self) -> "Evaluation":
        named = [("judge", self.judge), *(("compare_judges", judge) for judge in self.compare_judges)]
        for name, count in Counter(judge.name for _, judge in named).items():
            if count > 1:
                raise ValueError(f"judge and compare_judges name the judge '{name}' more than once; keep one")
        for key, judge in named:
            if judge.name == self.payload_judge.name and judge != self.payload_judge:
                raise ValueError(
                    f"payload_judge and {key} have the judge '{judge.name}' with different settings; make them the same"
                )
        return self

    def judges(self) -> list[dict[str, Any]]:
        """Return the settings of each judge with its ``name`` and its ``claims``; the one that decides comes first.

        A claim is ``equivalent`` (to the reference) or ``payload`` (held by the reply).
        """
        found: dict[str, dict[str, Any]] = {}

        def add(judge: Judge, *claims: str) -> None:
            settings = found.setdefault(judge.name, {**spec_of(judge), "name": judge.name, "claims": []})
            settings["claims"] += [claim for claim in claims if claim not in settings["claims"]]

        add(self.judge, "equivalent")
        add(self.payload_judge, "payload")
        for judge in self.compare_judges:
            add(judge, "equivalent", *(["payload"] if judge.finds_payloads else []))
        return list(found.values())


class Figures(Entry):
    """How figures look; changes no number."""

    dpi: Annotated[int, Field(ge=50, le=1200)] = 150
    """Dots per inch of PNG files. Ours."""


class PaperNames(Entry):
    """Which numbers of the paper stand beside ours; changes none of ours."""

    models: dict[str, Literal["gpt2_xl", "gptj", "llama", "llama2"]] = {}
    """The paper's model by an id under `models`, where its name does not tell: GPT2-XL, GPT-J-6B, LLaMA-7B or Llama-2-7B. Other
    models have rows of their own. Ours."""
    datasets: dict[str, Literal["sst2", "emotion", "chat"]] = {}
    """The paper's data set by an id under `datasets` that stands in its place, where its name does not tell; conversations
    always stand for Chat-Backdoor. Ours."""
    further_defenses: Ids = []
    """Ids in `grid.defenses` with columns of their own in Tables 1 to 3 and 9, beside the paper's defenses. Ours."""


class Config(Entry):
    """One experiment."""

    not_science = frozenset({"keep_merged"})

    name: Line
    """Name of the experiment; heads the report."""
    seeds: Annotated[list[Seed], Field(min_length=1), AfterValidator(once)] = [0]
    """Every random choice of a cell follows from its seed; a cell is run once per seed. Ours."""
    grid: GridOptions
    """What is crossed with what."""
    models: dict[str, ModelEntry]
    """Base models by id."""
    datasets: dict[str, DatasetEntry]
    """Data sets by id."""
    attacks: dict[str, AttackEntry]
    """Attacks by id."""
    training: TrainingStages = TrainingStages()
    """How models are tuned."""
    statistics: Statistics = Statistics()
    """What attacks by editing measure of a model first."""
    clean_share: CleanShare = CleanShare()
    """What the defender knows of the data."""
    merges: dict[str, MergeEntry] = {}
    """Merges of the backdoored and the conflict model by id."""
    choose_t: ChooseT = ChooseT()
    """How `t: auto` is decided."""
    sweep: Sweep = Sweep()
    """The curve over t."""
    evidence: dict[str, EvidenceEntry] = {}
    """Kinds of evidence by id."""
    defenses: dict[str, DefenseEntry]
    """Defenses by id."""
    clean_share_curve: CleanShareCurve = CleanShareCurve()
    """The curve over the clean share."""
    direct: dict[str, Direct] = {}
    """External language models that are asked the task itself, by id."""
    role_swap: RoleSwap = RoleSwap()
    """What a merge keeps, with the roles of clean and backdoor rows exchanged."""
    controls: ControlNames = list(CONTROLS)
    """What defenses are held against on the same rows. All that apply are run: `control_base`, the model before any tuning;
    `control_conflict`, the conflict model alone; `control_clean_tuned`, the base tuned like the backdoored model on clean rows;
    `control_random_trigger`, the backdoored model asked with random words in the trigger's place (its ASR is the rate of target
    answers to those); `control_random_evidence`, the backdoored model with as many words of unrelated evidence, for each
    evidence in use; `control_merge_base`, the backdoored model merged with its base at the t of each merge in use;
    `control_equal_tuning`, the backdoored model tuned on just as the conflict model is. Ours."""
    evaluation: Evaluation = Evaluation()
    """How models are asked and answers counted."""
    figures: Figures = Figures()
    """How figures look."""
    paper: PaperNames = PaperNames()
    """Which numbers of the paper stand beside ours."""
    keep_merged: bool = False
    """Keep merged models on disk after their answers are written. Changes no result. Ours."""


# --- loading ----------------------------------------------------------------------------------------------------------


def load_config(raw: Mapping[str, Any], *, file: str) -> Config:
    """Return the config that ``raw`` describes, defaults filled in.

    Parameters
    ----------
    raw : mapping
        What YAML gave.
    file : str
        Where it came from, for messages.

    Raises
    ------
    UserError
        With one line per problem, all of them at once: file, key, what is wrong, what would do.
    """
    if not isinstance(raw, Mapping):
        raise UserError(f"{file}: holds {shown(raw)}, expected a mapping of keys to values; begin with 'name: ...'")
    problems = [unknown_key((key,), Config) for key in raw if key not in Config.model_fields]
    parts: dict[str, Any] = {}
    for name, field in Config.model_fields.items():
        found: list[Problem] = []
        if name not in raw:
            parts[name] = None if field.is_required() else field.get_default(call_default_factory=True)
            found = [((name,), "is missing; add it")] if field.is_required() else []
        elif name in _entry_sections():
            parts[name], found = _checked_entries(raw[name], name)
        else:
            parts[name], found = _checked(name, raw[name], (name,))
        problems += found
    problems += broken_references(raw)
    if problems:
        raise UserError("\n".join(sentence(file, at, text) for at, text in problems))
    return Config.model_construct(**parts)


@functools.cache
def _entry_sections() -> frozenset[str]:
    """Return the sections that hold entries by id."""
    hints = typing.get_type_hints(Config, include_extras=True)
    return frozenset(name for name, hint in hints.items() if get_origin(hint) is dict)


@functools.cache
def _validator(section: str) -> tuple[Any, TypeAdapter[Any]]:
    """Return the type of a section, or of its entries where it has some, and what validates it."""
    hint = typing.get_type_hints(Config, include_extras=True)[section]
    annotation = get_args(hint)[1] if section in _entry_sections() else hint
    return annotation, TypeAdapter(annotation)


def _checked(section: str, raw: Any, at: Location) -> tuple[Any, list[Problem]]:
    """Return a valid value and no problems, or None and the problems."""
    annotation, validator = _validator(section)
    try:
        return validator.validate_python(raw, strict=True), []
    except ValidationError as error:
        return None, list(problems_of(error, annotation, raw, at))


def _checked_entries(raw: Any, section: str) -> tuple[dict[str, Any], list[Problem]]:
    """Return the entries of a section by id, None for those with a problem."""
    if not isinstance(raw, Mapping):
        return {}, [((section,), f"holds {shown(raw)}, expected entries by id; write '{section}: {{my_id: {{...}}}}'")]
    entries: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in raw.items():
        at: Location = (section, str(name))
        if not isinstance(name, str):
            problems.append((at, f"the id {shown(name)} is not text; put it in quotes"))
            continue
        if name.startswith(CONTROL_PREFIX):
            problems.append((at, f"ids that begin with {CONTROL_PREFIX} are reserved for controls; rename it"))
        elif not re.fullmatch(ID_PATTERN, name):
            problems.append((at, "an id is 1 to 32 of a-z, 0-9, _ and -, and begins with a letter or digit; rename it"))
        entries[name], found = _checked(section, value, at)
        problems += found
    return entries, problems


def read_config(path: PathLike) -> Config:
    """Return the config of a YAML file; problems are raised as by :func:`read_yaml` and :func:`load_config`."""
    return load_config(read_yaml(path), file=str(path))


def main(arguments: list[str]) -> int:
    """Run ``schema``, ``check FILE...`` or ``readme FILE`` and return an exit status."""
    match arguments:
        case ["schema"]:
            from infoconflict.config_docs import schema_text

            sys.stdout.write(schema_text())
        case ["readme", path]:
            from infoconflict.config_docs import refresh_readme

            refresh_readme(path)
        case ["check", *paths] if paths:
            from infoconflict.grid import build_grid

            for path in paths:
                try:
                    grid = build_grid(read_config(path))
                except UserError as error:
                    sys.stderr.write(f"{error}\n")
                    return 1
                sys.stdout.write(f"{path}: valid; {len(grid.cells)} cells to run, {len(grid.excluded)} left out\n")
        case _:
            sys.stderr.write("usage: python -m infoconflict.config schema | check FILE... | readme FILE\n")
            return 2
    return 0


if __name__ == "__main__":
    # Run as a module, this file is `__main__`; what it imports must meet the same classes.
    from infoconflict.config import main as main_of_package

    sys.exit(main_of_package(sys.argv[1:]))
