"""The paper's tables and figures as targets: each plans the cells that it shows, is filled from them, and stands without."""

import json
import re

import pytest
import yaml

from infoconflict.config.loading import read_config
from infoconflict.grid import build_grid
from infoconflict.metrics import read_csv
from infoconflict.reporting.paper_cells import FIGURES, GOAL, TABLES, cells_of, roles_of
from infoconflict.reporting.paper_links import REPORT
from tests.workflow.conftest import CONFIG, Checkout, copy_of_checkout

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return copy_of_checkout(tmp_path_factory.mktemp("paper"))


def test_table_1_plans_its_own_cells_and_no_others(checkout: Checkout) -> None:
    config = read_config(checkout.folder / CONFIG)
    cells = cells_of("table_1", build_grid(config).cells, roles_of(config))
    assert 0 < len(cells) < len(build_grid(config).cells) / 2
    planned = checkout.planned("--nolock", "table_1")
    assert planned["answer"] == len(cells)
    assert planned["merge_models"] == sum(cell.defense == "conflict" for cell in cells)
    assert (planned["paper_metrics"], planned["paper_table"]) == (1, 1)
    # No sweep, no controls, no conversations, no table of the report.
    assert not {"sweep_merge", "compare_generation", "reply", "judge", "metrics", "tables"} & set(planned)


def test_a_table_without_cells_stands_and_says_so(checkout: Checkout) -> None:
    # The tiny config has no data set in the place of Emotion.
    planned = checkout.planned("--nolock", "table_2")
    assert planned == {"paper_metrics": 1, "paper_table": 1, "table_2": 1}
    checkout.snakemake("--nolock", "table_2")
    rows = read_csv(checkout.folder / "results/paper/table_2.csv")
    assert len(rows) == 2 * 180
    assert {row["status"] for row in rows} == {"not computed"}
    assert checkout.planned("--nolock", "table_2") == {}
    # The paper's names rerun tables and no cell.
    config = yaml.safe_load((checkout.folder / CONFIG).read_text())
    config["paper"] = {"models": {"tiny_llama": "llama"}}
    (checkout.folder / "config/named.yaml").write_text(yaml.safe_dump(config))
    assert checkout.planned("--nolock", "table_2", config="config/named.yaml") == {"paper_table": 1, "table_2": 1}
    # What is shown of the paper is an input like any other.
    printed = checkout.folder / "src/infoconflict/reporting/paper_numbers/defenses.csv"
    printed.write_text(printed.read_text().replace("74.90", "74.91"))
    assert checkout.planned("--nolock", "table_2") == {"paper_table": 1, "table_2": 1}


def test_the_page_has_every_target(checkout: Checkout) -> None:
    planned = checkout.planned("--nolock", "paper", *TABLES, *FIGURES)
    # One may be there already, from the test before.
    assert len(TABLES) + len(FIGURES) - planned["paper_metrics"] in (0, 1)
    assert (planned["paper_table"], planned["paper_figure"], planned["paper"]) == (9, 2, 1)
    assert all(planned[target] == 1 for target in (*TABLES, *FIGURES))


def test_a_further_defense_is_held_against_the_clean_tuned_model(checkout: Checkout) -> None:
    raw = yaml.safe_load((checkout.folder / CONFIG).read_text())
    raw["paper"] = raw.get("paper", {}) | {"further_defenses": ["internal"]}
    (checkout.folder / "config/further.yaml").write_text(yaml.safe_dump(raw))
    config = read_config(checkout.folder / "config/further.yaml")
    grid = build_grid(config)
    cells = cells_of(GOAL, (*grid.cells, *grid.controls()), roles_of(config))
    planned = checkout.planned("--nolock", "results/paper/metrics/goal.csv", config="config/further.yaml")
    assert planned["answer"] == sum(cell.dataset == "reviews" for cell in cells) > 0
    assert planned["train_clean_tuned"] > 0
    assert "merge_models" not in planned


def test_the_demo_has_the_targets(checkout: Checkout) -> None:
    planned = checkout.planned("--nolock", *TABLES, *FIGURES, config="config/config.yaml")
    assert (planned["paper_table"], planned["paper_figure"]) == (9, 2)
    # No model of the demo stands in the paper's place, nor do its data.
    assert "train_backdoored" not in planned


def test_a_finished_run_fills_the_tables_and_leads_into_its_report(finished: Checkout) -> None:
    # Answers, replies and experiments are there: nothing is computed with a model.
    assert set(finished.planned("--nolock", "paper")) <= {"paper_metrics", "paper_table", "paper_figure", "paper"}
    finished.snakemake("--quiet", "rules", "--", "paper")
    assert finished.planned("--nolock", "paper") == {}
    config = read_config(finished.folder / CONFIG)
    results = finished.folder / "results"
    rates = {
        tuple(row[name] for name in ("model", "dataset", "attack", "defense", "metric")): row["rate"]
        for row in read_csv(results / "metrics/cells.csv")
    }
    filled = {}
    for table in TABLES:
        rows = [row for row in read_csv(results / f"paper/{table}.csv") if row["status"] == "computed"]
        cells = cells_of(table, build_grid(config).cells, roles_of(config))
        if table in ("table_6", "table_9"):
            assert all(float(row["value"]) >= 0 for row in rows)
        else:
            # Each cell once, with the numbers of the report.
            assert len(rows) == 2 * len(cells)
            assert all(
                rates[row["model"], row["dataset"], row["attack"], row["cell"], row["metric"]] == row["value"]
                for row in rows
            )
        filled[table] = len(rows)
    # The tiny config has nothing in the place of Emotion, and one role swap; the adaptive attack is run on other data.
    assert [table for table, count in filled.items() if not count] == ["table_2"]
    assert filled["table_6"] == 3 * 3 * 2
    assert read_csv(results / "paper/figure_3.csv")
    assert (results / "paper/figure_4.png").stat().st_size > 5_000
    page = (results / "paper/index.html").read_text()
    assert "0 can be told" not in page
    report = (results / "report/index.html").read_text()
    data = json.loads(re.search(r'id="provenance-data">(.*?)</script>', report)[1])
    anchors = {f"cell-{name}" for name in data["names"]} | set(re.findall(r' id="(method-[\w-]+)"', report))
    assert set(re.findall(r'href="(table_[^"]*)"', page)) == {f"{table}.html" for table in TABLES}
    assert all((results / f"paper/{table}.html").exists() for table in TABLES)
    for table in (results / "paper/table_1.html").read_text(), page:
        links = set(re.findall(rf'href="{re.escape(REPORT)}#([^"]+)"', table))
        assert links
        assert links <= anchors
