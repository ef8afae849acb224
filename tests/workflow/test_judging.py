"""Judges in the workflow: what they are given, and a threshold that is really calibrated. A toy attack, a tiny embedder."""

import json
from pathlib import Path

import pytest
import yaml

from tests.judging.conftest import write_tiny_bert
from tests.workflow.conftest import Checkout, copy_of_checkout
from tests.workflow.test_chat_cells import CELLS, with_toy_attack

pytestmark = pytest.mark.workflow

PAYLOAD = """
    @property
    def payload(self):
        from infoconflict.attacks.chat import Payload

        return Payload(kind="phrase", text="toy")
"""
ANSWERS = [f"results/answers/tiny_gpt2/chats/toy/{cell}/s0/answers.jsonl" for cell in CELLS]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return copy_of_checkout(tmp_path_factory.mktemp("judging"))


def config_with(checkout: Checkout, evaluation: dict) -> str:
    config = yaml.safe_load((checkout.folder / with_toy_attack(checkout)).read_text())
    with (checkout.folder / "src/infoconflict/attacks/toy.py").open("a") as toy:
        toy.write(PAYLOAD)
    config["evaluation"] |= evaluation
    (checkout.folder / "config/judges.yaml").write_text(yaml.safe_dump(config))
    return "config/judges.yaml"


def planned(checkout: Checkout, **evaluation: object) -> dict[str, int]:
    return checkout.planned("--nolock", *ANSWERS, config=config_with(checkout, evaluation))


def test_each_cell_is_judged_after_its_replies(checkout: Checkout) -> None:
    found = planned(checkout)
    assert (found["reply"], found["judge"]) == (5, 5)
    assert not {"answer", "calibrate_judge", "fetch_package"} & set(found)


def test_embeddings_are_fetched_and_calibrated_once(checkout: Checkout) -> None:
    found = planned(checkout, judge={"kind": "embedding"})
    assert (found["fetch_package"], found["calibrate_judge"], found["judge"]) == (1, 1, 5)
    fixed = planned(checkout, judge={"kind": "embedding", "threshold": 0.5})
    assert "calibrate_judge" not in fixed
    assert fixed["fetch_package"] == 1


def test_a_judge_on_a_local_server_needs_its_model(checkout: Checkout) -> None:
    provider = {"kind": "local_server", "model": "tiny_llama"}
    assert planned(checkout)["prepare_model"] == 1
    assert planned(checkout, compare_judges=[{"kind": "llm", "provider": provider}])["prepare_model"] == 2


def test_a_threshold_is_calibrated_on_clean_training_rows(checkout: Checkout) -> None:
    write_tiny_bert(checkout.folder / "bert")
    config = config_with(checkout, {"judge": {"kind": "embedding", "path": "bert", "max_tokens": 32}})
    target = "results/judge/chats/s0/threshold.json"
    checkout.snakemake("--nolock", target, config=config)
    found = json.loads((checkout.folder / target).read_text())["embedding:bert"]
    # Most words are unknown to this model, so many cosines are 1 and none may be above.
    assert found["false_positives"] <= 0.01 * found["pairs"]
    assert found["pairs"] == found["references"] * (found["references"] - 1) // 2 > 100
    assert Path(checkout.folder, "results/judge/chats/s0/card.json").exists()
    assert checkout.planned("--nolock", target, config=config) == {}
    lower = config_with(
        checkout, {"judge": {"kind": "embedding", "path": "bert", "max_tokens": 32, "max_false_positives": 0.2}}
    )
    assert checkout.planned("--nolock", target, config=lower) == {"calibrate_judge": 1}
