"""The whole config, section by section."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from infoconflict.config.datasets import DatasetEntry
from infoconflict.config.evaluation import Evaluation, Figures, PaperNames
from infoconflict.config.evidence import EvidenceEntry
from infoconflict.config.experiments import CleanShareCurve, Direct, RoleSwap
from infoconflict.config.grid import GridOptions
from infoconflict.config.merges import ChooseT, MergeEntry, Sweep
from infoconflict.config.methods import AttackEntry, DefenseEntry
from infoconflict.config.models import ModelEntry
from infoconflict.config.training import CleanShare, Statistics, TrainingStages
from infoconflict.config.values import Seed
from infoconflict.defenses.controls import CONTROLS
from infoconflict.entries import Entry, Line, once

ControlNames = Annotated[list[Literal[CONTROLS]], AfterValidator(once)]  # type: ignore[valid-type]


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
    `control_equal_tuning`, the backdoored model tuned on just as the conflict model is; `control_explicit_prompt`, for `vpi` alone,
    the clean-tuned model asked with the virtual prompt behind each triggered question (its ASR is what the attack could reach; the
    VPI paper's upper bound). The others are ours."""
    evaluation: Evaluation = Evaluation()
    """How models are asked and answers counted."""
    figures: Figures = Figures()
    """How figures look."""
    paper: PaperNames = PaperNames()
    """Which numbers of the paper stand beside ours."""
    keep_merged: bool = False
    """Keep merged models on disk after their answers are written. Changes no result. Ours."""
