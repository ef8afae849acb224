# Defenses on weights: the suspect model is repaired with clean rows alone. A repair holds what the defense changed, nothing else.


def repair_code(w):
    """Return the code of a repair: the defense's own file, not those of the others."""
    return code("repair_model", f"defenses/{CONFIG.defenses[w.defense].method}.py")


def repair_rows(w):
    """Return the clean rows that a defense is given, if any."""
    match CONFIG.defenses[w.defense].clean_rows():
        case "none":
            return []
        case "all":
            return f"results/data/{w.dataset}/s{w.seed}/train.jsonl"
    return f"results/clean_share/{w.dataset}/s{w.seed}/train.jsonl"


def oracle_rows(w):
    """Return clean rows with the attack's full trigger in them: for an oracle alone."""
    return f"results/revealed/{w.dataset}/{w.attack}/s{w.seed}/triggered.jsonl" if is_oracle(w.defense) else []


# What an oracle is told. No other defense reads this.
rule reveal_triggers:
    input:
        clean="results/clean_share/{dataset}/s{seed}/train.jsonl",
        files=attack_files,
        code=attack_code("reveal_triggers"),
    output:
        triggered="results/revealed/{dataset}/{attack}/s{seed}/triggered.jsonl",
        card="results/revealed/{dataset}/{attack}/s{seed}/card.json",
    log:
        "logs/reveal_triggers/{dataset}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/reveal_triggers/{dataset}.{attack}.s{seed}.jsonl"
    wildcard_constraints:
        dataset=LABELLED,
    localrule: True
    threads: 1
    params:
        spec=spec("trigger", above=["dataset", "clean_share"]),
    script:
        "../scripts/reveal_triggers.py"


rule repair_model:
    input:
        base="results/models/{model}",
        change=BACKDOORED,
        clean=repair_rows,
        oracle=oracle_rows,
        code=repair_code,
    output:
        repair=directory("results/repaired/{model}/{dataset}/{attack}/{defense}/s{seed}/repair"),
        card="results/repaired/{model}/{dataset}/{attack}/{defense}/s{seed}/card.json",
    log:
        "logs/repair_model/{model}.{dataset}.{attack}.{defense}.s{seed}.log",
    benchmark:
        "benchmarks/results/repair_model/{model}.{dataset}.{attack}.{defense}.s{seed}.jsonl"
    wildcard_constraints:
        defense=any_of(filter(repairs_weights, CONFIG.defenses)),
    threads: TRAINING_THREADS
    resources:
        mem_mb=resources_for("repair_model")[0],
        runtime=resources_for("repair_model")[1],
    params:
        spec=spec("model", "defense", "labels", above=repair_settings),
    script:
        "../scripts/repair_model.py"
