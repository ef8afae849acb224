"""What is drawn and tabulated, under which name and in which order; nothing heavy is imported here."""

from infoconflict.defenses.controls import PER, entry_of, kind_of

FIGURES = ("defenses", "tradeoff", "merges", "choice_of_t")
FIGURE_QUESTIONS = {
    "defenses": "What does each defence leave of the backdoor, and of the task?",
    "tradeoff": "How much clean accuracy does removing the backdoor cost as t grows?",
    "merges": "Which merge method removes most, at a fixed and at a chosen t?",
    "choice_of_t": "Can a defender see which t is right?",
}
"""The title of each figure is the one question that it answers."""
RULES_FOR_T = {
    "one_standard_error": "the largest t whose accuracy on the held-out rows is within one standard error of the best",
    "paired_test": "the largest t that is not worse than the best on the held-out rows by McNemar's test at 5 %",
}
"""What `choose_t.rule` takes, in words."""
FIGURE_FORMATS = ("pdf", "png")
TABLES = (
    "main",
    "grid",
    "readings",
    "paired",
    "ftr",
    "merges",
    "choice_of_t",
    "judges",
    "generation",
    "costs",
    "excluded",
)
TABLE_FORMATS = ("csv", "tex")

CONTROLS = {
    "control_base": "base model",
    "control_conflict": "conflict model alone",
    "control_clean_tuned": "clean-tuned model",
    "control_random_trigger": "random words as trigger",
    "control_random_evidence": "random evidence",
    "control_merge_base": "merged with the base",
    "control_equal_tuning": "tuned on like the conflict model",
    "control_explicit_prompt": "virtual prompt written out",
}
UNDEFENDED = "none"
CLEAN_TUNED = "control_clean_tuned"

# The order of the paper's tables, its own method and the parts of it last.
_DEFENSES = (
    "none",
    *("editing", "wanda", "fine_tuning", "fine_pruning", "nad", "speculative", "cleangen", "beear"),
    "onion",
    *("internal", "external", "conflict"),
)
_METRICS = {
    "asr": "ASR, non-target rows",
    "asr_all": "ASR, all triggered rows",
    "asr_flipped": "ASR, flipped rows",
    "cda": "CDA",
    "ftr": "FTR",
    "invalid_rate": "No label",
}
_MERGES = ("linear", "slerp", "ties", "passthrough")
_ATTACKS = {
    "adaptive_cba": "Adaptive CBA",
    "autopoison": "AutoPoison",
    "badedit": "BadEdit",
    "badnets": "BadNets",
    "cba": "CBA",
    "dtba": "DTBA",
    "lwp": "LWP",
    "memit": "MEMIT",
    "rome": "ROME",
    "vpi": "VPI",
}
# Rules in the order of the data flow; a card's stage is the name of its rule.
_STAGES = (
    *("fetch_package", "prepare_model", "prepare_dataset", "draw_clean_share", "ask_oracle"),
    *("poison_train", "poison_test"),
    *("train_backdoored", "train_attacked", "tune_victim", "draw_attacker_share", "train_attacker_conflict"),
    *("subtract_conflict", "compare_conflicts"),
    *(
        "train_clean_tuned",
        "train_conflict",
        "collect_statistics",
        "edit_model",
        "choose_t",
        "merge_models",
        "reveal_triggers",
        "repair_model",
        "filter_questions",
        "refill_questions",
    ),
    *(
        "collect_evidence_clean",
        "collect_evidence_triggered",
        "ask_suspect",
        "modify_evidence",
        "answer",
        "reply",
        "calibrate_judge",
        "judge",
    ),
    *("draw_random_trigger", "draw_random_evidence", "merge_base", "train_equal"),
    *("draw_clean_share_at", "train_conflict_at_share", "choose_t_at_share", "merge_at_share"),
    *("answer_at_share", "reply_at_share", "judge_at_share"),
    *("ask_direct", "reply_direct", "judge_direct", "draw_roles", "train_role", "answer_roles"),
    *("sweep_merge", "compare_generation", "metrics"),
)


def is_control(defense: str) -> bool:
    """Whether a defense id stands for a control."""
    return defense.startswith("control_")


def defense_label(defense: str) -> str:
    """Return what a reader sees: the id of a defense, plain words for a control, and whose merge or evidence it goes with."""
    kind = kind_of(defense)
    if kind is None:
        return CONTROLS.get(defense, defense)
    return f"{CONTROLS[kind]} ({entry_of(defense)})" if kind in PER else CONTROLS[kind]


def metric_label(metric: str) -> str:
    """Return what a reader sees of a metric's name."""
    return _METRICS.get(metric, metric)


def attack_label(attack: str) -> str:
    """Return the attack's name as its authors write it, or the id."""
    return _ATTACKS.get(attack, attack)


def defense_order(defense: str) -> tuple[int, int, str]:
    """Sort key: undefended, other defenses, the project's own, then controls; ``conflict_ties`` beside ``conflict``."""
    if is_control(defense):
        known, kind = list(CONTROLS), kind_of(defense) or defense
        return 2, known.index(kind) if kind in known else len(known), defense
    return 1, _rank(defense, _DEFENSES, otherwise=_DEFENSES.index("internal")), defense


def merge_order(merge: str) -> tuple[int, str]:
    """Sort key: the paper's order of merge methods."""
    return _rank(merge, _MERGES, otherwise=len(_MERGES)), merge


def stage_order(stage: str) -> tuple[int, str]:
    """Sort key: the order of the data flow."""
    return _STAGES.index(stage) if stage in _STAGES else len(_STAGES), stage


def _rank(name: str, known: tuple[str, ...], otherwise: int) -> int:
    matches = [one for one in known if name == one or name.startswith(f"{one}_")]
    return known.index(max(matches, key=len)) if matches else otherwise
