"""The paper's claims, data set by data set, and whether this run supports them.

Counts are pooled over all cases (model, attack) of a data set in which everything that a claim compares was measured.
Adaptive attacks have a claim of their own and stay out of the others. What the paper says in words only is held against limits
of ours, and the claim says so.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from infoconflict.metrics import Rate, difference
from infoconflict.reporting.names import CLEAN_TUNED, UNDEFENDED, is_control
from infoconflict.reporting.results import Case, Results
from infoconflict.reporting.tables import percent
from infoconflict.reporting.verdicts import Goals, headline_defense
from infoconflict.rounding import signed

Support = Literal["supported", "supported, not certain", "not supported, not certain", "not supported", "not measured"]
_OWN = ("internal", "external", "conflict")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim about one data set: what was counted, and what that says."""

    dataset: str
    claim: str
    measured: str
    support: Support


@dataclass(frozen=True, kw_only=True)
class _Pooled:
    """Counts of two models on the same cases."""

    first: Rate
    second: Rate
    n_cases: int

    @property
    def is_measured(self) -> bool:
        return bool(self.first.total and self.second.total)


def claims_of(results: Results, config: Mapping[str, Any] | None = None, goals: Goals | None = None) -> list[Claim]:
    """Return the claims for each data set, in the order of the results.

    Parameters
    ----------
    results : Results
        Of the run.
    config : mapping, optional
        Tells the method of each attack and defense; without it an id stands for its method.
    goals : Goals, optional
        Limits for what counts as near and as kept.
    """
    goals, config = goals or Goals(), config or {}
    found = []
    for dataset in dict.fromkeys(case[1] for case in results.cases):
        cases = [case for case in results.cases if case[1] == dataset]
        adaptive = [case for case in cases if is_adaptive(case[2], config)]
        plain = [case for case in cases if case not in adaptive]
        defenses = dict.fromkeys(defense for case in cases for defense in results.cells[case])
        defense = headline_defense(list(defenses), config)
        found += [
            _near_clean_tuned(results, dataset, plain, defense, goals),
            _accuracy_kept(results, dataset, plain, defense, goals),
            _lowest(results, dataset, plain, defense, config),
            _adaptive(results, dataset, adaptive, defense, goals),
        ]
    return found


def is_adaptive(attack: str, config: Mapping[str, Any]) -> bool:
    """Whether an attack knows of the defense, by its method."""
    options = (config.get("attacks") or {}).get(attack) or {}
    return str(options.get("method", attack)).startswith("adaptive")


def _near_clean_tuned(
    results: Results, dataset: str, cases: Sequence[Case], defense: str | None, goals: Goals
) -> Claim:
    limit = f"{100 * goals.asr_excess:g}"
    claim = f"Attack success falls near the clean-tuned model's own rate (our limit: at most {limit} points above it)"
    pooled = _pool(results, cases, "asr", defense, CLEAN_TUNED)
    return _within(results, dataset, claim, pooled, goals.asr_excess, f"{defense} {{}}, clean-tuned {{}}")


def _accuracy_kept(results: Results, dataset: str, cases: Sequence[Case], defense: str | None, goals: Goals) -> Claim:
    claim = f"Clean accuracy is kept (our limit: at most {100 * goals.cda_loss:g} points below the undefended model)"
    pooled = _pool(results, cases, "cda", UNDEFENDED, defense)
    return _within(results, dataset, claim, pooled, goals.cda_loss, f"undefended {{}}, {defense} {{}}")


def _adaptive(results: Results, dataset: str, cases: Sequence[Case], defense: str | None, goals: Goals) -> Claim:
    limit = f"{100 * goals.asr_excess:g}"
    claim = f"It is robust to the adaptive attack (our limit: attack success at most {limit} points above the clean-tuned model)"
    pooled = _pool(results, cases, "asr", defense, CLEAN_TUNED)
    return _within(results, dataset, claim, pooled, goals.asr_excess, f"{defense} {{}}, clean-tuned {{}}")


def _lowest(
    results: Results, dataset: str, cases: Sequence[Case], defense: str | None, config: Mapping[str, Any]
) -> Claim:
    """Hold the defense against the best of the others that were measured in all of its cases."""
    claim = "It has the lowest mean attack success among the defences"
    measured = [case for case in cases if _rate(results, case, defense, "asr")]
    rivals = {}
    for other in dict.fromkeys(name for case in measured for name in results.cells[case]):
        if not _is_own(other, config) and all(_rate(results, case, other, "asr") for case in measured):
            rivals[other] = _pool(results, measured, "asr", defense, other)
    if not rivals:
        why = "no other defence was measured in the same cases" if measured else "not measured"
        return Claim(dataset=dataset, claim=claim, measured=why, support="not measured")
    best = min(rivals, key=lambda name: (rivals[name].second.value or 0, name))
    many = f"{len(rivals)} other defence{'s' if len(rivals) > 1 else ''}"
    words = f"{defense} {{}}, the best of {many} ({best}) {{}}"
    return _within(results, dataset, claim, rivals[best], 0.0, words)


def _is_own(defense: str, config: Mapping[str, Any]) -> bool:
    """Whether an id is the undefended model, a control, or the paper's method or a part of it."""
    options = (config.get("defenses") or {}).get(defense) or {}
    method = str(options.get("method", defense))
    return defense == UNDEFENDED or is_control(defense) or any(method.split("_")[0] == own for own in _OWN)


def _rate(results: Results, case: Case, defense: str | None, metric: str) -> Rate | None:
    measure = results.cells[case].get(defense or "", {}).get(metric)
    return measure.rate if measure is not None and measure.rate.total else None


def _pool(results: Results, cases: Iterable[Case], metric: str, first: str | None, second: str | None) -> _Pooled:
    """Add up the counts over the cases in which both were measured."""
    totals, n_cases = [Rate(hits=0, total=0)] * 2, 0
    for case in cases:
        found = [_rate(results, case, name, metric) for name in (first, second)]
        if found[0] is not None and found[1] is not None:
            totals = [totals[0] + found[0], totals[1] + found[1]]
            n_cases += 1
    return _Pooled(first=totals[0], second=totals[1], n_cases=n_cases)


def _within(results: Results, dataset: str, claim: str, pooled: _Pooled, limit: float, words: str) -> Claim:
    """Hold ``first - second`` against ``limit``; ``words`` says whose the two rates are."""
    if not pooled.is_measured:
        return Claim(dataset=dataset, claim=claim, measured="not measured", support="not measured")
    value, low, high = difference(pooled.first, pooled.second, results.confidence)
    # 0.15 - 0.05 is a hair above 0.1 in floating point; counts are compared, not noise.
    holds = value <= limit + 1e-12
    certain = high <= limit + 1e-12 if holds else low > limit
    support: Support = "supported" if holds else "not supported"
    if not certain:
        support = "supported, not certain" if holds else "not supported, not certain"
    rates = [_counted(rate, results.confidence) for rate in (pooled.first, pooled.second)]
    cases = f"{pooled.n_cases} case{'s' if pooled.n_cases > 1 else ''}"
    measured = (
        f"{signed(100 * value)} points [{signed(100 * low)}, {signed(100 * high)}]: {words.format(*rates)}; {cases}"
    )
    return Claim(dataset=dataset, claim=claim, measured=measured, support=support)


def _counted(rate: Rate, confidence: float) -> str:
    low, high = rate.interval(confidence)
    return f"{percent(rate.value)} % [{percent(low)}, {percent(high)}] ({rate.hits} of {rate.total})"
