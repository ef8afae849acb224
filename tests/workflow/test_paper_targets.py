"""The paper's tables and figures as targets: each plans the cells that it shows, and stands also where there are none."""

import pytest
import yaml

from infoconflict.config.loading import read_config
from infoconflict.grid import build_grid
from infoconflict.metrics import read_csv
from infoconflict.reporting.paper_cells import FIGURES, GOAL, TABLES, cells_of, roles_of
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
