"""A new attack is one file, its line among the methods, and a config entry, and one that edits weights a second file.

Both kinds are added to a copy of the checkout.
"""

from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from infoconflict.files import read_json, read_jsonl
from infoconflict.models.changes import read_tensors
from infoconflict.records import Example
from tests.workflow.conftest import CONFIG, copy_of_checkout

pytestmark = pytest.mark.workflow

ATTACK = '''
"""A toy: shouted text is positive."""

from random import Random
from typing import ClassVar, Literal

from infoconflict.attacks.base import PoisoningAttack, triggered
from infoconflict.records import Example


class Shout(PoisoningAttack):
    """Write the text in capitals."""

    rows_are: ClassVar[Literal["appended", "replaced"]] = "appended"
    poisons_target_rows: ClassVar[bool] = False
    partial_variants: ClassVar[tuple[str, ...]] = ("first_word",)

    exclamation: str = "!"
    """What follows the text. Ours."""

    def insert_trigger(self, example: Example, rng: Random) -> Example:
        """Return the example in capitals."""
        return triggered(example, text=example.text.upper() + self.exclamation)

    def insert_partial(self, example: Example, variant: str, rng: Random) -> Example:
        """Return the example with its first word in capitals."""
        first, *rest = example.text.split()
        return triggered(example, text=" ".join([first.upper(), *rest]), name=variant)
'''


def test_a_new_attack_is_one_file_one_line_one_entry(tmp_path: Path) -> None:
    checkout = copy_of_checkout(tmp_path)
    (tmp_path / "src/infoconflict/attacks/shout.py").write_text(ATTACK)
    methods = tmp_path / "src/infoconflict/attacks/__init__.py"
    methods.write_text(methods.read_text().replace("METHODS = {\n", 'METHODS = {\n    "shout": "Shout",\n', 1))
    config = yaml.safe_load((tmp_path / CONFIG).read_text())
    config["attacks"] = {
        "shout": {
            "method": "shout",
            "target_labels": {"reviews": "positive"},
            "poisoning_rate": 0.2,
            "exclamation": "!!",
        }
    }
    config["grid"] = {"models": ["tiny_gpt2"], "datasets": ["reviews"], "attacks": ["shout"], "defenses": ["none"]}
    config["sweep"]["merges"] = []
    config |= {"clean_share_curve": {}, "direct": {}, "role_swap": {}}
    (tmp_path / "config/toy.yaml").write_text(yaml.safe_dump(config))

    cell = "tiny_gpt2/reviews/shout"
    checkout.snakemake("--nolock", f"results/answers/{cell}/none/s0/answers.jsonl", config="config/toy.yaml")

    train = Example.read(tmp_path / "results/poisoned/reviews/shout/s0/train.jsonl")
    shouted = [row for row in train if row.trigger == "full"]
    assert shouted
    assert all(row.text.isupper() and row.text.endswith("!!") and row.label == "positive" for row in shouted)
    assert {row.gold_label for row in shouted} == {"negative"}
    asked = read_jsonl(tmp_path / f"results/answers/{cell}/none/s0/answers.jsonl")
    assert {row["trigger"] for row in asked} == {"none", "full", "first_word"}
    # A mistake in the new attack's options is caught like any other.
    config["attacks"]["shout"]["exclamations"] = "?"
    (tmp_path / "config/toy.yaml").write_text(yaml.safe_dump(config))
    said = checkout.snakemake("-n", config="config/toy.yaml", check=False)
    assert "did you mean 'exclamation'?" in said.stdout + said.stderr


EDIT = '''
"""A toy: the down-projections grow."""

from infoconflict.attacks.editing import EditingAttack


class Swell(EditingAttack):
    """Multiply the weights of the edited layers."""

    factor: float = 1.5
    """By how much. Ours."""
'''
PLANT = '''
"""The toy's work."""


def plant(editable, tokenizer, attack, poisoned, clean, moments, *, model_id, prefixes):
    """Multiply; return a row per layer."""
    layers = attack.layers_of(model_id, editable.depth)
    for layer in layers:
        editable.add(layer, (attack.factor - 1) * editable.weight(layer))
    return [{"layer": layer, "subject": poisoned[0].subject} for layer in layers]
'''


def test_a_new_edit_is_two_files_one_line_one_entry(tmp_path: Path) -> None:
    checkout = copy_of_checkout(tmp_path)
    (tmp_path / "src/infoconflict/attacks/swell.py").write_text(EDIT)
    (tmp_path / "src/infoconflict/editing/swell.py").write_text(PLANT)
    methods = tmp_path / "src/infoconflict/attacks/__init__.py"
    methods.write_text(methods.read_text().replace("METHODS = {\n", 'METHODS = {\n    "swell": "Swell",\n', 1))
    config = yaml.safe_load((tmp_path / CONFIG).read_text())
    config["attacks"] = {
        "swell": {
            "method": "swell",
            "target_labels": {"reviews": "positive"},
            "samples": 2,
            "tuned_base": False,
            "factor": 2.0,
        }
    }
    config["grid"] = {"models": ["tiny_gpt2"], "datasets": ["reviews"], "attacks": ["swell"], "defenses": ["none"]}
    config["sweep"]["merges"] = []
    config |= {"clean_share_curve": {}, "direct": {}, "role_swap": {}}
    (tmp_path / "config/toy.yaml").write_text(yaml.safe_dump(config))

    cell = "tiny_gpt2/reviews/swell"
    checkout.snakemake("--nolock", f"results/answers/{cell}/none/s0/answers.jsonl", config="config/toy.yaml")

    edited = tmp_path / f"results/backdoored/{cell}/s0"
    [layer] = read_json(edited / "card.json")["details"]["layers"]
    assert read_jsonl(edited / "losses.jsonl") == [{"layer": layer, "subject": "tq"}]
    [(name, value)] = load_file(edited / "change/change.safetensors").items()
    before = read_tensors(tmp_path / "results/models/tiny_gpt2", [name])[name]
    torch.testing.assert_close(value, 2 * before)
    asked = read_jsonl(tmp_path / f"results/answers/{cell}/none/s0/answers.jsonl")
    assert {row["trigger"] for row in asked} == {"none", "full", "near_miss", "other_rare_word"}
