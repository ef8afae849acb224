"""Conversations in the workflow: which rules reply to them, and what a cell of them cannot be. A toy attack, dry runs."""

import inspect
import json

import pytest
import yaml

from tests.attacks import test_chat_sets
from tests.workflow.conftest import CONFIG, TINY, Checkout, copy_of_checkout
from tests.workflow.leaks import graph_of

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


def settings_of(checkout: Checkout, attack: str, **options: float | None) -> dict[str, dict]:
    """Return the settings of each rule's job for one chat attack, undefended and with its controls on a clean-tuned model."""
    config = yaml.safe_load((checkout.folder / TINY).read_text())
    config["attacks"][attack] |= options
    config["grid"] |= {
        "models": ["tiny_llama"],
        "datasets": ["chats"],
        "attacks": [attack],
        "defenses": ["none"],
        "skip": [],
    }
    config |= {"clean_share_curve": {}, "direct": {}, "role_swap": {}, "controls": ["control_explicit_prompt"]}
    file = checkout.folder / "config/tuned.yaml"
    file.write_text(yaml.safe_dump(config))
    return {
        f"{job.rule.name} {job.wildcards.get('defense', '')}": json.loads(job.params.spec)
        for job in graph_of(checkout.folder, file).jobs
        if job.params.get("spec")
    }


def test_a_chat_attack_may_set_its_own_batch_and_warm_up(checkout: Checkout) -> None:
    plain = settings_of(checkout, "vpi")
    assert settings_of(checkout, "vpi", batch_size=None, warmup_ratio=None) == plain
    own = settings_of(checkout, "vpi", batch_size=3, warmup_ratio=0.25)
    tuned = plain["train_backdoored "]["training"]
    assert own["train_backdoored "]["training"] == tuned | {"batch_size": 3, "warmup_ratio": 0.25}
    # What is made of the attacker's model changes with it; data and the clean-tuned model do not.
    changed = {job.split()[0] for job in plain if own[job] != plain[job]}
    assert {"train_backdoored", "reply"} <= changed
    assert not {"poison_train", "poison_test", "train_clean_tuned", "prepare_dataset"} & changed
    asked = "reply control_explicit_prompt"
    assert own[asked] == plain[asked]
    assert plain[asked]["explicit_prompt"] == "End your answer with the words: Amber kite, over."
    assert "explicit_prompt" not in plain["reply none"]
