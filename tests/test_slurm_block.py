"""The block at the top of slurm/profile.yaml: what each of its lines does to the rest. No Slurm is needed here."""

import re
from pathlib import Path
from typing import Any

import pytest
import yte

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "slurm/profile.yaml").read_text()
RULES = "\n".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
COMPUTING = {
    "train_backdoored",
    "train_clean_tuned",
    "train_conflict",
    "choose_t",
    "sweep_merge",
    "answer",
    "reply",
} | {"compare_generation", "train_attacked", "tune_victim", "train_attacker_conflict"}
COMPUTING |= {"collect_statistics", "edit_model", "ask_suspect"}
COMPUTING |= {"repair_model", "filter_questions", "train_equal", "train_role", "answer_roles"}
COMPUTING |= {"train_conflict_at_share", "choose_t_at_share", "answer_at_share", "reply_at_share"}
COMPUTING |= {"purify_train", "purify_choose_t", "purify_answer"}
EVIDENCE = {"collect_evidence_clean", "collect_evidence_triggered", "modify_evidence", "ask_oracle", "judge"}
EVIDENCE |= {"ask_direct", "reply_direct", "judge_at_share", "judge_direct"}
# They hold a model, or several, but compute with it in main memory.
ON_CPU = {
    "prepare_model",
    "merge_models",
    "merge_base",
    "merge_at_share",
    "merge_roles",
    "subtract_conflict",
    "compare_conflicts",
}
ON_CPU |= {"purify", "purify_check", "purify_merge", "purify_report"}


def profile(**block: object) -> dict[str, Any]:
    """Return the profile as Snakemake reads it, with other values in its block."""
    text = TEXT
    for name, value in block.items():
        text, found = re.subn(rf"^(  {name}:) \S+", rf"\1 {value}", text, flags=re.MULTILINE)
        assert found == 1, name
    content: dict[str, Any] = yte.process_yaml(text, require_use_yte=True)
    return content


def rule_bodies() -> dict[str, str]:
    parts = re.split(r"^(?:rule|use rule (\w+) as) (\w+)(?: with)?:$", RULES, flags=re.MULTILINE)[1:]
    # A body ends where something else begins in the first column: a comment, a function.
    bodies = [re.split(r"^\S", body, maxsplit=1, flags=re.MULTILINE)[0] for body in parts[2::3]]
    found = dict(zip(parts[1::3], bodies, strict=True))
    # A rule has from the one it is made of what it does not say itself.
    return {
        name: body + found.get(parent or "", "") for name, body, parent in zip(found, bodies, parts[::3], strict=True)
    }


def test_as_delivered():
    content = profile()
    assert content["executor"] == "slurm"
    assert content["retries"] == 2
    assert content["slurm-requeue"] is True
    assert content["default-resources"]["slurm_partition"] == "'cpu'"
    assert "slurm_account" not in content["default-resources"]
    assert set(content["set-resources"]) == COMPUTING | EVIDENCE
    assert all(content["set-resources"][rule] == {"slurm_partition": "'gpu'", "gpu": 1} for rule in COMPUTING)
    assert not {"__variables__", "__definitions__"} & content.keys()


@pytest.mark.parametrize("rule", sorted(EVIDENCE))
@pytest.mark.parametrize(
    ("model", "partition", "gpus"), [("results/models/a", "gpu", 1), ([], "cpu", 0), (None, "cpu", 0)]
)
def test_evidence_asks_for_a_gpu_if_it_has_a_model(rule, model, partition, gpus):
    asked = profile(gpu_model="a100")["set-resources"][rule]
    value = {name: eval(text, {"input": {"model": model}}) for name, text in asked.items()}
    assert value == {"slurm_partition": partition, "gpu": gpus, "gpu_model": "a100" if gpus else None}


def test_account_and_partitions():
    content = profile(account="lab7", partition="all", gpu_partition="a100-long")
    # As Snakemake evaluates them: `all` is a function to Python if it is not quoted.
    assert eval(content["default-resources"]["slurm_account"]) == "lab7"
    assert eval(content["default-resources"]["slurm_partition"]) == "all"
    assert eval(content["set-resources"]["answer"]["slurm_partition"]) == "a100-long"


def test_gpu_model_and_number():
    asked = profile(gpu_model="a100", gpus=2)["set-resources"]["train_backdoored"]
    assert asked == {"slurm_partition": "'gpu'", "gpu": 2, "gpu_model": "'a100'"}


def test_without_gpus_all_is_one_partition():
    # Not an empty map either: Snakemake refuses that.
    assert "set-resources" not in profile(gpus=0)


def test_cores():
    threads = profile(cpus=9)["set-threads"]
    assert threads == dict.fromkeys(COMPUTING | EVIDENCE | {"merge_models", "merge_at_share"}, 9)


def test_it_speaks_of_rules_that_exist():
    content = profile()
    assert content["set-resources"].keys() | content["set-threads"].keys() <= rule_bodies().keys()


def test_it_knows_every_rule_with_a_model():
    with_a_model = {
        rule
        for rule, body in rule_bodies().items()
        if re.search(r"results/models/\{model\}|^        model=", body, re.M)
    }
    assert with_a_model >= {"train_backdoored", "ask_suspect", "modify_evidence"}
    assert with_a_model - ON_CPU <= COMPUTING | EVIDENCE


@pytest.mark.parametrize("rule", sorted(rule_bodies()))
def test_every_rule_is_local_or_says_what_it_needs(rule):
    body = rule_bodies()[rule]
    local = "localrule: True" in body
    assert local != bool(re.search(r"mem_mb=.*\n.*runtime=", body)), rule
    if local:
        assert rule not in profile()["set-threads"]


def rules_by_place() -> tuple[set[str], set[str]]:
    """Return the names of all rules of the main workflow, and of those that run where the command was typed."""
    named: dict[str, tuple[str | None, str]] = {}
    for path in (ROOT / "workflow/rules").glob("*.smk"):
        if path.stem != "purify":
            for part in re.split(r"^(?=(?:use )?rule )", path.read_text(), flags=re.MULTILINE):
                if found := re.match(r"rule (\w+):|use rule (\w+) as (\w+) with:", part):
                    named[found[1] or found[3]] = (found[2], part)
    local = {name for name, (_, text) in named.items() if "localrule: True" in text}
    return set(named), local | {name for name, (copied, _) in named.items() if copied in local}


def test_the_readme_says_where_every_rule_runs() -> None:
    text = (ROOT / "slurm/README.md").read_text()
    rows = re.findall(r"^\| ([a-z_, ]+) \|", text[text.index("## What runs where") :], flags=re.MULTILINE)
    typed, on_cpu, computing, evidence = (set(row.split(", ")) for row in rows if row != "rules")
    rules, local = rules_by_place()
    assert typed == local
    assert computing == COMPUTING & rules
    assert evidence == EVIDENCE
    assert on_cpu == rules - typed - computing - evidence
