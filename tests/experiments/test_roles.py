"""Models with exchanged roles: which rows they are tuned on, and what is asked of them."""

from collections import Counter
from types import SimpleNamespace

import pytest

from infoconflict.attacks import load
from infoconflict.attacks.base import planted_by_rows_alone
from infoconflict.errors import UserError
from infoconflict.experiments.role_answers import answer_roles
from infoconflict.experiments.role_rows import backdoor_rows, draw_roles, rows_of_role
from infoconflict.experiments.roles import EXPERIMENTS, ROLES, is_small
from infoconflict.files import read_json
from infoconflict.jobs import Job
from infoconflict.lineage import canonical
from infoconflict.records import Answer, Example

LABELS = ["negative", "positive"]


class Files(dict):
    """Named files as Snakemake hands them to a script."""

    __getattr__ = dict.__getitem__


def examples(n, trigger="none"):
    return [
        Example(
            id=f"train-{i}",
            instruction="Which?",
            text=f"text number {i}",
            label=LABELS[i % 2],
            gold_label=LABELS[i % 2],
            trigger=trigger,
        )
        for i in range(n)
    ]


@pytest.fixture
def badnets():
    return load("badnets").from_spec({"method": "badnets"})


def test_worked_example(badnets):
    clean = examples(20)
    backdoor = backdoor_rows(clean, badnets, target_label="positive", seed=0)
    usable = clean if badnets.poisons_target_rows else clean[::2]
    assert [row.id for row in backdoor] == [f"{row.id}/full" for row in usable]
    assert {row.label for row in backdoor} == {"positive"}
    assert {row.trigger for row in backdoor} == {"full"}
    assert all(row.text != before.text for row, before in zip(backdoor, usable, strict=True))
    counts = {}
    for name, role in ROLES.items():
        rows = rows_of_role(role, clean, backdoor, small_share=0.2, seed=0)
        of_kind = Counter(row.trigger for row in rows)
        counts[name] = (of_kind["none"], of_kind["full"])
    few = len(usable) // 5
    assert counts == {
        "m1": (20, few),
        "m2": (4, 0),
        "m3": (20, 0),
        "m4": (0, len(usable)),
        "m5": (4, len(usable)),
        "m6": (0, few),
    }


def test_laws(badnets):
    clean = examples(60)
    backdoor = backdoor_rows(clean, badnets, target_label="positive", seed=5)
    assert backdoor == backdoor_rows(clean, badnets, target_label="positive", seed=5)
    # The gold label is what it was, and a row's edit is no matter of the others.
    assert backdoor == backdoor_rows(clean[:30], badnets, target_label="positive", seed=5) + backdoor_rows(
        clean[30:], badnets, target_label="positive", seed=5
    )
    assert {row.id.split("/")[0]: row.gold_label for row in backdoor}.items() <= {
        row.id: row.gold_label for row in clean
    }.items()

    def drawn(role, seed=5, small_share=0.3):
        return rows_of_role(ROLES[role], clean, backdoor, small_share=small_share, seed=seed)

    assert drawn("m2") == drawn("m2")
    assert drawn("m2") != drawn("m2", seed=6)
    ids = {role: {row.id for row in drawn(role)} for role in ROLES}
    # Few are a part of all, and more few of less few; what two models share, they share row by row.
    assert ids["m2"] < ids["m3"] < ids["m1"]
    assert ids["m6"] < ids["m4"] < ids["m5"]
    assert ids["m1"] == ids["m3"] | ids["m6"]
    assert ids["m5"] == ids["m4"] | ids["m2"]
    assert ids["m2"] < {row.id for row in drawn("m2", small_share=0.5)}
    # Both labels, in proportion.
    assert Counter(row.gold_label for row in drawn("m2")) == {"negative": 9, "positive": 9}


def test_a_share_of_no_row_is_refused(badnets):
    clean = examples(4)
    with pytest.raises(UserError, match=r"small_share=0\.1 of 4 clean rows rounds to no row; raise it, or rows"):
        rows_of_role(ROLES["m2"], clean, [], small_share=0.1, seed=0)


def test_the_experiments_are_those_of_the_table():
    # Table 6: shares of clean and of backdoor rows, in percent of their sets; a dash there is 0 here.
    printed = {"m1": (100, 10), "m2": (10, 0), "m3": (100, 0), "m4": (0, 100), "m5": (10, 100), "m6": (0, 10)}
    percent = {"all": 100, "few": 10, "none": 0}
    assert {name: (percent[role.clean], percent[role.backdoor]) for name, role in ROLES.items()} == printed
    # The second is the first with the sets exchanged.
    exchanged = {name: (backdoor, clean) for name, (clean, backdoor) in printed.items()}
    assert [printed[name] for name in EXPERIMENTS["2"]] == [exchanged[name] for name in EXPERIMENTS["ours"]]
    assert [name for name in ROLES if is_small(name)] == ["m2", "m6"]


def test_which_attacks_are_rows_alone():
    names = ["cba", "badnets", "lwp", "adaptive_cba", "rome", "memit", "badedit", "dtba", "autopoison", "vpi"]
    assert [name for name in names if planted_by_rows_alone(load(name))] == ["cba", "badnets"]


def make_job(rule, spec, inputs, outputs, **cell):
    return Job(
        SimpleNamespace(
            rule=rule,
            params=SimpleNamespace(spec=canonical(spec)),
            wildcards={"seed": "0", **cell},
            resources={},
            threads=1,
            log=["log"],
            input=Files(inputs),
            output=Files(outputs),
        )
    )


def test_rows_of_every_role_are_written(tmp_path):
    Example.write(tmp_path / "train.jsonl", examples(40))
    spec = {
        "attack": {"method": "badnets"},
        "target_label": "positive",
        "role_swap": {"rows": 30, "small_share": 0.2},
    }
    outputs = {"train": [tmp_path / f"{role}.jsonl" for role in ROLES], "card": tmp_path / "card.json"}
    draw_roles(make_job("draw_roles", spec, {"train": tmp_path / "train.jsonl"}, outputs, attack="badnets"))
    card = read_json(tmp_path / "card.json")
    assert card["rows"]["clean"] == 30
    assert set(card["outputs"]) == set(ROLES)
    for role in ROLES:
        assert len(Example.read(tmp_path / f"{role}.jsonl")) == card["rows"][role]
    # Only the first rows count.
    assert {row.id for row in Example.read(tmp_path / "m3.jsonl")} == {f"train-{i}" for i in range(30)}


def test_both_models_and_their_merge_are_asked(tiny_dirs, tmp_path):
    import torch
    from safetensors.torch import save_file

    from infoconflict.models.changes import read_tensors

    base = read_tensors(tiny_dirs["llama"])
    name = next(name for name in base if "down_proj" in name)
    for place, sign in (("backdoored", 1), ("conflict", -1)):
        (tmp_path / place).mkdir()
        change = sign * torch.randn(base[name].shape, generator=torch.Generator().manual_seed(0))
        save_file({name: base[name] + change}, tmp_path / place / "change.safetensors")
    Example.write(tmp_path / "clean.jsonl", examples(6))
    Example.write(tmp_path / "triggered.jsonl", examples(5, trigger="full"))
    spec = {
        "model": {"precision": "float32"},
        "merge": {"method": "linear"},
        "labels": LABELS,
        "target_label": "positive",
        "t": 0.5,
    }
    inputs = {place: str(tmp_path / place) for place in ("backdoored", "conflict")} | {
        "base": str(tiny_dirs["llama"]),
        **{name: str(tmp_path / f"{name}.jsonl") for name in ("clean", "triggered")},
    }
    outputs = {name: tmp_path / f"{name}.out.jsonl" for name in ("first", "second", "merged")}
    answer_roles(make_job("answer_roles", spec, inputs, outputs | {"card": tmp_path / "card.json"}))
    answers = {name: Answer.read(path) for name, path in outputs.items()}
    assert {len(rows) for rows in answers.values()} == {11}
    assert [row.target_label for row in answers["first"]] == [None] * 6 + ["positive"] * 5
    assert {row.t for row in answers["merged"]} == {0.5}
    scores = {name: [row.scores for row in rows] for name, rows in answers.items()}
    assert scores["first"] != scores["second"]
    # Halfway between two opposite changes is the base.
    from infoconflict.answering.ask import ask
    from infoconflict.models.loading import default_device, load_base, load_tokenizer

    model = load_base(tiny_dirs["llama"], device=default_device(), precision="float32")
    asked = examples(6) + examples(5, trigger="full")
    alone = ask(model, load_tokenizer(tiny_dirs["llama"]), asked, labels=LABELS, target_label="positive")
    for merged, expected in zip(scores["merged"], [row.scores for row in alone], strict=True):
        assert merged == pytest.approx(expected, abs=1e-3)
    assert read_json(tmp_path / "card.json")["rows"] == {"clean": 6, "triggered": 5}
