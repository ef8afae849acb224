"""What the paper claims, held against its own tables and against ours.

A claim is decided on the rows of a table that have what it needs. "Not certain" means that the interval, where there is one,
reaches over the limit.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from infoconflict.reporting.names import CLEAN_TUNED, defense_label
from infoconflict.reporting.paper_cells import COLUMNS, Roles
from infoconflict.reporting.paper_figures import direct_accuracy, own_accuracy, share_curves
from infoconflict.reporting.paper_measures import Measured, mean_difference, mean_of
from infoconflict.reporting.paper_tables import PaperTable, RowKey, model_label
from infoconflict.reporting.published import DATASETS, MERGES, OWN, Place, column_values, published, rows_of
from infoconflict.reporting.results import Measure
from infoconflict.reporting.tables import percent
from infoconflict.reporting.verdicts import Verdict
from infoconflict.rounding import rounded, signed

NOT_MEASURED = "not computed"
_CDA_LOSS = 0.03  # paper, section 5.1: "less than 3%", in "almost all cases"
_ALMOST_ALL = 0.9  # ours: of the rows
_GOAL_ASR_EXCESS, _GOAL_CDA_LOSS = 0.02, 0.01  # ours, over the clean-tuned model
_KEEPS = 0.5  # ours: half of the rows, for what a merge keeps or loses


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One claim: in words, where the paper has it, what the paper's own numbers say, what ours say, on how many rows.

    ``reason`` is what the config gives for it; ``is_goal`` marks what is no claim of the paper, but a goal of ours.
    """

    id: str
    text: str
    where: str
    paper: str
    paper_holds: bool
    ours: str
    rows: str
    verdict: Verdict
    reason: str = ""
    is_goal: bool = False


def claims_of(
    tables: Mapping[int, PaperTable], measured: Measured, roles: Roles, reasons: Mapping[str, str] | None = None
) -> list[Claim]:
    """Return the paper's claims, in the order in which a reader asks for them, then our goal for the further defenses."""
    main = {1: "SST-2", 2: "Emotion", 3: "chat"}
    found = [
        *(_lowest_mean_asr(tables[number], name) for number, name in main.items()),
        *(_cda_kept(tables[number], name) for number, name in main.items()),
        *(_cda_above(tables[number], name) for number, name in main.items()),
        _adaptive(tables[7]),
        *(_both_are_lowest(tables[number]) for number in (4, 5)),
        _merges_below(tables[8]),
        _merge_keeps(tables[6]),
        _merge_loses(tables[6]),
        _little_more_time(tables[9], roles),
        _more_data_helps(measured),
        *(_better_than_external(measured, roles, dataset) for dataset in ("emotion", "chat")),
        *(
            _goal(tables[number], measured, defense, name)
            for defense in roles.further
            for number, name in main.items()
            if own_values(tables[number], defense, "asr")
        ),
    ]
    return [replace(claim, reason=(reasons or {}).get(claim.id, "")) for claim in found]


def _slug(name: str) -> str:
    return name.lower().replace("-", "")


def _goal_id(defense: str, name: str) -> str:
    return f"goal_{defense}_{_slug(name)}"


def _interval(value: float, low: float, high: float) -> str:
    return f"{percent(value)} % [{percent(low)}, {percent(high)}]"


def _points(value: float, low: float, high: float) -> str:
    return f"{signed(100 * value)} points [{signed(100 * low)}, {signed(100 * high)}]"


def _lost_points(value: float, low: float, high: float) -> str:
    """Say what was lost; what is less than nothing was gained."""
    word, value, low, high = ("lost", value, low, high) if value >= 0 else ("gained", -value, -high, -low)
    return f"{word} {rounded(100 * value)} points [{signed(100 * low)}, {signed(100 * high)}]"


def _most_lost(losses: Sequence[float]) -> str:
    """Say the most that a row lost, with a second decimal where the first would be the limit itself."""
    most = max(losses)
    if most < 0:
        return f"every row gained, the least {rounded(-100 * most)} points"
    digits = 2 if rounded(100 * most) == rounded(100 * _CDA_LOSS) else 1
    return f"most lost in a row: {rounded(100 * most, digits)} points"


def _ours(table: PaperTable, row: RowKey, column: str, metric: str) -> Measure | None:
    return table.entry(row, column, metric).ours


def pairs(table: PaperTable, first: str, second: str, metric: str) -> tuple[list[Measure], list[Measure]]:
    """Return our numbers of two columns, from the rows that have both."""
    both = [(_ours(table, row, first, metric), _ours(table, row, second, metric)) for row in table.rows]
    whole = [(one, two) for one, two in both if one is not None and two is not None]
    return [one for one, _ in whole], [two for _, two in whole]


def own_values(table: PaperTable, column: str, metric: str) -> list[Measure]:
    """Return our numbers of one column."""
    found = (_ours(table, row, column, metric) for row in table.rows)
    return [one for one in found if one is not None]


def _mean(values: Sequence[float]) -> str:
    return f"{percent(statistics.fmean(values))} %"


def _worst(measures: Iterable[Measure]) -> str:
    return f"worst {percent(max(float(one.value or 0) for one in measures))} %"


def _decide(holds: bool, *, certain: bool) -> Verdict:
    if holds:
        return "met" if certain else "met, not certain"
    return "missed" if certain else "missed, not certain"


def _decide_all(found: Sequence[tuple[bool, bool, bool]]) -> Verdict:
    """Decide what is to hold everywhere, from (holds, certainly holds, certainly does not) of each place."""
    if not found:
        return "not measured"
    holds = all(one for one, _, _ in found)
    return _decide(holds, certain=all(sure for _, sure, _ in found) if holds else any(no for _, _, no in found))


def _printed(where: tuple[int, str, str, str], column: str, metric: str) -> float:
    table, model, dataset, attack = where
    return published()[Place(table=table, dataset=dataset, model=model, attack=attack, column=column)][metric]


def _lowest_mean_asr(table: PaperTable, name: str) -> Claim:
    others = [column for column in COLUMNS[table.number] if column not in ("none", OWN)]
    printed = {column: column_values(table.number, column, "asr") for column in (*others, OWN)}
    means = {column: statistics.fmean(values) for column, values in printed.items()}
    rival = min((column for column in means if column != OWN), key=lambda column: means[column])
    mine = own_values(table, OWN, "asr")
    compared: dict[str, tuple[float, float, float]] = {}
    in_every_row = set()
    for column in others:
        own, other = pairs(table, OWN, column, "asr")
        if own:
            compared[column] = mean_difference(own, other)
        if len(own) == len(mine):
            in_every_row.add(column)
    whole = len(in_every_row) == len(others)
    verdict: Verdict = "not measured"
    ours = NOT_MEASURED
    if mine:
        ours = f"mean {_interval(*mean_of(mine))}, {_worst(mine)}"
        before, _ = pairs(table, "none", OWN, "asr")
        if before:
            ours += f" (undefended mean {percent(mean_of(before)[0])} %)"
    if compared:
        holds = all(value <= 0 for value, _, _ in compared.values())
        if holds:
            certain = whole and all(high < 0 for _, _, high in compared.values())
        else:
            # One defense that is better on the same rows is enough, whatever the others would be.
            certain = any(compared[column][1] > 0 for column in in_every_row)
        verdict = _decide(holds, certain=certain)
        closest = max(compared, key=lambda column: compared[column][0])
        ours += (
            f"; against {len(compared)} of {len(others)} baselines{'' if whole else ', not all of them in every row'}"
        )
        ours += f", the best of them {defense_label(closest)}: {_points(*compared[closest])}"
    elif mine:
        ours += "; no other defense was computed"
    worst = max(printed[OWN])
    return Claim(
        id=f"lowest_{_slug(name)}",
        text=f"Of the paper's defenses, the method leaves the lowest mean attack success on {name}",
        where=f"Section 5.1, Table {table.number}",
        paper=f"mean {percent(means[OWN])} %, worst {percent(worst)} %; next {defense_label(rival)} {percent(means[rival])} %",
        paper_holds=means[OWN] < means[rival],
        ours=ours,
        rows=_of_rows(table, len(mine)),
        verdict=verdict,
    )


def _of_rows(table: PaperTable, count: int) -> str:
    """Return how many of the rows that the run's models have, too; rows of other models are no lack of it."""
    return f"{count} of {len(table.of_run)}"


def _cda_kept(table: PaperTable, name: str) -> Claim:
    before, after = pairs(table, "none", OWN, "cda")
    printed = [statistics.fmean(column_values(table.number, column, "cda")) for column in ("none", OWN)]
    lost = [
        _printed((table.number, *row), "none", "cda") - _printed((table.number, *row), OWN, "cda")
        for row in rows_of(table.number)
    ]
    kept = sum(round(loss, 6) < _CDA_LOSS for loss in lost)
    ours = NOT_MEASURED
    verdict: Verdict = "not measured"
    if before:
        rows = [mean_difference([one], [two]) for one, two in zip(before, after, strict=True)]
        within = sum(round(value, 6) < _CDA_LOSS for value, _, _ in rows)
        ours = (
            f"in {within} of {len(rows)}; mean {percent(mean_of(before)[0])} → {percent(mean_of(after)[0])} %, "
            f"{_lost_points(*mean_difference(before, after))}; {_most_lost([value for value, _, _ in rows])}"
        )
        holds = within >= _ALMOST_ALL * len(rows)
        sure = [high < _CDA_LOSS for _, _, high in rows] if holds else [low < _CDA_LOSS for _, low, _ in rows]
        verdict = _decide(holds, certain=(sum(sure) >= _ALMOST_ALL * len(rows)) == holds)
    return Claim(
        id=f"accuracy_kept_{_slug(name)}",
        text=f"In almost all cases clean accuracy falls by less than {100 * _CDA_LOSS:g} points on {name} (almost all: "
        f"{100 * _ALMOST_ALL:g} % of the rows, ours)",
        where=f"Section 5.1, Table {table.number}",
        paper=f"in {kept} of {len(lost)}; mean {percent(printed[0])} → {percent(printed[1])} %; {_most_lost(lost)}",
        paper_holds=kept >= _ALMOST_ALL * len(lost),
        ours=ours,
        rows=_of_rows(table, len(before)),
        verdict=verdict,
    )


def _cda_above(table: PaperTable, name: str) -> Claim:
    printed = column_values(table.number, OWN, "cda")
    return _counted(
        f"accuracy_above_{_slug(name)}",
        f"Clean accuracy with the method is 90 % or more on {name}",
        f"Abstract, Table {table.number}",
        [value >= 0.9 for value in printed],
        [(float(one.value or 0) >= 0.9, one.low >= 0.9, one.high < 0.9) for one in own_values(table, OWN, "cda")],
        table,
    )


def _counted(
    name: str,
    text: str,
    where: str,
    printed: Sequence[bool],
    ours: Sequence[tuple[bool, bool, bool]],
    table: PaperTable,
    *,
    places: int | None = None,
    rest: str = "",
) -> Claim:
    """Return a claim that is to hold in every row; of ours: (holds, certainly holds, certainly does not)."""
    return Claim(
        id=name,
        text=text,
        where=where,
        paper=f"in {sum(printed)} of {len(printed)}",
        paper_holds=all(printed),
        ours=f"in {sum(one for one, _, _ in ours)} of {len(ours)}{rest}" if ours else NOT_MEASURED,
        rows=f"{len(ours)} of {len(table.of_run) if places is None else places}",
        verdict=_decide_all(ours),
    )


def _adaptive(table: PaperTable) -> Claim:
    limit = max(column_values(7, "defended", "asr"))
    printed = column_values(7, "adaptive", "asr")
    adaptive, defended = pairs(table, "adaptive", "defended", "asr")
    ours = NOT_MEASURED
    verdict: Verdict = "not measured"
    if defended:
        ours = f"mean {percent(mean_of(adaptive)[0])} → {_interval(*mean_of(defended))}, {_worst(defended)}"
        holds = all(float(one.value or 0) <= limit for one in defended)
        certain = all(one.high <= limit for one in defended) if holds else any(one.low > limit for one in defended)
        verdict = _decide(holds, certain=certain)
        elsewhere = _elsewhere(table)
        ours += f"; of these {elsewhere}, other data than the paper's" if elsewhere else ""
        if all(float(one.value or 0) <= limit for one in adaptive):
            ours, verdict = f"{ours}; the adaptive attack itself does not work here", "not measured"
    return Claim(
        id="adaptive",
        text=f"The method withstands the adaptive attack: no model is left above the paper's worst, {percent(limit)} %",
        where="Section 6.3, Table 7",
        paper=f"mean {_mean(printed)} → {_mean(column_values(7, 'defended', 'asr'))}, worst {percent(limit)} %",
        paper_holds=True,
        ours=ours,
        rows=_of_rows(table, len(defended)),
        verdict=verdict,
    )


def _elsewhere(table: PaperTable) -> str:
    """Say how many rows of the adaptive attack are on data that the paper has not, and on which."""
    both = (_ours(table, row, "adaptive", "asr") and _ours(table, row, "defended", "asr") for row in table.rows)
    found = Counter(
        row[1]
        for row, is_there in zip(table.rows, both, strict=True)
        if is_there and table.entry(row, "defended", "asr").paper is None
    )
    return ", ".join(f"{count} on {dataset}" for dataset, count in found.items())


def _both_are_lowest(table: PaperTable) -> Claim:
    printed = []
    for model, dataset, attack in rows_of(table.number):
        where = (table.number, model, dataset, attack)
        found = {name: _printed(where, name, "asr") for name in ("internal", "external", OWN)}
        printed.append(found[OWN] <= min(found.values()))
    ours = []
    for row in table.rows:
        both = _ours(table, row, OWN, "asr")
        parts = [one for name in ("internal", "external") if (one := _ours(table, row, name, "asr")) is not None]
        if both is not None and len(parts) == 2:
            value = float(both.value or 0)
            ours.append(
                (
                    value <= min(float(one.value or 0) for one in parts),
                    all(both.high < one.low for one in parts),
                    any(both.low > one.high for one in parts),
                )
            )
    return _counted(
        f"both_lowest_{'chat' if table.number == 5 else 'classification'}",
        "Both conflicts together leave less attack success than either alone",
        f"Section 5.2, Table {table.number}",
        printed,
        ours,
        table,
    )


def _merges_below(table: PaperTable) -> Claim:
    printed = [value for merge in MERGES for value in column_values(8, merge, "asr")]
    ours = [one for merge in MERGES for one in own_values(table, merge, "asr")]
    alone = "; of the merge alone, without evidence, where the paper's linear is its whole method"
    alone = alone if table.merge_kind == "internal" else ""
    return _counted(
        "merge_methods",
        "All four merge methods bring attack success below 5 %",
        "Section 5.3, Table 8",
        [value < 0.05 for value in printed],
        [(float(one.value or 0) < 0.05, one.high < 0.05, one.low >= 0.05) for one in ours],
        table,
        places=table.places,
        rest=f", {_worst(ours)}{alone}" if ours else "",
    )


def _experiment(table: PaperTable, experiment: str, metric: str) -> list[Measure]:
    found = (_ours(table, row, "merged", metric) for row in table.rows if row[2] == experiment)
    return [one for one in found if one is not None]


def _printed_merge(experiment: str, metric: str) -> float:
    place = Place(table=6, dataset="emotion", model="", attack=experiment, column="merged")
    return published()[place][metric]


def _merge_keeps(table: PaperTable) -> Claim:
    asr, cda = _experiment(table, "1", "asr"), _experiment(table, "1", "cda")
    both = [*asr, *cda]
    ours = NOT_MEASURED
    verdict: Verdict = "not measured"
    if asr and cda:
        ours = f"ASR {_interval(*mean_of(asr))}, CDA {_interval(*mean_of(cda))}"
        holds = all(float(one.value or 0) >= _KEEPS for one in both)
        certain = all(one.low >= _KEEPS for one in both) if holds else any(one.high < _KEEPS for one in both)
        verdict = _decide(holds, certain=certain)
    return Claim(
        id="merge_keeps",
        text="A merge keeps what each parent alone is good at: both backdoor and task stay above half",
        where="Section 6.1, Table 6, experiment 1",
        paper=f"ASR {percent(_printed_merge('1', 'asr'))} %, CDA {percent(_printed_merge('1', 'cda'))} %",
        paper_holds=min(_printed_merge("1", "asr"), _printed_merge("1", "cda")) >= _KEEPS,
        ours=ours,
        rows=str(len(asr)),
        verdict=verdict,
    )


def _merge_loses(table: PaperTable) -> Claim:
    cda = _experiment(table, "2", "cda")
    ours = NOT_MEASURED
    verdict: Verdict = "not measured"
    if cda:
        ours = f"CDA {_interval(*mean_of(cda))}"
        holds = all(float(one.value or 0) < _KEEPS for one in cda)
        certain = all(one.high < _KEEPS for one in cda) if holds else any(one.low >= _KEEPS for one in cda)
        verdict = _decide(holds, certain=certain)
    return Claim(
        id="merge_loses",
        text="With the roles exchanged, the merge loses the clean task: clean accuracy falls below half",
        where="Section 6.1, Table 6, experiment 2",
        paper=f"CDA {percent(_printed_merge('2', 'cda'))} %",
        paper_holds=_printed_merge("2", "cda") < _KEEPS,
        ours=ours,
        rows=str(len(cda)),
        verdict=verdict,
    )


def _little_more_time(table: PaperTable, roles: Roles) -> Claim:
    """Hold the hours of the paper's models against the claim; on a small model everything takes less than half an hour."""
    printed = []
    ours: dict[str, list[float]] = {}
    for model, dataset, attack in rows_of(9):
        where = (9, model, dataset, attack)
        others = [column for column in COLUMNS[9][:-1] if dataset == "chat" or column != "cleangen"]
        printed += [_printed(where, OWN, "hours") - _printed(where, column, "hours") < 0.5 for column in others]
    baselines = COLUMNS[9][:-1]
    whole = True
    told: dict[str, None] = {}
    left_out = set()
    for row in table.rows:
        mine = table.entry(row, OWN, "hours").value
        if mine is None:
            continue
        if row[0] not in roles.models:
            left_out.add(row[0])
            continue
        for column in baselines:
            other = table.entry(row, column, "hours")
            if other.value is not None:
                ours.setdefault(column, []).append(mine - other.value)
                told[model_label(roles.models[row[0]])] = None
            elif other.paper is not None:
                whole = False
    more = [one for differences in ours.values() for one in differences]
    said = NOT_MEASURED
    if more:
        said = (
            f"with {', '.join(told)}: in {sum(one < 0.5 for one in more)} of {len(more)}, at most {max(more):.2f} hours more; "
            f"against {len(ours)} of {len(baselines)} baselines; other hardware"
        )
    elif left_out:
        said = f"cannot be told from {', '.join(sorted(left_out))}: it is said of the paper's models, of 1.5 to 7 billion weights"
    return Claim(
        id="little_more_time",
        text="The method takes less than half an hour more than each other defense",
        where="Section 5.5, Table 9",
        paper=f"in {sum(printed)} of {len(printed)}",
        paper_holds=all(printed),
        ours=said,
        rows=f"{len(more)} pairs",
        verdict=_decide(all(one < 0.5 for one in more), certain=whole) if more else "not measured",
    )


def _more_data_helps(measured: Measured) -> Claim:
    ours: list[tuple[bool, bool, bool]] = []
    texts = []
    for (model, dataset, attack, defense), points in share_curves(measured).items():
        found = [(share, one["asr"]) for share, one in points.items() if "asr" in one]
        if len(found) < 2:
            continue
        (first_share, first), (last_share, last) = found[0], found[-1]
        value, low, high = mean_difference([last], [first])
        ours.append((value <= 0, high < 0, low > 0))
        texts.append(
            f"{defense} against {attack} on {dataset} with {model}: {percent(float(first.value or 0))} % at "
            f"{100 * first_share:g} % of the rows, {percent(float(last.value or 0))} % at {100 * last_share:g} %"
        )
    return Claim(
        id="more_data",
        text="More clean data removes more of the backdoor",
        where="Section 5.4, Figure 3",
        paper="said in the text; no values are printed",
        paper_holds=True,
        ours="; ".join(texts) if texts else NOT_MEASURED,
        rows=f"{len(ours)} curves",
        verdict=_decide_all(ours),
    )


def _better_than_external(measured: Measured, roles: Roles, dataset: str) -> Claim:
    printed = column_values({"emotion": 2, "chat": 3}[dataset], OWN, "cda")
    gain = {"emotion": 31.39, "chat": 11.0}[dataset]
    external = {key: one for key, one in direct_accuracy(measured, roles).items() if roles.datasets[key[1]] == dataset}
    own = own_accuracy(measured, roles)
    ours, rows = NOT_MEASURED, 0
    verdict: Verdict = "not measured"
    texts: list[str] = []
    found: list[tuple[bool, bool, bool]] = []
    for (name, ours_dataset), there in external.items():
        cells = list(own.get(ours_dataset, {}).values())
        if cells:
            value, low, high = mean_difference(cells, [there])
            rows += len(cells)
            texts.append(f"{percent(mean_of(cells)[0])} % against {percent(float(there.value or 0))} % of {name}: ")
            texts[-1] += _points(value, low, high)
            found.append((value > 0, low > 0, high <= 0))
    if texts:
        ours = "; ".join(texts)
        verdict = _decide_all(found)
    return Claim(
        id=f"better_than_external_{dataset}",
        text=f"The method answers better than the external model that gives it evidence, on {DATASETS[dataset]}",
        where="Section 6.2, Figure 4",
        paper=f"{_mean(printed)}; said to be {gain:g} points or percent more than GPT-3.5",
        paper_holds=True,
        ours=ours,
        rows=f"{rows} cells",
        verdict=verdict,
    )


def _goal(table: PaperTable, measured: Measured, defense: str, name: str) -> Claim:
    """Hold a further defense against the clean-tuned model, over the rows that have both."""
    counts = []
    texts = []
    found: list[tuple[bool, bool, bool]] = []
    for metric, limit in (("asr", _GOAL_ASR_EXCESS), ("cda", _GOAL_CDA_LOSS)):
        mine, controls = [], []
        for row in table.rows:
            one = _ours(table, row, defense, metric)
            control = measured.cells.get((*row, CLEAN_TUNED), {}).get(metric)
            if one is not None and control is not None and control.value is not None:
                mine.append(one)
                controls.append(control)
        counts.append(len(mine))
        if not mine:
            continue
        value, low, high = mean_difference(mine, controls) if metric == "asr" else mean_difference(controls, mine)
        found.append((value <= limit + 1e-12, high <= limit + 1e-12, low > limit))
        apart = f"{_points(value, low, high)} more" if metric == "asr" else _lost_points(value, low, high)
        texts.append(
            f"{metric.upper()} {_interval(*mean_of(mine))}, clean-tuned {percent(mean_of(controls)[0])} %: {apart}"
        )
    whole = len(found) == 2
    return Claim(
        id=_goal_id(defense, name),
        text=f"{defense_label(defense)} on {name}: mean attack success at most {100 * _GOAL_ASR_EXCESS:g} points above the "
        f"clean-tuned model's own rate, mean clean accuracy at most {100 * _GOAL_CDA_LOSS:g} point below it",
        where="our goal, no claim of the paper",
        paper="not in the paper",
        paper_holds=True,
        ours="; ".join(texts) if whole else "the clean-tuned model was not computed on these rows",
        rows=_of_rows(table, min(counts)),
        verdict=_decide_all(found) if whole else "not measured",
        is_goal=True,
    )


CLAIM_MARKS: Mapping[Verdict, tuple[str, str]] = {
    "met": ("✓ holds", "met"),
    "met, not certain": ("≈ holds, not certain", "doubt"),
    "missed, not certain": ("≈ does not hold, not certain", "doubt"),
    "missed": ("✗ does not hold", "missed"),
    "not measured": ("? cannot be told", "soft"),
}
