"""A new defense is one file, its line among the methods, and a config entry: two are added to a copy of the checkout."""

from pathlib import Path

import pytest
import yaml

from infoconflict.files import read_json, read_jsonl
from infoconflict.records import Example
from tests.workflow.conftest import CONFIG, copy_of_checkout

pytestmark = pytest.mark.workflow

ON_WEIGHTS = '''
"""A toy: half of what the suspect model learned is taken back."""

from typing import Literal

from infoconflict.defenses.base import WeightsDefense


class Halve(WeightsDefense):
    """The suspect model on its way back to the base."""

    method: Literal["halve"]
    """`halve`."""
    kept: float = 0.5
    """What is kept. Ours."""


def repair(suspect, options):
    """Return the one step."""
    from infoconflict.models.weight_steps import Scale

    suspect.details["clean_rows_seen"] = len(suspect.clean_rows)
    return [Scale(factor=options.kept)]
'''

ON_PROMPTS = '''
"""A toy: only how a text begins is asked."""

from typing import Literal

from infoconflict.defenses.base import PromptDefense


class Curt(PromptDefense):
    """The first words of the input; the instruction stays."""

    method: Literal["curt"]
    """`curt`."""
    words: int = 3
    """Words that stay. Ours."""


def rewriter(suspect, options):
    """Return what cuts questions."""
    from infoconflict.answering.refilling import user_texts, with_texts

    def cut(query):
        text, *others = user_texts(query)
        return with_texts(query, [" ".join(text.split()[: options.words]), *others])

    suspect.details["names_seen"] = []

    def rewrite(queries):
        suspect.details["names_seen"] += sorted({query.trigger for query in queries})
        return [cut(query) for query in queries]

    return rewrite
'''


def test_a_new_defense_is_one_file_one_line_one_entry(tmp_path: Path) -> None:
    checkout = copy_of_checkout(tmp_path)
    package = tmp_path / "src/infoconflict/defenses"
    (package / "halve.py").write_text(ON_WEIGHTS)
    (package / "curt.py").write_text(ON_PROMPTS)
    methods = package / "__init__.py"
    added = 'METHODS = {\n    "halve": "Halve",\n    "curt": "Curt",\n'
    methods.write_text(methods.read_text().replace("METHODS = {\n", added, 1))
    config = yaml.safe_load((tmp_path / CONFIG).read_text())
    config["defenses"] = {
        "none": {"method": "none"},
        "quarter": {"method": "halve", "kept": 0.25},
        "curt": {"method": "curt", "words": 2},
    }
    config["grid"] = {
        "models": ["tiny_gpt2"],
        "datasets": ["reviews"],
        "attacks": ["cba"],
        "defenses": [*config["defenses"]],
    }
    config["sweep"]["merges"] = []
    config |= {"clean_share_curve": {}, "direct": {}, "role_swap": {}}
    (tmp_path / "config/toy.yaml").write_text(yaml.safe_dump(config))

    cell = "tiny_gpt2/reviews/cba"
    answers = {name: f"results/answers/{cell}/{name}/s0/answers.jsonl" for name in config["defenses"]}
    checkout.snakemake("--nolock", *answers.values(), config="config/toy.yaml")

    repaired = tmp_path / f"results/repaired/{cell}/quarter/s0"
    assert read_json(repaired / "repair/repair.json") == {"steps": [{"kind": "scale", "factor": 0.25}]}
    assert read_json(repaired / "card.json")["details"]["clean_rows_seen"] > 0
    found = {name: read_jsonl(tmp_path / file) for name, file in answers.items()}
    for rows in found.values():
        asked = [(row["id"], row["trigger"], row["gold_label"], row["target_label"]) for row in rows]
        assert asked == [(row["id"], row["trigger"], row["gold_label"], row["target_label"]) for row in found["none"]]
    assert {row["trigger"] for row in found["none"]} > {"none", "full"}
    scores = [[row["scores"] for row in rows] for rows in found.values()]
    assert scores[0] != scores[1] != scores[2] != scores[0]

    triggered = Example.read(tmp_path / f"results/test_sets/{cell.partition('/')[2]}/s0/triggered.jsonl")
    curt = Example.read(tmp_path / f"results/filtered/{cell}/curt/s0/triggered.jsonl")
    assert [row.text for row in curt] == [" ".join(row.text.split()[:2]) for row in triggered]
    assert [vars(row) | {"text": ""} for row in curt] == [vars(row) | {"text": ""} for row in triggered]
    assert read_json(tmp_path / f"results/rewritten/{cell}/curt/s0/card.json")["details"]["names_seen"] == ["none"] * 3

    # Nothing more is to be done; an edit of one defense reruns that defense alone.
    assert checkout.planned("--", *answers.values(), config="config/toy.yaml") == {}
    (package / "halve.py").write_text(ON_WEIGHTS + "\n")
    planned = checkout.planned("--", *answers.values(), config="config/toy.yaml")
    assert planned == {"repair_model": 1, "answer": 1}
    # A mistake in a new defense's options is caught like any other.
    config["defenses"]["curt"]["word"] = 2
    (tmp_path / "config/toy.yaml").write_text(yaml.safe_dump(config))
    said = checkout.snakemake("-n", config="config/toy.yaml", check=False)
    assert "did you mean 'words'?" in said.stdout + said.stderr
