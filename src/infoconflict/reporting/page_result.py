"""The top of the page: the claims, data set by data set, then each case with its checks."""

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from infoconflict.reporting.claims import claims_of
from infoconflict.reporting.html import Html, caption, details, join, simple_table, tag
from infoconflict.reporting.names import CLEAN_TUNED, UNDEFENDED
from infoconflict.reporting.page_words import case_name, level, soft_brackets, verdict_mark
from infoconflict.reporting.results import Case, Measures, Results
from infoconflict.reporting.tables import NOTHING, percent
from infoconflict.reporting.verdicts import Check, Goals, checks_of, conclusion, headline, headline_defense

_MANY_CASES = 4


def claims_table(results: Results, config: Mapping[str, Any], goals: Goals | None = None) -> Html:
    """Return the paper's claims with what this run says of each."""
    rows = [
        tag(
            "tr",
            tag("th", claim.dataset, scope="row"),
            tag("td", claim.claim, class_="claim"),
            tag("td", verdict_mark(claim.support)),
            tag("td", soft_brackets(claim.measured), class_="claim"),
        )
        for claim in claims_of(results, config, goals)
    ]
    titles = ("Data set", "The paper's claim", "This run", "Measured")
    head = tag("tr", *(tag("th", name, scope="col") for name in titles))
    text = caption(
        "Counts are pooled over the cases of a data set. “Not certain”: the interval of the difference reaches over the limit."
    )
    table = tag("table", text, tag("thead", head), tag("tbody", *rows), id="table-claims")
    return tag("div", table, class_="scroll", tabindex="0")


def result_section(results: Results, config: Mapping[str, Any], goals: Goals | None) -> Html:
    """Return claims, the headline of each case, and its checks."""
    if not results.cases:
        return tag("p", "No cell was measured; the list of cells left out says why.", class_="lead")
    judged = {}
    for case in results.cases:
        defense = headline_defense(list(results.cells[case]), config)
        judged[case] = (defense, checks_of(results, case, defense, goals))
    parts = [claims_table(results, config, goals)]
    parts += [_overall(results, judged)] if len(judged) > 1 else []
    for number, (case, (defense, checks)) in enumerate(judged.items()):
        single = len(judged) == 1
        content = [
            tag("p", soft_brackets(headline(results, case, defense)), class_="lead" if single else None),
            tag("p", conclusion(checks, defense), class_="verdict"),
            _tiles(results.cells[case], defense),
            _size_note(results, case),
            _checks_table(checks),
        ]
        if single:
            parts += content
        else:
            name = case_name(case)
            parts.append(details(name, *content, open_=number == 0 and len(judged) <= _MANY_CASES, class_="case"))
    return join(parts)


def _overall(results: Results, judged: Mapping[Case, tuple[str | None, list[Check]]]) -> Html:
    """Say what holds over all cases, as counts and medians, and in a line for each; the details follow."""
    tried = {case: (defense, checks) for case, (defense, checks) in judged.items() if defense is not None}
    if not tried:
        return tag("p", f"{len(judged)} cases were measured, none with a defence.", class_="lead")
    names = sorted({str(defense) for defense, _ in tried.values()})
    verdicts = [[check.verdict for check in checks[-2:]] for _, checks in tried.values()]
    told = [[verdict.startswith("met") for verdict in pair] for pair in verdicts if "not measured" not in pair]
    removed, kept, both = sum(one for one, _ in told), sum(one for _, one in told), sum(map(all, told))
    untold = len(tried) - len(told)
    rest = f" In {untold} more a control or a rate is missing, so that it cannot be told." if untold else ""
    shown: dict[str, list[float]] = defaultdict(list)
    rows = []
    for case, (defense, checks) in tried.items():
        cells = results.cells[case]
        texts = []
        for metric in ("asr", "cda"):
            for name in (UNDEFENDED, str(defense), CLEAN_TUNED):
                measure = cells.get(name, {}).get(metric)
                if measure is not None and measure.value is not None:
                    shown[f"{metric} {'after' if name == defense else name}"].append(measure.value)
                texts.append(percent(measure.value if measure is not None else None))
        name = case_name(case) if len(names) == 1 else f"{case_name(case)}, {defense}"
        rows.append([name, *texts, checks[-2].verdict, checks[-1].verdict])
    medians = {name: percent(statistics.median(values)) for name, values in shown.items()}
    lead = tag(
        "p",
        f"The defence {' or '.join(names)} brings attack success to the level of a clean-tuned model in {removed} of "
        f"{len(told)} cases, keeps clean accuracy in {kept}, and does both in {both}.{rest} Median attack success "
        f"{medians.get(f'asr {UNDEFENDED}', NOTHING)} → {medians.get('asr after', NOTHING)} % (clean-tuned "
        f"{medians.get(f'asr {CLEAN_TUNED}', NOTHING)} %), median clean accuracy "
        f"{medians.get(f'cda {UNDEFENDED}', NOTHING)} → {medians.get('cda after', NOTHING)} %.",
        class_="lead",
    )
    head = ["Case", "ASR before", "after", "clean-tuned", "CDA before", "after", "clean-tuned"]
    table = simple_table(
        "All cases, in percent; intervals are in the tables below.",
        [*head, "Backdoor removed", "Task kept"],
        rows,
        numbers=frozenset(range(1, 7)),
    )
    return join([lead, table])


def _tiles(cells: Mapping[str, Measures], defense: str | None) -> Html:
    before, honest, after = (cells.get(name or "", {}) for name in (UNDEFENDED, CLEAN_TUNED, defense))
    tiles = []
    for metric, name in (("asr", "Attack success"), ("cda", "Clean accuracy"), ("ftr", "False triggers")):
        values = [measures.get(metric) for measures in (before, after)]
        shown = [measure for measure in values if measure is not None and measure.value is not None]
        if not shown:
            continue
        big = " → ".join(percent(measure.value) for measure in shown) + " %"
        low = " → ".join(f"[{percent(measure.low)}, {percent(measure.high)}]" for measure in shown)
        tile = [tag("span", name), tag("b", big), tag("span", low)]
        control = honest.get(metric)
        if control is not None and control.value is not None:
            tile.append(tag("span", f"clean-tuned model: {percent(control.value)} %"))
        tiles.append(tag("div", *tile, class_="tile"))
    return tag("div", *tiles, class_="tiles")


def _size_note(results: Results, case: Case) -> Html:
    before = results.cells[case].get(UNDEFENDED, {})
    rows = {metric: before[metric].rate.total for metric in ("cda", "asr") if metric in before}
    seeds = max((measure.n_seeds for measure in before.values()), default=0)
    text = f"{rows.get('cda', 0)} clean rows, {rows.get('asr', 0)} triggered rows whose gold label is not the target"
    if seeds > 1:
        text += f", over {seeds} seeds; brackets are {level(results)} of the pooled counts."
    else:
        text += (
            f", one seed; brackets are {level(results)} and cover the choice of test rows, not that of the training."
        )
    return tag("p", text, class_="soft small")


def _checks_table(checks: Sequence[Check]) -> Html:
    rows = []
    for check in checks:
        verdict = tag("td", verdict_mark(check.verdict), class_="nowrap")
        rows.append(
            tag(
                "tr",
                tag("th", check.claim, scope="row"),
                tag("td", soft_brackets(check.measured), class_="nowrap"),
                verdict,
            )
        )
    head = tag("tr", *(tag("th", name, scope="col") for name in ("Claim", "Measured", "Verdict")))
    text = caption(
        "Each claim against its limit, which is ours; a positive difference speaks against it. “Not certain”: the interval reaches "
        "over the limit."
    )
    return tag("div", tag("table", text, tag("thead", head), tag("tbody", *rows)), class_="scroll", tabindex="0")
