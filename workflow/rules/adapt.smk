# Attacks whose model is not ready when it is tuned: a victim tunes it on, or the attacker subtracts a conflict model of his own.


ATTACKED = "results/attacked/{model}/{dataset}/{attack}/s{seed}/change"


# The same job as train_backdoored, under another path: what it makes is handed to a later step.
use rule train_backdoored as train_attacked with:
    output:
        change=directory(ATTACKED),
        losses="results/attacked/{model}/{dataset}/{attack}/s{seed}/losses.jsonl",
        card="results/attacked/{model}/{dataset}/{attack}/s{seed}/card.json",
    log:
        "logs/train_attacked/{model}.{dataset}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/train_attacked/{model}.{dataset}.{attack}.s{seed}.jsonl"
    wildcard_constraints:
        attack=attacks_with("tune_victim", "subtract_conflict"),
    resources:
        mem_mb=resources_for("train_attacked")[0],
        runtime=resources_for("train_attacked")[1],


rule tune_victim:
    input:
        base="results/models/{model}",
        attacked=ATTACKED,
        train="results/data/{dataset}/s{seed}/train.jsonl",
        code=code("tune_victim"),
    output:
        change=directory(BACKDOORED),
        losses="results/backdoored/{model}/{dataset}/{attack}/s{seed}/losses.jsonl",
        card="results/backdoored/{model}/{dataset}/{attack}/s{seed}/card.json",
    log:
        "logs/tune_victim/{model}.{dataset}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/tune_victim/{model}.{dataset}.{attack}.s{seed}.jsonl"
    wildcard_constraints:
        attack=attacks_with("tune_victim"),
    priority: 10
    threads: TRAINING_THREADS
    resources:
        mem_mb=resources_for("tune_victim")[0],
        runtime=resources_for("tune_victim")[1],
    params:
        spec=spec("model", "victim", above=ATTACKED_SETTINGS),
    script:
        "../scripts/tune_victim.py"


# Clean rows of the attacker's own. He may know which the defender has; the defender knows nothing of his.
rule draw_attacker_share:
    input:
        train="results/data/{dataset}/s{seed}/train.jsonl",
        defenders="results/clean_share/{dataset}/s{seed}/train.jsonl",
        defenders_holdout="results/clean_share/{dataset}/s{seed}/holdout.jsonl",
        code=code("draw_attacker_share"),
    output:
        train="results/attacker_share/{dataset}/{attack}/s{seed}/train.jsonl",
        card="results/attacker_share/{dataset}/{attack}/s{seed}/card.json",
    log:
        "logs/draw_attacker_share/{dataset}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/draw_attacker_share/{dataset}.{attack}.s{seed}.jsonl"
    localrule: True
    threads: 1
    params:
        spec=spec("attacker_share", above=["dataset", "clean_share"]),
    script:
        "../scripts/draw_attacker_share.py"


rule train_attacker_conflict:
    input:
        base="results/models/{model}",
        train="results/attacker_share/{dataset}/{attack}/s{seed}/train.jsonl",
        code=code("train_attacker_conflict"),
    output:
        change=directory("results/attacker_conflict/{model}/{dataset}/{attack}/s{seed}/change"),
        losses="results/attacker_conflict/{model}/{dataset}/{attack}/s{seed}/losses.jsonl",
        card="results/attacker_conflict/{model}/{dataset}/{attack}/s{seed}/card.json",
    log:
        "logs/train_attacker_conflict/{model}.{dataset}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/train_attacker_conflict/{model}.{dataset}.{attack}.s{seed}.jsonl"
    threads: TRAINING_THREADS
    resources:
        mem_mb=resources_for("train_attacker_conflict")[0],
        runtime=resources_for("train_attacker_conflict")[1],
    params:
        spec=spec(
            "model",
            "train_attacker_conflict",
            above=["dataset", "clean_share", "attacker_share"],
        ),
    script:
        "../scripts/train_attacker_conflict.py"


def attackers_conflict(w):
    """Return the conflict model that the attacker subtracts: his own or, in the worst case, the defender's."""
    own = "results/attacker_conflict/{model}/{dataset}/{attack}/s{seed}/change"
    return (CONFLICT if CONFIG.attacks[w.attack].worst_case else own).format(**dict(w))


rule subtract_conflict:
    input:
        base="results/models/{model}",
        attacked=ATTACKED,
        conflict=attackers_conflict,
        code=code("subtract_conflict"),
    output:
        change=directory(BACKDOORED),
        card="results/backdoored/{model}/{dataset}/{attack}/s{seed}/card.json",
    log:
        "logs/subtract_conflict/{model}.{dataset}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/subtract_conflict/{model}.{dataset}.{attack}.s{seed}.jsonl"
    wildcard_constraints:
        attack=attacks_with("subtract_conflict"),
    threads: 1
    resources:
        mem_mb=resources_for("subtract_conflict")[0],
        runtime=resources_for("subtract_conflict")[1],
    params:
        spec=spec("model", "strength", above=[*ATTACKED_SETTINGS, "subtracted"]),
    script:
        "../scripts/subtract_conflict.py"


# A measurement: how alike the two conflict models are, which no side can know.
rule compare_conflicts:
    input:
        base="results/models/{model}",
        attackers=attackers_conflict,
        defenders=CONFLICT,
        code=code("compare_conflicts"),
    output:
        cosine="results/conflict_angle/{model}/{dataset}/{attack}/s{seed}/cosine.json",
        card="results/conflict_angle/{model}/{dataset}/{attack}/s{seed}/card.json",
    log:
        "logs/compare_conflicts/{model}.{dataset}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/compare_conflicts/{model}.{dataset}.{attack}.s{seed}.jsonl"
    wildcard_constraints:
        attack=attacks_with("subtract_conflict"),
    threads: 1
    resources:
        mem_mb=resources_for("compare_conflicts")[0],
        runtime=resources_for("compare_conflicts")[1],
    params:
        spec=spec("model", above=["dataset", "clean_share", "train_conflict", "subtracted"]),
    script:
        "../scripts/compare_conflicts.py"
