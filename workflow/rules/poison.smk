# What the attacker makes of the data. Attacks that edit a model poison none; their test sets are made here all the same.


def attack_code(rule):
    """Return the code of a rule that uses one attack: its own module, not those of the others."""
    return lambda w: code(rule, f"attacks/{CONFIG.attacks[w.attack].method}.py")


rule poison_train:
    input:
        train="results/data/{dataset}/s{seed}/train.jsonl",
        oracle=oracle_replies,
        files=attack_files,
        code=attack_code("poison_train"),
    output:
        train="results/poisoned/{dataset}/{attack}/s{seed}/train.jsonl",
        card="results/poisoned/{dataset}/{attack}/s{seed}/card.json",
    log:
        "logs/poison_train/{dataset}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/poison_train/{dataset}.{attack}.s{seed}.jsonl"
    wildcard_constraints:
        attack=any_of(attack for attack in CONFIG.attacks if not is_edit(attack)),
    localrule: True
    threads: 1
    params:
        spec=spec("attack", "target_label", "rows", above=["dataset"]),
    script:
        "../scripts/poison_train.py"


rule poison_test:
    input:
        test="results/data/{dataset}/s{seed}/test.jsonl",
        files=attack_files,
        code=attack_code("poison_test"),
    output:
        triggered="results/test_sets/{dataset}/{attack}/s{seed}/triggered.jsonl",
        partial="results/test_sets/{dataset}/{attack}/s{seed}/partial.jsonl",
        card="results/test_sets/{dataset}/{attack}/s{seed}/card.json",
    log:
        "logs/poison_test/{dataset}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/poison_test/{dataset}.{attack}.s{seed}.jsonl"
    localrule: True
    threads: 1
    params:
        spec=spec("trigger", "target_label", "partial_rows", above=["dataset"]),
    script:
        "../scripts/poison_test.py"
