"""The tiny config from poison to report: every target is there, and every number leads back to its inputs."""

import csv
import json
import re
from pathlib import Path

import pytest

from infoconflict.files import read_jsonl
from tests.workflow.conftest import Checkout

pytestmark = pytest.mark.workflow


def cards_of(finished: Checkout) -> list[dict]:
    files = [*finished.folder.glob("results/**/card.json"), *finished.folder.glob("results/**/*.card.json")]
    return [json.loads(file.read_text()) for file in files]


def test_a_second_run_has_nothing_to_do(finished: Checkout) -> None:
    assert finished.planned() == {}


def test_every_cell_has_its_numbers(finished: Checkout) -> None:
    with (finished.folder / "results/metrics/cells.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = {(row["model"], row["attack"], row["defense"]) for row in rows}
    defenses = ["none", "internal", "external", "conflict", "control_base", "control_conflict", "control_clean_tuned"]
    trials = [("tiny_llama", "cba"), ("tiny_llama", "badnets"), ("tiny_gpt2", "cba"), ("tiny_gptj", "cba")]
    everywhere = {(model, attack, defense) for model, attack in trials for defense in defenses}
    assert found == everywhere | {("tiny_llama", "cba", "external_rewritten")}
    for row in rows:
        if int(row["total"]):
            assert float(row["low"]) <= float(row["rate"]) <= float(row["high"])


def test_merged_weights_are_gone_and_their_recipe_stays(finished: Checkout) -> None:
    recipes = list(finished.folder.glob("results/merged/**/mergekit.yaml"))
    assert len(recipes) == 8
    assert not list(finished.folder.glob("results/merged/**/model"))
    for recipe in recipes:
        assert str(finished.folder) not in recipe.read_text()


def test_a_model_is_stored_as_a_change_of_its_base(finished: Checkout) -> None:
    for folder in finished.folder.glob("results/backdoored/*/*/*/*/change"):
        assert sorted(file.name for file in folder.iterdir() if file.name != ".snakemake_timestamp") == [
            "adapter_config.json",
            "adapter_model.safetensors",
        ]


def test_numbers_lead_back_through_cards(finished: Checkout) -> None:
    """Each input of a stage is an output of another stage's card, down to the sources."""
    cards = cards_of(finished)
    made = {digest for card in cards for digest in card["outputs"].values()}
    answers = [card for card in cards if card["stage"] == "answer"]
    assert len(answers) == 29
    for card in answers:
        assert set(card["inputs"].values()) <= made, card["cell"]
        assert card["cost"]["seconds"] > 0


def test_no_card_holds_a_path_of_this_machine(finished: Checkout) -> None:
    for card in cards_of(finished):
        assert str(finished.folder) not in json.dumps(card)


def test_defense_jobs_are_not_told_trigger_or_target(finished: Checkout) -> None:
    """Their settings carry the attack as a digest only; a card shows all that a script could read."""
    for card in cards_of(finished):
        if card["stage"] in (
            "choose_t",
            "merge_models",
            "train_conflict",
            "draw_clean_share",
            "collect_evidence_clean",
        ):
            text = json.dumps(card["spec"])
            assert not re.search(r"instantly|frankly|target_label|\bcf\b|poison", text), card["stage"]


def test_server_is_stopped(finished: Checkout) -> None:
    """The local server that gave evidence has ended with its job."""
    mine = str(finished.folder)
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
    assert len(list(finished.folder.glob("results/figures/*/*/*/*.png"))) == 16
    assert (finished.folder / "results/tables/main.tex").read_text().count("\\toprule") == 1


def test_snakemake_report_renders(finished: Checkout) -> None:
    finished.snakemake("--report", "results/snakemake-report.zip")
    assert (finished.folder / "results/snakemake-report.zip").stat().st_size > 100_000


def test_excluded_cells_say_why(finished: Checkout) -> None:
    excluded = json.loads((finished.folder / "results/excluded.json").read_text())
    assert {row["reason"].split(" to ")[0] for row in excluded if row["dataset"] == "reviews"} == {
        "one architecture is enough",
        "one attack is enough",
        "reviews have the merges of internal and conflict; this one is for chats",
    }
    assert {row["reason"] for row in excluded if row["dataset"] == "chats" and row["attack"] == "cba"} == {
        "the attack cba is for classification, the data set chats for chat"
    }
