"""Captions of Snakemake's own report: one for each figure and table, and all of them render."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from docutils.core import publish_parts
from jinja2 import Environment, StrictUndefined

from infoconflict.reporting.names import FIGURES, TABLES

FOLDER = Path(__file__).parents[2] / "reports" / "captions"
NAMES = sorted(path.stem for path in FOLDER.glob("*.rst"))


def test_every_figure_and_table_has_its_caption():
    expected = [f"figure_{name}" for name in FIGURES] + [f"table_{name}" for name in TABLES]
    assert sorted([*expected, "metrics", "page", "workflow"]) == NAMES


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wildcards", [{}, {"model": "m_1", "dataset": "d", "attack": "cba"}])
def test_it_renders_without_a_warning(name, wildcards):
    # Snakemake renders with these two options of the environment; its wildcards are a list that is a mapping too.
    text = (FOLDER / f"{name}.rst").read_text(encoding="utf-8")
    given = SimpleNamespace(config={"name": "demo", "seeds": [0, 1]}, wildcards=Wildcards(wildcards))
    environment = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    source = environment.from_string(text).render(snakemake=given)
    # Level 2 is a warning; the report would carry it as text.
    body = publish_parts(source, writer="html", settings_overrides={"halt_level": 2, "report_level": 2})["html_body"]
    assert "{{" not in body
    if wildcards and name.startswith("figure_"):
        assert "m_1" in body


class Wildcards(dict):
    __getattr__ = dict.__getitem__
