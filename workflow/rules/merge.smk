# The conflict model is merged into the backdoored one. Choosing t sees clean rows only; sweeping it is measurement.


BACKDOORED = "results/backdoored/{model}/{dataset}/{attack}/s{seed}/change"
CONFLICT = "results/conflict/{model}/{dataset}/s{seed}/change"


def parents(w):
    """Return the words for all settings above the two models that are merged."""
    # Both trainings in one word: each on its own would have the same name.
    words = [word for word in backdoor_settings(w) if not word.startswith("train_")]
    is_trained = len(words) < len(backdoor_settings(w))  # an edit of the base as it is has no tuning above it
    return [*words, "clean_share", "both_trainings" if is_trained else "train_conflict"]


def maybe_temp(path):
    """Merged weights are large and quickly made again: they go when their answers are written, unless the config keeps them."""
    return path if CONFIG.keep_merged else temp(path)


def chosen_t(w):
    """Return the file that says which t was chosen, for merges with ``t: auto``."""
    folder = "results/chosen_t/{model}/{dataset}/{attack}/{merge}/s{seed}".format(**dict(w))
    return f"{folder}/chosen_t.json" if uses_auto_t(w.merge) else []


def merge_spec(w):
    """Return the settings of a merge; how t is chosen counts only where it is."""
    return spec("model", "merge", above=parents(w) + (["choose_t"] if uses_auto_t(w.merge) else []))(w)


rule choose_t:
    input:
        base="results/models/{model}",
        backdoored=BACKDOORED,
        conflict=CONFLICT,
        holdout="results/clean_share/{dataset}/s{seed}/holdout.jsonl",
        code=code("choose_t"),
    output:
        chosen="results/chosen_t/{model}/{dataset}/{attack}/{merge}/s{seed}/chosen_t.json",
        card="results/chosen_t/{model}/{dataset}/{attack}/{merge}/s{seed}/card.json",
    log:
        "logs/choose_t/{model}.{dataset}.{attack}.{merge}.s{seed}.log",
    benchmark:
        "benchmarks/results/choose_t/{model}.{dataset}.{attack}.{merge}.s{seed}.jsonl"
    threads: 1
    resources:
        mem_mb=resources_for("choose_t")[0],
        runtime=resources_for("choose_t")[1],
    params:
        spec=spec("model", "merge", "choose_t", "labels", above=parents),
    script:
        "../scripts/choose_t.py"


rule merge_models:
    input:
        base="results/models/{model}",
        backdoored=BACKDOORED,
        conflict=CONFLICT,
        chosen_t=chosen_t,
        code=code("merge_models"),
    output:
        model=maybe_temp(directory("results/merged/{model}/{dataset}/{attack}/{merge}/s{seed}/model")),
        mergekit="results/merged/{model}/{dataset}/{attack}/{merge}/s{seed}/mergekit.yaml",
        card="results/merged/{model}/{dataset}/{attack}/{merge}/s{seed}/card.json",
    log:
        "logs/merge_models/{model}.{dataset}.{attack}.{merge}.s{seed}.log",
    benchmark:
        "benchmarks/results/merge_models/{model}.{dataset}.{attack}.{merge}.s{seed}.jsonl"
    threads: 1
    resources:
        mem_mb=resources_for("merge_models")[0],
        runtime=resources_for("merge_models")[1],
    params:
        spec=merge_spec,
    script:
        "../scripts/merge_models.py"


rule sweep_merge:
    input:
        base="results/models/{model}",
        backdoored=BACKDOORED,
        conflict=CONFLICT,
        clean="results/data/{dataset}/s{seed}/test.jsonl",
        triggered="results/test_sets/{dataset}/{attack}/s{seed}/triggered.jsonl",
        code=code("sweep_merge"),
    output:
        answers="results/sweep/{model}/{dataset}/{attack}/{merge}/s{seed}/answers.jsonl",
        card="results/sweep/{model}/{dataset}/{attack}/{merge}/s{seed}/card.json",
    log:
        "logs/sweep_merge/{model}.{dataset}.{attack}.{merge}.s{seed}.log",
    benchmark:
        "benchmarks/results/sweep_merge/{model}.{dataset}.{attack}.{merge}.s{seed}.jsonl"
    wildcard_constraints:
        dataset=LABELLED,
    threads: 1
    resources:
        mem_mb=resources_for("sweep_merge")[0],
        runtime=resources_for("sweep_merge")[1],
    params:
        spec=spec("model", "swept_merge", "sweep", "labels", "target_label", above=parents),
    script:
        "../scripts/sweep_merge.py"
