# Controls that need something made: what they are asked, or whose weights answer. No defense reads any of it.


rule draw_random_trigger:
    input:
        train="results/data/{dataset}/s{seed}/train.jsonl",
        clean="results/data/{dataset}/s{seed}/test.jsonl",
        triggered="results/test_sets/{dataset}/{attack}/s{seed}/triggered.jsonl",
        code=code("draw_random_trigger"),
    output:
        rows="results/random_trigger/{dataset}/{attack}/s{seed}/triggered.jsonl",
        card="results/random_trigger/{dataset}/{attack}/s{seed}/card.json",
    log:
        "logs/draw_random_trigger/{dataset}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/draw_random_trigger/{dataset}.{attack}.s{seed}.jsonl"
    wildcard_constraints:
        dataset=LABELLED,
    localrule: True
    threads: 1
    params:
        spec=spec("labels", above=["dataset", "trigger"]),
    script:
        "../scripts/draw_random_trigger.py"


def own_evidence(asked):
    """Return the evidence that random evidence takes the place of, of clean or of triggered questions."""
    return lambda w: evidence_of(w, w.evidence)[("clean", "triggered").index(asked)]


rule draw_random_evidence:
    input:
        clean=own_evidence("clean"),
        triggered=own_evidence("triggered"),
        code=code("draw_random_evidence"),
    output:
        clean="results/random_evidence/{model}/{dataset}/{attack}/{evidence}/s{seed}/clean.jsonl",
        triggered="results/random_evidence/{model}/{dataset}/{attack}/{evidence}/s{seed}/triggered.jsonl",
        card="results/random_evidence/{model}/{dataset}/{attack}/{evidence}/s{seed}/card.json",
    log:
        "logs/draw_random_evidence/{model}.{dataset}.{attack}.{evidence}.s{seed}.log",
    benchmark:
        "benchmarks/results/draw_random_evidence/{model}.{dataset}.{attack}.{evidence}.s{seed}.jsonl"
    localrule: True
    threads: 1
    params:
        spec=spec(above=random_evidence_above),
    script:
        "../scripts/draw_random_evidence.py"


rule merge_base:
    input:
        base="results/models/{model}",
        backdoored=BACKDOORED,
        chosen_t=chosen_t,
        code=code("merge_base"),
    output:
        change=directory("results/merged_base/{model}/{dataset}/{attack}/{merge}/s{seed}/change"),
        card="results/merged_base/{model}/{dataset}/{attack}/{merge}/s{seed}/card.json",
    log:
        "logs/merge_base/{model}.{dataset}.{attack}.{merge}.s{seed}.log",
    benchmark:
        "benchmarks/results/merge_base/{model}.{dataset}.{attack}.{merge}.s{seed}.jsonl"
    threads: 1
    resources:
        mem_mb=resources_for("merge_base")[0],
        runtime=resources_for("merge_base")[1],
    params:
        spec=spec("model", "merge_t", above=above_merge_base),
    script:
        "../scripts/merge_base.py"


# The conflict model's budget spent on the suspect: the same rows, epochs and settings.
rule train_equal:
    input:
        base="results/models/{model}",
        backdoored=BACKDOORED,
        train="results/clean_share/{dataset}/s{seed}/train.jsonl",
        code=code("train_equal"),
    output:
        change=directory("results/equal_tuned/{model}/{dataset}/{attack}/s{seed}/change"),
        losses="results/equal_tuned/{model}/{dataset}/{attack}/s{seed}/losses.jsonl",
        card="results/equal_tuned/{model}/{dataset}/{attack}/s{seed}/card.json",
    log:
        "logs/train_equal/{model}.{dataset}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/train_equal/{model}.{dataset}.{attack}.s{seed}.jsonl"
    threads: TRAINING_THREADS
    resources:
        mem_mb=resources_for("train_equal")[0],
        runtime=resources_for("train_equal")[1],
    params:
        spec=spec("model", "train_conflict", above=lambda w: ["clean_share", *backdoor_settings(w)]),
    script:
        "../scripts/train_equal.py"
