# Chat: a judge turns replies into answers, in the form that label scores give on the other data sets.

JUDGES = CONFIG.evaluation.judges()


def judge_code(rule):
    """Return the code of a rule with that of the judges which the config names, not of the others."""
    return lambda w: code(rule, *(f"judging/{judge['kind']}.py" for judge in JUDGES))


def embedding_judges():
    return [judge for judge in JUDGES if judge["kind"] == "embedding"]


def embedding_files():
    """Return what embedding judges load: the fetched package, and the files of local directories."""
    # One package file at most: there is one packaged model.
    packages = [PACKAGES[judge["package"]].file for judge in embedding_judges() if judge["path"] is None]
    folders = [Path(judge["path"]) for judge in embedding_judges() if judge["path"] is not None]
    return {
        "package": f"results/sources/{packages[0]}" if packages else None,
        "files": sorted(str(file) for folder in folders for file in folder.glob("*") if file.is_file()),
    }


def judge_providers(kind):
    return [judge["provider"] for judge in JUDGES if judge["kind"] == "llm" and judge["provider"]["kind"] == kind]


def judge_inputs(w):
    """Return what the judges need besides the replies, by name."""
    found = embedding_files() | {
        "model": sorted({f"results/models/{one['model']}" for one in judge_providers("local_server")}),
        "recorded": [one["path"] for one in judge_providers("recorded")],
    }
    if uses_calibration():
        found["threshold"] = "results/judge/{dataset}/s{seed}/threshold.json".format(**dict(w))
    return given(found)


def given(inputs):
    """Return the inputs that name a file."""
    return {name: files for name, files in inputs.items() if files}


def judge_patience(name):
    """Return how endpoints are asked: settings that change no result travel as resources, which rerun nothing."""
    evaluation = CONFIG.evaluation
    judges = [evaluation.judge, evaluation.payload_judge, *evaluation.compare_judges]
    return max((int(getattr(judge.provider, name, 0)) for judge in judges if judge.kind == "llm"), default=0)


def served_judge():
    """Return the largest model that a judge's local server holds, or None."""
    served = [CONFIG.models[one["model"]] for one in judge_providers("local_server")]
    return max(served, key=parameters_of, default=None)


def judge_spec(w):
    """Return the judges and the payload that they look for, with all that stands above the replies."""
    own = settings_of("judges", w) | settings_of("payload", w)
    return canonical(own | {"above": sha256_of_text(answer_spec(w))[:16]})


rule calibrate_judge:
    input:
        unpack(lambda w: given(embedding_files())),
        train="results/data/{dataset}/s{seed}/train.jsonl",
        code=code("calibrate_judge", "judging/embedding.py"),
    output:
        threshold="results/judge/{dataset}/s{seed}/threshold.json",
        card="results/judge/{dataset}/s{seed}/card.json",
    log:
        "logs/calibrate_judge/{dataset}.s{seed}.log",
    benchmark:
        "benchmarks/results/calibrate_judge/{dataset}.s{seed}.jsonl"
    wildcard_constraints:
        dataset=CHATS,
    threads: 1
    resources:
        mem_mb=resources_for("calibrate_judge")[0],
        runtime=resources_for("calibrate_judge")[1],
    params:
        spec=spec("calibrated_judges", above=["dataset"]),
    script:
        "../scripts/calibrate_judge.py"


rule judge:
    input:
        unpack(judge_inputs),
        replies="results/replies/{model}/{dataset}/{attack}/{defense}/s{seed}/replies.jsonl",
        code=judge_code("judge"),
    output:
        answers="results/answers/{model}/{dataset}/{attack}/{defense}/s{seed}/answers.jsonl",
        judgements="results/judgements/{model}/{dataset}/{attack}/{defense}/s{seed}/judgements.jsonl",
        card="results/answers/{model}/{dataset}/{attack}/{defense}/s{seed}/card.json",
    log:
        "logs/judge/{model}.{dataset}.{attack}.{defense}.s{seed}.log",
    benchmark:
        "benchmarks/results/judge/{model}.{dataset}.{attack}.{defense}.s{seed}.jsonl"
    wildcard_constraints:
        dataset=CHATS,
    threads: 1
    resources:
        concurrency=judge_patience("concurrency"),
        timeout_s=judge_patience("timeout_s"),
        max_retries=judge_patience("max_retries"),
        mem_mb=lambda w, attempt: mem_mb_of("judge", served_judge(), attempt),
        runtime=lambda w, attempt: runtime_of("judge", served_judge(), attempt),
    params:
        spec=judge_spec,
    script:
        "../scripts/judge.py"
