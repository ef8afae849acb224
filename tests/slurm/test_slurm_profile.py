"""The profile on a real Slurm, with a toy workflow whose rules bear the names of the real ones."""

import shutil
from pathlib import Path

import pytest

from tests.slurm.node import SlurmNode
from tests.slurm.run import ROOT, gpus_and_partition, option, run_snakemake, submissions

pytestmark = pytest.mark.slurm

# train_backdoored runs out of memory in its first attempt; merge_models is preempted in its first.
SNAKEFILE = """
rule all:
    input: "table.csv"

rule train_backdoored:
    output: "backdoored"
    resources: mem_mb=lambda wildcards, attempt: 100 * attempt, runtime=lambda wildcards, attempt: 5 * attempt
    shell: "[ {resources.mem_mb} -ge 200 ] && echo ${{CUDA_VISIBLE_DEVICES:-none}} > {output}"

rule merge_models:
    input: "backdoored"
    output: "merged"
    resources: mem_mb=100, runtime=5
    shell:
        # The first attempt never ends by itself: whatever is left of it when the second runs has no result to give.
        "echo ${{CUDA_VISIBLE_DEVICES:-none}} >> attempts; "
        "[ $(wc -l < attempts) = 2 ] || {{ sleep 600; exit 1; }}; cp attempts {output}"

rule collect_evidence_clean:
    input: model=lambda wildcards: ["backdoored"] if wildcards.source == "server" else []
    output: "evidence_{source}"
    shell: "echo ${{CUDA_VISIBLE_DEVICES:-none}} > {output}"

rule tables:
    localrule: True
    input: "merged", "evidence_remote", "evidence_server"
    output: "table.csv"
    shell: "(cat merged evidence_remote; echo ${{SLURM_JOB_ID:-local}}) > {output}"
"""
# The profile speaks of these, too.
SNAKEFILE += "".join(
    f"\nrule {name}:\n    output: '{name}'\n    shell: 'exit 1'\n"
    for name in (
        "train_attacked",
        "tune_victim",
        "train_attacker_conflict",
        "train_clean_tuned",
        "train_conflict",
        "collect_statistics",
        "edit_model",
        "choose_t",
        "sweep_merge",
        "answer",
        "compare_generation",
        "judge",
        "reply",
        "collect_evidence_triggered",
        "ask_oracle",
        "repair_model",
        "filter_questions",
        "train_equal",
        "purify_train",
        "purify_choose_t",
        "purify_answer",
        "train_conflict_at_share",
        "choose_t_at_share",
        "merge_at_share",
        "answer_at_share",
        "reply_at_share",
        "judge_at_share",
        "train_role",
        "answer_roles",
        "ask_direct",
        "reply_direct",
        "judge_direct",
    )
)


def test_profile_on_slurm(slurm: SlurmNode, tmp_path: Path) -> None:
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    shutil.copytree(ROOT / "slurm", tmp_path / "slurm")
    requeued = []

    def preempt_once() -> None:
        if not requeued and (tmp_path / "attempts").exists():
            # The controller also remembers the jobs of other tests.
            job = next(job for job in slurm.jobs() if "merge_models" in job["comment"] and job["state"] == "RUNNING")
            slurm.run("scontrol", "requeue", job["id"])  # what a preemption does
            requeued.append(job["id"])

    sent = submissions(run_snakemake(slurm, cwd=tmp_path, meanwhile=preempt_once))

    # The failed job came again with more memory and time; the preempted one went on, and Snakemake did not notice.
    asked = [(option(call, "--mem"), option(call, "-t")) for call in sent["train_backdoored"]]
    assert asked == [("100", "5"), ("200", "10")]
    assert len(requeued) == len(sent["merge_models"]) == 1
    assert "Restarts=1" in slurm.run("scontrol", "show", "job", requeued[0])
    assert all("--requeue" in call.split() for calls in sent.values() for call in calls)

    # A GPU where a model computes, and nowhere else; tables were made where the command was typed.
    assert {gpus_and_partition(call) for call in sent["train_backdoored"]} == {("1", "gpu")}
    assert {gpus_and_partition(call) for call in sent["merge_models"]} == {(None, "cpu")}
    assert {gpus_and_partition(call) for call in sent["collect_evidence_clean"]} == {(None, "cpu"), ("1", "gpu")}
    assert (tmp_path / "backdoored").read_text().strip() in {"0", "1"}
    assert (tmp_path / "evidence_server").read_text().strip() in {"0", "1"}
    assert (tmp_path / "table.csv").read_text().split() == ["none", "none", "none", "local"]
    assert "tables" not in sent
    # Threads are cores; rules that say nothing get the profile's defaults.
    assert option(sent["merge_models"][0], "--cpus-per-task") == "2"
    assert option(sent["train_backdoored"][0], "--cpus-per-task") == "1"
    assert {option(call, "--mem") for call in sent["collect_evidence_clean"]} == {"4000"}
    assert list((tmp_path / "logs/slurm/rule_merge_models").glob("*.log"))
