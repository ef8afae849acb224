"""Figures: all are drawn, the same bytes twice, nothing said by colour alone."""

import io
import itertools

import pytest
from PIL import Image

from infoconflict.reporting.figures import BLUE, ORANGE, draw, write_figures
from infoconflict.reporting.names import FIGURES
from infoconflict.reporting.results import Results, read_results


@pytest.fixture(scope="module")
def results(run):
    return read_results(run.metrics, run.chosen_t)


@pytest.fixture(scope="module")
def case(run):
    return run.cases[0]


@pytest.fixture(scope="module")
def drawn(results, case):
    """All figures of one case, laid out."""
    figures = {name: draw(name, results, case) for name in FIGURES}
    for figure in figures.values():
        figure.draw_without_rendering()
    return figures


def png(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=60)
    return buffer.getvalue()


def test_every_case_gets_its_files(big_run, tmp_path):
    written = write_figures(big_run.metrics, big_run.chosen_t, tmp_path, figures=["defenses"], dpi=50)
    expected = [f"{'/'.join(case)}/defenses.{suffix}" for case in sorted(big_run.cases) for suffix in ("pdf", "png")]
    assert [path.relative_to(tmp_path).as_posix() for path in written] == expected


def test_same_bytes_twice_and_no_date(run, case, tmp_path):
    options = {"cases": [case], "figures": ["tradeoff"], "dpi": 60}
    first, second = (write_figures(run.metrics, run.chosen_t, tmp_path / name, **options) for name in ("one", "two"))
    assert len(first) == 2
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
        assert b"CreationDate" not in one.read_bytes()


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_runs_off_the_sheet(drawn, name):
    with Image.open(io.BytesIO(png(drawn[name]))) as picture:
        grey = picture.convert("L")
    width, height = grey.size
    edge = [grey.getpixel((x, y)) for x in range(width) for y in (0, height - 1)]
    edge += [grey.getpixel((x, y)) for y in range(height) for x in (0, width - 1)]
    assert min(edge) > 250  # only paper


@pytest.mark.parametrize("name", FIGURES)
def test_texts_do_not_overlap(drawn, name):
    figure = drawn[name]
    figure.draw_without_rendering()  # another test may have saved it at another resolution
    renderer = figure.canvas.get_renderer()
    texts = [text for axes in figure.axes for text in (axes.title, axes.xaxis.label, axes.yaxis.label)]
    for axis in [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]:
        low, high = sorted(axis.get_view_interval())
        inside = [low - 1e-9 <= at <= high + 1e-9 for at in axis.get_ticklocs()]
        texts += itertools.compress(axis.get_ticklabels(), inside)
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    texts += [text for text in figure.texts if not text.get_text().endswith("\n")]
    boxes = [
        (text.get_text(), text.get_window_extent(renderer))
        for text in texts
        if text.get_text().strip() and text.get_visible()
    ]
    shown = [(text, box) for text, box in boxes if box.width > 1]
    clashes = [(a, b) for (a, one), (b, two) in itertools.combinations(shown, 2) if one.shrunk(0.9, 0.8).overlaps(two)]
    # Ends of neighbouring axes may touch; words may not.
    assert not [clash for clash in clashes if not all(text.replace(".", "").isdigit() for text in clash)]


def test_a_point_at_zero_keeps_its_distance_from_the_labels(new_run, tmp_path):
    run = new_run(tmp_path, rates={"none": (0.9, 0.8, 0.1), "internal": (0.0, 1.0, 0.0)}, merges={})
    figure = draw("defenses", read_results(run.metrics), run.cases[0])
    for axes in figure.axes:
        low, high = axes.get_xlim()
        assert low < -0.03
        assert high > 1.03
        assert [tick for tick in axes.get_xticks() if low <= tick <= high] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])


def test_the_two_colors_differ_in_grey():
    def light(color):
        red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        return 0.299 * red + 0.587 * green + 0.114 * blue

    assert abs(light(BLUE) - light(ORANGE)) > 20


def test_lines_differ_without_color(drawn):
    figure = drawn["choice_of_t"]
    lines = [line for line in figure.axes[0].get_lines() if line.get_marker() not in ("", "None", None, "_")]
    assert len({(line.get_linestyle(), line.get_marker()) for line in lines}) == len(lines) == 3


def test_every_point_has_its_interval(drawn, results, case):
    figure = drawn["defenses"]
    cells = results.cells[case]
    for axes, metric in zip(figure.axes, ("asr", "cda"), strict=True):
        segments = {tuple(line.get_xdata()) for line in axes.get_lines() if len(line.get_xdata()) == 2}
        for measures in cells.values():
            assert (measures[metric].low, measures[metric].high) in segments


def test_points_of_the_curve_are_labelled_by_t_and_the_chosen_is_bold(drawn):
    figure = drawn["tradeoff"]
    for axes in figure.axes:
        labels = {text.get_text(): text.get_fontweight() for text in axes.texts}
        assert sorted(labels) == ["0.3", "0.5", "0.7", "0.8", "0.9"]
        assert [t for t, weight in labels.items() if weight == "bold"] == ["0.8"]


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_measured_is_said(name, case):
    figure = draw(name, Results(cells={}, sweep={}, auto={}, costs=[]), case)
    assert figure.texts[0].get_text().startswith("No ")


@pytest.mark.parametrize("name", FIGURES)
def test_odd_grids_are_drawn(new_run, tmp_path, name):
    """Three merge methods, no controls, a chosen t outside the sweep, a rate without rows."""
    rates = {"none": (0.9, 0.8, 0.1), "internal": (0.2, 0.8, 0.1)}
    run = new_run(tmp_path, rates=rates, merges={"linear": 0.4, "ties": 0.6, "own": 0.5}, auto=0.65, n_rows=1)
    results = read_results(run.metrics, run.chosen_t)
    assert results.cells[run.cases[0]]["none"]["asr"].rate.total == 1
    draw(name, results, run.cases[0]).draw_without_rendering()


@pytest.mark.parametrize("name", FIGURES)
def test_each_case_shows_the_controls_that_it_has(mixed_run, name):
    results = read_results(mixed_run.metrics, mixed_run.chosen_t)
    for case in mixed_run.cases:
        figure = draw(name, results, case)
        figure.draw_without_rendering()
        if name == "defenses":
            shown = [label.get_text() for label in figure.axes[0].get_yticklabels()]
            assert ("base model" in shown) == (case[2] != "badnets")
            assert ("clean-tuned model" in shown) == (case[2] != "lwp")


def test_a_rate_without_rows_is_said(new_run, tmp_path):
    run = new_run(tmp_path, rates={"none": (0.9, 0.8, 0.1)}, merges={}, n_rows=0)
    figure = draw("defenses", read_results(run.metrics), run.cases[0])
    assert [text.get_text().strip() for axes in figure.axes for text in axes.texts] == ["not measured"] * 2
