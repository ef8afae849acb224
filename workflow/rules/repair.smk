# Defenses on weights: the suspect model is repaired with clean rows alone. A repair holds what the defense changed, nothing else.


def repair_code(w):
    """Return the code of a repair: the defense's own file, not those of the others."""
    return code("repair_model", f"defenses/{CONFIG.defenses[w.defense].method}.py")


def repair_rows(w):
    """Return the clean rows that a defense is given."""
    if CONFIG.defenses[w.defense].clean_rows() == "all":
        return f"results/data/{w.dataset}/s{w.seed}/train.jsonl"
    return f"results/clean_share/{w.dataset}/s{w.seed}/train.jsonl"


rule repair_model:
    input:
        base="results/models/{model}",
        change=BACKDOORED,
        clean=repair_rows,
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
