"""The report: one HTML file that needs nothing beside it and opens with the paper's claims.

Everything on it is computed from the files of a run; it holds no date, so that the same input gives the same bytes. The
sections are in the modules ``page_*``, ``methods`` and ``provenance``.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from infoconflict.files import PathLike, read_json, write_text
from infoconflict.metrics import CONFIDENCE, CellFile
from infoconflict.reporting.methods import methods_section
from infoconflict.reporting.page_about import (
    adaptive_section,
    costs_section,
    excluded_section,
    generation_section,
    judges_section,
    reading_section,
    settings_section,
    versions_section,
)
from infoconflict.reporting.page_measured import (
    choice_section,
    controls_section,
    defenses_section,
    evidence_section,
    false_triggers_section,
)
from infoconflict.reporting.page_result import result_section
from infoconflict.reporting.provenance import Provenance, card_key, provenance_data, provenance_section
from infoconflict.reporting.results import read_results
from infoconflict.reporting.verdicts import Goals
from infoconflict.reporting.whole_page import whole_page


def write_page(
    out_path: PathLike,
    *,
    metrics_dir: PathLike,
    tables_dir: PathLike,
    figures_dir: PathLike,
    cards: Iterable[PathLike],
    config: Mapping[str, Any],
    excluded: PathLike,
    chosen_t: Iterable[CellFile] = (),
    evidence_files: Iterable[CellFile] = (),
    answers: Iterable[CellFile] = (),
    title: str | None = None,
    confidence: float = CONFIDENCE,
    goals: Goals | None = None,
) -> None:
    """Write the report page.

    Parameters
    ----------
    out_path : path
        The HTML file; written atomically.
    metrics_dir, tables_dir, figures_dir : path
        What ``write_metrics``, ``write_tables`` and ``write_figures`` made. A figure that is not there is left out.
    cards : iterable of paths
        Cards of all stages, for versions and provenance.
    config : mapping
        The whole config with its defaults, as plain values.
    excluded : path
        JSON list of cells left out, with their reasons.
    chosen_t : iterable of (cell, path)
        The choices of ``t: auto``.
    evidence_files : iterable of (cell, path)
        Evidence rows; cells with ``dataset``, ``evidence``, ``seed``, and ``attack`` for those of triggered rows.
    answers : iterable of (cell, path)
        Answers of each cell, whose first rows are shown where a number comes from.
    title : str, optional
        Made from the config's name, if not given.
    confidence : float in (0, 1)
        As given to ``write_metrics``.
    goals : Goals, optional
        What the checks hold the numbers against.
    """
    results = read_results(metrics_dir, chosen_t, confidence=confidence)
    read_cards = sorted((read_json(path) for path in sorted({str(path) for path in cards})), key=card_key)
    provenance = Provenance(read_cards, answers, Path(metrics_dir) / "cells.csv")
    tables, figures, link = Path(tables_dir), Path(figures_dir), provenance.link
    title = title or f"infoconflict: {config.get('name', 'report')}"
    sections = {
        "Result": result_section(results, config, goals),
        "Defences": defenses_section(results, tables, figures, link),
        "Choice of t": choice_section(results, tables, figures, link),
        "Controls": controls_section(results, config),
        "False triggers": false_triggers_section(results, tables, link),
        "External evidence": evidence_section(evidence_files),
        **judges_section(results, tables, config, read_cards),
        **generation_section(results, tables),
        "Time and memory": costs_section(results, tables, read_cards),
        **adaptive_section(read_cards),
        "Left out": excluded_section(read_json(excluded)),
        "Methods": methods_section(config),
        "How to read this": reading_section(results),
        "Settings": settings_section(config),
        "Versions": versions_section(read_cards),
        "Provenance": provenance_section(provenance, Path(metrics_dir)),
    }
    write_text(out_path, whole_page(title, sections, provenance=provenance_data(provenance)))
