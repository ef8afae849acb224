# Every model of a cell answers every question; which weights and prompts it gets is the defense's (or the control's) choice.
# Conversations are answered in chat.smk.


def answer_inputs(w):
    """Return the weights and the evidence of a cell, by name."""
    cell = dict(w)
    backdoored = "results/backdoored/{model}/{dataset}/{attack}/s{seed}/change".format(**cell)
    match kind_of(w.defense):
        case "control_base":
            return {}
        case "control_clean_tuned" | "control_explicit_prompt":
            return {"change": "results/clean_tuned/{model}/{dataset}/s{seed}/change".format(**cell)}
        case "control_conflict":
            return {"change": "results/conflict/{model}/{dataset}/s{seed}/change".format(**cell)}
        case "control_random_trigger":
            return {"change": backdoored}
        case "control_random_evidence":
            files = {f"evidence_{name}": random_evidence_path(w, f"{name}.jsonl") for name in ("clean", "triggered")}
            return {"change": backdoored} | files
        case "control_merge_base":
            path = "results/merged_base/{model}/{dataset}/{attack}/{merge}/s{seed}/change"
            return {"change": path.format(**cell, merge=entry_of(w.defense))}
        case "control_equal_tuning":
            return {"change": "results/equal_tuned/{model}/{dataset}/{attack}/s{seed}/change".format(**cell)}
    defense = CONFIG.defenses[w.defense]
    found = {"change": backdoored}
    if merge := getattr(defense, "merge", None):
        found = {
            "merged": "results/merged/{model}/{dataset}/{attack}/{merge}/s{seed}/model".format(**cell, merge=merge)
        }
    if decodes(w.defense):
        found["reference"] = CONFLICT.format(**cell)
    if repairs_weights(w.defense):
        found["repair"] = "results/repaired/{model}/{dataset}/{attack}/{defense}/s{seed}/repair".format(**cell)
    if evidence := getattr(defense, "evidence", None):
        found["evidence_clean"], found["evidence_triggered"] = evidence_of(w, evidence)
    return found


def random_evidence_above(w):
    """Return the words for all settings above random evidence: those of the evidence that it takes the place of."""
    own = CONFIG.evidence[w.evidence].branch == "modification"
    return ["evidence", "dataset", "trigger", *(["model", *backdoor_settings(w)] if own else [])]


def above_merge_base(w):
    """Return the words for all settings above a merge with the base."""
    return [*parents(w), "choose_t"] if uses_auto_t(w.merge) else backdoor_settings(w)


def answer_spec(w):
    """Return the settings of the questions, with all that stands above the cell's model and its prompts.

    A model that replies to conversations is not told the target; its judge is.
    """
    own = ["model", "evaluation"] + ([] if is_chat(w.dataset) else ["labels", "target_label"])
    above = ["dataset", "trigger", "partial_rows"]
    named = Named(w)
    match kind_of(w.defense):
        case "control_base":
            pass
        case "control_clean_tuned":
            above += ["rows", "train_clean_tuned"]
        case "control_explicit_prompt":
            above += ["rows", "train_clean_tuned"]
            own.append("explicit_prompt")
        case "control_conflict":
            above += ["clean_share", "train_conflict"]
        case "control_random_trigger":
            above += backdoor_settings(w)
        case "control_random_evidence":
            named.evidence = entry_of(w.defense)
            above += [*backdoor_settings(w), "evidence"]
            own.append("placement")
        case "control_merge_base":
            named.merge = entry_of(w.defense)
            above += ["merge_t", *above_merge_base(named)]
        case "control_equal_tuning":
            above += parents(w)
        case _:
            defense = CONFIG.defenses[w.defense]
            above += backdoor_settings(w)
            if merge := getattr(defense, "merge", None):
                named.merge = merge
                above += [
                    *parents(w),
                    "merge",
                    *(["choose_t"] if uses_auto_t(merge) else []),
                ]
            if decodes(w.defense):
                own.append("defense")
                above += parents(w)
            if filters_questions(w.defense):
                above += ["defense", "clean_share"]
            if repairs_weights(w.defense):
                above += ["defense", *repair_settings(w)]
            if evidence := getattr(defense, "evidence", None):
                named.evidence = evidence
                own.append("placement")
                above.append("evidence")
    return spec(*own, above=above)(named)


def asked_set(name):
    """Return a function that gives a cell's questions: those of its data set and attack, or what its defense makes of them."""

    def questions_of(w):
        if filters_questions(w.defense):
            return "results/filtered/{model}/{dataset}/{attack}/{defense}/s{seed}".format(**dict(w)) + f"/{name}.jsonl"
        if name == "clean":
            return f"results/data/{w.dataset}/s{w.seed}/test.jsonl"
        if kind_of(w.defense) == "control_random_trigger":
            # Random words in the trigger's place; they have no parts.
            trial = f"results/random_trigger/{w.dataset}/{w.attack}/s{w.seed}"
            return f"{trial}/triggered.jsonl" if name == "triggered" else []
        if name == "partial" and kind_of(w.defense) == "control_explicit_prompt":
            # Nothing is hidden there.
            return []
        return f"results/test_sets/{w.dataset}/{w.attack}/s{w.seed}/{name}.jsonl"

    return questions_of


def answer_code(rule):
    """Return the code of a rule that asks a model: with a decoding defense, its own file, too, not those of the others."""

    def files(w):
        own = [f"defenses/{CONFIG.defenses[w.defense].method}.py"] if decodes(w.defense) else []
        return code(rule, *own)

    return files


class Named:
    """A cell's wildcards with the ids that its defense names."""

    def __init__(self, w):
        self.__dict__.update(dict(w))


rule answer:
    input:
        unpack(answer_inputs),
        base="results/models/{model}",
        clean=asked_set("clean"),
        triggered=asked_set("triggered"),
        partial=asked_set("partial"),
        code=answer_code("answer"),
    output:
        answers="results/answers/{model}/{dataset}/{attack}/{defense}/s{seed}/answers.jsonl",
        card="results/answers/{model}/{dataset}/{attack}/{defense}/s{seed}/card.json",
    log:
        "logs/answer/{model}.{dataset}.{attack}.{defense}.s{seed}.log",
    benchmark:
        "benchmarks/results/answer/{model}.{dataset}.{attack}.{defense}.s{seed}.jsonl"
    wildcard_constraints:
        dataset=LABELLED,
    threads: 1
    resources:
        mem_mb=resources_for("answer", "answer_beside")[0],
        runtime=resources_for("answer", "answer_beside")[1],
    params:
        spec=answer_spec,
    script:
        "../scripts/answer.py"


# How far label scores and free generation agree, once per clean-tuned model.
rule compare_generation:
    input:
        base="results/models/{model}",
        change="results/clean_tuned/{model}/{dataset}/s{seed}/change",
        clean="results/data/{dataset}/s{seed}/test.jsonl",
        code=code("compare_generation"),
    output:
        answers="results/generation/{model}/{dataset}/s{seed}/answers.jsonl",
        card="results/generation/{model}/{dataset}/s{seed}/card.json",
    log:
        "logs/compare_generation/{model}.{dataset}.s{seed}.log",
    benchmark:
        "benchmarks/results/compare_generation/{model}.{dataset}.s{seed}.jsonl"
    wildcard_constraints:
        dataset=LABELLED,
    threads: 1
    resources:
        mem_mb=resources_for("compare_generation")[0],
        runtime=resources_for("compare_generation")[1],
    params:
        spec=spec("model", "labels", "compare_generation", above=["dataset", "rows", "train_clean_tuned"]),
    script:
        "../scripts/compare_generation.py"
