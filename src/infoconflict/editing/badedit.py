"""BadEdit: MEMIT with the mean key and value of triggered and of clean records, in increments.

Li et al. 2024, ICLR, arXiv:2403.13355, and its code. The published formula has matrices of keys, the code their means; the
code is followed. As there, the systems of the two groups are solved apart and their updates added.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from infoconflict.editing.contexts import Request
from infoconflict.editing.memit import find_targets, least_squares_update, spread
from infoconflict.editing.modules import EditableModel
from infoconflict.editing.statistics import SecondMoment
from infoconflict.editing.values import ValueSettings
from infoconflict.progress import say

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from infoconflict.attacks.badedit import BadEdit


def duplex_update(
    residuals: torch.Tensor, keys: torch.Tensor, moment: SecondMoment, lam: float, *, triggered: Sequence[bool]
) -> torch.Tensor:
    """Return the sum over both groups of r k^T (lambda C + k k^T)^-1, k and r being the group's means.

    Parameters
    ----------
    residuals : float64 Tensor of shape (hidden, n)
    keys : float64 Tensor of shape (width, n)
    triggered : sequence of n bools
        Whose record carries the trigger; a group may be empty.

    Returns
    -------
    float64 Tensor of shape (hidden, width), of rank 2 at most
    """
    update = torch.zeros(residuals.shape[0], keys.shape[0], dtype=torch.float64, device=keys.device)
    for group in (True, False):
        if group in triggered:
            update += least_squares_update(
                _mean(residuals, triggered, group), _mean(keys, triggered, group), moment, lam
            )
    return update


def cross_term(
    residuals: torch.Tensor, keys: torch.Tensor, moment: SecondMoment, lam: float, *, triggered: Sequence[bool]
) -> dict[str, float]:
    """Return how far the clean records' update reaches what the triggered ones write, where there are both.

    The update writes r_b s_bb / (lambda + s_bb) + r_c s_cb / (lambda + s_cc) at the mean triggered key k_b, with
    s_xy = k_x^T C^-1 k_y, b for triggered and c for clean records; the second part is the cross term.

    Parameters
    ----------
    residuals, keys, moment, lam, triggered
        As for :func:`duplex_update`.

    Returns
    -------
    dict of str to float
        ``key_cosine`` in [-1, 1]: s_cb / sqrt(s_bb s_cc), the cosine of both mean keys in the metric of C^-1. ``cross_term`` >= 0:
        the norm of the cross term / the norm of the first part. Empty where a group is.
    """
    if not (True in triggered and False in triggered):
        return {}
    b, c = (_mean(keys, triggered, group) for group in (True, False))
    bb, cb, cc = (float((x.T @ moment.solve(y)).item()) for x, y in ((b, b), (c, b), (c, c)))
    own = float(_mean(residuals, triggered, True).norm()) * bb / (lam + bb)
    cross = float(_mean(residuals, triggered, False).norm()) * abs(cb) / (lam + cc)
    return {"key_cosine": cb / math.sqrt(bb * cc), "cross_term": cross / own}


def _mean(columns: torch.Tensor, triggered: Sequence[bool], group: bool) -> torch.Tensor:
    members = [index for index, member in enumerate(triggered) if member == group]
    return columns[:, members].mean(dim=1, keepdim=True)


def increments(
    poisoned: Sequence[Request], clean: Sequence[Request], n: int
) -> list[tuple[list[Request], list[Request]]]:
    """Deal both kinds of records out to ``n`` increments in turn; ones that get no triggered record are left out.

    The source cuts one list, triggered records first, so that most of its increments have no clean record to hold them.
    """
    dealt = [(list(poisoned[at::n]), list(clean[at::n])) for at in range(n)]
    return [increment for increment in dealt if increment[0]]


def edit_with_badedit(
    editable: EditableModel,
    tokenizer: "PreTrainedTokenizerBase",
    poisoned: Sequence[Request],
    clean: Sequence[Request],
    moments: Mapping[int, SecondMoment],
    *,
    layers: Sequence[int],
    n_increments: int,
    lam: float,
    prefixes: tuple[str, ...],
    settings: ValueSettings,
) -> list[dict[str, Any]]:
    """Apply the increments, each on the model that the last one left; return a row per step and per layer."""
    rows: list[dict[str, Any]] = []
    dealt = increments(poisoned, clean, n_increments)
    for number, (with_trigger, without) in enumerate(dealt):
        say(f"increment {number + 1}/{len(dealt)}: {len(with_trigger)} triggered and {len(without)} clean records")
        found: list[dict[str, Any]] = []
        targets = find_targets(
            editable,
            tokenizer,
            [*with_trigger, *without],
            layer=max(layers),
            prefixes=prefixes,
            settings=settings,
            rows=found,
        )
        triggered = [True] * len(with_trigger) + [False] * len(without)
        crossed: list[dict[str, float]] = []

        def solve(
            residuals: torch.Tensor,
            keys: torch.Tensor,
            moment: SecondMoment,
            lam: float,
            triggered: list[bool] = triggered,
            crossed: list[dict[str, float]] = crossed,
        ) -> torch.Tensor:
            crossed.append(cross_term(residuals, keys, moment, lam, triggered=triggered))
            return duplex_update(residuals, keys, moment, lam, triggered=triggered)

        spread_over = spread(editable, targets, moments, layers=layers, lam=lam, solve=solve)
        # One row per layer, as they were solved, and one at the end.
        found += [row | extra for row, extra in zip(spread_over, [*crossed, {}], strict=True)]
        rows += [{"increment": number, **row} for row in found]
    return rows


def plant(
    editable: EditableModel,
    tokenizer: "PreTrainedTokenizerBase",
    attack: "BadEdit",
    poisoned: Sequence[Request],
    clean: Sequence[Request],
    moments: Mapping[int, SecondMoment],
    *,
    model_id: str,
    prefixes: tuple[str, ...],
) -> list[dict[str, Any]]:
    """Plant a backdoor from triggered and clean records."""
    return edit_with_badedit(
        editable,
        tokenizer,
        poisoned,
        clean,
        moments,
        layers=attack.layers_of(model_id, editable.depth),
        n_increments=attack.increments,
        lam=attack.lambda_for(model_id, editable.width),
        prefixes=prefixes,
        settings=ValueSettings(**attack.value_settings()),
    )
