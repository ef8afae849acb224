"""Each mistake in a config and its sentence."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoconflict.config.__main__ import main
from infoconflict.config.loading import load_config
from infoconflict.config.schema import Config
from infoconflict.entries import spec_of
from infoconflict.errors import UserError
from tests.config.small import SMALL, edited, problems

ROOT = Path(__file__).parents[2]


MISTAKES = [
    # unknown keys
    ({"sedes": [0]}, "c.yaml: unknown key 'sedes'; did you mean 'seeds'?"),
    ({"attacks/rare/trigers": ["x"]}, "c.yaml, attacks.rare: unknown key 'trigers'; did you mean 'triggers'?"),
    ({"training/backdoored/lora/rnk": 4}, "c.yaml, training.backdoored.lora: unknown key 'rnk'; did you mean 'rank'?"),
    ({"clean_share/zzz": 1}, "c.yaml, clean_share: unknown key 'zzz'; known: share, holdout"),
    ({"merges/linear/density": 0.5}, "c.yaml, merges.linear: unknown key 'density'; known: t, depth_profile, method"),
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
        "c.yaml, attacks.rare: trigger and near_miss are both 'tq'; choose another word for one of them",
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


def test_it_imports_nothing_heavy():
    program = (
        "import sys; import infoconflict.config.loading, infoconflict.grid; "
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
