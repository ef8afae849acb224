"""The summary in the terminal."""

import io

from rich.console import Console

from infoconflict.reporting.summary import print_summary


def printed(run, width=80, **options):
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False)
    print_summary(run.metrics, "results/report/index.html", config=run.config, console=console, **options)
    return out.getvalue()


def test_it_fits_into_80_columns_and_ends_with_the_path(run):
    lines = printed(run).splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    assert lines[-1] == "Report: results/report/index.html"
    (row,) = [line for line in lines if line.strip().startswith("clean-tuned model")]
    assert row.count("[") == 3


def test_a_long_path_is_not_broken(run):
    out = io.StringIO()
    path = "/a/" + "long/" * 30 + "index.html"
    print_summary(run.metrics, path, console=Console(file=out, width=80))
    assert path in out.getvalue()


def test_a_missing_control_is_said(mixed_run):
    text = " ".join(printed(mixed_run).split())
    assert text.count("base model") == 2
    assert text.count("Whether the defence conflict works cannot be told: a control or a rate is missing.") == 1


def test_a_large_grid_is_cut_short(big_run):
    text = printed(big_run, most_cases=1)
    assert text.count("intervals") >= 1
    assert "... and 1 more cases in the report." in text
