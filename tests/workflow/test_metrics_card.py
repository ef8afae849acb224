"""Metrics leave a card that says how answers were counted, for a comparison with another run."""

import json

import pytest
import yaml

from infoconflict.diff import COUNTING, compare, read_run
from infoconflict.files import write_json
from infoconflict.records import CLEAN, Answer
from tests.workflow.conftest import ROOT, TINY, Checkout, copy_of_checkout

SMALL = "config/small.yaml"
CELL = "results/answers/tiny_llama/reviews/badnets/none/s0"


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    """A config of one cell, with the answers that metrics read and cards of the stages above them."""
    checkout = copy_of_checkout(tmp_path)
    config = yaml.safe_load((ROOT / TINY).read_text())
    config["grid"] = {"models": ["tiny_llama"], "datasets": ["reviews"], "attacks": ["badnets"], "defenses": ["none"]}
    config |= {"controls": [], "direct": {}, "clean_share_curve": {}, "role_swap": {}}
    config["evaluation"]["compare_generation"] = False
    (tmp_path / SMALL).write_text(yaml.safe_dump(config))
    stages = ["models/tiny_llama.card", "data/reviews/s0/card", "clean_share/reviews/s0/card"]
    stages += [f"{stage}/reviews/badnets/s0/card" for stage in ("poisoned", "test_sets")]
    for stage in [*stages, "backdoored/tiny_llama/reviews/badnets/s0/card"]:
        write_json(tmp_path / f"results/{stage}.json", {"stage": stage, "cell": {}, "outputs": {}})
    cell = {"model": "tiny_llama", "dataset": "reviews", "attack": "badnets", "defense": "none", "seed": "0"}
    write_json(tmp_path / CELL / "card.json", {"stage": "answer", "cell": cell, "outputs": {"answers": "n"}})
    rows = [
        Answer(id=str(n), gold_label="positive", trigger=CLEAN, target_label=None, answer=answer, scores={})
        for n, answer in enumerate(("positive", "negative"))
    ]
    Answer.write(tmp_path / CELL / "answers.jsonl", rows)
    return checkout


@pytest.mark.workflow
def test_an_edited_metric_is_named_as_the_cause(checkout: Checkout) -> None:
    def counted():
        checkout.snakemake("--allowed-rules", "metrics", "--", "results/metrics/cells.csv", config=SMALL)
        return read_run(checkout.folder)

    before = counted()
    assert before.rates["tiny_llama/reviews/badnets/none/s0"]["cda"] == 0.5
    card = json.loads((checkout.folder / "results/metrics/card.json").read_text())
    assert (card["spec"], card["inputs"]) == ({"interval": 0.95}, {})
    assert before.cards[COUNTING]["code"]
    metrics = checkout.folder / "src/infoconflict/metrics.py"
    metrics.write_text(metrics.read_text().replace('self._count("cda", right)', 'self._count("cda", True)'))
    ((cause,),) = compare(before, counted()).changed.values()
    assert (cause.kind, cause.stage) == ("code", "metrics")
