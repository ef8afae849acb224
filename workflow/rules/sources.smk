# Base models and data sets: from packages, the hub, or local files.
from infoconflict.packages import PACKAGES


def package_input(entry):
    """Return the fetched file of a packaged source, or nothing."""
    return f"results/sources/{PACKAGES[entry.package].file}" if entry.source == "packaged" else []


def local_model_files(entry):
    """Return the files of a local checkpoint: replaced weights make a new model."""
    if entry.source != "local":
        return []
    return sorted(str(file) for file in Path(entry.path).glob("*") if file.is_file())


def local_dataset_files(entry):
    """Return the files of a local data set."""
    return [path for path in (entry.train, entry.test) if path] if entry.source == "local" else []


def package_of_file(file):
    """Return the name of the package that a file belongs to."""
    return next(name for name, package in PACKAGES.items() if package.file == file)


rule fetch_package:
    input:
        code=code("fetch_package"),
    output:
        file="results/sources/{file}",
    log:
        "logs/fetch_package/{file}.log",
    wildcard_constraints:
        file=any_of(package.file for package in PACKAGES.values()),
    retries: 2
    localrule: True
    params:
        spec=lambda w: canonical({"package": package_of_file(w.file)}),
    script:
        "../scripts/fetch_package.py"


rule prepare_model:
    input:
        package=lambda w: package_input(CONFIG.models[w.model]),
        files=lambda w: local_model_files(CONFIG.models[w.model]),
        code=code("prepare_model"),
    output:
        model=directory("results/models/{model}"),
        card="results/models/{model}.card.json",
    log:
        "logs/prepare_model/{model}.log",
    benchmark:
        "benchmarks/results/prepare_model/{model}.jsonl"
    threads: 1
    resources:
        mem_mb=resources_for("prepare_model")[0],
        runtime=resources_for("prepare_model")[1],
    params:
        spec=spec("model"),
    script:
        "../scripts/prepare_model.py"


rule prepare_dataset:
    input:
        package=lambda w: package_input(CONFIG.datasets[w.dataset]),
        files=lambda w: local_dataset_files(CONFIG.datasets[w.dataset]),
        code=code("prepare_dataset"),
    output:
        train="results/data/{dataset}/s{seed}/train.jsonl",
        test="results/data/{dataset}/s{seed}/test.jsonl",
        card="results/data/{dataset}/s{seed}/card.json",
    log:
        "logs/prepare_dataset/{dataset}.s{seed}.log",
    benchmark:
        "benchmarks/results/prepare_dataset/{dataset}.s{seed}.jsonl"
    localrule: True
    threads: 1
    params:
        spec=spec("dataset"),
    script:
        "../scripts/prepare_dataset.py"


rule draw_clean_share:
    input:
        train="results/data/{dataset}/s{seed}/train.jsonl",
        code=code("draw_clean_share"),
    output:
        train="results/clean_share/{dataset}/s{seed}/train.jsonl",
        holdout="results/clean_share/{dataset}/s{seed}/holdout.jsonl",
        card="results/clean_share/{dataset}/s{seed}/card.json",
    log:
        "logs/draw_clean_share/{dataset}.s{seed}.log",
    benchmark:
        "benchmarks/results/draw_clean_share/{dataset}.s{seed}.jsonl"
    localrule: True
    threads: 1
    params:
        spec=spec("clean_share", above=["dataset"]),
    script:
        "../scripts/draw_clean_share.py"
