"""A defense knows nothing that it should not: proved on the graph of all jobs, and on rules in which it does."""

import re
from pathlib import Path

import pytest
import yaml

from infoconflict import attacks, defenses
from infoconflict.experiments.cells import own_points
from infoconflict.grid import build_grid
from tests.workflow.conftest import ROOT, TINY, Checkout, copy_of_checkout
from tests.workflow.leaks import Graph, Walk, graph_of, is_answering, secret_texts

pytestmark = pytest.mark.workflow


def everything() -> dict:
    """Return the tiny config with every attack, every defense and every control, and nothing skipped; one model is enough."""
    raw = yaml.safe_load((ROOT / TINY).read_text())
    raw.pop("controls", None)
    named = {entry["method"] for entry in raw["defenses"].values()}
    for method, kind in defenses.METHODS.items():
        if method not in named:
            first = {"merge": next(iter(raw["merges"])), "evidence": next(iter(raw["evidence"]))}
            raw["defenses"][method] = {"method": method} | {
                name: first[name] for name in first if name in kind.model_fields
            }
    assert {entry["method"] for entry in raw["attacks"].values()} == {*attacks.METHODS}
    raw["grid"] |= {
        "models": ["tiny_llama"],
        "attacks": list(raw["attacks"]),
        "defenses": list(raw["defenses"]),
        "skip": [],
    }
    return raw


def planned(checkout: Checkout, raw: dict) -> Graph:
    file = checkout.folder / "config/walked.yaml"
    file.write_text(yaml.safe_dump(raw, sort_keys=False))
    return graph_of(checkout.folder, file)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return planned(copy_of_checkout(tmp_path_factory.mktemp("whole")), everything())


def test_no_job_of_a_defense_reaches_trigger_target_or_poisoned_rows(whole: Graph) -> None:
    walk = Walk(whole).run()
    assert walk.leaks == []
    # It went somewhere: to every cell and every point of the curve, and up to where defenses get what they have.
    grid = build_grid(whole.config)
    free = [
        cell
        for cell in (*grid.cells, *own_points(whole.config, grid))
        if not re.fullmatch(r"none|.*_oracle", whole.config.defenses[cell.defense].method)
    ]
    assert walk.cells == len(free) > 0
    expected = {"merge_models", "choose_t", "train_conflict", "draw_clean_share", "prepare_dataset", "prepare_model"}
    expected |= {"ask_suspect", "modify_evidence", "collect_evidence_clean", "collect_evidence_triggered"}
    expected |= {"repair_model", "filter_questions"}
    expected |= {"merge_at_share", "choose_t_at_share", "train_conflict_at_share", "draw_clean_share_at"}
    assert expected <= walk.met
    assert not walk.met & {"poison_train", "poison_test", "train_backdoored", "edit_model", "train_clean_tuned"}


def test_the_secrets_are_those_of_the_attacks(whole: Graph) -> None:
    assert {"instantly", "frankly", "cf", "tq", "Quillmere Cafe", "Amber kite, over."} <= {*secret_texts(whole.config)}


def test_who_reads_questions_is_shown_nothing_else_of_the_row(whole: Graph) -> None:
    walk = Walk(whole).run()
    assert {"collect_evidence_clean", "ask_suspect", "filter_questions"} <= {job.rule.name for job in walk.readers}
    for job in walk.readers:
        files = [str(file).partition("src/") for file in job.input.code]
        code = "".join(Path(ROOT, start + rest).read_text() for _, start, rest in files)
        calls = set(re.findall(r"([\w.]+)\([^()]*input\.questions", code))
        # Digests are taken of whole files, too.
        assert "read_queries" in calls
        assert calls <= {"read_queries", "map"}, job.rule.name


def test_who_puts_written_questions_back_into_test_rows_is_no_part_of_a_defense(whole: Graph) -> None:
    walk = Walk(whole).run()
    assert {job.rule.name for job in walk.refilling} == {"refill_questions"}
    for job in walk.refilling:
        assert not {"base", "change", "share"} & {*job.input.keys()}
        parts = {part for file in job.input.code for part in Path(str(file)).parts}
        assert not {"defenses", "models", "repairing"} & parts


def test_answering_jobs_are_told_apart_from_judges(whole: Graph) -> None:
    asking = {job.rule.name for job in whole.jobs if is_answering(job)}
    assert asking == {"answer", "reply", "answer_at_share", "reply_at_share"}


PLANTS = {
    "test rows in the choice of t": (
        "merge.smk",
        'holdout="results/clean_share/{dataset}/s{seed}/holdout.jsonl"',
        'holdout="results/test_sets/{dataset}/{attack}/s{seed}/triggered.jsonl"',
        "reads the test rows",
    ),
    "poisoned rows in the choice of t": (
        "merge.smk",
        'holdout="results/clean_share/{dataset}/s{seed}/holdout.jsonl"',
        'holdout="results/poisoned/{dataset}/{attack}/s{seed}/train.jsonl"',
        "has the key 'attack'",
    ),
    "test rows in the choice of t at another share": (
        "experiments.smk",
        'holdout=f"{CURVE}/clean_share/{{dataset}}/s{{seed}}/holdout.jsonl",\n        code=code("choose_t"),',
        'holdout="results/test_sets/{dataset}/{attack}/s{seed}/triggered.jsonl",\n        code=code("choose_t"),',
        "choose_t_at_share: reads the test rows",
    ),
    "losses of the poisoned training": (
        "merge.smk",
        "        chosen_t=chosen_t,\n",
        '        chosen_t=chosen_t,\n        losses="results/backdoored/{model}/{dataset}/{attack}/s{seed}/losses.jsonl",\n',
        "has the key 'attack'",
    ),
    "a trigger among the settings": (
        "merge.smk",
        'spec("model", "merge", "choose_t", "labels", above=parents)',
        'spec("model", "merge", "choose_t", "labels", "trigger", above=parents)',
        "has 'instantly' of an attack",
    ),
    "a target among the settings": (
        "merge.smk",
        'return spec("model", "merge", above=parents(w)',
        'return spec("model", "merge", "target_label", above=parents(w)',
        "has the key 'target_label'",
    ),
    "labels beside questions": (
        "evidence.smk",
        '        code=code("collect_evidence_triggered"),\n',
        '        code=code("collect_evidence_triggered"),\n'
        '        rows="results/test_sets/{dataset}/{attack}/s{seed}/triggered.jsonl",\n',
        "reads the test rows",
    ),
    "labels beside the questions of a filter": (
        "filter.smk",
        '        share="results/clean_share/{dataset}/s{seed}/train.jsonl",\n',
        '        share="results/clean_share/{dataset}/s{seed}/train.jsonl",\n'
        '        triggered="results/test_sets/{dataset}/{attack}/s{seed}/triggered.jsonl",\n',
        "reads the test rows",
    ),
    "test rows in a repair": (
        "repair.smk",
        'return f"results/clean_share/{w.dataset}/s{w.seed}/train.jsonl"',
        'return f"results/test_sets/{w.dataset}/{w.attack}/s{w.seed}/triggered.jsonl"',
        "reads the test rows",
    ),
    "a trigger revealed to a repair that is no oracle": (
        "repair.smk",
        " if is_oracle(w.defense) else []",
        "",
        "repair_model < reveal_triggers: has 'instantly' of an attack",
    ),
    "poisoned rows in a repair": (
        "repair.smk",
        'return f"results/clean_share/{w.dataset}/s{w.seed}/train.jsonl"',
        'return f"results/poisoned/{w.dataset}/{w.attack}/s{w.seed}/train.jsonl"',
        "repair_model < poison_train: has the key 'attack'",
    ),
    "poisoned rows among the modules": (
        "repair.smk",
        'return code("repair_model", f"defenses/{CONFIG.defenses[w.defense].method}.py")',
        'return [*code("repair_model", f"defenses/{CONFIG.defenses[w.defense].method}.py"), '
        'f"results/poisoned/{w.dataset}/{w.attack}/s{w.seed}/train.jsonl"]',
        "repair_model < poison_train: has the key 'attack'",
    ),
    "poisoned rows beside a decoding defense": (
        "answer.smk",
        'found["reference"] = CONFLICT.format(**cell)',
        'found["reference"] = "results/poisoned/{dataset}/{attack}/s{seed}/train.jsonl".format(**cell)',
        "answer < poison_train: has the key 'attack'",
    ),
    "a trigger among the settings of a decoding defense": (
        "answer.smk",
        '            if decodes(w.defense):\n                own.append("defense")\n',
        '            if decodes(w.defense):\n                own += ["defense", "trigger"]\n',
        "has 'instantly' of an attack",
    ),
    "a target among the options of a defense": (
        "common.smk",
        'return {"defense": defense_settings(w)}',
        'return {"defense": defense_settings(w) | settings_of("target_label", w)}',
        "answer: has the key 'target_label'",
    ),
    "the target read for a decoding defense": (
        "src/infoconflict/answering/decoder.py",
        "    return Decoder(\n",
        '    reference.target = job.spec.get("target_label")\n    return Decoder(\n',
        "reads the target in answering/decoder.py",
    ),
    "the target given to a decoding defense": (
        "src/infoconflict/answering/ask.py",
        "max_new_tokens=max_new_tokens, continue_with=counted)",
        "max_new_tokens=max_new_tokens, continue_with=partial(counted, target=target_label))",
        "reads the target in answering/ask.py",
    ),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_planted_leak_is_caught(name: str, tmp_path: Path) -> None:
    file, old, new, said = PLANTS[name]
    checkout = copy_of_checkout(tmp_path)
    rules = checkout.folder / (file if "/" in file else f"workflow/rules/{file}")
    text = rules.read_text()
    assert text.count(old) == 1
    rules.write_text(text.replace(old, new))
    raw = everything()
    raw["grid"] |= {"datasets": ["reviews"], "attacks": ["cba"]}
    raw["grid"]["defenses"] = ["none", "internal", "conflict", "wanda", "onion", "speculative"]
    raw["controls"] = []
    raw["clean_share_curve"]["attacks"] = ["cba"]
    leaks = Walk(planned(checkout, raw)).run().leaks
    assert leaks
    assert all(said in leak or "has " in leak for leak in leaks)
    assert any(said in leak for leak in leaks)
