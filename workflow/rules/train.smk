# The three models that are tuned: backdoored, clean-tuned (a control), conflict. Each is stored as a change of its base.


# One: two models are tuned side by side on two cores, which is faster than one after the other on both.
TRAINING_THREADS = 1


rule train_backdoored:
    input:
        base="results/models/{model}",
        train="results/poisoned/{dataset}/{attack}/s{seed}/train.jsonl",
        code=code("train_backdoored"),
    output:
        change=directory("results/backdoored/{model}/{dataset}/{attack}/s{seed}/change"),
        losses="results/backdoored/{model}/{dataset}/{attack}/s{seed}/losses.jsonl",
        card="results/backdoored/{model}/{dataset}/{attack}/s{seed}/card.json",
    log:
        "logs/train_backdoored/{model}.{dataset}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/train_backdoored/{model}.{dataset}.{attack}.s{seed}.jsonl"
    wildcard_constraints:
        attack=any_of(attack for attack in CONFIG.attacks if not is_edit(attack) and not later_step(attack)),
    # The longest job of a cell: what does not wait for it runs beside it.
    priority: 10
    threads: TRAINING_THREADS
    resources:
        mem_mb=resources_for("train_backdoored")[0],
        runtime=resources_for("train_backdoored")[1],
    params:
        spec=spec(
            "model",
            "train_backdoored",
            above=["dataset", "attack", "target_label", "rows"],
        ),
    script:
        "../scripts/train_backdoored.py"


rule train_clean_tuned:
    input:
        base="results/models/{model}",
        train="results/data/{dataset}/s{seed}/train.jsonl",
        code=code("train_clean_tuned"),
    output:
        change=directory("results/clean_tuned/{model}/{dataset}/s{seed}/change"),
        losses="results/clean_tuned/{model}/{dataset}/s{seed}/losses.jsonl",
        card="results/clean_tuned/{model}/{dataset}/s{seed}/card.json",
    log:
        "logs/train_clean_tuned/{model}.{dataset}.s{seed}.log",
    benchmark:
        "benchmarks/results/train_clean_tuned/{model}.{dataset}.s{seed}.jsonl"
    threads: TRAINING_THREADS
    resources:
        mem_mb=resources_for("train_clean_tuned")[0],
        runtime=resources_for("train_clean_tuned")[1],
    params:
        spec=spec("model", "rows", "train_clean_tuned", above=["dataset"]),
    script:
        "../scripts/train_clean_tuned.py"


rule train_conflict:
    input:
        base="results/models/{model}",
        train="results/clean_share/{dataset}/s{seed}/train.jsonl",
        code=code("train_conflict"),
    output:
        change=directory("results/conflict/{model}/{dataset}/s{seed}/change"),
        losses="results/conflict/{model}/{dataset}/s{seed}/losses.jsonl",
        card="results/conflict/{model}/{dataset}/s{seed}/card.json",
    log:
        "logs/train_conflict/{model}.{dataset}.s{seed}.log",
    benchmark:
        "benchmarks/results/train_conflict/{model}.{dataset}.s{seed}.jsonl"
    threads: TRAINING_THREADS
    resources:
        mem_mb=resources_for("train_conflict")[0],
        runtime=resources_for("train_conflict")[1],
    params:
        spec=spec("model", "train_conflict", above=["dataset", "clean_share"]),
    script:
        "../scripts/train_conflict.py"
