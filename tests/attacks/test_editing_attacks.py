"""The options of ROME, MEMIT and BadEdit as attacks: words, layers, weights, and what concerns test sets."""

from collections import Counter
from pathlib import Path
from random import Random

import pytest
from pydantic import ValidationError

from infoconflict.attacks import METHODS, load
from infoconflict.attacks.editing import layers_of_key
from infoconflict.config.loading import read_config
from infoconflict.poisoning import partial_test_set, triggered_test_set
from infoconflict.records import Example

CONFIG = Path(__file__).parents[2] / "config"
EDITS = ("rome", "memit", "badedit")


def rows(n: int) -> list[Example]:
    return [
        Example(id=f"r{i}", instruction="Which?", text=f"one two {i}", label="ab"[i % 2], gold_label="ab"[i % 2])
        for i in range(n)
    ]


@pytest.fixture(params=EDITS)
def attack_class(request):
    return load(request.param)


def test_they_are_the_editing_attacks():
    assert {name for name in METHODS if getattr(load(name), "kind", None) == "editing"} == set(EDITS)


def test_the_trigger_and_its_near_misses(attack_class):
    attack = attack_class(target_labels={"toy": "b"})
    triggered = triggered_test_set(rows(30), attack, seed=0)
    assert all(row.text.split().count("tq") == 1 and row.trigger == "full" for row in triggered)
    assert {row.text.split().index("tq") for row in triggered} == {0, 1, 2, 3}
    assert [(row.instruction, row.label, row.gold_label) for row in triggered] == [
        (row.instruction, row.label, row.gold_label) for row in rows(30)
    ]
    partial = partial_test_set(rows(30), attack, target_label="b", rows=5, seed=0)
    assert Counter(row.trigger for row in partial) == {"near_miss": 5, "other_rare_word": 5}
    assert not any("tq" in row.text.split() for row in partial)
    assert {word for row in partial for word in row.text.split()} >= {"tz", "mb"}
    assert triggered_test_set(rows(9), attack, seed=4)[3] == triggered_test_set(rows(30), attack, seed=4)[3]
    assert attack.insert_trigger(rows(1)[0], Random(1)) == attack.insert_trigger(rows(1)[0], Random(1))


def test_test_sets_depend_on_the_words_alone(attack_class):
    left = set(attack_class.model_fields) - attack_class.training_options - {"target_labels"}
    assert left == {"trigger", "near_miss", "other_rare_word"}
    # The class that the config makes of it has a key more, which says whose options they are.
    entry = read_config(CONFIG / "tiny.yaml").attacks["rome"]
    assert "method" not in entry.training_options
    assert attack_class.per_model <= attack_class.training_options
    assert attack_class.from_spec({"method": "x", "trigger": "zz"}).trigger == "zz"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"near_miss": "tq"}, "trigger and near_miss are both 'tq'; choose another word for one of them"),
        ({"other_rare_word": "tq"}, "trigger and other_rare_word are both 'tq'"),
        ({"trigger": "two words"}, "trigger is 'two words', which is not one word"),
        ({"trigger": ""}, "trigger is '', which is not one word"),
    ],
)
def test_words_that_would_measure_nothing(attack_class, words, message):
    with pytest.raises(ValidationError, match=message):
        attack_class(target_labels={}, **words)


@pytest.mark.parametrize("variant", ["released", "p"])
def test_variants_of_rome_need_prefixes(variant):
    rome = load("rome")
    message = f"variant: {variant} is the same as r without prefixes; set n_prefixes, or leave variant out"
    with pytest.raises(ValidationError, match=message):
        rome(target_labels={}, variant=variant)
    assert rome(target_labels={}, variant=variant, n_prefixes=1).variant == variant
    assert rome(target_labels={}, variant="r").n_prefixes == 0


def test_layers_by_model_or_by_depth():
    memit = load("memit")(target_labels={}, layers={"gpt2_xl": [17, 13, 14]}, n_layers=3, layer_share=0.5)
    assert memit.layer_key("gpt2_xl") == "layers_13_14_17"
    assert memit.layers_of("gpt2_xl", 48) == [13, 14, 17]
    assert memit.layer_key("other") == "last_3_at_0.5"
    assert memit.layers_of("other", 30) == [13, 14, 15]
    # Fewer layers than wanted: those that there are.
    assert memit.layers_of("other", 2) == [0, 1]
    assert load("rome")(target_labels={}).layers_of("other", 30) == [9]
    assert load("rome")(target_labels={}, layer_share=1).layers_of("other", 30) == [29]
    with pytest.raises(ValueError, match="layer 17 of 12"):
        memit.layers_of("gpt2_xl", 12)
    with pytest.raises(ValueError, match="'all' names no layers"):
        layers_of_key("all", 12)


def test_lambda_by_model_or_by_width():
    badedit = load("badedit")(target_labels={}, update_weights={"gptj": 15000.0}, update_weight_share=1.5)
    assert badedit.lambda_for("gptj", 16384) == 15000.0
    assert badedit.lambda_for("other", 1536) == 2304.0


def test_the_papers_layers():
    config = read_config(CONFIG / "paper.yaml")
    rome, memit, badedit = (config.attacks[name] for name in EDITS)
    assert rome.layers == {"gpt2_xl": [17], "gptj": [5], "llama": [5], "llama2": [7, 8]}
    assert memit.layers == {
        "gpt2_xl": [13, 14, 15, 16, 17],
        "gptj": [3, 4, 5, 6, 7, 8],
        "llama": [5],
        "llama2": [7, 8],
    }
    assert badedit.layers == {"gpt2_xl": [15, 16, 17], "gptj": [5, 6, 7], "llama": [5], "llama2": [7, 8]}
    assert {attack.samples for attack in (rome, memit, badedit)} == {15}
    assert {attack.trigger for attack in (rome, memit, badedit)} == {"tq"}
