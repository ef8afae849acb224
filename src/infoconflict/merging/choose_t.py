"""Choosing the merge weight without knowing a trigger: as far as clean accuracy does not suffer.

A defender holds clean rows only, and on them a backdoor does not show. What the rows do tell is where the merged model
still does its task. Of all t that are no worse than the best within chance, the largest is taken, since weight moves
away from the suspect model with t: it is the choice that trusts the suspect least at no measurable cost.

Two rules say what is within chance. ``one_standard_error`` is that of Breiman, Friedman, Olshen and Stone 1984, section 3.4.3,
with "largest t" in place of "smallest tree". ``paired_test`` (ours) asks whether a t is worse than the best by a test on the same
rows, at 5 %: few rows tell less than one standard error suggests, and what they do not tell should not keep weight on the suspect.
On labels right answers are counted; on conversations, which have none, it counts how likely the model finds the reference
answers (ours: a judge would make the choice depend on who judges).
"""

import math
import statistics
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

from infoconflict.errors import UserError, did_you_mean
from infoconflict.mcnemar import mcnemar
from infoconflict.merging.common import check_t

RULES = ("one_standard_error", "paired_test")
LEVEL = 0.05
"""Of ``paired_test``, two-sided."""
ERRORS = {"one_standard_error": 1.0, "paired_test": NormalDist().inv_cdf(1 - LEVEL / 2)}
"""Standard errors of a mean paired difference that are within chance."""
NO_HOLDOUT = "t: auto has no held-out clean rows to choose by; raise clean_share.share or clean_share.holdout, or set t"


def standard_error(hits: int, total: int) -> float:
    """Return the standard error of a rate.

    The share is that of Agresti and Coull 1998, (hits + 2) / (total + 4), which stands in for Wilson's interval: with
    the plain one a model that is right on all rows would leave no doubt, and one that errs once would count as worse.
    """
    share = (hits + 2) / (total + 4)
    return math.sqrt(share * (1 - share) / total)


def choose_t(
    score: Callable[[float], Sequence[bool]],
    candidates: Sequence[float],
    *,
    rule: str = "one_standard_error",
    merge: str | None = None,
    suspect: Sequence[bool] | None = None,
) -> dict[str, Any]:
    """Return the largest t that is right as often as the best within chance.

    Parameters
    ----------
    score : callable
        Gives for a t which rows of the held-out part of the clean share the merged model answers rightly. Called once for each
        candidate, in ascending order. The same rows in the same order for all.
    candidates : sequence of float in [0, 1]
        Values to try; order and repeats do not matter.
    rule : {"one_standard_error", "paired_test"}
        What is within chance: one standard error of the best candidate, which ignores that all answer the same rows; or
        McNemar's exact test against the best on these rows, not significant at 5 %.
    merge : str, optional
        Id of the merge, noted in the result.
    suspect : sequence of bool, optional
        The same of the suspect model, noted in the result as counts; it has no part in the rule.

    Returns
    -------
    dict
        ``t``, ``rule``, ``curve`` (a list of ``t``, ``hits``, ``total``, ascending; by ``paired_test`` with its ``p``), and
        ``merge`` and ``suspect`` as given.

    Raises
    ------
    UserError
        If there are no held-out rows.
    ValueError
        If there are no candidates, one is not a weight, the rule is unknown, or totals differ.
    """
    values = checked_candidates(candidates, rule)
    right = {t: list(score(t)) for t in values}
    if len(totals := {len(rows) for rows in right.values()}) > 1:
        raise ValueError(f"the candidates were asked different numbers of rows: {sorted(totals)}")
    if not (total := totals.pop()):
        raise UserError(NO_HOLDOUT)
    hits = {t: sum(rows) for t, rows in right.items()}
    best = max(values, key=lambda t: (hits[t], t))
    curve: list[dict[str, Any]] = [{"t": t, "hits": hits[t], "total": total} for t in values]
    if rule == "one_standard_error":
        least = hits[best] - standard_error(hits[best], total) * total
        allowed = [t for t in values if hits[t] >= least]
    else:
        for point in curve:
            pairs = list(zip(right[best], right[point["t"]], strict=True))
            point["p"] = mcnemar(
                sum(one and not other for one, other in pairs), sum(other and not one for one, other in pairs)
            )
        allowed = [point["t"] for point in curve if point["p"] >= LEVEL]
    result: dict[str, Any] = {"t": max(allowed), "rule": rule, "curve": curve}
    if merge is not None:
        result["merge"] = merge
    if suspect is not None:
        result["suspect"] = {"hits": sum(suspect), "total": len(suspect)}
    return result


def choose_t_by_likelihood(
    score: Callable[[float], Sequence[float]],
    candidates: Sequence[float],
    *,
    rule: str = "one_standard_error",
    merge: str | None = None,
    suspect: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Return the largest t that finds the reference answers as likely as the best within chance, over rows.

    Rows differ far more from each other than candidates do on one row. So the standard error is that of the mean, over rows,
    of the difference to the best candidate; that of a candidate's own mean would let any t pass.

    Parameters
    ----------
    score : callable
        Gives for a t the log-likelihood of each held-out row's reference answer, the same rows in the same order.
    candidates, rule, merge
        See :func:`choose_t`.
    suspect : sequence of float, optional
        The same of the suspect model; it has no part in the rule.

    Returns
    -------
    dict
        ``t``, ``rule``, ``measure`` (``log_likelihood``), ``curve`` (a list of ``t``, ``mean``, ``rows``, and ``loss`` and
        ``standard_error`` against the best, ascending), and ``merge`` and ``suspect`` (its mean) as given.

    Raises
    ------
    UserError
        If there are no held-out rows.
    ValueError
        As :func:`choose_t`.
    """
    values = checked_candidates(candidates, rule)
    rows = {t: list(score(t)) for t in values}
    if len(totals := {len(found) for found in rows.values()}) > 1:
        raise ValueError(f"the candidates were asked different numbers of rows: {sorted(totals)}")
    if not (total := totals.pop()):
        raise UserError(NO_HOLDOUT)
    best = max(values, key=lambda t: math.fsum(rows[t]))
    curve, allowed = [], []
    for t in values:
        losses = [one - other for one, other in zip(rows[best], rows[t], strict=True)]
        loss = math.fsum(losses) / total
        error = statistics.stdev(losses) / math.sqrt(total) if total > 1 else 0.0
        allowed += [t] if loss <= error * ERRORS[rule] else []
        mean = math.fsum(rows[t]) / total
        curve.append({"t": t, "mean": mean, "rows": total, "loss": loss, "standard_error": error})
    result: dict[str, Any] = {"t": max(allowed), "rule": rule, "measure": "log_likelihood", "curve": curve}
    if merge is not None:
        result["merge"] = merge
    if suspect is not None:
        result["suspect"] = {"mean": math.fsum(suspect) / total, "rows": total}
    return result


def checked_candidates(candidates: Sequence[float], rule: str) -> list[float]:
    """Return the candidates in ascending order, each once; ``ValueError`` if one is no weight or the rule is unknown."""
    if rule not in RULES:
        raise ValueError(f"unknown rule '{rule}'{did_you_mean(rule, RULES)}; available: {', '.join(RULES)}")
    values = sorted(set(candidates))
    if not values:
        raise ValueError("choose_t needs at least one candidate")
    for t in values:
        check_t(t)
    return values
