"""The paper's Figures 3 and 4 with our numbers, as PDF, PNG and CSV.

The paper prints no values of their points; what is drawn of it are the numbers of its tables that should be among them.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from infoconflict.files import PathLike
from infoconflict.metrics import write_csv
from infoconflict.reporting.figures import (
    _STYLE,
    BLUE,
    INK,
    ORANGE,
    SOFT,
    _dot,
    _figure,
    _line,
    _nothing,
    _outer_labels,
    _panels,
    _percent_axis,
    _rate_handles,
    _save,
)
from infoconflict.reporting.names import attack_label
from infoconflict.reporting.paper_cells import Roles, attacks_of
from infoconflict.reporting.paper_measures import Measured, mean_of, pooled
from infoconflict.reporting.published import DATASETS, MODELS, OWN, Place, Reference, column_values, reference
from infoconflict.reporting.results import Measure
from infoconflict.reporting.tables import percent

Case = tuple[str, str, str, str]
"""Model, dataset, attack, defense."""
_DEFAULT_SHARE = 0.1  # paper, section 5.4
_TABLE_OF = {"emotion": 2, "chat": 3}


def share_curves(measured: Measured) -> dict[Case, dict[float, dict[str, Measure]]]:
    """Return ASR and CDA by the share of clean rows, for each model, data set, attack and defense."""
    rows: dict[Case, dict[float, dict[str, list[Mapping[str, str]]]]] = {}
    for row in measured.clean_share:
        case = (row["model"], row["dataset"], row["attack"], row["defense"])
        point = rows.setdefault(case, {}).setdefault(float(row["share"]), {})
        point.setdefault(row["metric"], []).append(row)
    return {
        case: {
            share: {
                metric: measure
                for metric in ("asr", "cda")
                if (measure := pooled(metrics.get(metric, []), measured)) is not None
            }
            for share, metrics in sorted(points.items())
        }
        for case, points in rows.items()
    }


def direct_accuracy(measured: Measured, roles: Roles) -> dict[tuple[str, str], Measure]:
    """Return the clean accuracy of each external model that was asked the task itself, by (model, data set of figure 4)."""
    rows: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in measured.direct:
        if row["metric"] == "cda" and not row["attack"] and roles.datasets.get(row["dataset"]) in _TABLE_OF:
            rows.setdefault((row["direct"], row["dataset"]), []).append(row)
    found = {key: pooled(of_key, measured) for key, of_key in rows.items()}
    return {key: measure for key, measure in found.items() if measure is not None}


def own_accuracy(measured: Measured, roles: Roles) -> dict[str, dict[tuple[str, str], Measure]]:
    """Return the clean accuracy of the method by data set, for each model and attack of the paper's figure."""
    found: dict[str, dict[tuple[str, str], Measure]] = {}
    for (model, dataset, attack, defense), measures in measured.cells.items():
        role = roles.datasets.get(dataset)
        if role not in _TABLE_OF or roles.attacks.get(attack) not in attacks_of(2, role):
            continue
        measure = measures.get("cda")
        is_own = defense == roles.chosen(OWN, (model, dataset, attack), measured.cells)
        if is_own and measure is not None and measure.value is not None:
            found.setdefault(dataset, {})[model, attack] = measure
    return found


def figure_3(measured: Measured, roles: Roles) -> Figure:
    """Draw attack success and clean accuracy over the share of clean rows that the defender holds."""
    curves = share_curves(measured)
    if not curves:
        return _nothing("Figure 3, the curve over the clean share: not computed.")
    figure, panels = _panels(len(curves), height=2.4)
    shares = sorted({share for points in curves.values() for share in points})
    places = {share: float(place) for place, share in enumerate(shares)}
    printed = compared = False
    for axes, (case, points) in zip(panels, curves.items(), strict=True):
        model, dataset, attack, defense = case
        before = _undefended(measured, roles, case)
        if before is not None:
            compared = True
            axes.axhline(before, color=SOFT, linestyle=(0, (1, 1.5)), linewidth=1.2, zorder=1)
        for metric, color, style, marker, face in (
            ("cda", INK, (0, (5, 2)), "s", "white"),
            ("asr", BLUE, "solid", "o", BLUE),
        ):
            shown = {places[share]: found[metric] for share, found in points.items() if metric in found}
            _line(axes, shown, color=color, style=style, marker=marker, face=face, bars=True)
        paper = _paper_point(case, roles)
        if paper is not None and _DEFAULT_SHARE in places:
            printed = True
            place = places[_DEFAULT_SHARE] + 0.16
            axes.plot([place, place], [paper.low, paper.high], color=ORANGE, linewidth=1.4, zorder=2)
            axes.plot(place, paper.value, marker="D", color=ORANGE, markersize=5, linestyle="none", zorder=3)
        axes.set_xlim(-0.4, len(shares) - 0.6)
        axes.set_ylim(0, 1)
        _percent_axis(axes, "y")
        axes.grid(axis="y")
        axes.set_xticks([*places.values()], [f"{100 * share:g}" for share in shares])
        axes.set_title(f"{attack_label(attack)} on {dataset}\n{model}, {defense}", fontsize=8.5)
    _outer_labels(panels, "clean training rows that the defender holds, %", "% of rows")
    handles = _rate_handles()
    if compared:
        handles.append(Line2D([], [], color=SOFT, linestyle=(0, (1, 1.5)), linewidth=1.2, label="ASR undefended"))
    if printed:
        handles.append(_dot("D", ORANGE, ORANGE, "paper's ASR at 10 % (range of its models)", size=5))
    _head(figure, "Does more clean data remove more of the backdoor?", measured, handles)
    return figure


def _undefended(measured: Measured, roles: Roles, case: Case) -> float | None:
    """Return the attack success without a defense, where it was computed."""
    name = roles.chosen("none", case[:3], measured.cells)
    measure = measured.cells.get((*case[:3], str(name)), {}).get("asr")
    return None if measure is None else measure.value


def _paper_point(case: Case, roles: Roles) -> Reference | None:
    """Return the paper's attack success at its default share, which its tables have."""
    model, dataset, attack, defense = case
    role = roles.datasets.get(dataset, "")
    column = roles.role_of(defense)
    if role not in _TABLE_OF or column not in (OWN, "internal"):
        return None
    table = _TABLE_OF[role] if column == OWN else {"emotion": 4, "chat": 5}[role]
    place = Place(
        table=table,
        dataset=role,
        model=roles.models.get(model, ""),
        attack=roles.attacks.get(attack, attack),
        column=column,
    )
    return reference(place, "asr")


def has_paper_points(measured: Measured, roles: Roles) -> bool:
    """Say whether figure 3 has a number of the paper beside the points of the default share."""
    curves = share_curves(measured)
    at_default = any(_DEFAULT_SHARE in points for points in curves.values())
    return at_default and any(_paper_point(case, roles) is not None for case in curves)


def figure_4(measured: Measured, roles: Roles) -> Figure:
    """Draw the clean accuracy of the method beside that of the external model that gives it its evidence."""
    own, direct = own_accuracy(measured, roles), direct_accuracy(measured, roles)
    datasets = list(dict.fromkeys((*own, *(dataset for _, dataset in direct))))
    if not datasets:
        return _nothing("Figure 4, the external model asked the task itself: not computed.")
    lines: list[tuple[str, tuple[float, float, float] | None, list[float], str, str]] = []
    for dataset in datasets:
        cells = own.get(dataset, {})
        values = [float(measure.value or 0) for measure in cells.values()]
        mean = mean_of(list(cells.values())) if cells else None
        lines.append((f"{dataset}: the method", mean, values, "o", BLUE))
        for (name, other), measure in direct.items():
            if other == dataset:
                interval = (float(measure.value or 0), measure.low, measure.high)
                lines.append((f"{dataset}: {name}, asked", interval, [], "s", INK))
        printed = column_values(_TABLE_OF[roles.datasets[dataset]], OWN, "cda")
        mean_printed = sum(printed) / len(printed)
        lines.append(
            (f"paper, {DATASETS[roles.datasets[dataset]]}: the method", (mean_printed,) * 3, printed, "D", ORANGE)
        )
    figure = _figure(height=1.35 + 0.42 * len(lines))
    axes = figure.subplots()
    for height, (_, mean, values, marker, color) in enumerate(lines):
        axes.plot(values, [height + 0.22] * len(values), "|", color=color, markersize=5, alpha=0.6, zorder=2)
        if mean is None:
            axes.text(0.0, height, "  not computed", va="center", color=SOFT, fontsize=8, style="italic")
            continue
        axes.plot(mean[1:], [height, height], color=color, linewidth=1.6, solid_capstyle="butt", zorder=3)
        face = "white" if marker == "D" else color
        axes.plot(mean[0], height, marker=marker, color=color, markerfacecolor=face, markersize=6.5, zorder=4)
        axes.annotate(
            percent(mean[0]),
            (mean[0], height),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.set_yticks(range(len(lines)), [label for label, *_ in lines])
    axes.set_ylim(len(lines) - 0.5, -0.7)
    axes.set_xlim(0, 1.02)
    _percent_axis(axes, "x")
    axes.set_xlabel("clean accuracy (CDA), % of rows; higher is better", color=SOFT, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    handles = [
        _dot("o", BLUE, BLUE, "the method, mean; strokes: each model and attack"),
        _dot("s", INK, INK, "external model, zero-shot"),
        _dot("D", "white", ORANGE, "paper"),
    ]
    _head(figure, "Is the method better than the model that gives it evidence?", measured, handles)
    return figure


def _head(figure: Figure, title: str, measured: Measured, handles: list[Any]) -> None:
    figure.suptitle(f"{title}\n", x=0.012, ha="left", fontsize=11, fontweight="bold", linespacing=1.5)
    text = figure.text(
        *(0.012, 1 - 0.335 / figure.get_figheight()),
        f"{100 * measured.confidence:g} % intervals; {', '.join(MODELS.values())} are the paper's models",
        ha="left",
        va="center",
        fontsize=8.5,
    )
    text.set_color(SOFT)
    text.set_in_layout(False)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(2, len(handles)) if len(handles) > 3 else len(handles),
        columnspacing=1.6,
    )


FIGURES: Mapping[str, Callable[[Measured, Roles], Figure]] = {"figure_3": figure_3, "figure_4": figure_4}


def write_paper_figure(
    name: str, measured: Measured, roles: Roles, *, pdf: PathLike, png: PathLike, csv: PathLike, dpi: int
) -> None:
    """Write one figure, and its points as CSV."""
    with matplotlib.rc_context(_STYLE):
        figure = FIGURES[name](measured, roles)
    for path in (pdf, png):
        _save(figure, Path(path), dpi)
    fields, rows = _points_3(measured) if name == "figure_3" else _points_4(measured, roles)
    write_csv(csv, fields, rows)


def _points_3(measured: Measured) -> tuple[tuple[str, ...], list[list[str]]]:
    rows = [
        [*case, f"{share:g}", metric, *_fields(measure)]
        for case, points in share_curves(measured).items()
        for share, found in points.items()
        for metric, measure in found.items()
    ]
    return ("model", "dataset", "attack", "defense", "share", "metric", *_FIELDS), rows


def _points_4(measured: Measured, roles: Roles) -> tuple[tuple[str, ...], list[list[str]]]:
    rows = [
        ["method", dataset, model, attack, *_fields(measure)]
        for dataset, cells in own_accuracy(measured, roles).items()
        for (model, attack), measure in cells.items()
    ]
    rows += [
        ["external", dataset, name, "", *_fields(measure)]
        for (name, dataset), measure in direct_accuracy(measured, roles).items()
    ]
    return ("who", "dataset", "model", "attack", *_FIELDS), rows


_FIELDS = ("hits", "total", "n_seeds", "rate", "low", "high")


def _fields(measure: Measure) -> list[str]:
    counts = [str(measure.rate.hits), str(measure.rate.total), str(measure.n_seeds)]
    return [*counts, *(f"{value or 0:.6f}" for value in (measure.value, measure.low, measure.high))]
