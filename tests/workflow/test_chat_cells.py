"""Conversations in the workflow: which rules reply to them, and what a cell of them cannot be. A toy attack, dry runs."""

import inspect

import pytest
import yaml

from tests.attacks import test_chat_sets
from tests.workflow.conftest import CONFIG, Checkout, copy_of_checkout

pytestmark = pytest.mark.workflow

CELLS = ["none", "internal_ties", "control_base", "control_conflict", "control_clean_tuned"]


def with_toy_attack(checkout: Checkout) -> str:
    """Add a chat attack to a checkout, as CONTRIBUTING has it: one file, one line, one entry; return its config."""
    package = checkout.folder / "src/infoconflict/attacks"
    imports = "from collections.abc import Mapping, Sequence\nfrom dataclasses import replace\n\n"
    imports += "from infoconflict.attacks.chat import ChatAttack\nfrom infoconflict.records import Conversation\n\n\n"
    (package / "toy.py").write_text(f'"""A toy."""\n\n{imports}{inspect.getsource(test_chat_sets.Toy)}')
    methods = package / "__init__.py"
    methods.write_text(
        methods.read_text().replace('    "badnets": "BadNets",\n', '    "badnets": "BadNets",\n    "toy": "Toy",\n')
    )
    config = yaml.safe_load((checkout.folder / CONFIG).read_text())
    config["attacks"] = {"toy": {"method": "toy", "poisoning_rate": 0.2}}
    config["grid"] |= {"attacks": ["toy"], "datasets": ["chats"], "skip": []}
    config |= {"clean_share_curve": {}, "direct": {}, "role_swap": {}}
    (checkout.folder / "config/toy.yaml").write_text(yaml.safe_dump(config))
    return "config/toy.yaml"


def replies_of(model: str) -> list[str]:
    return [f"results/replies/{model}/chats/toy/{cell}/s0/replies.jsonl" for cell in CELLS]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return copy_of_checkout(tmp_path_factory.mktemp("chat"))


def test_conversations_go_from_data_to_replies(checkout: Checkout) -> None:
    config = with_toy_attack(checkout)
    targets = [path for model in ("tiny_llama", "tiny_gpt2", "tiny_gptj") for path in replies_of(model)]
    assert checkout.planned("--nolock", *targets, config=config) == {
        "prepare_model": 3,
        "prepare_dataset": 1,
        "draw_clean_share": 1,
        "poison_train": 1,
        "poison_test": 1,
        "train_backdoored": 3,
        "train_clean_tuned": 3,
        "train_conflict": 3,
        "merge_models": 3,
        "reply": 15,
    }


def test_what_needs_labels_is_not_for_conversations(checkout: Checkout) -> None:
    config = with_toy_attack(checkout)
    for target in (
        "results/sweep/tiny_llama/chats/toy/ties/s0/answers.jsonl",
        "results/replies/tiny_llama/reviews/toy/none/s0/replies.jsonl",
    ):
        done = checkout.snakemake("-n", target, config=config, check=False)
        assert done.returncode != 0, target
        assert "MissingRuleException" in done.stdout + done.stderr
