# What a run will cost and has cost: `snakemake ledger`, and a large run says it before it starts.
from snakemake.io import is_flagged

from infoconflict.files import read_json
from infoconflict.ledger import LARGE_RUN_HOURS, Planned, build_ledger, ledger_text
from infoconflict.progress import say

# Where the rows of a data set are not limited by the config, a question to an endpoint is counted for so many.
TYPICAL_TEST_ROWS = 1000
TYPICAL_TRAIN_ROWS = 50_000


def rows_of(dataset, split):
    typical = {"test": TYPICAL_TEST_ROWS, "train": TYPICAL_TRAIN_ROWS}[split]
    return getattr(CONFIG.datasets[dataset], f"{split}_rows") or typical


def is_endpoint(provider):
    return getattr(provider, "kind", None) == "openai"


def calls_of(rule, w):
    """Return about how many questions a job asks an endpoint that is not the run's own."""
    if evidence := w.get("evidence"):
        return rows_of(w["dataset"], "test") * is_endpoint(CONFIG.evidence[evidence].provider)
    if rule == "ask_oracle" and is_endpoint(oracle_of(w["attack"])):
        return int(CONFIG.attacks[w["attack"]].poisoning_rate * rows_of(w["dataset"], "train"))
    if rule == "judge":
        chat_rows = CONFIG.evaluation.chat_rows or rows_of(w["dataset"], "test")
        judges = sum(judge["kind"] == "llm" for judge in JUDGES if is_endpoint_spec(judge.get("provider")))
        return 2 * chat_rows * judges
    return 0


def is_endpoint_spec(provider):
    return bool(provider) and provider["kind"] == "openai"


def planned_job(rule, w):
    """Return what the ledger needs to know of a job of a rule with these wildcards."""
    # A judge reads what the cell's model said; what it holds is a server's model, if any.
    model = served_judge() if rule.name == "judge" else CONFIG.models.get(w.get("model"))
    return Planned(
        stage=rule.name,
        cell=dict(w),
        parameters=parameters_of(model) if model else 0.0,
        calls=calls_of(rule.name, w),
        temporary=any(is_flagged(output, "temp") for output in rule.output),
        need=RESOURCES_OF.get(rule.name),
    )


# Stages that ask for the resources of another.
RESOURCES_OF = {"modify_evidence": "collect_evidence", "ask_suspect": "answer"}


def card_rules():
    """Return the rules that write a card, by the folder that it lies in."""
    found = {}
    for rule in workflow.rules:
        for output in rule.output:
            if str(output).endswith("card.json"):
                found.setdefault(str(output).split("/")[1], []).append((rule, output))
    return found


def planned_jobs():
    """Return all jobs of the config that leave a card, whether they are done or not."""
    rules_by_folder, found = card_rules(), []
    for path in all_cards():
        for rule, output in rules_by_folder[path.split("/")[1]]:
            if match := output.match(path):
                found.append(planned_job(rule, match.groupdict()))
                break
    return found


def all_ledger():
    """Return the ledger of the whole config, with what its cards say was spent."""
    cards = [read_json(path) for path in all_cards() if Path(path).exists()]
    return build_ledger(planned_jobs(), cards)


rule ledger:
    log:
        "logs/ledger/all.log",
    localrule: True
    params:
        spec=lambda w: canonical({"ledger": ledger_text(all_ledger())}),
    script:
        "../scripts/ledger.py"


onstart:
    # What this run is about to do, which may be less than the whole config.
    ledger = build_ledger(
        planned_job(job.rule, dict(job.wildcards_dict))
        for job in workflow.dag.needrun_jobs()
        if any(str(output).endswith("card.json") for output in job.rule.output)
    )
    if ledger.predicted_hours >= LARGE_RUN_HOURS:
        say(ledger_text(ledger))
