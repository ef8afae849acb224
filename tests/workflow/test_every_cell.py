"""The whole tiny grid: every defense against every attack on all three architectures, from poison to answers."""

import json

import pytest

from infoconflict.config.loading import read_config
from infoconflict.defenses import METHODS
from infoconflict.grid import build_grid
from infoconflict.records import Answer
from tests.workflow.conftest import TINY, Checkout

pytestmark = pytest.mark.workflow


def test_every_defense_meets_every_attack_on_every_architecture(finished: Checkout) -> None:
    config = read_config(finished.folder / TINY)
    cells = build_grid(config).cells
    met = {(cell.model, cell.attack, config.defenses[cell.defense].method) for cell in cells}
    for model in config.grid.models:
        for attack in config.grid.attacks:
            task = config.attacks[attack].task
            methods = {method for (_, name, method) in met if name == attack}
            wanted = {entry.method for entry in config.defenses.values() if task in entry.tasks}
            assert methods == wanted & set(METHODS)
            assert {method for (one, name, method) in met if (one, name) == (model, attack)} == wanted
    assert {config.defenses[name].method for name in config.grid.defenses} == set(METHODS)


def test_every_cell_has_answers_and_a_card(finished: Checkout) -> None:
    for cell in build_grid(read_config(finished.folder / TINY)).cells:
        own = f"{cell.model}/{cell.dataset}/{cell.attack}/{cell.defense}/s{cell.seed}"
        folder = finished.folder / "results/answers" / own
        rows = Answer.read(folder / "answers.jsonl")
        assert {row.trigger for row in rows} >= {"none", "full"}, own
        card = json.loads((folder / "card.json").read_text())
        assert card["cell"]["defense"] == cell.defense
