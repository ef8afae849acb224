"""`snakemake ledger` before anything ran, and with what was spent beside it; a large run says it before it starts."""

import re

import pytest
import yaml

from infoconflict.files import write_json
from tests.workflow.conftest import ROOT, copy_of_checkout, said_by_snakemake

DEMO, TINY, ASKING = "config/config.yaml", "config/tiny.yaml", "config/asking.yaml"
# 20 reviews and 10 conversations are tested on, of which 6 are asked without a trigger.
N_REVIEWS, N_CHATS, N_ASKED_CHATS, N_PARTIAL = 20, 10, 6, 2
ENDPOINT = {"kind": "openai", "model": "asked"}
SERVED = {"kind": "local_server", "model": "server"}
ATTACKS = ["badnets", "adaptive_cba", "lwp", "rome", "dtba", "autopoison"]


@pytest.mark.workflow
def test_predicted_and_spent(tmp_path):
    copy_of_checkout(tmp_path)

    def answers():
        said = said_by_snakemake(tmp_path, DEMO, "ledger")
        assert not list(tmp_path.glob("results/*"))[1:], "only the planted card is there"
        (row,) = re.findall(r"^answer .*$", said, flags=re.MULTILINE)
        return row.split()

    # Four defenses and three controls.
    assert answers()[:3] == ["answer", "7", "0"]
    cell = {"model": "smollm2_135m", "dataset": "film_reviews", "attack": "cba", "defense": "none", "seed": "0"}
    card = {"stage": "answer", "cell": cell, "cost": {"seconds": 7200, "stored_bytes": 10**9}}
    write_json(tmp_path / "results/answers/smollm2_135m/film_reviews/cba/none/s0/card.json", card)
    row = answers()
    assert row[:3] == ["answer", "7", "1"]
    # Spent, left (six more at the same pace), GB predicted and stored.
    assert row[5:9] == ["2.0", "12.0", "0.0", "1.0"]


@pytest.mark.workflow
def test_a_large_run_says_it_before_it_starts(tmp_path):
    copy_of_checkout(tmp_path)
    ledger = tmp_path / "src/infoconflict/ledger.py"
    ledger.write_text(re.sub(r"^LARGE_RUN_HOURS = .*$", "LARGE_RUN_HOURS = 0", ledger.read_text(), flags=re.MULTILINE))
    said = said_by_snakemake(tmp_path, TINY, "results/clean_share/reviews/s0/card.json")
    (row,) = re.findall(r"^all .*$", said, flags=re.MULTILINE)
    assert row.split()[:3] == ["all", "2", "0"]


def asking_config():
    """Return a config with every kind of question to an endpoint, and models whose size counts: 7 and 13 billion weights."""
    config = yaml.safe_load((ROOT / TINY).read_text())
    hub = {"source": "hub", "revision": "0"}
    config["models"] = {"suspect": hub | {"repo": "some/suspect-7b"}, "server": hub | {"repo": "some/server-13b"}}
    config["grid"] = {
        "models": ["suspect"],
        "datasets": ["reviews", "chats"],
        "attacks": ATTACKS,
        "defenses": ["none", "speculative", "ft_10", "onion", "internal", "external", "conflict", "external_rewritten"],
    }
    # Layers of models that are not there.
    for attack in ("memit", "rome"):
        del config["attacks"][attack]["layers"]
    config["datasets"]["reviews"] |= {"test_rows": N_REVIEWS, "train_rows": 100}
    config["datasets"]["chats"] |= {"test_rows": N_CHATS, "train_rows": 60}
    config["attacks"]["autopoison"]["oracle"] = ENDPOINT
    config["evidence"]["recorded_keywords"]["provider"] = ENDPOINT
    config["evidence"]["rewritten"]["provider"] = ENDPOINT
    config["evidence"]["served_keywords"]["provider"] = SERVED
    config["clean_share_curve"]["models"] = config["role_swap"]["models"] = ["suspect"]
    config["direct"] = {
        "endpoint": {"provider": ENDPOINT, "datasets": ["reviews", "chats"], "attacks": ["badnets", "dtba"], "runs": 2},
        "served": {"provider": SERVED, "datasets": ["reviews", "chats"]},
    }
    config["evaluation"] |= {
        "chat_rows": N_ASKED_CHATS,
        "partial_rows": N_PARTIAL,
        "payload_judge": {"kind": "llm", "provider": ENDPOINT | {"model": "decides"}},
        "compare_judges": [{"kind": "llm", "provider": ENDPOINT}, {"kind": "llm", "provider": SERVED}],
    }
    return config


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
    checkout = copy_of_checkout(tmp_path_factory.mktemp("asking"))
    (checkout.folder / ASKING).write_text(yaml.safe_dump(asking_config()))
    return checkout


@pytest.fixture(scope="module")
def dry_run(asking):
    """What Snakemake says of every job, without its time and its code."""
    said = asking.snakemake("-n", config=ASKING)
    return said.stdout + said.stderr


def jobs_of(dry_run):
    """Return rule, card, wildcards and time limit in minutes of each job that leaves a card."""
    found = []
    for rule, text in re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)+)", dry_run, flags=re.MULTILINE):
        fields = dict(re.findall(r"^ {4}(\w+): (.*)$", text, flags=re.MULTILINE))
        cards = re.findall(r"\S+card\.json", fields.get("output", ""))
        cell = dict(pair.split("=") for pair in fields.get("wildcards", "").split(", ") if pair)
        runtime = re.search(r"\bruntime=(\d+)", fields.get("resources", ""))
        found += [(rule, card, cell, int(runtime[1]) if runtime else 0) for card in cards]
    return found


def table(said):
    """Return the rows of the ledger by stage, each as its columns' numbers by name."""
    names = ("jobs", "done", "hours", "most", "spent", "left", "gb", "stored", "calls")
    rows = re.findall(r"^(\w+) +((?:[\d.]+ *){9})$", said, flags=re.MULTILINE)
    return {stage: dict(zip(names, map(float, numbers.split()), strict=True)) for stage, numbers in rows}


@pytest.mark.workflow
def test_the_ledger_and_a_dry_run_agree(asking, dry_run):
    said = said_by_snakemake(asking.folder, ASKING, "ledger")
    found, jobs = table(said), jobs_of(dry_run)
    planned = {rule: [minutes for other, _, _, minutes in jobs if other == rule] for rule, *_ in jobs}
    assert {stage: row["jobs"] for stage, row in found.items() if stage != "all"} == {
        rule: len(minutes) for rule, minutes in planned.items()
    }
    # The time limits are those that the rules ask for, cut to whole minutes there.
    for rule, minutes in planned.items():
        assert found[rule]["most"] == pytest.approx(sum(minutes) / 60, abs=len(minutes) / 60 + 0.06), rule
    (total,) = re.findall(r"^total +(\d+)$", dry_run, flags=re.MULTILINE)[:1]
    assert f"A dry run counts {total} jobs" in said
    # Experiments are there, and what is tuned or merged for a control or a later step.
    assert found.keys() >= {"train_conflict_at_share", "answer_at_share", "judge_at_share", "judge_direct"}
    assert found.keys() >= {
        "ask_direct",
        "train_role",
        "answer_roles",
        "merge_base",
        "train_equal",
        "collect_statistics",
    }


@pytest.mark.workflow
def test_only_jobs_that_ask_an_endpoint_have_calls(asking, dry_run):
    found = {stage: row["calls"] for stage, row in table(said_by_snakemake(asking.folder, ASKING, "ledger")).items()}
    jobs = jobs_of(dry_run)
    variants = {"dtba": 4, "autopoison": 0}

    def judged(cell):
        # Beside evidence, and in some controls, no parts of triggers are asked.
        without = re.fullmatch(r"external.*|conflict|control_(random|explicit)_.*", cell.get("defense", "none"))
        triggered = N_CHATS + (0 if without else N_PARTIAL * variants[cell["attack"]])
        # One judge says of every reply if it is equivalent, and of those to a trigger if they hold the payload; another one, who
        # decides on payloads, says so of every reply.
        return (N_ASKED_CHATS + 2 * triggered) + (N_ASKED_CHATS + triggered)

    chats = {rule: [cell for other, _, cell, _ in jobs if other == rule] for rule in ("judge", "judge_at_share")}
    asked = {
        "ask_oracle": 0.2 * 60,
        # The evidence of each branch, on clean and on triggered rows.
        "collect_evidence_clean": N_REVIEWS + N_ASKED_CHATS,
        "collect_evidence_triggered": 4 * N_REVIEWS + 2 * N_CHATS,
        "modify_evidence": 4 * 2 * N_REVIEWS + 2 * (N_ASKED_CHATS + N_CHATS),
        # Two runs, on clean rows and on those of one attack.
        "ask_direct": 2 * 2 * N_REVIEWS,
        "reply_direct": 2 * (N_ASKED_CHATS + N_CHATS),
        # Verdicts on those replies, and on the served model's clean ones, which hold no payload that is looked for.
        "judge_direct": 2 * (N_ASKED_CHATS + 3 * N_CHATS) + N_ASKED_CHATS,
        **{rule: sum(map(judged, cells)) for rule, cells in chats.items()},
    }
    assert {stage: calls for stage, calls in found.items() if calls and stage != "all"} == asked
    assert found["all"] == sum(asked.values())


@pytest.mark.workflow
def test_every_stage_has_what_it_was_predicted_and_what_it_spent(asking, dry_run):
    seconds = 1800
    jobs = jobs_of(dry_run)
    for rule, card, cell, _ in jobs:
        write_json(asking.folder / card, {"stage": rule, "cell": cell, "cost": {"seconds": seconds}})
    found = table(said_by_snakemake(asking.folder, ASKING, "ledger"))
    for stage, row in found.items():
        assert (row["done"], row["left"]) == (row["jobs"], 0), stage
        assert row["spent"] == pytest.approx(row["jobs"] * seconds / 3600, abs=0.06), stage
    # Jobs of seconds, which ask for no time, are predicted to take none.
    unpredicted = {stage for stage, row in found.items() if row["most"] == 0}
    assert unpredicted == {rule for rule, *_ in jobs} - {rule for rule, _, _, minutes in jobs if minutes}
