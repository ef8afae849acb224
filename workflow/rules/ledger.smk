# What a run will cost and has cost: `snakemake ledger`, and a large run says it before it starts.
from snakemake.io import is_flagged

from infoconflict.files import read_json
from infoconflict.ledger import (
    LARGE_RUN_HOURS,
    Planned,
    build_ledger,
    ledger_text,
    rows_of,
)
from infoconflict.progress import say

# Rules whose jobs ask for the resources of another stage.
RESOURCES_OF = {
    "modify_evidence": "collect_evidence",
    "ask_oracle": "collect_evidence",
    "ask_suspect": "answer",
}
# The judge's own rule, and those that do the same for an experiment.
JUDGING = ("judge", "judge_at_share", "judge_direct")
# Controls that have no rows with a part of a trigger.
WITHOUT_PARTIAL = ("control_random_trigger", "control_explicit_prompt", "control_random_evidence")


def rows_in(w, split):
    """Return the rows of a split: as its card has them, or about as many as the config tells."""
    card = Path("results/data/{dataset}/s{seed}/card.json".format(**w))
    prepared = read_json(card).get("rows", {}) if card.exists() else {}
    return prepared.get(split) or rows_of(CONFIG.datasets[w["dataset"]], split)


def asked_rows(w, rows):
    """Return how many test rows are asked: clean ones, or those with an attack's full trigger."""
    whole = rows_in(w, "test")
    if rows == "clean" and is_chat(w["dataset"]):
        return min(CONFIG.evaluation.chat_rows or whole, whole)
    return whole


def partial_rows(w):
    """Return how many test rows hold a part of a trigger; none are asked beside evidence and in some controls."""
    kind = kind_of(w["defense"]) if "defense" in w else "defense"
    if kind in WITHOUT_PARTIAL or getattr(CONFIG.defenses.get(w.get("defense")), "evidence", None):
        return 0
    whole = rows_in(w, "test")
    each = min(CONFIG.evaluation.partial_rows or whole, whole)
    return each * len(CONFIG.attacks[w["attack"]].partial_variants)


def provider_of(rule, w):
    """Return whom a job's questions go to, where that is a matter of its wildcards; None where it asks nobody."""
    match rule:
        # Other rules have this wildcard, too, and ask nobody, or the suspect model.
        case "collect_evidence_clean" | "collect_evidence_triggered" | "modify_evidence":
            return CONFIG.evidence[w["evidence"]].provider
        case "ask_oracle":
            return oracle_of(w["attack"])
        case "ask_direct" | "reply_direct":
            return CONFIG.direct[w["direct"]].provider
    return None


def questions_in(rule, w):
    """Return about how many questions a job asks its provider."""
    match rule:
        case "ask_oracle":
            rows = CONFIG.training.backdoored.rows_of(w["dataset"]) or rows_in(w, "train")
            return round(CONFIG.attacks[w["attack"]].poisoning_rate * rows)
        case "ask_direct" | "reply_direct":
            return asked_rows(w, w["rows"])
        case "modify_evidence":
            return asked_rows(w, w["asked"])
    return asked_rows(w, rule.rpartition("_")[2])


def judge_calls(rule, w):
    """Return about how many verdicts judges at endpoints are asked for, in one pass over the replies."""
    if rule == "judge_direct":
        clean = asked_rows(w, "clean") if w["rows"] == "clean" else 0
        triggered = 0 if w["rows"] == "clean" else asked_rows(w, w["rows"])
    else:
        clean, triggered = asked_rows(w, "clean"), asked_rows(w, "triggered") + partial_rows(w)

    def rows(judge, claim):
        # Payloads are looked for behind a trigger; in clean rows by the judge that decides on them, where there is an attack.
        everywhere = claim == "equivalent" or (triggered and judge["name"] == CONFIG.evaluation.payload_judge.name)
        return triggered + (clean if everywhere else 0)

    asked = [judge for judge in JUDGES if judge["kind"] == "llm" and judge["provider"]["kind"] == "openai"]
    return sum(rows(judge, claim) for judge in asked for claim in judge["claims"])


def calls_of(rule, w):
    """Return about how many questions a job asks an endpoint that is not the run's own."""
    if rule in JUDGING:
        return judge_calls(rule, w)
    provider = provider_of(rule, w)
    return questions_in(rule, w) if provider and provider.kind == "openai" else 0


def server_of(rule, w):
    """Return the id of the model that a job has a local server for, or None."""
    provider = provider_of(rule, w)
    return provider.model if provider and provider.kind == "local_server" else None


def model_of(rule, w):
    """Return the entry of the model that a job asks memory and time for, or None."""
    if rule in JUDGING:
        return served_judge()
    if rule in ("ask_oracle", "ask_direct", "reply_direct"):
        return CONFIG.models.get(server_of(rule, w))
    return CONFIG.models.get(w.get("model"))


def need_in(rule, w):
    """Return the stage whose resources a job asks for, where that is not its own."""
    if rule in ("answer", "reply") and decodes(w["defense"]):
        return f"{rule}_beside"
    return RESOURCES_OF.get(rule)


def planned_job(rule, w):
    """Return what the ledger needs to know of a job of a rule with these wildcards."""
    model = model_of(rule.name, w)
    return Planned(
        stage=rule.name,
        cell=dict(w),
        parameters=parameters_of(model) if model else 0.0,
        calls=calls_of(rule.name, w),
        temporary=any(is_flagged(output, "temp") for output in rule.output),
        need=need_in(rule.name, w),
    )


def card_rules():
    """Return the rules that write a card, by the folder that it lies in."""
    found = {}
    for rule in workflow.rules:
        for output in rule.output:
            if str(output).endswith("card.json"):
                found.setdefault(str(output).split("/")[1], []).append((rule, output))
    return found


def planned_jobs(cards):
    """Return the jobs that leave these cards, whether they are done or not."""
    rules_by_folder, found = card_rules(), []
    for path in cards:
        for rule, output in rules_by_folder[path.split("/")[1]]:
            if match := output.match(path):
                found.append(planned_job(rule, match.groupdict()))
                break
    return found


def ledger_cards():
    """Return the cards of the whole config, with those of models that only a local server holds."""
    cards = [*all_cards(), *experiment_cards(), "results/metrics/card.json"]
    jobs = planned_jobs(cards)
    served = [server_of(job.stage, job.cell) for job in jobs]
    if any(job.stage in JUDGING for job in jobs):
        served += [provider["model"] for provider in judge_providers("local_server")]
    return list(dict.fromkeys([*cards, *(f"results/models/{model}.card.json" for model in served if model)]))


def without_card(planned):
    """Return how many jobs of the whole config leave no card, as a dry run counts them."""
    prepared = [CONFIG.models[job.cell["model"]] for job in planned if job.stage == "prepare_model"]
    prepared += [CONFIG.datasets[job.cell["dataset"]] for job in planned if job.stage == "prepare_dataset"]
    packages = {PACKAGES[entry.package].file for entry in prepared if entry.source == "packaged"}
    if any(job.stage in JUDGING for job in planned) and embedding_files()["package"]:
        packages.add(Path(embedding_files()["package"]).name)
    figures = {(cell.model, cell.dataset, cell.attack) for cell in CELLS}
    once = ["list_excluded", "tables", "report", "all", *experiment_metrics()]
    return len(packages) + len(figures) + len(once)


def all_ledger():
    """Return the ledger of the whole config, with what its cards say was spent."""
    paths = ledger_cards()
    planned = planned_jobs(paths)
    cards = [read_json(path) for path in paths if Path(path).exists()]
    return build_ledger(planned, cards, without_card=without_card(planned))


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
