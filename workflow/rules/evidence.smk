# External evidence: one row per prompt, asked of a language model that is not under test.


def evidence_model(w):
    """Return the checkpoint that a local server answers with."""
    provider = CONFIG.evidence[w.evidence].provider
    return f"results/models/{provider.model}" if provider.kind == "local_server" else []


def recorded_replies(w):
    """Return the file of recorded replies."""
    provider = CONFIG.evidence[w.evidence].provider
    return provider.path if provider.kind == "recorded" else []


def asked(name):
    """Return how the provider is asked: settings that change no result travel as resources, which rerun nothing."""
    return lambda w: int(getattr(CONFIG.evidence[w.evidence].provider, name, 0))


def questions(w):
    """Return the test set that evidence is wanted for."""
    if w.asked == "clean":
        return f"results/data/{w.dataset}/s{w.seed}/test.jsonl"
    return f"results/test_sets/{w.dataset}/{w.attack}/s{w.seed}/triggered.jsonl"


rule collect_evidence_clean:
    input:
        questions="results/data/{dataset}/s{seed}/test.jsonl",
        model=evidence_model,
        recorded=recorded_replies,
        code=code("collect_evidence_clean"),
    output:
        evidence="results/evidence/{dataset}/{evidence}/s{seed}/clean.jsonl",
        card="results/evidence/{dataset}/{evidence}/s{seed}/clean.card.json",
    log:
        "logs/collect_evidence_clean/{dataset}.{evidence}.s{seed}.log",
    benchmark:
        "benchmarks/results/collect_evidence_clean/{dataset}.{evidence}.s{seed}.jsonl"
    threads: 1
    resources:
        concurrency=asked("concurrency"),
        timeout_s=asked("timeout_s"),
        max_retries=asked("max_retries"),
        mem_mb=resources_for("collect_evidence")[0],
        runtime=resources_for("collect_evidence")[1],
    params:
        spec=spec("evidence", "labels", "asked_rows", above=["dataset"]),
    script:
        "../scripts/collect_evidence_clean.py"


rule collect_evidence_triggered:
    input:
        questions="results/test_sets/{dataset}/{attack}/s{seed}/triggered.jsonl",
        model=evidence_model,
        recorded=recorded_replies,
        code=code("collect_evidence_triggered"),
    output:
        evidence="results/evidence/{dataset}/{evidence}/{attack}/s{seed}/triggered.jsonl",
        card="results/evidence/{dataset}/{evidence}/{attack}/s{seed}/triggered.card.json",
    log:
        "logs/collect_evidence_triggered/{dataset}.{evidence}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/collect_evidence_triggered/{dataset}.{evidence}.{attack}.s{seed}.jsonl"
    threads: 1
    resources:
        concurrency=asked("concurrency"),
        timeout_s=asked("timeout_s"),
        max_retries=asked("max_retries"),
        mem_mb=resources_for("collect_evidence")[0],
        runtime=resources_for("collect_evidence")[1],
    params:
        spec=spec("evidence", "labels", above=["dataset", "trigger"]),
    script:
        "../scripts/collect_evidence_triggered.py"


# Modification: the suspect model says what it relies on, and the external model rewrites that to contradict it. This evidence is
# a model's own, so its path names the model.
rule ask_suspect:
    input:
        base="results/models/{model}",
        change="results/backdoored/{model}/{dataset}/{attack}/s{seed}/change",
        questions=questions,
        code=code("ask_suspect"),
    output:
        replies="results/suspect_evidence/{dataset}/{evidence}/{attack}/{model}/s{seed}/{asked}.jsonl",
        card="results/suspect_evidence/{dataset}/{evidence}/{attack}/{model}/s{seed}/{asked}.card.json",
    log:
        "logs/ask_suspect/{dataset}.{evidence}.{attack}.{model}.{asked}.s{seed}.log",
    benchmark:
        "benchmarks/results/ask_suspect/{dataset}.{evidence}.{attack}.{model}.{asked}.s{seed}.jsonl"
    threads: 1
    resources:
        mem_mb=resources_for("answer")[0],
        runtime=resources_for("answer")[1],
    params:
        spec=spec("model", "evidence", "asked_rows", above=backdoor_settings),
    script:
        "../scripts/ask_suspect.py"


rule modify_evidence:
    input:
        questions=questions,
        suspect="results/suspect_evidence/{dataset}/{evidence}/{attack}/{model}/s{seed}/{asked}.jsonl",
        model=evidence_model,
        recorded=recorded_replies,
        code=code("modify_evidence"),
    output:
        evidence="results/evidence/{dataset}/{evidence}/{attack}/{model}/s{seed}/{asked}.jsonl",
        card="results/evidence/{dataset}/{evidence}/{attack}/{model}/s{seed}/{asked}.card.json",
    log:
        "logs/modify_evidence/{dataset}.{evidence}.{attack}.{model}.{asked}.s{seed}.log",
    benchmark:
        "benchmarks/results/modify_evidence/{dataset}.{evidence}.{attack}.{model}.{asked}.s{seed}.jsonl"
    threads: 1
    resources:
        concurrency=asked("concurrency"),
        timeout_s=asked("timeout_s"),
        max_retries=asked("max_retries"),
        mem_mb=resources_for("collect_evidence")[0],
        runtime=resources_for("collect_evidence")[1],
    params:
        spec=spec(
            "evidence",
            "labels",
            "asked_rows",
            above=lambda w: ["model", *backdoor_settings(w)],
        ),
    script:
        "../scripts/modify_evidence.py"
