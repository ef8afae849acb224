"""What the jobs of a defense can reach, read from Snakemake's own graph of jobs; nothing is run.

The walk starts at the job that asks a defended model and goes up through every input. It knows no list of rules: what a job may see
is decided by the file, by the name under which the job reads it, and by what stands in the job's parameters.
"""

import ast
import contextlib
import functools
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_origin

from infoconflict.config.loading import load_config
from infoconflict.config.schema import Config
from infoconflict.config.yaml_file import read_yaml
from infoconflict.entries import spec_of

SUSPECT = re.compile(r"results/backdoored/.+/change")
"""The weights that were handed to the defender; what made them is behind them."""
ASKED_AT_INFERENCE = re.compile(r"results/(test_sets/.+|data/[^/]+/s\d+/test\.jsonl)")
QUESTIONS = "questions"
"""The name under which a job reads test rows of which it is shown the question alone (``records.read_queries``)."""
ANSWERED = {"clean", "triggered", "partial"}
"""The inputs of an answering job that are its questions; a defense on the prompt has them refilled with what it wrote."""
GIVES_ANSWERS = re.compile(r"results/(.+/)?(answers|replies)/.+")
"""What a model said: of the grid's cells, and of points beside it (the clean-share curve), whose folders have one of their own."""
IS_CODE = re.compile(r"(?:^|/)src/infoconflict/.*\.py$")
WRITES_ANSWERS = {"ask", "Answer"}
SECRET_KEYS = {"attack", "attacks", "trigger", "triggers", "target_label", "target_labels", "payload", "poisoning_rate"}


@dataclass(frozen=True)
class Graph:
    """Jobs by the files that they make."""

    makers: Mapping[str, Any]
    config: Config
    folder: Path
    """Where the checkout is."""

    @property
    def jobs(self) -> list[Any]:
        """All jobs, each once."""
        return list({id(job): job for job in self.makers.values()}.values())


def graph_of(folder: Path, configfile: Path) -> Graph:
    """Have Snakemake plan every job of a config in a checkout without results."""
    from snakemake.api import SnakemakeApi
    from snakemake.settings.enums import Quietness
    from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, ResourceSettings

    before = Path.cwd(), dict(os.environ)
    try:
        with (
            SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api,
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=1),
                config_settings=ConfigSettings(configfiles=[configfile]),
                snakefile=folder / "Snakefile",
                workdir=folder,
            )
            workflow.dag(DAGSettings()).printrulegraph()
            dag = workflow._workflow.dag
            makers = {str(file): job for job in dag.jobs for file in job.output}
    finally:
        os.chdir(before[0])
        os.environ.clear()
        os.environ.update(before[1])
    return Graph(makers, load_config(read_yaml(configfile), file=str(configfile)), folder)


@dataclass
class Walk:
    """What was found on the way up from the defended models: rules that were met, and leaks, each as a sentence."""

    graph: Graph
    met: set[str] = field(default_factory=set)
    cells: int = 0
    leaks: list[str] = field(default_factory=list)
    readers: list[Any] = field(default_factory=list)
    refilling: list[Any] = field(default_factory=list)
    """Jobs behind a defense, which put what it wrote back into the test rows."""

    def __post_init__(self) -> None:
        self.secrets = secret_texts(self.graph.config)
        self.labels = [dataset.labels for dataset in self.graph.config.datasets.values() if hasattr(dataset, "labels")]
        self.targets = {
            label
            for attack in self.graph.config.attacks.values()
            for label in vars(attack).get("target_labels", {}).values()
        }
        self.attackers_files = {
            file for attack in self.graph.config.attacks.values() for file in getattr(attack, "local_files", [])
        }
        self.seen: set[tuple[int, bool]] = set()

    def run(self) -> "Walk":
        """Walk from every cell with a defense that may know nothing."""
        for job in self.graph.jobs:
            if is_answering(job) and self.may_know_nothing(job):
                self.cells += 1
                self.visit_answering(job)
        return self

    def may_know_nothing(self, job: Any) -> bool:
        """Say whether a cell's defense is one, and no oracle."""
        entry = self.graph.config.defenses.get(job.wildcards.defense)
        method = getattr(entry, "method", None)
        return method not in (None, "none") and not str(method).endswith("_oracle")

    def visit_answering(self, job: Any) -> None:
        """Look at all that makes a defended model and its prompts; its questions are what it is there to answer."""
        chain = (str(job.rule.name),)
        # Answers carry the target beside what was answered: metrics come from them alone. No option of a defense holds it.
        self.check_params(job, chain, but={"target_label"})
        self.check_code(job, chain)
        for name, file in inputs_of(job):
            if name in ANSWERED and ASKED_AT_INFERENCE.fullmatch(file):
                continue
            self.visit_file(name, file, job, chain, refills=name in ANSWERED)

    def visit(self, job: Any, chain: tuple[str, ...], *, refills: bool = False) -> None:
        """Look at one job and at all that it reads; one that only ``refills`` test rows may read them whole."""
        if (id(job), refills) in self.seen:
            return
        self.seen.add((id(job), refills))
        if refills:
            self.refilling.append(job)
        self.met.add(job.rule.name)
        chain = (*chain, str(job.rule.name))
        self.check_params(job, chain)
        for name, file in inputs_of(job):
            if name == QUESTIONS:
                self.readers.append(job)
            if ASKED_AT_INFERENCE.fullmatch(file) and (name == QUESTIONS or (refills and name in ANSWERED)):
                continue
            self.visit_file(name, file, job, chain)

    def visit_file(self, name: str, file: str, job: Any, chain: tuple[str, ...], *, refills: bool = False) -> None:
        """Look at what made a file, unless it is what the defender was handed."""
        if SUSPECT.fullmatch(file):
            return
        if ASKED_AT_INFERENCE.fullmatch(file):
            self.say(chain, f"reads the test rows {file} as '{name}'")
        elif file in self.attackers_files and not is_elsewhere(self.graph.config, file):
            self.say(chain, f"reads the attacker's file {file}")
        elif file in self.graph.makers:
            self.visit(self.graph.makers[file], chain, refills=refills)

    def check_params(self, job: Any, chain: tuple[str, ...], but: frozenset[str] | set[str] = frozenset()) -> None:
        """Look for triggers, targets and settings of an attack in the parameters of a job, ``but`` for some at the top."""
        for value in map(readable, job.params):
            told = {key: part for key, part in value.items() if key not in but} if isinstance(value, Mapping) else value
            for found in self.secrets_in(told):
                self.say(chain, f"has {found} in its parameters")

    def check_code(self, job: Any, chain: tuple[str, ...]) -> None:
        """Look for places where the code of a job that holds the target does more with it than to write it into answers."""
        for _, file in code_of(job):
            # Named as the package that plans imports it; the checkout has its own copy.
            place = file.partition("src/infoconflict/")[2]
            for line in uses_of_target(self.graph.folder / "src/infoconflict" / place):
                self.say(chain, f"reads the target in {place}, line {line}")

    def secrets_in(self, value: Any) -> Iterator[str]:
        """Yield what a value tells of an attack."""
        if isinstance(value, Mapping):
            for key, part in value.items():
                if key in SECRET_KEYS:
                    yield f"the key '{key}'"
                yield from self.secrets_in(part)
        elif isinstance(value, list) and value not in self.labels:
            for part in value:
                yield from self.secrets_in(part)
        elif isinstance(value, str):
            if value in self.targets:
                yield f"the target label '{value}'"
            for secret in self.secrets:
                if re.search(rf"(?<!\w){re.escape(secret)}(?!\w)", value):
                    yield f"'{secret}' of an attack"

    def say(self, chain: tuple[str, ...], what: str) -> None:
        """Note a leak once."""
        sentence = f"{' < '.join(chain)}: {what}"
        if sentence not in self.leaks:
            self.leaks.append(sentence)


def is_answering(job: Any) -> bool:
    """Say whether a job asks the model of a cell, rather than judging what it said."""
    of_a_cell = {"defense"} <= {*job.wildcards.keys()} and {"base"} <= {*job.input.keys()}
    return of_a_cell and any(GIVES_ANSWERS.fullmatch(str(file)) for file in job.output)


@functools.cache
def uses_of_target(file: Path) -> list[int]:
    """Return the lines that name the target, but where it is handed on as ``target_label`` to be written into an answer."""
    tree = ast.parse(file.read_text())
    allowed = {
        id(node)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) in WRITES_ANSWERS
        for keyword in call.keywords
        if keyword.arg == "target_label"
        for node in ast.walk(keyword.value)
    }
    return sorted(
        node.lineno
        for node in ast.walk(tree)
        if id(node) not in allowed
        and (
            (isinstance(node, ast.Constant) and node.value == "target_label")
            or (isinstance(node, ast.Name) and node.id == "target_label" and isinstance(node.ctx, ast.Load))
            or (isinstance(node, ast.Attribute) and node.attr == "target_label")
        )
    )


def inputs_of(job: Any) -> list[tuple[str, str]]:
    """Return the inputs of a job with the names that its script knows them by; modules of the package are no data."""
    code = {*code_of(job)}
    return [pair for pair in all_inputs_of(job) if pair not in code]


def code_of(job: Any) -> list[tuple[str, str]]:
    """Return the modules of the package among the inputs of a job."""
    return [(name, file) for name, file in all_inputs_of(job) if name == "code" and IS_CODE.search(file)]


def all_inputs_of(job: Any) -> list[tuple[str, str]]:
    """Return the inputs of a job with their names; empty where there is none."""
    named = [(name, file) for name, files in job.input.items() for file in listed(files)]
    unnamed = {str(file) for file in job.input} - {file for _, file in named}
    return [*named, *(("", file) for file in sorted(unnamed))]


def listed(files: Any) -> list[str]:
    """Return one file or several as a list."""
    return [str(files)] if isinstance(files, str) else [str(file) for file in files]


def readable(value: Any) -> Any:
    """Return a parameter as the values that it holds; specs are JSON."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def is_elsewhere(config: Config, file: str) -> bool:
    """Say whether a file is also a source of something else, and so no secret of the attacker."""
    rest = {
        name: spec_of(entry) for section in ("datasets", "evidence") for name, entry in vars(config)[section].items()
    }
    return json.dumps(file) in json.dumps(rest)


def secret_texts(config: Config) -> list[str]:
    """Return the words and phrases in the options that decide what the attacks insert and cause."""
    found: set[str] = set()
    for attack in config.attacks.values():
        left_out = {"method", "target_labels", *attack.training_options}
        left_out |= {*getattr(attack, "tuning_options", ()), *getattr(attack, "later_options", ())}
        for name, entry in type(attack).model_fields.items():
            if name in left_out or get_origin(entry.annotation) is Literal:
                continue
            value = getattr(attack, name)
            values = value if isinstance(value, list | tuple) else [value]
            found |= {text for text in values if isinstance(text, str)}
    return sorted(found)
