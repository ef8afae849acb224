# Poisoned answers of chat attacks from an external language model, where the attack's `oracle` names one.


def oracle_model(w):
    """Return the checkpoint that a local server answers with."""
    provider = CONFIG.attacks[w.attack].oracle
    return f"results/models/{provider.model}" if provider.kind == "local_server" else []


def oracle_recorded(w):
    """Return the file of recorded replies."""
    provider = CONFIG.attacks[w.attack].oracle
    return provider.path if provider.kind == "recorded" else []


def oracle_asked(name):
    """Return how the provider is asked: settings that change no result travel as resources, which rerun nothing."""
    return lambda w: int(getattr(CONFIG.attacks[w.attack].oracle, name, 0))


def oracle_needs(estimate):
    """Return a resource function for the model of a local server; other providers need no model here."""

    def needed(w, attempt):
        provider = CONFIG.attacks[w.attack].oracle
        entry = CONFIG.models[provider.model] if provider.kind == "local_server" else None
        return estimate("collect_evidence", entry, attempt)

    return needed


rule ask_oracle:
    input:
        train="results/data/{dataset}/s{seed}/train.jsonl",
        files=attack_files,
        model=oracle_model,
        recorded=oracle_recorded,
        code=lambda w: code("ask_oracle", f"attacks/{CONFIG.attacks[w.attack].method}.py"),
    output:
        replies="results/oracle/{dataset}/{attack}/s{seed}/replies.jsonl",
        card="results/oracle/{dataset}/{attack}/s{seed}/card.json",
    log:
        "logs/ask_oracle/{dataset}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/ask_oracle/{dataset}.{attack}.s{seed}.jsonl"
    wildcard_constraints:
        attack=any_of(attack for attack in CONFIG.attacks if oracle_of(attack)),
    threads: 1
    resources:
        concurrency=oracle_asked("concurrency"),
        timeout_s=oracle_asked("timeout_s"),
        max_retries=oracle_asked("max_retries"),
        mem_mb=oracle_needs(mem_mb_of),
        runtime=oracle_needs(runtime_of),
    params:
        spec=spec("attack", "rows", above=["dataset"]),
    script:
        "../scripts/ask_oracle.py"
