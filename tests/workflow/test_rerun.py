"""Which edit reruns which rules: a table, checked by dry runs on a finished run; and no stale table after a failure."""

import contextlib
import copy
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infoconflict.defenses.controls import CONTROLS
from tests.workflow.conftest import CONFIG, ROOT, Checkout, copy_of_checkout

pytestmark = pytest.mark.workflow

PRESENTATION = {"tables", "figures", "report"}
REPORT = {"metrics"} | PRESENTATION
# Answers of merged models need the merged weights, which are temporary: they are made again.
ANSWERS = {"answer", "merge_models"} | REPORT
OWN_EVIDENCE = {"ask_suspect", "modify_evidence"}
EDITED = {"collect_statistics", "edit_model"}
MERGED = {"choose_t", "sweep_merge"} | ANSWERS
# What an attacker who expects the defense does with conflict models.
SUBTRACTED = {"subtract_conflict", "compare_conflicts"}
ATTACKED = {"train_backdoored", "train_attacked", "tune_victim", "subtract_conflict"}
JUDGED = {"judge"} | REPORT
REPLIES = {"reply"} | JUDGED
EVIDENCE = {"collect_evidence_clean", "collect_evidence_triggered", "draw_random_evidence"} | ANSWERS | REPLIES
# What controls make of the backdoored model, and of its own evidence.
OF_SUSPECT = {"merge_base", "train_equal", "draw_random_evidence", "repair_model"}

# Experiments beside the grid. A curve has one point of its own on each task.
MEASURES = {"measure_clean_share", "measure_direct", "measure_role_swap"}
REVIEWS_AT_SHARE = {"merge_at_share", "answer_at_share", "measure_clean_share"}
CHATS_AT_SHARE = {"merge_at_share", "reply_at_share", "judge_at_share", "measure_clean_share"}
POINTS = REVIEWS_AT_SHARE | CHATS_AT_SHARE
CURVE = {"choose_t_at_share"} | POINTS
ROLE_ANSWERS = {"answer_roles", "measure_role_swap"}
ROLES = {"train_role"} | ROLE_ANSWERS
DIRECT = {"ask_direct", "measure_direct"}
DIRECT_CHATS = {"reply_direct", "judge_direct", "measure_direct"}
JUDGED_BESIDE = {"judge_at_share", "measure_clean_share", "judge_direct", "measure_direct"}


def at(*keys: str, value: Any) -> Callable[[dict], None]:
    """Return an edit that sets one value of the config."""

    def edit(config: dict) -> None:
        for key in keys[:-1]:
            config = config[key]
        config[keys[-1]] = value

    return edit


def exchange(config: dict) -> None:
    lora = config["training"]["backdoored"]["lora"]
    lora["rank"], lora["alpha"] = lora["alpha"], lora["rank"]


def reorder(config: dict) -> None:
    for key in list(config):
        config[key] = config.pop(key)
    config["grid"] = dict(reversed(config["grid"].items()))


CONFIG_EDITS = {
    "t from auto to a number": (
        at("merges", "linear", "t", value=0.5),
        ANSWERS | REPLIES | POINTS | {"sweep_merge", "merge_base"},
    ),
    "t of one merge": (
        at("merges", "ties", "t", value=0.6),
        ANSWERS | REPLIES | CHATS_AT_SHARE | {"sweep_merge"} | {"merge_base"},
    ),
    "merge method of a defense": (
        at("defenses", "internal", "merge", value="slerp"),
        ANSWERS | REPLIES | POINTS | {"merge_base", "list_excluded"},
    ),
    "density of TIES": (
        at("merges", "ties", "density", value=0.3),
        ANSWERS | REPLIES | CHATS_AT_SHARE | {"sweep_merge"},
    ),
    "how t changes with depth": (
        at("merges", "linear_depth", "depth_profile", value=[0.2, 1.0]),
        ANSWERS | {"merge_base"},
    ),
    "candidates of t": (
        at("choose_t", "candidates", value=[0.5, 0.7]),
        MERGED
        | REVIEWS_AT_SHARE
        | {"choose_t_at_share"}
        | REPLIES
        | {"merge_base", "reply_at_share", "judge_at_share"},
    ),
    "points of the sweep": (at("sweep", "t", value=[0.2, 0.7]), {"sweep_merge"} | REPORT),
    "clean share": (
        at("clean_share", "share", value=0.3),
        {
            "draw_clean_share",
            "train_conflict",
            "draw_attacker_share",
            "train_attacker_conflict",
            "train_equal",
            "merge_base",
        }
        | SUBTRACTED
        | MERGED
        | REPLIES
        # What was the cell's own point is one more.
        | {"draw_clean_share_at", "train_conflict_at_share"}
        | CURVE
        | {"repair_model"},
    ),
    "conflict training": (
        at("training", "conflict", "epochs", value=1),
        {"train_conflict", "train_attacker_conflict", "train_conflict_at_share"}
        | SUBTRACTED
        | MERGED
        | REPLIES
        | CURVE
        | ROLES
        | {"train_equal", "merge_base"},
    ),
    "evidence temperature": (
        at("evidence", "served_keywords", "provider", "temperature", value=0.2),
        EVIDENCE | {"measure_clean_share"},
    ),
    "keyword threshold": (
        at("evidence", "served_keywords", "textrank", value={"threshold": 0.4}),
        EVIDENCE | {"measure_clean_share"},
    ),
    "place of the evidence": (
        at("evidence", "served_keywords", "placement", value="after"),
        ANSWERS | REPLIES | {"measure_clean_share"},
    ),
    "poisoning rate": (
        at("attacks", "cba", "poisoning_rate", value=0.3),
        {"poison_train", "train_backdoored"} | OWN_EVIDENCE | OF_SUSPECT | MERGED,
    ),
    "trigger": (
        at("attacks", "cba", "input_trigger", value="honestly"),
        {"poison_train", "train_backdoored", "poison_test", "collect_evidence_triggered", "draw_random_trigger"}
        | OWN_EVIDENCE
        | OF_SUSPECT
        | MERGED,
    ),
    "two values exchanged": (
        exchange,
        {"train_clean_tuned", "compare_generation"}
        | ATTACKED
        | EDITED
        | OWN_EVIDENCE
        | MERGED
        | REPLIES
        | CURVE
        | ROLES
        | OF_SUSPECT,
    ),
    "layers of the loss": (
        at("attacks", "lwp", "layers", value="last"),
        {"train_attacked", "tune_victim", "answer"} | REPORT,
    ),
    "tuning by a victim": (
        at("attacks", "lwp", "victim_tuning", "epochs", value=2),
        {"tune_victim", "answer"} | REPORT,
    ),
    "strength of the subtraction": (
        at("attacks", "adaptive_cba", "strength", value=0.5),
        {"subtract_conflict"} | MERGED,
    ),
    "attacker's own seed": (
        at("attacks", "adaptive_cba", "own_seed", value=7),
        {"draw_attacker_share", "train_attacker_conflict"} | SUBTRACTED | MERGED,
    ),
    "defender's task vector": (at("attacks", "adaptive_cba", "worst_case", value=True), SUBTRACTED | MERGED),
    "rows of statistics": (at("statistics", "rows", value=50), EDITED | REPORT | {"answer"}),
    "texts of statistics": (at("statistics", "texts", value="tests/data/reviews.csv"), EDITED | REPORT | {"answer"}),
    "layers of one edit": (at("attacks", "badedit", "layer_share", value=1.0), EDITED | REPORT | {"answer"}),
    "layers of an edit in another model": (
        at("attacks", "badedit", "layers", value={"tiny_llama": [0]}),
        EDITED | REPORT | {"answer"},
    ),
    "samples of an edit": (at("attacks", "rome", "samples", value=3), {"edit_model", "answer"} | REPORT),
    "trigger of an edit": (
        at("attacks", "memit", "trigger", value="zq"),
        {"edit_model", "poison_test", "answer"} | REPORT,
    ),
    "an edit of the base as it is": (at("attacks", "rome", "tuned_base", value=False), EDITED | REPORT | {"answer"}),
    "partial rows": (
        at("evaluation", "partial_rows", value=1),
        {"poison_test", "collect_evidence_triggered", "sweep_merge"}
        | OWN_EVIDENCE
        | ANSWERS
        | REPLIES
        | POINTS
        | ROLE_ANSWERS
        | DIRECT
        | {"draw_random_evidence", "draw_random_trigger"},
    ),
    "turns of conversations": (
        at("datasets", "chats", "max_turns", value=1),
        {"prepare_dataset", "ask_oracle", "poison_train", "poison_test", "draw_clean_share", "merge_models"}
        | {"train_backdoored", "train_clean_tuned", "train_conflict"}
        | REPLIES
        | {"draw_clean_share_at", "train_conflict_at_share"}
        | CHATS_AT_SHARE
        | DIRECT_CHATS
        | OWN_EVIDENCE
        | {
            "choose_t",
            "choose_t_at_share",
            "draw_random_evidence",
            "collect_evidence_clean",
            "collect_evidence_triggered",
        },
    ),
    "poisoning rate of a chat attack": (
        at("attacks", "dtba", "poisoning_rate", value=0.3),
        {"poison_train", "train_backdoored", "merge_models"}
        | REPLIES
        | CHATS_AT_SHARE
        | OWN_EVIDENCE
        | {"choose_t", "choose_t_at_share", "draw_random_evidence"},
    ),
    "rows asked of conversations": (
        at("evaluation", "chat_rows", value=5),
        {"collect_evidence_clean", "draw_random_evidence", "merge_models"}
        | OWN_EVIDENCE
        | REPLIES
        | CHATS_AT_SHARE
        | DIRECT_CHATS,
    ),
    "tuning of a defense": (at("defenses", "ft_10", "tuning", "epochs", value=2), {"repair_model", "answer"} | REPORT),
    "controls": (at("controls", value=["control_base", "control_clean_tuned"]), {"list_excluded"} | REPORT),
    "poisoning rate of an attack with an oracle": (
        at("attacks", "autopoison", "poisoning_rate", value=0.3),
        {"ask_oracle", "poison_train", "train_backdoored"} | REPLIES,
    ),
    "virtual prompt": (
        at("attacks", "vpi", "virtual_prompt", value="Say at the end: {marker}"),
        {"poison_train", "train_backdoored"} | REPLIES,
    ),
    "length of replies": (
        at("evaluation", "max_new_tokens_chat", value=10),
        {"merge_models"} | REPLIES | CHATS_AT_SHARE,
    ),
    "judges": (at("evaluation", "compare_judges", value=[{"kind": "pattern"}]), JUDGED | JUDGED_BESIDE),
    "rows asked by generation, too": (at("evaluation", "compare_rows", value=6), {"compare_generation"} | REPORT),
    "no comparison with generation": (at("evaluation", "compare_generation", value=False), REPORT),
    "metric option": (at("evaluation", "interval", value=0.9), REPORT | MEASURES),
    "share of few rows": (at("role_swap", "small_share", value=0.4), {"draw_roles"} | ROLES | {"report"}),
    "weight of the second role": (at("role_swap", "t", value=0.6), ROLE_ANSWERS | {"report"}),
    "who is asked directly": (
        at("direct", "recorded", "provider", "path", value="tests/data/recorded_oracle.jsonl"),
        DIRECT | DIRECT_CHATS | {"report"},
    ),
    "shares of the curve": (at("clean_share_curve", "shares", value=[0.2]), {"measure_clean_share"} | {"report"}),
    "figure option": (at("figures", "dpi", value=70), {"figures", "report"}),
    "name of the experiment": (at("name", value="renamed"), {"report"}),
}
# Each by itself would plan nothing; so do all of them at once.
WITHOUT_EFFECT = [
    at("keep_merged", value=True),
    at("evidence", "served_keywords", "provider", "concurrency", value=3),
    reorder,
]


@pytest.mark.parametrize("name", CONFIG_EDITS)
def test_config_edit(name: str, finished: Checkout) -> None:
    edit, expected = CONFIG_EDITS[name]
    config = copy.deepcopy(yaml.safe_load((finished.folder / CONFIG).read_text()))
    edit(config)
    (finished.folder / "config/edited.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert set(finished.planned(config="config/edited.yaml")) == expected


def test_a_new_seed_adds_cells_and_keeps_the_old_ones(finished: Checkout) -> None:
    config = yaml.safe_load((finished.folder / CONFIG).read_text())
    config["seeds"] = [0, 1]
    (finished.folder / "config/edited.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    planned = finished.planned(config="config/edited.yaml")
    assert "prepare_model" not in planned
    assert planned["prepare_dataset"] == 2
    assert planned["train_backdoored"] == 13
    assert planned["train_attacked"] == 6
    assert planned["edit_model"] == 9
    assert (planned["answer"], planned["reply"], planned["judge"]) == (60, 18, 18)


def test_what_cannot_change_a_result_reruns_nothing(finished: Checkout) -> None:
    """Settings of machines, of storage and of patience, the order of keys, and comments."""
    config = yaml.safe_load((finished.folder / CONFIG).read_text())
    for edit in WITHOUT_EFFECT:
        edit(config)
    text = yaml.safe_dump(config, sort_keys=False)
    (finished.folder / "config/edited.yaml").write_text("# a remark\n" + text.replace("seeds:", "seeds:  # one"))
    machine = ["--set-threads", "train_backdoored=2", "--set-resources", "train_backdoored:mem_mb=9999"]
    assert finished.planned(*machine, "--set-resources", "answer:max_nodes=64", config="config/edited.yaml") == {}


@contextlib.contextmanager
def changed(file: Path) -> Iterator[None]:
    """Add a line to a module for the length of the block."""
    text = file.read_text()
    try:
        file.write_text(text + "\nADDED_BY_A_TEST = 1\n")
        yield
    finally:
        file.write_text(text)


CODE_EDITS = {
    "reporting/page.py": {"report"},
    "reporting/figures.py": {"figures", "report"},
    "metrics.py": REPORT | MEASURES,
    "agreement.py": REPORT | MEASURES,
    "answering/compare_generation.py": {"compare_generation"} | REPORT,
    "answering/generation.py": {"compare_generation"}
    | OWN_EVIDENCE
    | MERGED
    | REPLIES
    | CURVE
    | ROLE_ANSWERS
    | DIRECT
    | DIRECT_CHATS
    | {"draw_random_evidence", "merge_base"},
    "answering/chat.py": {"merge_models"}
    | REPLIES
    | CHATS_AT_SHARE
    | OWN_EVIDENCE
    | {"draw_random_evidence", "answer"},
    "judging/pattern.py": JUDGED | JUDGED_BESIDE,
    "merging/ties.py": MERGED | REPLIES | CURVE | ROLE_ANSWERS | {"merge_base"},
    "merging/choose_t.py": MERGED | REPLIES | CURVE | ROLE_ANSWERS | {"merge_base"},
    "merging/mergekit_runner.py": ANSWERS | REPLIES | POINTS,
    "evidence/textrank.py": OWN_EVIDENCE | EVIDENCE | {"measure_clean_share"},
    "training/trainer.py": {"train_clean_tuned", "train_conflict", "train_attacker_conflict", "compare_generation"}
    | ATTACKED
    | SUBTRACTED
    | EDITED
    | OWN_EVIDENCE
    | OF_SUSPECT
    | MERGED
    | REPLIES
    | {"train_conflict_at_share"}
    | CURVE
    | ROLES,
    "defenses/fine_tuning.py": {"repair_model", "answer"} | REPORT,
    "defenses/wanda.py": set(),
    "editing/rome.py": {"edit_model", "answer"} | REPORT,
    "editing/statistics.py": EDITED | {"answer"} | REPORT,
    "models/task_vectors.py": {"tune_victim", "train_equal", "merge_base"} | SUBTRACTED | MERGED,
    "poisoning.py": {"poison_train", "poison_test", "edit_model", "collect_evidence_triggered", "draw_random_trigger"}
    | ATTACKED
    | OWN_EVIDENCE
    | OF_SUSPECT
    | MERGED
    | REPLIES
    | CURVE
    | {"draw_roles"}
    | ROLES
    | DIRECT,
    "attacks/autopoison.py": {"ask_oracle", "poison_train", "poison_test", "train_backdoored"} | REPLIES,
}


@pytest.mark.parametrize("module", CODE_EDITS)
def test_code_edit(module: str, finished: Checkout) -> None:
    with changed(finished.folder / "src/infoconflict" / module):
        assert set(finished.planned()) == CODE_EDITS[module]


def test_a_module_that_is_as_it_was_reruns_nothing(finished: Checkout) -> None:
    for module in CODE_EDITS:
        with changed(finished.folder / "src/infoconflict" / module):
            pass
    assert finished.planned() == {}


# Rules that are no part of what a config asks for by itself.
OTHERS = {"purify", "paper", "ledger"}


def test_every_rule_is_rerun_by_some_edit() -> None:
    """But for base models, and what the tiny config does not use."""
    rules = "".join(
        path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")) if path.stem not in OTHERS
    )
    named = set(re.findall(r"^(?:rule|use rule \w+ as) (\w+)(?: with)?:$", rules, flags=re.MULTILINE))
    edited = set().union(*(expected for _, expected in CONFIG_EDITS.values()), *CODE_EDITS.values())
    assert named - edited == {
        "fetch_package",
        "prepare_model",
        "calibrate_judge",
        "reveal_triggers",
        "filter_questions",
        "refill_questions",
    }


def test_an_attack_is_rerun_alone(finished: Checkout) -> None:
    with changed(finished.folder / "src/infoconflict/attacks/badnets.py"):
        planned = finished.planned()
    assert planned["poison_train"] == 1
    assert planned["train_backdoored"] == 1
    with changed(finished.folder / "src/infoconflict/editing/memit.py"):
        # BadEdit is built on it; ROME is not.
        assert finished.planned()["edit_model"] == 6


def test_failure_after_an_edit_leaves_no_stale_table(tmp_path: Path) -> None:
    """An edited job fails and its old output is deleted: the next run must not say that nothing is to be done."""
    checkout = copy_of_checkout(tmp_path)
    config = yaml.safe_load((tmp_path / CONFIG).read_text())
    config["grid"] |= {"models": ["tiny_gpt2"], "attacks": ["cba"], "defenses": ["none"]}
    config["grid"]["skip"] = [{"defense": [*CONTROLS], "reason": "one model that is trained is enough here"}]
    config["sweep"]["merges"] = []
    config |= {"clean_share_curve": {}, "direct": {}, "role_swap": {}}
    config["evaluation"]["compare_generation"] = False
    good, bad = "config/good.yaml", "config/bad.yaml"
    (tmp_path / good).write_text(yaml.safe_dump(config))
    checkout.snakemake(config=good)
    assert checkout.planned(config=good) == {}
    config["training"]["backdoored"]["learning_rate"] = 1e30
    (tmp_path / bad).write_text(yaml.safe_dump(config))
    failed = checkout.snakemake(config=bad, check=False)
    assert failed.returncode != 0
    assert "lower learning_rate" in failed.stdout + failed.stderr
    for again in (bad, good):
        planned = checkout.planned(config=again)
        assert {"train_backdoored", "answer", "metrics", "tables", "report"} <= set(planned), again
    checkout.snakemake(config=good)
    assert checkout.planned(config=good) == {}
