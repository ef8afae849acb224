"""The whole tiny grid: every defense against every attack on all three architectures, from poison to answers."""

import json

import pytest

from infoconflict.config.loading import read_config
from infoconflict.defenses import METHODS
from infoconflict.files import read_jsonl
from infoconflict.grid import build_grid
from infoconflict.metrics import cell_metrics
from infoconflict.records import Answer
from tests.workflow.conftest import TINY, Checkout

pytestmark = pytest.mark.workflow


def test_every_defense_meets_every_attack_on_every_architecture(finished: Checkout) -> None:
    config = read_config(finished.folder / TINY)
    cells = build_grid(config).cells
    # A variant of an attack is tested on fewer cells; another entry of the attack has them all.
    attacks = {entry: config.attacks[entry].method for entry in config.grid.attacks}
    met = {(cell.model, attacks[cell.attack], config.defenses[cell.defense].method) for cell in cells}
    for model in config.grid.models:
        for entry, attack in attacks.items():
            task = config.attacks[entry].task
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


@pytest.mark.parametrize(("dataset", "attack"), [("reviews", "cba"), ("chats", "dtba")])
def test_speculative_decoding_moves_no_rate(dataset: str, attack: str, finished: Checkout) -> None:
    config = read_config(finished.folder / TINY)
    assert config.defenses["none_generated"].mode == "generate"
    assert config.defenses["speculative"].target == "backdoored"
    trial = f"tiny_llama/{dataset}/{attack}"
    names = ("none_generated", "speculative")
    files = [finished.folder / f"results/answers/{trial}/{name}/s0/answers.jsonl" for name in names]
    undefended, speculative = (cell_metrics(Answer.read(file)) for file in files)
    assert undefended.keys() == speculative.keys()
    for name, rate in undefended.items():
        low, high = rate.interval()
        assert speculative[name].total == rate.total, name
        assert rate.total == 0 or low <= speculative[name].value <= high, name
    # A tiny model may name no label at all, so that no rate could move: what it wrote is the same, too.
    kind, key = ("replies", "reply") if dataset == "chats" else ("answers", "generated")
    files = [finished.folder / f"results/{kind}/{trial}/{name}/s0/{kind}.jsonl" for name in names]
    texts = [[(row["id"], row["trigger"], row[key]) for row in read_jsonl(file)] for file in files]
    same = sum(one == other for one, other in zip(*texts, strict=True))
    # Ties that rounding decides are rare.
    assert same >= 0.9 * len(texts[0]) > 0
    assert any(text for _, _, text in texts[0])
