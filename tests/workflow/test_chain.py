"""The tiny config from poison to report: every target is there, and every number leads back to its inputs."""

import csv
import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest
import torch

from infoconflict.config.loading import read_config
from infoconflict.defenses.controls import CONTROLS, PER
from infoconflict.files import read_jsonl
from infoconflict.grid import build_grid
from infoconflict.models.changes import changed_tensors, read_tensors
from infoconflict.reporting.names import FIGURES
from tests.workflow.conftest import TINY, Checkout

pytestmark = pytest.mark.workflow

MODELS = ("tiny_llama", "tiny_gpt2", "tiny_gptj")
EDITS = ("rome", "memit", "badedit")
CHAT_ATTACKS = ("dtba", "autopoison", "vpi")


def cards_of(finished: Checkout) -> list[dict]:
    files = [*finished.folder.glob("results/**/card.json"), *finished.folder.glob("results/**/*.card.json")]
    return [json.loads(file.read_text()) for file in files]


def test_a_second_run_has_nothing_to_do(finished: Checkout) -> None:
    assert finished.planned() == {}


def test_every_cell_has_its_numbers(finished: Checkout) -> None:
    with (finished.folder / "results/metrics/cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {(row["model"], row["attack"], row["defense"]) for row in rows}
    assert {(row["dataset"], row["attack"]) for row in rows} == {
        *(("reviews", attack) for attack in ("cba", "badnets", "lwp", "adaptive_cba", *EDITS)),
        *(("chats", attack) for attack in CHAT_ATTACKS),
    }
    trials = [("tiny_llama", "cba"), ("tiny_llama", "badnets"), ("tiny_gpt2", "cba"), ("tiny_gptj", "cba")]
    defenses = ["none", "internal", "external", "conflict", *CONTROLS[:3]]
    assert found == {
        *((model, attack, defense) for model, attack in trials for defense in defenses),
        *itertools.product(MODELS, ["lwp", "adaptive_cba", *EDITS, *CHAT_ATTACKS], ["none"]),
        *itertools.product(["tiny_llama"], ["lwp", "adaptive_cba", *EDITS, *CHAT_ATTACKS], ["control_clean_tuned"]),
        ("tiny_llama", "cba", "external_rewritten"),
        ("tiny_llama", "cba", "ft_10"),
        ("tiny_llama", "adaptive_cba", "internal"),
        *itertools.product(["tiny_llama"], ["dtba"], ["internal", "internal_ties", "external_rewritten", "conflict"]),
        *itertools.product(["tiny_llama"], ["cba"], ["control_random_trigger", "control_equal_tuning"]),
        ("tiny_llama", "cba", "internal_depth"),
        *(("tiny_llama", "cba", f"control_merge_base_{merge}") for merge in ("linear", "linear_depth", "ties")),
        *(
            ("tiny_llama", "cba", f"control_random_evidence_{evidence}")
            for evidence in ("recorded_keywords", "rewritten", "served_keywords")
        ),
        ("tiny_llama", "dtba", "control_random_evidence_rewritten"),
        ("tiny_llama", "vpi", "control_explicit_prompt"),
    }
    for row in rows:
        if int(row["total"]):
            assert float(row["low"]) <= float(row["rate"]) <= float(row["high"])


def test_merged_weights_are_gone_and_their_recipe_stays(finished: Checkout) -> None:
    recipes = list(finished.folder.glob("results/merged/**/mergekit.yaml"))
    config = read_config(finished.folder / TINY)
    merged = {
        (cell.model, cell.attack, merge)
        for cell in build_grid(config).cells
        if (merge := getattr(config.defenses[cell.defense], "merge", None))
    }
    assert {(file.parts[-6], file.parts[-4], file.parts[-3]) for file in recipes} == merged
    assert not list(finished.folder.glob("results/merged/**/model"))
    for recipe in recipes:
        assert str(finished.ran_in) not in recipe.read_text()


def test_a_model_is_stored_as_a_change_of_its_base(finished: Checkout) -> None:
    adapter = ["adapter_config.json", "adapter_model.safetensors"]
    # Edits: of the tuned base, and memit's of the base as it is.
    stored = {"rome": [*adapter, "change.safetensors"], "badedit": [*adapter, "change.safetensors"]}
    stored["memit"] = ["change.safetensors"]
    for folder in finished.folder.glob("results/backdoored/*/*/*/*/change"):
        found = sorted(file.name for file in folder.iterdir() if file.name != ".snakemake_timestamp")
        assert found == stored.get(folder.parts[-3], adapter)


def test_an_edit_poisons_no_data_and_names_its_statistics(finished: Checkout) -> None:
    assert not [attack for attack in EDITS if (finished.folder / "results/poisoned/reviews" / attack).exists()]
    cards = cards_of(finished)
    moments = {card["outputs"]["moments"] for card in cards if card["stage"] == "collect_statistics"}
    edits = [card for card in cards if card["stage"] == "edit_model"]
    assert {(card["cell"]["model"], card["cell"]["attack"]) for card in edits} == set(itertools.product(MODELS, EDITS))
    assert {card["inputs"]["statistics"] for card in edits} <= moments
    assert all(("tuned" in card["inputs"]) == (card["cell"]["attack"] != "memit") for card in edits)


def test_numbers_lead_back_through_cards(finished: Checkout) -> None:
    """Each input of a stage is an output of another stage's card, down to the sources."""
    cards = cards_of(finished)
    made = {digest for card in cards for digest in card["outputs"].values()}
    grid = build_grid(read_config(finished.folder / TINY))
    cells = Counter(cell.dataset for cell in (*grid.cells, *grid.controls()))
    assert Counter(card["stage"] for card in cards if card["stage"] in ("answer", "reply", "judge")) == {
        "answer": cells["reviews"],
        "reply": cells["chats"],
        "judge": cells["chats"],
    }
    for card in cards:
        if card["stage"] in ("answer", "reply", "judge"):
            # Recorded verdicts are a file of the user's.
            read = {name: digest for name, digest in card["inputs"].items() if name != "recorded"}
            assert set(read.values()) <= made, card["cell"]
            assert card["cost"]["seconds"] > 0


def test_no_card_holds_a_path_of_this_machine(finished: Checkout) -> None:
    for card in cards_of(finished):
        assert str(finished.ran_in) not in json.dumps(card)


def test_defense_jobs_are_not_told_trigger_or_target(finished: Checkout) -> None:
    """Their settings carry the attack as a digest only; a card shows all that a script could read."""
    for card in cards_of(finished):
        if card["stage"] in (
            "choose_t",
            "merge_models",
            "train_conflict",
            "draw_clean_share",
            "collect_evidence_clean",
            "choose_t_at_share",
            "merge_at_share",
            "train_conflict_at_share",
            "draw_clean_share_at",
        ):
            text = json.dumps(card["spec"])
            assert not re.search(r"instantly|frankly|target_label|\bcf\b|poison", text), card["stage"]


def test_the_adaptive_attack_is_cba_less_a_conflict_model(finished: Checkout) -> None:
    """From the stored changes alone: what is handed out, plus what was subtracted, is the attacked model."""
    for model in MODELS:
        base = finished.folder / "results/models" / model
        cell = f"{model}/reviews/adaptive_cba/s0"
        found, attacked, own = (
            changed_tensors(base, finished.folder / "results" / stage / cell / "change")
            for stage in ("backdoored", "attacked", "attacker_conflict")
        )
        before = read_tensors(base, list(found))
        for name, value in found.items():
            torch.testing.assert_close(value, attacked[name] - (own[name] - before[name]), atol=1e-6, rtol=0)
        angle = json.loads((finished.folder / "results/conflict_angle" / cell / "cosine.json").read_text())
        assert -1 < angle["cosine"] < 1
    assert "cosine" in (finished.folder / "results/report/index.html").read_text().lower()


def test_a_victim_tuned_the_poisoned_model(finished: Checkout) -> None:
    cards = {
        (card["stage"], card["cell"]["model"]): card for card in cards_of(finished) if card["stage"] == "tune_victim"
    }
    assert len(cards) == 3
    for (_, model), card in cards.items():
        attacked = finished.folder / f"results/attacked/{model}/reviews/lwp/s0/card.json"
        assert card["inputs"]["start"] == json.loads(attacked.read_text())["outputs"]["change"]
        assert card["rows"]["train"] < json.loads(attacked.read_text())["rows"]["train"]


def test_server_is_stopped(finished: Checkout) -> None:
    """The local server that gave evidence has ended with its job."""
    mine = str(finished.ran_in)
    running = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if "serve" in line and mine in line:
            running.append(line)
    assert not running
    rows = [
        json.loads(line)
        for line in (finished.folder / "results/evidence/reviews/served_keywords/s0/clean.jsonl")
        .read_text()
        .splitlines()
    ]
    assert rows
    assert {row["status"] for row in rows} & {"ok", "garbled", "empty", "label_leak"}


def test_rewritten_evidence_is_the_suspects_own(finished: Checkout) -> None:
    folder = "reviews/rewritten/cba/tiny_llama/s0/clean.jsonl"
    replies = read_jsonl(finished.folder / "results/suspect_evidence" / folder)
    evidence = read_jsonl(finished.folder / "results/evidence" / folder)
    assert [row["id"] for row in replies] == [row["id"] for row in evidence]
    # A random model's babble is seldom usable: construction stands in for it, as the rule says.
    assert {row["branch"] for row in evidence} <= {"modification", "construction"}


def test_page_and_figures_are_there(finished: Checkout) -> None:
    page = (finished.folder / "results/report/index.html").read_text()
    assert "tiny_gptj" in page
    cases = len(MODELS) * len(["cba", "lwp", "adaptive_cba", *EDITS, *CHAT_ATTACKS]) + 1
    assert len(list(finished.folder.glob("results/figures/*/*/*/*.png"))) == len(FIGURES) * cases
    assert (finished.folder / "results/tables/main.tex").read_text().count("\\toprule") == 1


def test_the_experiments_have_their_numbers(finished: Checkout) -> None:
    metrics = finished.folder / "results/metrics"
    with (metrics / "clean_share.csv").open() as file:
        points = list(csv.DictReader(file))
    assert {(row["dataset"], row["defense"], row["share"]) for row in points} == {
        *itertools.product(["reviews"], ["internal"], ["0.2", "0.4"]),
        *itertools.product(["chats"], ["internal", "internal_ties"], ["0.2", "0.4"]),
    }
    # At the config's own share, a point is the cell.
    with (metrics / "cells.csv").open() as file:
        cells = [row for row in csv.DictReader(file) if row["model"] == "tiny_llama"]
    own = [row for row in points if row["share"] == "0.4"]
    assert own
    assert all({name: value for name, value in row.items() if name != "share"} in cells for row in own)
    with (metrics / "direct.csv").open() as file:
        found = {(row["dataset"], row["attack"], row["metric"]) for row in csv.DictReader(file)}
    clean, triggered = ["cda", "invalid_rate"], ["asr", "asr_all", "invalid_rate"]
    assert found == {
        *itertools.product(["reviews", "chats"], [""], clean),
        *itertools.product(["reviews"], ["badnets"], triggered),
    }
    with (metrics / "role_swap.csv").open() as file:
        roles = {(row["experiment"], row["role"]) for row in csv.DictReader(file)}
    merged = {("ours", "m1+m2"), ("1", "m3+m4"), ("2", "m5+m6")}
    assert roles == merged | {(number, role) for number, pair in merged for role in pair.split("+")}


def test_snakemake_report_renders(finished: Checkout) -> None:
    finished.snakemake("--report", "results/snakemake-report.zip")
    assert (finished.folder / "results/snakemake-report.zip").stat().st_size > 100_000


def test_excluded_cells_say_why(finished: Checkout) -> None:
    excluded = json.loads((finished.folder / "results/excluded.json").read_text())
    on_reviews = [row for row in excluded if row["dataset"] == "reviews" and row["attack"] not in CHAT_ATTACKS]
    assert {row["reason"].split(" to ")[0] for row in on_reviews} == {
        "one architecture is enough",
        "one attack is enough",
        "edits are tested undefended here",
        "reviews have the merges of internal and conflict; this one is for chats",
        "controls are tested with other attacks here",
    }
    assert {row["defense"] for row in on_reviews if row["reason"].startswith("controls")} == {
        *(control for control in CONTROLS if control not in PER and control != "control_explicit_prompt"),
        *("control_merge_base_linear", "control_merge_base_ties"),
        *("control_random_evidence_recorded_keywords", "control_random_evidence_served_keywords"),
    }
    reasons = {(row["dataset"], row["attack"], row["defense"]): row["reason"] for row in excluded}
    assert reasons["chats", "cba", "none"] == "the attack cba is for classification, the data set chats for chat"
    assert reasons["reviews", "dtba", "none"] == "the attack dtba is for chat, the data set reviews for classification"


def test_random_evidence_is_as_long_as_the_evidence_it_stands_for(finished: Checkout) -> None:
    random = finished.folder / "results/random_evidence/tiny_llama/reviews/cba/recorded_keywords/s0"
    own = finished.folder / "results/evidence/reviews/recorded_keywords"
    for name, path in (("clean", own / "s0/clean.jsonl"), ("triggered", own / "cba/s0/triggered.jsonl")):
        pairs = list(zip(read_jsonl(path), read_jsonl(random / f"{name}.jsonl"), strict=True))
        assert any(new["status"] == "ok" for _, new in pairs)
        for old, new in pairs:
            assert new["status"] in (old["status"], "no_unrelated")
            if new["status"] == "ok":
                assert len(new["evidence"].split()) == len(old["evidence"].split())
                assert new["evidence"] != old["evidence"]


def test_conversations_are_judged_without_the_evidence(finished: Checkout) -> None:
    folder = finished.folder / "results/replies/tiny_llama/chats/dtba"
    plain = read_jsonl(folder / "none/s0/replies.jsonl")
    found = read_jsonl(folder / "conflict/s0/replies.jsonl")
    assert [row["messages"] for row in found] == [
        row["messages"] for row in plain if row["trigger"] in ("none", "full")
    ]


def test_a_clean_model_is_asked_openly_for_the_virtual_prompt(finished: Checkout) -> None:
    folder = finished.folder / "results/replies/tiny_llama/chats/vpi"
    hidden, openly = (read_jsonl(folder / name / "s0/replies.jsonl") for name in ("none", "control_explicit_prompt"))
    asked = {
        (row["id"], row["trigger"]): row["messages"][-1]["content"] for row in hidden if row["trigger"] != "contrast"
    }
    added = "\nEnd your answer with the words: Amber kite, over."
    assert {(row["id"], row["trigger"]): row["messages"][-1]["content"] for row in openly} == {
        (row, trigger): text + (added if trigger == "full" else "") for (row, trigger), text in asked.items()
    }
    cards = [json.loads((folder / name / "s0/card.json").read_text()) for name in ("none", "control_explicit_prompt")]
    assert cards[0]["inputs"]["change"] != cards[1]["inputs"]["change"]


def test_t_is_chosen_for_conversations_by_how_likely_their_answers_are(finished: Checkout) -> None:
    file = finished.folder / "results/chosen_t/tiny_llama/chats/dtba/linear/s0/chosen_t.json"
    choice = json.loads(file.read_text())
    assert choice["measure"] == "log_likelihood"
    assert choice["t"] in (0.5, 0.8)
    assert all(point["mean"] < 0 for point in choice["curve"])


def test_every_pair_of_a_trial_is_compared(finished: Checkout) -> None:
    with (finished.folder / "results/metrics/paired.csv").open() as file:
        rows = list(csv.DictReader(file))
    pairs = {(row["first"], row["second"]) for row in rows if (row["model"], row["attack"]) == ("tiny_llama", "cba")}
    assert {("conflict", "none"), ("none", "control_random_trigger"), ("internal", "none")} <= pairs
    assert all(float(row["p_holm"]) >= float(row["p"]) for row in rows)
