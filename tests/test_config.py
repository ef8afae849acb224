"""The config: each mistake and its sentence, the presets, and what the docs say of every key."""

import copy
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from infoconflict import attacks, defenses
from infoconflict.config import (
    Config,
    TinyModel,
    load_config,
    main,
    read_config,
    spec_of,
)
from infoconflict.config_docs import refreshed, schema, schema_text
from infoconflict.config_yaml import read_yaml
from infoconflict.data.prepare import DEFAULT_TEST_SHARE
from infoconflict.errors import UserError
from infoconflict.evidence.keywords import keywords
from infoconflict.models.tiny import ARCHITECTURES, TIED
from infoconflict.packages import PACKAGES

ROOT = Path(__file__).parents[1]
PRESETS = sorted(path for path in (ROOT / "config").glob("*.yaml"))

SMALL = yaml.safe_load("""
name: small
seeds: [0, 1]
grid: {models: [a], datasets: [films, news], attacks: [cba], defenses: [none, conflict]}
models:
  a: {source: tiny, architecture: llama}
  b: {source: hub, repo: owner/name, revision: v1.0}
datasets:
  films: {source: packaged, package: vader_film_reviews, instruction: Which one, labels: [negative, positive]}
  news:
    {source: local, train: news.csv, instruction: Which, labels: [world, sports], label_names: {0: world, 1: sports}}
attacks:
  cba: {method: cba, target_labels: {films: positive, news: sports}}
  rare: {method: badnets, target_labels: {films: positive}}
training:
  backdoored: {epochs: 3, lora: {rank: 8}}
merges:
  linear: {method: linear, t: 0.5}
  ties: {method: ties, density: 0.5, lambda: 2.0}
evidence:
  words: {branch: construction, provider: {kind: local_server, model: a}}
  asked: {branch: construction, provider: {kind: openai, model: gpt, api_key_env: MY_KEY}}
  replayed: {branch: construction, provider: {kind: recorded, path: replies.jsonl}}
defenses:
  none: {method: none}
  conflict: {method: conflict, merge: linear, evidence: words}
sweep: {merges: [ties]}
""")


def edited(edits: dict[str, object]) -> dict[str, object]:
    """Return SMALL with values set at dotted paths; ``...`` removes a key."""
    raw = copy.deepcopy(SMALL)
    for path, value in edits.items():
        *parents, last = path.split("/")
        place = raw
        for parent in parents:
            place = place.setdefault(parent, {}) if isinstance(place, dict) else place[int(parent)]
        if value is ...:
            del place[last]
        elif isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    return raw


def problems(edits: dict[str, object]) -> list[str]:
    with pytest.raises(UserError) as caught:
        load_config(edited(edits), file="c.yaml")
    return str(caught.value).splitlines()


MISTAKES = [
    # unknown keys
    ({"sedes": [0]}, "c.yaml: unknown key 'sedes'; did you mean 'seeds'?"),
    ({"attacks/rare/trigers": ["x"]}, "c.yaml, attacks.rare: unknown key 'trigers'; did you mean 'triggers'?"),
    ({"training/backdoored/lora/rnk": 4}, "c.yaml, training.backdoored.lora: unknown key 'rnk'; did you mean 'rank'?"),
    ({"clean_share/zzz": 1}, "c.yaml, clean_share: unknown key 'zzz'; known: share, holdout"),
    ({"merges/linear/density": 0.5}, "c.yaml, merges.linear: unknown key 'density'; known: t, method"),
    (
        {"evidence/words/provider/pth": "x"},
        "c.yaml, evidence.words.provider: unknown key 'pth'; "
        "known: temperature, max_tokens, concurrency, timeout_s, max_retries, kind, model",
    ),
    # keys with a better place
    ({"threads": 4}, "c.yaml, threads: machine settings belong in a profile, not in the config; move it there"),
    (
        {"training/conflict": {"micro_batch_size": 2}},
        "c.yaml, training.conflict.micro_batch_size: "
        "machine settings belong in a profile, not in the config; move it there",
    ),
    (
        {"models/b/trust_remote_code": True},
        "c.yaml, models.b.trust_remote_code: code that comes with a model is never run; remove the key",
    ),
    (
        {"evidence/asked/provider/api_key": "sk-secret"},
        "c.yaml, evidence.asked.provider.api_key: "
        "keys never stand in a config; put it into the environment variable under api_key_env",
    ),
    # missing and empty
    ({"name": ...}, "c.yaml, name: is missing; add it"),
    ({"models/b/revision": ...}, "c.yaml, models.b.revision: is missing; add it"),
    ({"merges/linear/method": ...}, "c.yaml, merges.linear.method: is missing; add it"),
    ({"datasets/news/source": ...}, "c.yaml, datasets.news.source: is missing; add it"),
    ({"attacks/cba/target_labels": ...}, "c.yaml, attacks.cba.target_labels: is missing; add it"),
    ({"clean_share": None}, "c.yaml, clean_share: is empty; give a mapping of keys to values"),
    ({"merges/linear": None}, "c.yaml, merges.linear: is empty; give a mapping of keys to values"),
    ({"grid/models": []}, "c.yaml, grid.models: must hold 1 or more, got 0; add to it"),
    (
        {"models/b/revision": " "},
        "c.yaml, models.b.revision: ' ' is not one line of text without spaces around it; correct it",
    ),
    (
        {"models/b/revision": "a\nb"},
        "c.yaml, models.b.revision: 'a\\nb' is not one line of text without spaces around it; correct it",
    ),
    # wrong types
    ({"name": 7}, "c.yaml, name: expected text, got 7; put it in quotes"),
    (
        {"datasets/news/labels/0": True, "datasets/news/label_names": ..., "attacks/cba/target_labels/news": "sports"},
        "c.yaml, datasets.news.labels[0]: expected text, got true "
        "(YAML reads yes, no, on and off as true or false); put the word in quotes",
    ),
    ({"seeds": 3}, "c.yaml, seeds: expected a list, got 3; write [3]"),
    (
        {"training/backdoored/batch_size": 2.5},
        "c.yaml, training.backdoored.batch_size: expected a whole number, got 2.5; correct it",
    ),
    (
        {"training/backdoored/batch_size": True},
        "c.yaml, training.backdoored.batch_size: expected a whole number, got true; correct it",
    ),
    (
        {"training/backdoored/epochs": "3"},
        "c.yaml, training.backdoored.epochs: expected a number, got '3'; write 3 without quotes",
    ),
    (
        {"training/backdoored/learning_rate": "1e-3"},
        "c.yaml, training.backdoored.learning_rate: expected a number, got '1e-3' (to YAML a number with an exponent "
        "is text unless it has a dot and a signed exponent); write 1.0e-3",
    ),
    (
        {"training/backdoored/learning_rate": "fast"},
        "c.yaml, training.backdoored.learning_rate: expected a number, got 'fast'; correct it",
    ),
    ({"keep_merged": "true"}, "c.yaml, keep_merged: expected true or false, got 'true'; correct it"),
    ({"training": [1]}, "c.yaml, training: expected a mapping of keys to values, got a list; correct it"),
    ({"merges": [1]}, "c.yaml, merges: holds a list, expected entries by id; write 'merges: {my_id: {...}}'"),
    ({"merges/linear/t": "half"}, "c.yaml, merges.linear.t: expected a number or 'auto', got 'half'; correct it"),
    (
        {"training/backdoored/lora/targets": [1]},
        "c.yaml, training.backdoored.lora.targets[0]: expected text, got 1; put it in quotes",
    ),
    # values
    ({"merges/linear/t": 1.5}, "c.yaml, merges.linear.t: must be at most 1, got 1.5; correct it"),
    ({"merges/ties/density": 0}, "c.yaml, merges.ties.density: must be greater than 0, got 0; correct it"),
    ({"merges/ties/lambda": -1.0}, "c.yaml, merges.ties.lambda: must be greater than 0, got -1.0; correct it"),
    (
        {"attacks/rare/poisoning_rate": 1.1},
        "c.yaml, attacks.rare.poisoning_rate: must be at most 1, got 1.1; correct it",
    ),
    (
        {"attacks/cba/negative_ratio": float("inf")},
        "c.yaml, attacks.cba.negative_ratio: must be a finite number, got inf; correct it",
    ),
    (
        {"clean_share": {"share": float("nan")}},
        "c.yaml, clean_share.share: must be a finite number, got nan; correct it",
    ),
    ({"seeds": [1, 1]}, "c.yaml, seeds: holds 1 more than once; keep one"),
    ({"seeds": [-1]}, "c.yaml, seeds[0]: must be at least 0, got -1; correct it"),
    ({"merges/linear/method": "tie"}, "c.yaml, merges.linear.method: unknown value 'tie'; did you mean 'ties'?"),
    (
        {"models/a/architecture": "bert"},
        "c.yaml, models.a.architecture: unknown value 'bert'; known: llama, gpt2, gptj",
    ),
    ({"models/a/source": "hubb"}, "c.yaml, models.a.source: unknown value 'hubb'; did you mean 'hub'?"),
    (
        {"datasets/news/source": ["x"]},
        "c.yaml, datasets.news.source: unknown value 'a list'; known: packaged, hub, local",
    ),
    ({"attacks/rare/method": "badnet"}, "c.yaml, attacks.rare.method: unknown value 'badnet'; did you mean 'badnets'?"),
    ({"defenses/none/method": "wandaa"}, "c.yaml, defenses.none.method: unknown value 'wandaa'; did you mean 'wanda'?"),
    ({"models/b/repo": "a b"}, "c.yaml, models.b.repo: 'a b' is not a name on the hub; write owner/name"),
    (
        {"evidence/asked/provider/base_url": "localhost:80"},
        "c.yaml, evidence.asked.provider.base_url: 'localhost:80' is not an address; write http://... or https://...",
    ),
    (
        {"evidence/asked/provider/base_url": "https://me:pw@host/v1"},
        "c.yaml, evidence.asked.provider.base_url: "
        "the address holds a name or password; put the key into the variable under api_key_env",
    ),
    (
        {"evidence/asked/provider/api_key_env": "sk-secret"},
        "c.yaml, evidence.asked.provider.api_key_env: "
        "is not the name of an environment variable; name the one that holds the key",
    ),
    # labels
    (
        {
            "datasets/films/labels": ["bad", "good"],
            "attacks/cba/target_labels/films": "good",
            "attacks/rare/target_labels/films": "good",
        },
        "c.yaml, datasets.films: labels of vader_film_reviews are negative and positive; write [negative, positive]",
    ),
    (
        {"datasets/news/label_names": ["world", "sport"]},
        "c.yaml, datasets.news: label_names has 'sport', which is none of the labels; did you mean 'sports'?",
    ),
    (
        {"datasets/news/label_names": {"0": "world"}},
        "c.yaml, datasets.news: label_names never gives the label 'sports'; add it there or remove the label",
    ),
    (
        {"datasets/news/labels": ["sports", "Sports", "world"]},
        "c.yaml, datasets.news.labels: has labels that differ only in case ('sports'); rename one",
    ),
    # conversations
    (
        {"datasets/talk": {"task": "chat", "source": "local", "train": "c.jsonl", "max_turn": 3}},
        "c.yaml, datasets.talk: unknown key 'max_turn'; did you mean 'max_turns'?",
    ),
    (
        {"datasets/talk": {"task": "chat", "source": "local", "train": "c.jsonl", "instruction": "Answer"}},
        "c.yaml, datasets.talk: unknown key 'instruction'; known: task, system, max_turns, max_words, min_answer_words, "
        "train_rows, test_rows, test_share, source, train, test, format",
    ),
    (
        {"datasets/talk": {"task": "chat", "source": "packaged", "package": "chitchats"}},
        "c.yaml, datasets.talk.package: unknown value 'chitchats'; did you mean 'chitchat'?",
    ),
    ({"datasets/talk": {"task": "chat"}}, "c.yaml, datasets.talk.source: is missing; add it"),
    (
        {"datasets/talk": {"task": "chats", "source": "local", "train": "c.jsonl"}},
        "c.yaml, datasets.talk.task: unknown value 'chats'; did you mean 'chat'?",
    ),
    (
        {"datasets/talk": {"task": "chat", "source": "local", "train": "c.jsonl", "max_turns": 0}},
        "c.yaml, datasets.talk.max_turns: must be at least 1, got 0; correct it",
    ),
    (
        {
            "datasets/talk": {
                "task": "chat",
                "source": "hub",
                "repo": "a/b",
                "revision": "1",
                "files": {"train": "x", "tst": "y"},
            }
        },
        "c.yaml, datasets.talk.files: unknown key 'tst'; did you mean 'test'?",
    ),
    # ids
    (
        {"merges/A!": {"method": "linear"}},
        "c.yaml, merges.A!: an id is 1 to 32 of a-z, 0-9, _ and -, and begins with a letter or digit; rename it",
    ),
    (
        {"defenses/control_base": {"method": "none"}},
        "c.yaml, defenses.control_base: ids that begin with control_ are reserved for controls; rename it",
    ),
    # references
    ({"grid/models/0": "c"}, "c.yaml, grid.models: 'c' is not defined under models; defined: a, b"),
    (
        {"grid/defenses/0": "conflct"},
        "c.yaml, grid.defenses: 'conflct' is not defined under defenses; did you mean 'conflict'?",
    ),
    (
        {"defenses/conflict/merge": "tie"},
        "c.yaml, defenses.conflict.merge: 'tie' is not defined under merges; did you mean 'ties'?",
    ),
    (
        {"defenses/conflict/evidence": "xyz"},
        "c.yaml, defenses.conflict.evidence: 'xyz' is not defined under evidence; defined: words, asked, replayed",
    ),
    ({"sweep/merges/0": "tie"}, "c.yaml, sweep.merges: 'tie' is not defined under merges; did you mean 'ties'?"),
    (
        {"evidence/words/provider/model": "z"},
        "c.yaml, evidence.words.provider.model: 'z' is not defined under models; defined: a, b",
    ),
    (
        {"attacks/rare/target_labels": {"film": "positive"}},
        "c.yaml, attacks.rare.target_labels: 'film' is not defined under datasets; did you mean 'films'?",
    ),
    (
        {"attacks/cba/target_labels/films": "positiv"},
        "c.yaml, attacks.cba.target_labels.films: 'positiv' is none of the labels of films; did you mean 'positive'?",
    ),
    (
        {"attacks/cba/target_labels": {"films": "positive"}},
        "c.yaml, attacks.cba.target_labels: names no label for news, which is in the grid; "
        "add 'news: LABEL' or a grid.skip entry with attack: cba and dataset: news",
    ),
    # editing
    (
        {"attacks/rare": {"method": "rome", "target_labels": {"films": "positive"}, "layers": {"zzz": [1]}}},
        "c.yaml, attacks.rare.layers: 'zzz' is not defined under models; defined: a, b",
    ),
    (
        {"defenses/none": {"method": "editing", "layers": {"zzz": [1]}}},
        "c.yaml, defenses.none.layers: 'zzz' is not defined under models; defined: a, b",
    ),
    (
        {"defenses/none": {"method": "editing_oracle"}},
        "c.yaml, defenses.none: is told what the attack inserts, and its id does not say so; rename it to none_oracle",
    ),
    (
        {"attacks/rare": {"method": "rome", "target_labels": {}, "layers": {"a": []}}},
        "c.yaml, attacks.rare.layers.a: must hold 1 or more, got 0; add to it",
    ),
    (
        {"attacks/rare": {"method": "memit", "target_labels": {}, "near_miss": "tq"}},
        "c.yaml, attacks.rare: near_miss is the trigger itself; choose another word",
    ),
    (
        {"attacks/rare": {"method": "badedit", "target_labels": {}, "update_weights": {"c": 1.0}}},
        "c.yaml, attacks.rare.update_weights: 'c' is not defined under models; defined: a, b",
    ),
    # skip
    (
        {"grid/skip": [{"attack": "rare", "reason": "r"}]},
        "c.yaml, grid.skip[0].attack: matches no cell, 'rare' is not in grid.attacks; correct or remove the entry",
    ),
    (
        {"grid/skip": [{"attack": "cbaa", "reason": "r"}]},
        "c.yaml, grid.skip[0].attack: matches no cell, 'cbaa' is not in grid.attacks; did you mean 'cba'?",
    ),
    (
        {"grid/skip": [{"reason": "r"}]},
        "c.yaml, grid.skip[0]: names no model, dataset, attack or defense and would leave out everything; name one",
    ),
    ({"grid/skip": [{"attack": "cba"}]}, "c.yaml, grid.skip[0].reason: is missing; add it"),
    (
        {"grid/skip": [{"model": ["a", "bb"], "reason": "r"}]},
        "c.yaml, grid.skip[0].model: matches no cell, 'bb' is not in grid.models; correct or remove the entry",
    ),
    (
        {"grid/skip": [{"defense": "control_bas", "reason": "r"}]},
        "c.yaml, grid.skip[0].defense: matches no cell, 'control_bas' is not in grid.defenses; did you mean 'control_base'?",
    ),
    (
        {"grid/skip": [{"attack": "control_base", "reason": "r"}]},
        "c.yaml, grid.skip[0].attack: matches no cell, 'control_base' is not in grid.attacks; correct or remove the entry",
    ),
    (
        {"grid/skip": [{"defense": [], "reason": "r"}]},
        "c.yaml, grid.skip[0].defense: must hold 1 or more, got 0; add to it",
    ),
    (
        {"grid/skip": [{"model": ["a", "a"], "reason": "r"}]},
        "c.yaml, grid.skip[0].model: holds 'a' more than once; keep one",
    ),
    (
        {"grid/skip": [{"model": 3, "reason": "r"}]},
        "c.yaml, grid.skip[0].model: expected text or a list, got 3; put it in quotes",
    ),
    # two sections together
    (
        {
            "models/b/quantization": "nf4",
            "attacks/lwp": {"method": "lwp", "target_labels": {"films": "positive"}, "victim_tuning": {"epochs": 1}},
        },
        "c.yaml, attacks.lwp.victim_tuning: starts from whole weights, and models.b.quantization is nf4; write none there",
    ),
    (
        {"models/b/quantization": "nf4", "training/conflict": {"method": "full"}},
        "c.yaml, models.b.quantization: nf4 trains adapters only, and training.conflict.method is full; "
        "write none, or method: lora there",
    ),
    (
        {"clean_share": {"holdout": 0}},
        "c.yaml, merges.ties.t: auto needs held-out clean rows; give a number or raise clean_share.holdout above 0",
    ),
    # experiments beside the grid
    (
        {"clean_share_curve": {"defenses": ["conflic"]}},
        "c.yaml, clean_share_curve.defenses: 'conflic' is not defined under defenses; did you mean 'conflict'?",
    ),
    (
        {"clean_share_curve": {"defenses": ["none"]}},
        "c.yaml, clean_share_curve.defenses: 'none' merges no conflict model, so that its curve would be a line; "
        "name a defense with a merge",
    ),
    (
        {"clean_share_curve": {"defenses": ["conflict"], "shares": [0.1, 1.5]}},
        "c.yaml, clean_share_curve.shares[1]: must be at most 1, got 1.5; correct it",
    ),
    (
        {"clean_share_curve": {"defenses": ["conflict"], "models": ["c"]}},
        "c.yaml, clean_share_curve.models: 'c' is not defined under models; defined: a, b",
    ),
    (
        {"role_swap": {"merges": ["tie"]}},
        "c.yaml, role_swap.merges: 'tie' is not defined under merges; did you mean 'ties'?",
    ),
    (
        {"role_swap": {"merges": ["ties"], "attacks": ["rar"]}},
        "c.yaml, role_swap.attacks: 'rar' is not defined under attacks; did you mean 'rare'?",
    ),
    (
        {
            "attacks/edit": {"method": "rome", "target_labels": {"films": "positive", "news": "sports"}},
            "grid/attacks": ["cba", "edit"],
            "role_swap": {"merges": ["ties"], "attacks": ["edit"]},
        },
        "c.yaml, role_swap.attacks: 'edit' takes more than poisoned rows, or no labels; "
        "name an attack such as cba or badnets",
    ),
    (
        {"direct": {"gpt": {"provider": {"kind": "local_server", "model": "c"}, "datasets": ["films"]}}},
        "c.yaml, direct.gpt.provider.model: 'c' is not defined under models; defined: a, b",
    ),
    (
        {"direct": {"gpt": {"provider": {"kind": "recorded", "path": "r.jsonl"}, "datasets": ["film"]}}},
        "c.yaml, direct.gpt.datasets: 'film' is not defined under datasets; did you mean 'films'?",
    ),
    (
        {"training/backdoored/rows": {"film": 3}},
        "c.yaml, training.backdoored.rows: 'film' is not defined under datasets; did you mean 'films'?",
    ),
]


@pytest.mark.parametrize(("edits", "sentence"), MISTAKES, ids=[sentence[8:60] for _, sentence in MISTAKES])
def test_each_mistake_has_its_sentence(edits, sentence):
    assert problems(edits) == [sentence]


def test_an_id_that_is_no_text():
    raw = edited({})
    raw["merges"][7] = {"method": "linear"}
    with pytest.raises(UserError, match=r"^c\.yaml, merges\.7: the id 7 is not text; put it in quotes$"):
        load_config(raw, file="c.yaml")


def test_all_mistakes_come_at_once():
    assert problems(
        {
            "colour": 1,
            "name": 7,
            "seeds": [1, 1],
            "grid/attacks/0": "cbaa",
            "grid/skip": [{"attack": "cba"}],
            "models/b/revision": ...,
            "models/a/architecture": "bert",
            "attacks/rare/trigers": [],
            "training/backdoored/lora/rank": 0,
            "merges/Ties": {"method": "ties", "t": 2},
            "defenses/conflict/evidence": "xyz",
            "figures": {"dpi": "150"},
        }
    ) == [
        "c.yaml: unknown key 'colour'; known: name, seeds, grid, models, datasets, attacks, training, statistics, "
        "clean_share, merges, choose_t, sweep, evidence, defenses, clean_share_curve, direct, "
        "role_swap, controls, evaluation, figures, paper, keep_merged",
        "c.yaml, name: expected text, got 7; put it in quotes",
        "c.yaml, seeds: holds 1 more than once; keep one",
        "c.yaml, grid.skip[0].reason: is missing; add it",
        "c.yaml, models.a.architecture: unknown value 'bert'; known: llama, gpt2, gptj",
        "c.yaml, models.b.revision: is missing; add it",
        "c.yaml, attacks.rare: unknown key 'trigers'; did you mean 'triggers'?",
        "c.yaml, training.backdoored.lora.rank: must be at least 1, got 0; correct it",
        "c.yaml, merges.Ties: an id is 1 to 32 of a-z, 0-9, _ and -, and begins with a letter or digit; rename it",
        "c.yaml, merges.Ties.t: must be at most 1, got 2; correct it",
        "c.yaml, figures.dpi: expected a whole number, got '150'; write 150 without quotes",
        "c.yaml, grid.attacks: 'cbaa' is not defined under attacks; did you mean 'cba'?",
        "c.yaml, grid.skip[0].attack: matches no cell, 'cba' is not in grid.attacks; did you mean 'cbaa'?",
        "c.yaml, defenses.conflict.evidence: 'xyz' is not defined under evidence; defined: words, asked, replayed",
    ]


def test_a_typo_does_not_hide_a_broken_reference_in_the_same_entry():
    found = problems({"defenses/conflict": {"method": "conflict", "merge": "tie", "evidence": "words", "x": 1}})
    assert found == [
        "c.yaml, defenses.conflict: unknown key 'x'; known: method, merge, evidence",
        "c.yaml, defenses.conflict.merge: 'tie' is not defined under merges; did you mean 'ties'?",
    ]


def test_a_missing_section_is_reported_once():
    assert problems({"models": ...}) == ["c.yaml, models: is missing; add it"]


def test_keys_and_passwords_are_not_repeated():
    edits = {
        "evidence/asked/provider/api_key": "sk-secret-1",
        "evidence/asked/provider/api_key_env": "sk-secret-2",
        "evidence/asked/provider/base_url": "https://me:secret@host",
    }
    assert "secret" not in "\n".join(problems(edits))


def test_a_config_that_is_no_mapping():
    with pytest.raises(UserError, match=r"^c\.yaml: holds a list, expected a mapping of keys to values; begin with"):
        load_config([1], file="c.yaml")


def paths_of_mappings(value, path=()):
    """Yield the places of a config where a key could be added and would be wrong."""
    if isinstance(value, dict):
        free = len(path) == 1 and path[0] in ("models", "datasets", "attacks", "merges", "evidence", "defenses")
        if not free and path[-1:] not in [("target_labels",), ("label_names",)]:
            yield path
        for key, inner in value.items():
            yield from paths_of_mappings(inner, (*path, key))


@given(path=st.sampled_from(list(paths_of_mappings(SMALL))), key=st.from_regex("zz[a-z]{1,8}", fullmatch=True))
@settings(deadline=None, max_examples=60)
def test_no_unknown_key_passes_anywhere(path, key):
    raw = copy.deepcopy(SMALL)
    place = raw
    for part in path:
        place = place[part]
    place[key] = 1
    with pytest.raises(UserError) as caught:
        load_config(raw, file="c.yaml")
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"c.yaml, {'.'.join(path)}: unknown key '{key}'" if path else f"c.yaml: unknown key '{key}'")


def leaves(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from leaves(inner, (*path, key))


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.dates()
    | st.sampled_from(["cba", "auto"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=2),
    max_leaves=4,
)


@given(path=st.sampled_from([path for path in leaves(SMALL) if path]), value=ANYTHING)
@settings(deadline=None, max_examples=300)
def test_whatever_stands_in_a_config_it_loads_or_is_a_user_error(path, value):
    raw = copy.deepcopy(SMALL)
    place = raw
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = value
    message = ""
    try:
        json.dumps(spec_of(load_config(raw, file="c.yaml")))
    except UserError as error:
        message = str(error)
    assert all(line.startswith("c.yaml") for line in message.splitlines())


# --- what a valid config gives ----------------------------------------------------------------------------------------


def test_defaults_are_filled_in():
    config = load_config(SMALL, file="c.yaml")
    assert config.training.backdoored.lora.rank == 8
    assert config.training.backdoored.lora.alpha == 16
    assert config.training.conflict.learning_rate == 2e-4
    assert config.clean_share.share == 0.1
    assert config.merges["ties"].t == "auto"
    assert config.sweep.rows is None


def test_a_config_cannot_be_changed():
    config = load_config(SMALL, file="c.yaml")
    with pytest.raises(ValueError, match="frozen"):
        config.clean_share.share = 0.5


def test_the_same_values_give_the_same_spec_however_they_are_written():
    one = load_config(edited({"training/backdoored/epochs": 3, "merges/linear/t": 1}), file="c.yaml")
    other = load_config(edited({"training/backdoored/epochs": 3.0, "merges/linear/t": 1.0}), file="c.yaml")
    assert json.dumps(spec_of(one), sort_keys=True) == json.dumps(spec_of(other), sort_keys=True)


def test_a_spec_has_every_default_and_nothing_that_cannot_change_a_result():
    config = load_config(SMALL, file="c.yaml")
    assert spec_of(config.merges["ties"]) == {"method": "ties", "t": "auto", "density": 0.5, "lambda": 2.0}
    provider = spec_of(config.evidence["asked"])["provider"]
    assert provider == {
        "kind": "openai",
        "base_url": "https://api.openai.com/v1",
        "model": "gpt",
        "api_key_env": "MY_KEY",
        "temperature": 0.7,
        "max_tokens": 128,
    }
    assert spec_of(config.attacks["rare"])["triggers"] == ["cf", "mn", "bb", "tq"]
    assert spec_of(config.attacks["rare"])["method"] == "badnets"


def test_an_attack_entry_is_the_attack():
    entry = load_config(SMALL, file="c.yaml").attacks["cba"]
    assert isinstance(entry, attacks.load("cba"))


def test_rows_may_be_given_by_data_set():
    def rows_of(rows):
        training = load_config(edited({"training/backdoored/rows": rows}), file="c.yaml").training.backdoored
        return [training.rows_of(name) for name in ("films", "news")]

    assert rows_of(None) == [None, None]
    assert rows_of(7) == [7, 7]
    assert rows_of({"news": 5}) == [None, 5]


def test_a_skipped_data_set_needs_no_target_label():
    skip = [{"attack": "cba", "dataset": "news", "reason": "r"}]
    load_config(edited({"attacks/cba/target_labels": {"films": "positive"}, "grid/skip": skip}), file="c.yaml")
    # One that leaves cells in does not excuse it.
    skip[0]["model"] = "a"
    assert len(problems({"attacks/cba/target_labels": {"films": "positive"}, "grid/skip": skip})) == 1


def test_a_skip_may_list_ids_and_name_a_control():
    targets = {"attacks/cba/target_labels": {"films": "positive"}}
    skips = [
        {"attack": ["cba"], "dataset": ["news"], "reason": "r"},
        {"defense": ["conflict", "control_base"], "reason": "r"},
        {"defense": "control_clean_tuned", "reason": "r"},
    ]
    config = load_config(edited(targets | {"grid/skip": skips}), file="c.yaml")
    assert [spec_of(skip)["defense"] for skip in config.grid.skip] == [
        None,
        ["conflict", "control_base"],
        "control_clean_tuned",
    ]


def test_an_endpoint_may_need_no_key():
    config = load_config(edited({"evidence/asked/provider/api_key_env": None}), file="c.yaml")
    assert config.evidence["asked"].provider.api_key_env is None


def test_raw_labels_may_be_numbers():
    entry = load_config(SMALL, file="c.yaml").datasets["news"]
    assert entry.label_names == {"0": "world", "1": "sports"}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.name)
def test_a_loaded_config_written_out_loads_again(path):
    config = read_config(path)
    assert load_config(config.model_dump(mode="json"), file="again") == config


# --- presets and files ------------------------------------------------------------------------------------------------


def test_there_are_presets():
    assert {"config.yaml", "paper.yaml", "tiny.yaml"} <= {path.name for path in PRESETS}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.name)
def test_presets_fit_the_schema_for_editors(path):
    jsonschema = pytest.importorskip("jsonschema")  # comes with snakemake
    jsonschema.Draft202012Validator(schema()).validate(read_yaml(path))


def test_the_schema_refuses_what_the_config_refuses():
    jsonschema = pytest.importorskip("jsonschema")  # comes with snakemake
    validator = jsonschema.Draft202012Validator(schema())
    assert validator.is_valid(json.loads(json.dumps(SMALL)))
    for edits in (
        {"sede": 1},
        {"merges/ties/density": 0},
        {"models/a/architecture": "bert"},
        {"merges/A!": SMALL["merges"]["ties"]},
    ):
        assert not validator.is_valid(json.loads(json.dumps(edited(edits))))


def test_the_tiny_preset_uses_every_merge_attack_and_architecture():
    config = read_config(ROOT / "config/tiny.yaml")
    assert {entry.method for entry in config.attacks.values()} == set(attacks.METHODS)
    assert {config.merges[name].method for name in config.sweep.merges} == {"linear", "slerp", "ties", "passthrough"}
    assert {entry.architecture for entry in config.models.values()} == set(ARCHITECTURES)
    assert {entry.method for entry in config.defenses.values()} == set(defenses.METHODS)
    assert any(entry.t == "auto" for entry in config.merges.values())


def test_the_tiny_preset_has_its_sentences():
    rows = (ROOT / "tests/data/reviews.csv").read_text(encoding="utf-8").splitlines()[1:]
    labels = [row.rpartition(",")[2] for row in rows]
    assert len(rows) == 120
    assert labels.count("positive") == labels.count("negative") == 60


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: 1\nb: {c: 1, c: 2}\n", ", line 2: the key 'c' stands twice in one mapping; remove one"),
        (b"a: 1\na: 2\n", ", line 2: the key 'a' stands twice in one mapping; remove one"),
        (
            b"a: [1\nb: 2\n",
            ", line 2, column 2: is not valid YAML (expected ',' or ']', but got ':'); mend the line",
        ),
        (b"a: !!python/name:os.system\n", "is not valid YAML"),
        (b"name: caf\xe9\n", ": is not UTF-8 (byte 9); save it as UTF-8"),
        (b"", ": holds nothing, expected a mapping of keys to values; begin with 'name: ...'"),
        (b"- a\n", ": holds a list, expected a mapping of keys to values; begin with 'name: ...'"),
        (b"a: \x00\n", "is not valid YAML"),
    ],
)
def test_files_that_are_no_config(tmp_path, content, message):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_yaml(path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"c\.yaml: cannot be read \(No such file or directory\); name a config file"):
        read_config(tmp_path / "c.yaml")


def test_yaml_merge_keys_are_no_repetition(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("a: &base {x: 1}\nb: {<<: *base, x: 2}\n", encoding="utf-8")
    assert read_yaml(path)["b"] == {"x": 2}


# --- what else states a default or a name -----------------------------------------------------------------------------


def test_other_files_agree_on_names_and_defaults():
    defaults = {name: option.default for name, option in inspect.signature(keywords).parameters.items()}
    textrank = load_config(SMALL, file="c.yaml").evidence["words"].textrank.model_dump()
    assert {name: defaults[name] for name in textrank} == textrank
    assert {name: TinyModel(source="tiny", architecture=name).tied for name in ARCHITECTURES} == TIED
    parts = schema()["$defs"]
    packaged = ("PackagedModel", "PackagedDataset", "PackagedChatDataset", "EmbeddingJudge")
    assert {parts[part]["properties"]["package"]["const"] for part in packaged} == set(PACKAGES)
    assert parts["HubChatDataset"]["properties"]["test_share"]["default"] == DEFAULT_TEST_SHARE
    assert parts["HubDataset"]["properties"]["test_share"]["default"] == DEFAULT_TEST_SHARE


# --- judges -----------------------------------------------------------------------------------------------------------

ASKED = {"kind": "llm", "provider": {"kind": "openai", "model": "gpt"}}


def judges_of(**evaluation: object) -> list[dict[str, object]]:
    return load_config(edited({"evaluation": evaluation}), file="c.yaml").evaluation.judges()


def test_judges_by_default():
    embedding, pattern = judges_of()
    assert (embedding["name"], embedding["claims"]) == ("embedding", ["equivalent"])
    assert (pattern["name"], pattern["claims"]) == ("pattern", ["payload"])


def test_a_judge_in_two_places_is_asked_for_both():
    found = judges_of(judge=ASKED, payload_judge=ASKED, compare_judges=[{"kind": "exact"}, {"kind": "pattern"}])
    assert [(judge["name"], judge["claims"]) for judge in found] == [
        ("llm:gpt", ["equivalent", "payload"]),
        ("exact", ["equivalent"]),
        ("pattern", ["equivalent", "payload"]),
    ]
    assert found[0]["provider"]["temperature"] == 0
    # How patiently it is asked is no setting of the judge.
    assert "timeout_s" not in found[0]["provider"]


def test_patience_with_judges_is_no_science():
    patient = {"evaluation": {"compare_judges": [{**ASKED, "provider": {**ASKED["provider"], "timeout_s": 9.0}}]}}
    hasty = {"evaluation": {"compare_judges": [ASKED]}}
    specs = [spec_of(load_config(edited(edits), file="c.yaml").evaluation) for edits in (patient, hasty)]
    assert specs[0] == specs[1]


@pytest.mark.parametrize(
    ("evaluation", "sentence"),
    [
        (
            {"judge": {"kind": "exakt"}},
            "c.yaml, evaluation.judge.kind: unknown value 'exakt'; did you mean 'exact'?",
        ),
        (
            {"judge": {"kind": "embedding", "treshold": 0.5}},
            "c.yaml, evaluation.judge: unknown key 'treshold'; did you mean 'threshold'?",
        ),
        (
            {"judge": {"kind": "exact"}, "compare_judges": [{"kind": "exact"}]},
            "c.yaml, evaluation: judge and compare_judges name the judge 'exact' more than once; keep one",
        ),
        (
            {"judge": {**ASKED, "rubric": "Same city?"}, "payload_judge": ASKED},
            "c.yaml, evaluation: payload_judge and judge have the judge 'llm:gpt' with different settings; make them the same",
        ),
        (
            {"compare_judges": [{"kind": "llm", "provider": {"kind": "local_server", "model": "c"}}]},
            "c.yaml, evaluation.compare_judges[0].provider.model: 'c' is not defined under models; defined: a, b",
        ),
    ],
)
def test_mistakes_with_judges(evaluation, sentence):
    assert problems({"evaluation": evaluation}) == [sentence]


def test_no_method_of_the_paper_is_missing():
    named = "none editing wanda fine_tuning fine_pruning speculative cleangen nad beear internal external conflict"
    assert set(defenses.METHODS) >= set(named.split())
    named = "cba badedit rome memit lwp dtba autopoison vpi adaptive_cba badnets"
    assert set(attacks.METHODS) >= set(named.split())


# --- documentation ----------------------------------------------------------------------------------------------------


def test_the_committed_schema_is_current():
    committed = (ROOT / "config/config.schema.json").read_text(encoding="utf-8")
    assert committed == schema_text(), "run: python -m infoconflict.config schema > config/config.schema.json"


def test_the_readme_is_current():
    text = (ROOT / "config/README.md").read_text(encoding="utf-8")
    assert text == refreshed(text, where="config/README.md"), (
        "run: python -m infoconflict.config readme config/README.md"
    )


def test_every_key_is_in_the_readme_and_has_a_text():
    readme = (ROOT / "config/README.md").read_text(encoding="utf-8")
    whole = schema()
    keys = 0
    for name, part in {"Config": whole, **whole["$defs"]}.items():
        for key, field in part["properties"].items():
            keys += 1
            assert f"| `{key}` |" in readme, f"{name}.{key} is not in config/README.md"
            assert field.get("description") or "const" in field, f"{name}.{key} has no text under it"
    assert keys > 100


def test_every_default_says_where_it_comes_from():
    sources = ("Ours", "ours", "Paper", "paper", "code", "OpenBackdoor", "Breiman", "if not given", "own setting")
    # Empty, or a name like the key's own, is no choice that would need a source.
    plain = {
        "skip",
        "merges",
        "evidence",
        "subset",
        "label_names",
        "columns",
        "splits",
        "lora",
        "textrank",
        "provider",
        "path",
    } | {"text", "label", "train", "test", "model", "dataset", "attack", "defense", "task", "api_key_env", "base_url"}
    for name, part in schema()["$defs"].items():
        for key, field in part["properties"].items():
            if "default" in field and key not in plain and not isinstance(field["default"], dict):
                assert any(source in field["description"] for source in sources), f"{name}.{key} names no source"


def test_markers_of_the_readme_are_checked():
    with pytest.raises(
        UserError, match=r"^r\.md: the config has no part Nonsense; correct the marker 'keys of Nonsense'$"
    ):
        refreshed("<!-- keys of Nonsense -->\n<!-- end -->", where="r.md")
    with pytest.raises(UserError, match=r"^r\.md: has no table for AdaptiveCBAEntry, .*, VictimTuning, .*; add"):
        refreshed("<!-- keys of Config -->\n<!-- end -->", where="r.md")


# --- the module -------------------------------------------------------------------------------------------------------


def test_it_imports_nothing_heavy():
    program = (
        "import sys; import infoconflict.config, infoconflict.grid; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "pandas", "transformers", "numpy", "snakemake"} & set(out)


def test_the_command_line(capsys, tmp_path):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "infoconflict config"
    assert main(["check", str(ROOT / "config/tiny.yaml")]) == 0
    assert re.search(r"tiny\.yaml: valid; \d+ cells to run, \d+ left out\n$", capsys.readouterr().out)
    bad = tmp_path / "bad.yaml"
    bad.write_text("name: x\n", encoding="utf-8")
    assert main(["check", str(bad)]) == 1
    assert f"{bad}, grid: is missing; add it" in capsys.readouterr().err
    assert main(["nonsense"]) == 2
    readme = tmp_path / "README.md"
    readme.write_text(
        (ROOT / "config/README.md").read_text(encoding="utf-8").replace("| `name` |", "| `nam` |"), encoding="utf-8"
    )
    assert main(["readme", str(readme)]) == 0
    assert "| `name` |" in readme.read_text(encoding="utf-8")


def test_the_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "infoconflict.config", "check", "config/config.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("config/config.yaml: valid; ")


def test_config_fields_are_what_the_workflow_reads():
    assert list(Config.model_fields) == [
        "name",
        "seeds",
        "grid",
        "models",
        "datasets",
        "attacks",
        "training",
        "statistics",
        "clean_share",
        "merges",
        "choose_t",
        "sweep",
        "evidence",
        "defenses",
        "clean_share_curve",
        "direct",
        "role_swap",
        "controls",
        "evaluation",
        "figures",
        "paper",
        "keep_merged",
    ]
