"""Figures of one model, dataset and attack, as PDF and PNG, readable without colour.

Points carry their Wilson intervals. What differs in colour differs in marker, fill or line style too. The same input
gives the same bytes: no dates in the files, no global state of matplotlib.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, MultipleLocator

from infoconflict.files import PathLike, whole_file
from infoconflict.metrics import CONFIDENCE, CellFile
from infoconflict.reporting.names import (
    CLEAN_TUNED,
    FIGURE_FORMATS,
    FIGURE_QUESTIONS,
    FIGURES,
    UNDEFENDED,
    attack_label,
    defense_label,
    is_control,
)
from infoconflict.reporting.results import AutoChoice, Case, Measure, Measures, Results, read_results
from infoconflict.reporting.tables import percent

INK, SOFT, FAINT = "#1c1c1c", "#6b6b6b", "#d9d9d9"
BLUE, ORANGE = "#1f5f9e", "#c2570c"  # apart for the colour-blind, and in grey: 36 % and 47 % light
_WIDTH = 6.4  # inches; a column of the page, and legible on a phone
_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlepad": 7,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 9,
    "figure.constrained_layout.w_pad": 0.07,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "pdf.fonttype": 42,  # text stays text: journals refuse type 3
    "svg.hashsalt": "infoconflict",
}
_NOTHING = {
    "defenses": "No answers were measured here.",
    "tradeoff": "No sweep over t was run here.",
    "merges": "No merge method was measured at t = 0.5 or at a chosen t.",
    "choice_of_t": "No sweep over t was run here.",
}
_RATES = (-0.05, 1.05)  # room for a point at either end, which would else touch the labels
_HALO = [withStroke(linewidth=2.2, foreground="white")]


def write_figures(
    metrics_dir: PathLike,
    chosen_t: Iterable[CellFile],
    out_dir: PathLike,
    *,
    cases: Iterable[Case] | None = None,
    figures: Sequence[str] = FIGURES,
    dpi: int = 200,
    confidence: float = CONFIDENCE,
) -> list[Path]:
    """Write ``{out_dir}/{model}/{dataset}/{attack}/{figure}.{pdf,png}``.

    Parameters
    ----------
    metrics_dir : path
        Holds ``cells.csv``, ``sweep.csv``, ``summary.csv``, ``costs.csv``.
    chosen_t : iterable of (cell, path)
        The choices of ``t: auto``, with ``model``, ``dataset``, ``attack``, ``merge``, ``seed``.
    out_dir : path
        Made if absent.
    cases : iterable of (model, dataset, attack), optional
        All that have answers, if not given.
    figures : sequence of str
        Some of :data:`infoconflict.reporting.names.FIGURES`.
    dpi : int
        Of the PNG files.
    confidence : float in (0, 1)
        As given to ``write_metrics``.

    Returns
    -------
    list of Path
        The files written.
    """
    results = read_results(metrics_dir, chosen_t, confidence=confidence)
    written = []
    for case in results.cases if cases is None else cases:
        for name in figures:
            figure = draw(name, results, case)
            for suffix in FIGURE_FORMATS:
                path = Path(out_dir).joinpath(*case, f"{name}.{suffix}")
                _save(figure, path, dpi)
                written.append(path)
    return written


def draw(name: str, results: Results, case: Case) -> Figure:
    """Return one figure of one case; where there is nothing to show, a figure that says so."""
    draw_one: Callable[[Results, Case], Figure] = {
        "defenses": draw_defenses,
        "tradeoff": draw_tradeoff,
        "merges": draw_merges,
        "choice_of_t": draw_choice_of_t,
    }[name]
    with matplotlib.rc_context(_STYLE):
        return draw_one(results, case) if results.has_points(name, case) else _nothing(_NOTHING[name])


def draw_defenses(results: Results, case: Case) -> Figure:
    """Draw ASR and CDA of each defense, the controls set apart, the clean-tuned model as a line."""
    cells = results.cells[case]
    names = list(cells)
    gap = 0.7
    heights = [i + (gap if is_control(name) else 0) for i, name in enumerate(names)]
    figure = _figure(height=1.35 + 0.36 * (heights[-1] + 1))
    left, right = figure.subplots(1, 2, sharey=True)
    for axes, metric, title, better in (
        (left, "asr", "Attack success (ASR)", "lower is better"),
        (right, "cda", "Clean accuracy (CDA)", "higher is better"),
    ):
        _reference(axes, cells.get(CLEAN_TUNED, {}).get(metric))
        for height, name in zip(heights, names, strict=True):
            control = is_control(name)
            marker = "s" if control else "o"
            fill = "white" if control else (INK if name == UNDEFENDED else BLUE)
            edge = SOFT if control else fill
            _interval(axes, cells[name].get(metric), height, marker=marker, face=fill, edge=edge)
        axes.set_xlim(*_RATES)
        _percent_axis(axes, "x")
        axes.set_xlabel(f"% of rows; {better}", color=SOFT, fontsize=8)
        axes.set_title(title)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    left.set_yticks(heights, [defense_label(name) for name in names])
    left.set_ylim(heights[-1] + 0.5, -0.7)
    if any(is_control(name) for name in names) and not all(is_control(name) for name in names):
        line = min(h for h, name in zip(heights, names, strict=True) if is_control(name)) - (1 + gap) / 2
        for axes in (left, right):
            axes.axhline(line, color=FAINT, linewidth=0.8)
    handles = [_dot("o", INK, INK, "undefended"), _dot("o", BLUE, BLUE, "defence"), _dot("s", "white", SOFT, "control")]
    if CLEAN_TUNED in cells:
        handles.append(Line2D([], [], color=ORANGE, linestyle=(0, (4, 2)), linewidth=1.2, label="clean-tuned model"))
    _finish(figure, case, results, FIGURE_QUESTIONS["defenses"], handles)
    return figure


def draw_tradeoff(results: Results, case: Case) -> Figure:
    """Draw the ASR-CDA curve over t: a panel and a line for each merge method, the others faint behind it."""
    sweep = results.sweep.get(case, {})
    curves = {merge: _curve(points) for merge, points in sweep.items()}
    curves = {merge: curve for merge, curve in curves.items() if curve}
    figure, panels = _panels(len(curves), height=2.55)
    lowest = min(cda.low for curve in curves.values() for _, _, cda in curve)
    references = [
        (results.cells.get(case, {}).get(UNDEFENDED, {}), "X", "backdoored, all test rows"),
        (results.cells.get(case, {}).get(CLEAN_TUNED, {}), "P", "clean-tuned, all test rows"),
    ]
    references = [(m, marker, label) for m, marker, label in references if _both(m)]
    floor = min([lowest, *(m["cda"].value or 0 for m, _, _ in references)])
    bottom = max(0.0, min(0.9, int(floor * 20) / 20))
    for axes, merge in zip(panels, curves, strict=True):
        axes.set_xlim(-0.04, 1.04)
        axes.set_ylim(bottom, 1.0)
        for other, curve in curves.items():
            if other != merge:
                axes.plot(*_xy(curve), color=FAINT, linewidth=1.0, zorder=1)
        for measures, marker, _ in references:
            axes.plot(*_point(measures), marker=marker, color=SOFT, markersize=6, linestyle="none", zorder=2)
        _draw_curve(axes, curves[merge], results.auto.get(case, {}).get(merge))
        _percent_axis(axes, "x")
        _percent_axis(axes, "y")
        axes.grid(axis="y")
        axes.set_title(merge)
    _outer_labels(panels, "attack success (ASR), %", "clean accuracy (CDA), %")
    handles: list[Any] = [
        Line2D([], [], color=BLUE, marker="o", markersize=4.5, linewidth=1.4, label="merged, labelled by t"),
    ]
    if results.auto.get(case):
        handles.append(_dot("o", "white", ORANGE, "t chosen from the clean share", size=9, width=1.6))
    handles += [_dot(marker, SOFT, SOFT, label) for _, marker, label in references]
    if len(curves) > 1:
        handles.append(Line2D([], [], color=FAINT, linewidth=1.4, label="other methods"))
    _finish(figure, case, results, FIGURE_QUESTIONS["tradeoff"], handles, columns=3)
    figure.draw_without_rendering()
    for axes, merge in zip(panels, curves, strict=True):
        others = [_point(measures) for measures, _, _ in references]
        _label_points(axes, curves[merge], results.auto.get(case, {}).get(merge), others, dpi=figure.dpi)
    return figure


def draw_merges(results: Results, case: Case) -> Figure:
    """Draw merge methods side by side, at t = 0.5 and at the t chosen from the clean share."""
    sweep, auto = results.sweep.get(case, {}), results.auto.get(case, {})
    names = [merge for merge in dict.fromkeys((*sweep, *auto)) if sweep.get(merge, {}).get(0.5) or merge in auto]
    figure = _figure(height=1.4 + 0.68 * len(names))
    left, right = figure.subplots(1, 2, sharey=True)
    cells = results.cells.get(case, {})
    for axes, metric, title, better in (
        (left, "asr", "Attack success (ASR)", "lower is better"),
        (right, "cda", "Clean accuracy (CDA)", "higher is better"),
    ):
        _reference(axes, cells.get(CLEAN_TUNED, {}).get(metric))
        for height, merge in enumerate(names):
            at_paper = sweep.get(merge, {}).get(0.5, {}).get(metric)
            _interval(axes, at_paper, height - 0.18, marker="o", face="white", edge=INK)
            if merge in auto:
                _interval(axes, auto[merge].measures.get(metric), height + 0.24, marker="D", face=BLUE, edge=BLUE)
            if height:
                axes.axhline(height - 0.5, color="#eeeeee", linewidth=0.6, zorder=0)
        axes.set_xlim(*_RATES)
        _percent_axis(axes, "x")
        axes.set_xlabel(f"% of rows; {better}", color=SOFT, fontsize=8)
        axes.set_title(title)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    labels = [f"{merge}\nauto: t = {auto[merge].text}" if merge in auto else merge for merge in names]
    left.set_yticks(range(len(names)), labels)
    left.set_ylim(len(names) - 0.5, -0.55)
    handles = [_dot("o", "white", INK, "t = 0.5"), _dot("D", BLUE, BLUE, "t = auto")]
    if CLEAN_TUNED in cells:
        handles.append(Line2D([], [], color=ORANGE, linestyle=(0, (4, 2)), linewidth=1.2, label="clean-tuned model"))
    _finish(figure, case, results, FIGURE_QUESTIONS["merges"], handles)
    return figure


def draw_choice_of_t(results: Results, case: Case) -> Figure:
    """Draw what each t costs: ASR and CDA on the test rows, and the held-out accuracy that the choice is made from."""
    sweep, auto = results.sweep.get(case, {}), results.auto.get(case, {})
    # On conversations t is chosen by likelihoods, which are no share of rows; the table has them.
    names = [merge for merge in dict.fromkeys((*sweep, *auto)) if sweep.get(merge) or auto[merge].curve]
    figure, panels = _panels(len(names), height=2.3)
    weights = {t for merge in names for t in (*sweep.get(merge, {}), *(auto[merge].curve if merge in auto else ()))}
    margin = max(0.04, 0.06 * (max(weights) - min(weights)))
    for axes, merge in zip(panels, names, strict=True):
        choice = auto.get(merge)
        if choice:
            for t in sorted(set(choice.by_seed.values())):
                axes.axvline(t, color=ORANGE, linewidth=5, alpha=0.25, zorder=0)
            _line(axes, choice.curve, color=SOFT, style=(0, (1, 1.5)), marker="^", face="white", bars=False)
        for metric, color, style, marker, face in (
            ("cda", INK, (0, (5, 2)), "s", "white"),
            ("asr", BLUE, "solid", "o", BLUE),
        ):
            points = {t: measures[metric] for t, measures in sweep.get(merge, {}).items() if metric in measures}
            _line(axes, points, color=color, style=style, marker=marker, face=face, bars=True)
        axes.set_xlim(min(weights) - margin, max(weights) + margin)
        axes.set_ylim(0, 1)
        _percent_axis(axes, "y")
        axes.grid(axis="y")
        axes.set_xticks(sorted(weights), [f"{t:g}" for t in sorted(weights)])
        axes.set_title(merge)
    _outer_labels(panels, "merge weight t of the conflict model", "% of rows")
    handles = _rate_handles()
    if auto:
        handles.append(
            Line2D(
                *([], []),
                color=SOFT,
                marker="^",
                markersize=4.5,
                markerfacecolor="white",
                linestyle=(0, (1, 1.5)),
                label="held-out clean rows",
            )
        )
        handles.append(Patch(facecolor=ORANGE, alpha=0.25, label="chosen t"))
    _finish(figure, case, results, FIGURE_QUESTIONS["choice_of_t"], handles)
    return figure


# Pieces


def _figure(*, height: float) -> Figure:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _panels(count: int, *, height: float) -> tuple[Figure, list[Axes]]:
    """Panels of equal axes, two in a row; a place that stays free is removed."""
    columns = min(2, count)
    rows = -(-count // columns)
    figure = _figure(height=0.95 + height * rows)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for axes in grid[count:]:
        figure.delaxes(axes)
    # With shared axes, matplotlib hides the numbers of all but the last row, also above a free place.
    for axes in grid[max(0, count - columns) : count]:
        axes.tick_params(labelbottom=True)
    return figure, grid[:count]


def _nothing(text: str) -> Figure:
    figure = _figure(height=1.2)
    figure.text(0.5, 0.5, text, ha="center", va="center", color=SOFT)
    return figure


def _finish(
    figure: Figure, case: Case, results: Results, title: str, handles: Sequence[Any], columns: int | None = None
) -> None:
    model, dataset, attack = case
    level = f"{100 * results.confidence:g} % Wilson intervals"
    seeds = f", {results.n_seeds} seeds pooled" if results.n_seeds > 1 else ""
    figure.suptitle(
        f"{title}\n",
        x=0.012,
        ha="left",
        fontsize=11,
        fontweight="bold",
        linespacing=1.5,
    )
    subtitle = f"{attack_label(attack)} on {dataset} with {model}; {level}{seeds}"
    # Kept out of the layout: the empty second line of the title holds its place.
    text = figure.text(0.012, 1 - 0.335 / figure.get_figheight(), subtitle, ha="left", va="center", fontsize=8.5)
    text.set_color(SOFT)
    text.set_in_layout(False)
    figure.legend(
        handles=list(handles),
        loc="outside lower center",
        ncols=columns or len(handles),
        columnspacing=1.6,
        handletextpad=0.6,
    )


def _rate_handles() -> list[Any]:
    """Return the legend's entries of the two curves that figures over t or over a share draw."""
    return [
        Line2D([], [], color=BLUE, marker="o", markersize=4.5, label="attack success (ASR)"),
        Line2D(
            *([], []),
            color=INK,
            marker="s",
            markersize=4.5,
            markerfacecolor="white",
            linestyle=(0, (5, 2)),
            label="clean accuracy (CDA)",
        ),
    ]


def _percent_axis(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(lambda value, _: f"{100 * value:.0f}")
    whole = axis.get_view_interval()[1] - axis.get_view_interval()[0] >= 1
    axis.set_major_locator(MultipleLocator(0.2) if whole else MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))


def _reference(axes: Axes, measure: Measure | None) -> None:
    """Draw the clean-tuned model: its rate as a line, its interval as a band."""
    if measure is None or measure.value is None:
        return
    axes.axvspan(measure.low, measure.high, color=ORANGE, alpha=0.10, linewidth=0, zorder=0)
    axes.axvline(measure.value, color=ORANGE, linestyle=(0, (4, 2)), linewidth=1.2, zorder=1)


def _interval(axes: Axes, measure: Measure | None, height: float, *, marker: str, face: str, edge: str) -> None:
    if measure is None or measure.value is None:
        axes.text(0.0, height, "  not measured", va="center", color=SOFT, fontsize=8, style="italic")
        return
    axes.plot([measure.low, measure.high], [height, height], color=edge, linewidth=1.6, solid_capstyle="butt", zorder=3)
    axes.plot(
        measure.value,
        height,
        marker=marker,
        markersize=6.5,
        markerfacecolor=face,
        markeredgecolor=edge,
        markeredgewidth=1.3,
        zorder=4,
        clip_on=False,
    )
    axes.annotate(
        percent(measure.value),
        (measure.value, height),
        xytext=(0, 5),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=8,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 0.6},
        zorder=2,
    )


def _line(
    axes: Axes,
    points: dict[float, Measure],
    *,
    color: str,
    style: Any,
    marker: str,
    face: str,
    bars: bool,
) -> None:
    shown = {t: measure for t, measure in points.items() if measure.value is not None}
    if not shown:
        return
    weights, values = list(shown), [float(measure.value or 0) for measure in shown.values()]
    if not bars:
        lows, highs = [measure.low for measure in shown.values()], [measure.high for measure in shown.values()]
        axes.fill_between(weights, lows, highs, color=color, alpha=0.12, linewidth=0, zorder=1)
    else:
        axes.errorbar(
            weights,
            values,
            _bars(values, shown.values()),
            fmt="none",
            ecolor=color,
            elinewidth=0.8,
            capsize=2,
            zorder=2,
        )
    axes.plot(
        *(weights, values),
        color=color,
        linestyle=style,
        linewidth=1.4,
        marker=marker,
        markersize=4.5,
        markerfacecolor=face,
        zorder=3,
    )


def _bars(values: Iterable[float], measures: Iterable[Measure]) -> list[list[float]]:
    """Lengths below and above, as matplotlib wants its error bars."""
    both = list(zip(values, measures, strict=True))
    return [[value - measure.low for value, measure in both], [measure.high - value for value, measure in both]]


def _both(measures: Measures) -> bool:
    return all(metric in measures and measures[metric].value is not None for metric in ("asr", "cda"))


def _point(measures: Measures) -> tuple[float, float]:
    return float(measures["asr"].value or 0), float(measures["cda"].value or 0)


_CurvePoint = tuple[float, Measure, Measure]


def _curve(points: dict[float, Measures]) -> list[_CurvePoint]:
    return [(t, measures["asr"], measures["cda"]) for t, measures in points.items() if _both(measures)]


def _xy(curve: list[_CurvePoint]) -> tuple[list[float], list[float]]:
    return [float(asr.value or 0) for _, asr, _ in curve], [float(cda.value or 0) for _, _, cda in curve]


def _draw_curve(axes: Axes, curve: list[_CurvePoint], choice: AutoChoice | None) -> None:
    xs, ys = _xy(curve)
    asrs, cdas = [asr for _, asr, _ in curve], [cda for _, _, cda in curve]
    axes.errorbar(
        *(xs, ys),
        xerr=_bars(xs, asrs),
        yerr=_bars(ys, cdas),
        fmt="none",
        ecolor=BLUE,
        elinewidth=0.6,
        alpha=0.35,
        zorder=2,
    )
    axes.plot(xs, ys, color=BLUE, linewidth=1.4, marker="o", markersize=4.5, zorder=4)
    chosen = set(choice.by_seed.values()) if choice else set()
    for (t, _, _), x, y in zip(curve, xs, ys, strict=True):
        if t in chosen:
            axes.plot(
                x,
                y,
                marker="o",
                markersize=10,
                markerfacecolor="none",
                markeredgecolor=ORANGE,
                markeredgewidth=1.6,
                zorder=5,
            )


def _label_points(
    axes: Axes,
    curve: list[_CurvePoint],
    choice: AutoChoice | None,
    others: Sequence[tuple[float, float]],
    *,
    dpi: float,
) -> None:
    """Put each t beside its point, where it covers no point, no label and little of the line; the layout must stand."""
    chosen = set(choice.by_seed.values()) if choice else set()
    xs, ys = _xy(curve)
    scale = 72 / dpi  # pixels to points, in which text is measured
    pixels = axes.transData.transform([*zip(xs, ys, strict=True), *others])
    everything = [(x * scale, y * scale) for x, y in pixels.tolist()]
    points = everything[: len(curve)]
    taken: list[tuple[float, float]] = []
    for position, (t, _, _) in enumerate(curve):
        x, y = points[position]
        obstacles = [point for other, point in enumerate(everything) if other != position]
        best = min(
            _OFFSETS,
            key=lambda offset: _clutter((x + offset[0], y + offset[1]), obstacles, taken, points) + _length(offset),
        )
        taken.append((x + best[0], y + best[1]))
        axes.annotate(
            f"{t:g}",
            (xs[position], ys[position]),
            xytext=best,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            fontweight="bold" if t in chosen else "normal",
            path_effects=_HALO,
            zorder=6,
            annotation_clip=False,
        )


_OFFSETS = (
    *((0, 10), (0, -11), (13, 7), (-13, 7), (13, -8), (-13, -8), (16, 0), (-16, 0)),
    *((0, 18), (0, -19), (18, 15), (-18, 15), (18, -16), (-18, -16), (26, 4), (-26, 4)),
)


def _length(offset: tuple[float, float]) -> float:
    return 0.02 * math.hypot(*offset)


def _clutter(
    label: tuple[float, float],
    obstacles: list[tuple[float, float]],
    taken: list[tuple[float, float]],
    line: list[tuple[float, float]],
) -> float:
    """How much a label at a place would hide; in points, a label being about 15 by 9."""

    def near(other: tuple[float, float], width: float, height: float) -> bool:
        return abs(label[0] - other[0]) < width and abs(label[1] - other[1]) < height

    cost = 10.0 * sum(near(other, 16, 10) for other in taken) + 4.0 * sum(near(other, 11, 8.5) for other in obstacles)
    for start, end in pairwise(line):
        steps = [(start[0] + (end[0] - start[0]) * i / 20, start[1] + (end[1] - start[1]) * i / 20) for i in range(21)]
        cost += any(near(step, 8, 5) for step in steps)
    return cost


def _dot(marker: str, face: str, edge: str, label: str, *, size: float = 6, width: float = 1.3) -> Line2D:
    return Line2D(
        *([], []),
        linestyle="none",
        marker=marker,
        markersize=size,
        markerfacecolor=face,
        markeredgecolor=edge,
        markeredgewidth=width,
        label=label,
    )


def _outer_labels(panels: Sequence[Axes], x: str, y: str) -> None:
    columns = min(2, len(panels))
    for position, axes in enumerate(panels):
        if position >= len(panels) - columns:
            axes.set_xlabel(x, fontsize=8.5)
        if position % columns == 0:
            axes.set_ylabel(y, fontsize=8.5)


def _save(figure: Figure, path: Path, dpi: int) -> None:
    # Without these keys a PDF holds the time of its making, a PNG the version of matplotlib.
    metadata: dict[str, None] = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
    with matplotlib.rc_context(_STYLE), whole_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], dpi=dpi, metadata=metadata)
