"""The last thing that a run prints: the rates of each defense, and where the report is."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from infoconflict.files import PathLike
from infoconflict.metrics import CONFIDENCE
from infoconflict.reporting.names import attack_label, defense_label, is_control
from infoconflict.reporting.results import Measures, read_results
from infoconflict.reporting.tables import NOTHING, percent
from infoconflict.reporting.verdicts import checks_of, conclusion, headline_defense


def print_summary(
    metrics_dir: PathLike,
    report_path: PathLike,
    *,
    config: Mapping[str, Any] | None = None,
    console: Console | None = None,
    confidence: float = CONFIDENCE,
    most_cases: int = 6,
) -> None:
    """Print a table of ASR, CDA and FTR per case, one sentence of verdict each, and the path of the report.

    Parameters
    ----------
    metrics_dir : path
        Written by ``write_metrics``.
    report_path : path
        Printed as given, last.
    config : mapping, optional
        Tells which defense is the paper's method.
    console : rich.console.Console, optional
        Where to print; the terminal, if not given.
    confidence : float in (0, 1)
        As given to ``write_metrics``.
    most_cases : int
        Of a larger grid only so many cases are printed; the report has all.
    """
    console = console or Console()
    results = read_results(metrics_dir, confidence=confidence)
    for case in results.cases[:most_cases]:
        model, dataset, attack = case
        cells = results.cells[case]
        table = Table(
            title=f"{attack_label(attack)} on {dataset} with {model}",
            caption=f"percent, with {100 * confidence:g} % Wilson intervals",
            title_justify="left",
            caption_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            pad_edge=False,
        )
        table.add_column("defence", no_wrap=True)
        for name in ("ASR", "CDA", "FTR"):
            table.add_column(name, justify="right", no_wrap=True)
        names = list(cells)
        for position, defense in enumerate(names):
            last = position + 1 < len(names) and is_control(names[position + 1]) and not is_control(defense)
            rates = [_text(cells[defense], metric) for metric in ("asr", "cda", "ftr")]
            table.add_row(
                defense_label(defense), *rates, end_section=last, style="dim" if is_control(defense) else None
            )
        console.print(table)
        chosen = headline_defense(names, config)
        console.print(conclusion(checks_of(results, case, chosen), chosen), highlight=False)
        console.print()
    if len(results.cases) > most_cases:
        console.print(f"... and {len(results.cases) - most_cases} more cases in the report.")
    # Not wrapped: a path is there to be copied.
    console.print(f"Report: {report_path}", soft_wrap=True, highlight=False, markup=False)


def _text(measures: Measures, metric: str) -> str:
    measure = measures.get(metric)
    if measure is None or measure.value is None:
        return NOTHING
    # Whole percents in the brackets: the table has to fit into 80 columns.
    return f"{percent(measure.value)} [{percent(measure.low, 0)}, {percent(measure.high, 0)}]"
