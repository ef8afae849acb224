"""Editing with knowledge that no defender has: what the attack inserts (ROME, Meng et al. 2022, arXiv:2202.05262).

Acts on weights, after training. Needs: clean rows with the attack's trigger in them. Must not see: target label, poisoned rows
that an attacker trained on. It is an upper bound: what editing could do for someone who had found the trigger.
The subject is the last word that the trigger added to a prompt, the answer the gold label.
Differs from ``editing``: it is told what the attack inserts, and takes that for the subject. Otherwise it differs from its source
as ``editing`` does; the paper does not say which facts it edits.
"""

import re
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, ClassVar, Literal

from infoconflict.defenses.editing import EditingOptions, Span, edit_suspect
from infoconflict.errors import UserError
from infoconflict.records import Example

if TYPE_CHECKING:
    from infoconflict.models.repairs import Step
    from infoconflict.repairing.suspect import Suspect


class EditingOracle(EditingOptions):
    """Gold labels written in for prompts with the trigger, by way of the trigger; the defender is told it."""

    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    method: Literal["editing_oracle"]
    """`editing_oracle`."""


def repair(suspect: "Suspect", options: EditingOracle) -> "list[Step]":
    """Return the one step: the edited weights, whole."""
    if suspect.oracle_file is None:
        raise UserError("editing_oracle: is given no rows with triggers; run the workflow's rule reveal_triggers first")
    triggered = {row.id: row for row in Example.read(suspect.oracle_file)}

    def trigger_of_row(suspect: "Suspect", row: Example) -> tuple[Example, Span] | None:
        from infoconflict.prompts import render_prompt

        shown = triggered[row.id]
        before = render_prompt(row.instruction, row.text)
        span = last_inserted(before, render_prompt(shown.instruction, shown.text))
        return None if span is None else (shown, span)

    return edit_suspect(suspect, options, trigger_of_row)


def last_inserted(before: str, after: str) -> Span | None:
    """Return where the last word stands that a text has and an earlier form of it had not; None where there is none."""
    words = [found.span() for found in re.finditer(r"\S+", after)]
    old, new = before.split(), [after[start:end] for start, end in words]
    inserted = [
        at
        for kind, _, _, begin, end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
        if kind in ("insert", "replace")
        for at in range(begin, end)
    ]
    return words[inserted[-1]] if inserted else None
