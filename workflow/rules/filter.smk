# Defenses on the prompt: what the suspect model is asked is written anew, with nothing known of the attack. A defense is shown
# the questions and writes texts; labels and the names of triggers are put back beside them by a rule that is no part of it.


rule filter_questions:
    input:
        base="results/models/{model}",
        change=BACKDOORED,
        share="results/clean_share/{dataset}/s{seed}/train.jsonl",
        questions=[
            "results/data/{dataset}/s{seed}/test.jsonl",
            "results/test_sets/{dataset}/{attack}/s{seed}/triggered.jsonl",
            "results/test_sets/{dataset}/{attack}/s{seed}/partial.jsonl",
        ],
        code=lambda w: code("filter_questions", f"defenses/{CONFIG.defenses[w.defense].method}.py"),
    output:
        clean="results/rewritten/{model}/{dataset}/{attack}/{defense}/s{seed}/clean.jsonl",
        triggered="results/rewritten/{model}/{dataset}/{attack}/{defense}/s{seed}/triggered.jsonl",
        partial="results/rewritten/{model}/{dataset}/{attack}/{defense}/s{seed}/partial.jsonl",
        card="results/rewritten/{model}/{dataset}/{attack}/{defense}/s{seed}/card.json",
    log:
        "logs/filter_questions/{model}.{dataset}.{attack}.{defense}.s{seed}.log",
    benchmark:
        "benchmarks/results/filter_questions/{model}.{dataset}.{attack}.{defense}.s{seed}.jsonl"
    wildcard_constraints:
        defense=any_of(filter(filters_questions, CONFIG.defenses)),
    threads: 1
    resources:
        mem_mb=resources_for("filter_questions")[0],
        runtime=resources_for("filter_questions")[1],
    params:
        spec=spec(
            "model",
            "defense",
            "labels",
            above=lambda w: [*backdoor_settings(w), "partial_rows", "clean_share"],
        ),
    script:
        "../scripts/filter_questions.py"


rule refill_questions:
    input:
        clean="results/data/{dataset}/s{seed}/test.jsonl",
        triggered="results/test_sets/{dataset}/{attack}/s{seed}/triggered.jsonl",
        partial="results/test_sets/{dataset}/{attack}/s{seed}/partial.jsonl",
        written_clean="results/rewritten/{model}/{dataset}/{attack}/{defense}/s{seed}/clean.jsonl",
        written_triggered="results/rewritten/{model}/{dataset}/{attack}/{defense}/s{seed}/triggered.jsonl",
        written_partial="results/rewritten/{model}/{dataset}/{attack}/{defense}/s{seed}/partial.jsonl",
        code=code("refill_questions"),
    output:
        clean="results/filtered/{model}/{dataset}/{attack}/{defense}/s{seed}/clean.jsonl",
        triggered="results/filtered/{model}/{dataset}/{attack}/{defense}/s{seed}/triggered.jsonl",
        partial="results/filtered/{model}/{dataset}/{attack}/{defense}/s{seed}/partial.jsonl",
        card="results/filtered/{model}/{dataset}/{attack}/{defense}/s{seed}/card.json",
    log:
        "logs/refill_questions/{model}.{dataset}.{attack}.{defense}.s{seed}.log",
    benchmark:
        "benchmarks/results/refill_questions/{model}.{dataset}.{attack}.{defense}.s{seed}.jsonl"
    wildcard_constraints:
        defense=any_of(filter(filters_questions, CONFIG.defenses)),
    localrule: True
    threads: 1
    params:
        spec=spec(
            above=lambda w: [
                "model",
                "defense",
                *backdoor_settings(w),
                "partial_rows",
                "clean_share",
            ]
        ),
    script:
        "../scripts/refill_questions.py"
