"""Every preset dry-runs, and a mistake in a config ends before any job with its sentence."""

import re

import pytest
import yaml

from infoconflict.reporting.paper_cells import FIGURES, TABLES
from tests.workflow.conftest import ROOT, copy_of_checkout, said_by_snakemake

pytestmark = pytest.mark.workflow

# All that there is to ask for; the paper's tables and figures are the same jobs for any number of seeds.
EVERYTHING = ("all", "paper", *TABLES, *FIGURES)
OF_PAPER = {"paper", "paper_metrics", "paper_table", "paper_figure", *TABLES, *FIGURES}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return copy_of_checkout(tmp_path_factory.mktemp("presets"))


def test_the_demo_is_the_default(checkout) -> None:
    planned = checkout.planned(config="config/config.yaml")
    assert planned["train_backdoored"] == 1
    assert planned["fetch_package"] == 2


def test_paper_dry_runs_and_says_what_waits(checkout) -> None:
    # Each of its three seeds adds as many jobs.
    text = (ROOT / "config/paper.yaml").read_text()
    assert "\nseeds: [0, 1, 2]\n" in text
    (checkout.folder / "config/one_seed.yaml").write_text(text.replace("\nseeds: [0, 1, 2]\n", "\nseeds: [0]\n"))
    planned = checkout.planned("--nolock", *EVERYTHING, config="config/one_seed.yaml")
    of_grid = {rule: count for rule, count in planned.items() if rule not in OF_PAPER}
    assert set(planned) >= OF_PAPER
    assert planned["prepare_model"] == 4
    assert 2 * sum(of_grid.values()) + sum(planned.values()) < 10_000
    assert planned["list_excluded"] == 1
    # All attacks of the paper are there; some defenses wait.
    assert planned["train_backdoored"] == 4 * (2 * 3 + 3)
    assert planned["train_attacked"] == 4 * 2
    assert planned["edit_model"] == 4 * 2 * 3
    assert planned["ask_oracle"] == 2
    # Figure 3 has four shares beside the config's own on Emotion and on conversations, figure 4 five runs on each.
    assert planned["train_conflict_at_share"] == 4 * 2 * 4
    assert (planned["ask_direct"], planned["reply_direct"]) == (5, 5)
    assert (planned["train_role"], planned["answer_roles"]) == (6, 3)
    # The ledger says so, too, and whom the questions go to: evidence, an oracle and figure 4, nobody else.
    said = said_by_snakemake(checkout.folder, "config/one_seed.yaml", "ledger")
    assert f"A dry run counts {sum(of_grid.values()) + 1} jobs" in said
    calls = {stage: int(count) for stage, count in re.findall(r"^(\w+) .* (\d+)$", said, flags=re.MULTILINE)}
    assert {stage: count for stage, count in calls.items() if count and stage != "all"} == {
        # 9,800 conversations are trained on.
        "ask_oracle": 980 + 98,
        "collect_evidence_clean": 872 + 2000,
        "collect_evidence_triggered": 7 * (872 + 2000),
        # What each suspect of three attacks says on clean and on triggered conversations.
        "modify_evidence": 4 * 3 * (200 + 200),
        "ask_direct": 5 * 2000,
        "reply_direct": 5 * 200,
    }


def test_smol_dry_runs_on_public_data(checkout) -> None:
    # A dry run reads no rows.
    for name in ("sst2/train", "sst2/dev", "emotion/train", "emotion/test", "alpaca_en/train"):
        file = checkout.folder / f"data/{name}.jsonl.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    planned = checkout.planned("--nolock", *EVERYTHING, config="config/smol.yaml")
    assert set(planned) >= OF_PAPER
    assert planned["fetch_package"] == 2
    assert planned["edit_model"] == 3 * 2
    # Figure 3 has four shares beside the config's own, on SST-2; figure 4 five runs; table 6 six models.
    assert planned["train_conflict_at_share"] == 4
    assert (planned["ask_direct"], planned["reply_direct"]) == (2 * 5, 5)
    assert (planned["train_role"], planned["answer_roles"]) == (6, 3)


def test_a_mistake_ends_before_any_job(checkout) -> None:
    config = yaml.safe_load((ROOT / "config/tiny.yaml").read_text())
    config["clean_share"]["shar"] = config["clean_share"].pop("share")
    (checkout.folder / "config/wrong.yaml").write_text(yaml.safe_dump(config))
    done = checkout.snakemake("-n", config="config/wrong.yaml", check=False)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "clean_share" in said
    assert "did you mean 'share'?" in said
    assert "Traceback" not in said
