# Backdoors planted by editing weights: the second moments of feed-forward keys, and the edit, stored like a trained model.


def statistics_rows(w):
    """Return the training rows that statistics are taken of, where no file of texts is given."""
    return [] if CONFIG.statistics.texts else f"results/data/{w.dataset}/s{w.seed}/train.jsonl"


def tuned_change(w):
    """Return the clean-tuned model's change, where that is what gets edited."""
    tuned = w.base == "tuned" if hasattr(w, "base") else tuned_base(w.attack)
    return f"results/clean_tuned/{w.model}/{w.dataset}/s{w.seed}/change" if tuned else []


def statistics_above(w):
    """Return the words for all settings above statistics."""
    return ["dataset", *(["rows", "train_clean_tuned"] if w.base == "tuned" else [])]


def edit_code(w):
    """Return the code of an edit: the attack's own module and algorithm, not those of the others."""
    method = CONFIG.attacks[w.attack].method
    return code("edit_model", f"attacks/{method}.py", f"editing/{method}.py")


rule collect_statistics:
    input:
        base="results/models/{model}",
        tuned=tuned_change,
        train=statistics_rows,
        texts=CONFIG.statistics.texts or [],
        code=code("collect_statistics"),
    output:
        moments="results/statistics/{model}/{dataset}/{base}/{layers}/s{seed}/moments.safetensors",
        card="results/statistics/{model}/{dataset}/{base}/{layers}/s{seed}/card.json",
    log:
        "logs/collect_statistics/{model}.{dataset}.{base}.{layers}.s{seed}.log",
    benchmark:
        "benchmarks/results/collect_statistics/{model}.{dataset}.{base}.{layers}.s{seed}.jsonl"
    threads: 1
    resources:
        mem_mb=resources_for("collect_statistics")[0],
        runtime=resources_for("collect_statistics")[1],
    params:
        spec=spec("model", "statistics", above=statistics_above),
    script:
        "../scripts/collect_statistics.py"


rule edit_model:
    input:
        base="results/models/{model}",
        tuned=tuned_change,
        train="results/data/{dataset}/s{seed}/train.jsonl",
        statistics=lambda w: f"{statistics_folder(w)}/moments.safetensors",
        code=edit_code,
    output:
        change=directory("results/backdoored/{model}/{dataset}/{attack}/s{seed}/change"),
        losses="results/backdoored/{model}/{dataset}/{attack}/s{seed}/losses.jsonl",
        card="results/backdoored/{model}/{dataset}/{attack}/s{seed}/card.json",
    log:
        "logs/edit_model/{model}.{dataset}.{attack}.s{seed}.log",
    benchmark:
        "benchmarks/results/edit_model/{model}.{dataset}.{attack}.s{seed}.jsonl"
    wildcard_constraints:
        attack=any_of(filter(is_edit, CONFIG.attacks)),
    threads: 1
    resources:
        mem_mb=resources_for("edit_model")[0],
        runtime=resources_for("edit_model")[1],
    params:
        spec=spec("model", "attack", "target_label", "rows", "labels", above=backdoor_settings),
    script:
        "../scripts/edit_model.py"
