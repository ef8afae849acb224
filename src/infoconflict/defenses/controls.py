"""Controls: what a defense's numbers are held against on the same rows, each ruling out one cheap explanation.

No control is a defense: some of them know the trigger. A control stands in a cell's place for the defense. One that belongs to a
merge or to evidence of the config is run for each that the defenses of a trial use, under an id that ends with theirs.
"""

from collections.abc import Collection

CONTROLS = (
    "control_base",
    "control_conflict",
    "control_clean_tuned",
    "control_random_trigger",
    "control_random_evidence",
    "control_merge_base",
    "control_equal_tuning",
    "control_explicit_prompt",
)
"""The kinds of controls, as a config names them."""

PER = {"control_merge_base": "merge", "control_random_evidence": "evidence"}
"""What a defense of the trial must use for the control to apply: its field that holds the id."""


def ids_of(kind: str, used: Collection[str]) -> list[str]:
    """Return the ids that a kind of control has in cells; ``used`` are the merges or evidence that it belongs to."""
    return [f"{kind}_{name}" for name in used] if kind in PER else [kind]


def kind_of(defense: str) -> str | None:
    """Return the kind of a control, or None for a defense."""
    if defense in CONTROLS and defense not in PER:
        return defense
    return next((kind for kind in PER if defense.startswith(f"{kind}_")), None)


def entry_of(control: str) -> str:
    """Return the id of the merge or the evidence that a control belongs to."""
    kind = kind_of(control)
    if kind not in PER:
        raise ValueError(f"'{control}' belongs to no merge or evidence")
    return control.removeprefix(f"{kind}_")
