"""Imports point one way, and what Snakemake imports while it parses stays light."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/infoconflict"

# From the ground up; a module imports from its own layer and from those below. A folder stands for all its modules.
LAYERS = [
    {"errors", "files", "records", "prompts", "chat_prompts", "tokens", "packing", "packages", "progress", "cards"}
    | {"lineage", "mcnemar", "config_errors", "entries", "providers", "judges", "tunings", "field_texts", "rounding"}
    | {"phrases", "refusals"},
    {"attacks", "defenses"},
    {"config", "grid", "resources", "jobs"} | {"poisoning", "controls"},
    {"data", "models", "merging", "evidence", "training", "editing", "repairing", "answering", "metrics"}
    | {"oracle", "judging", "agreement", "paired", "experiments", "ledger", "diff", "computed"},
    {"reporting"},
    {"purify"},
]
# What the layers alone do not say.
FORBIDDEN = {
    # A defense knows neither trigger nor target.
    "merging": {"attacks", "poisoning", "controls"},
    "evidence": {"attacks", "poisoning", "controls", "training", "editing", "answering"},
    "defenses": {"attacks", "poisoning", "controls"},
    # A trainer trains what it is given; an attack is data to it.
    "training": {"attacks", "poisoning"},
    "purify": {"attacks", "poisoning", "controls", "oracle", "editing"},
    "repairing": {"attacks", "poisoning", "controls"},
    # Every metric comes from answers, without a model; so do tables and figures.
    "paired": {"models", "answering", "training", "editing", "merging", "evidence", "data"},
    "metrics": {"models", "answering", "training", "editing", "merging", "evidence", "data"},
    "reporting": {"models", "answering", "training", "editing", "merging", "data"},
}
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "mergekit",
    "datasets",
    "accelerate",
    "pandas",
    "pyarrow",
    "matplotlib",
    "openai",
}
WITHOUT_MODELS = ["metrics", "reporting", "attacks", "poisoning", "config", "grid", "resources"]


def modules() -> dict[str, Path]:
    """Return the package's modules by dotted name, without the package's own name in front."""
    names = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names[".".join(part for part in parts if part != "__init__")] = path
    del names[""]
    return names


MODULES = modules()


def imports(tree: ast.AST, *, only_at_import: bool = False) -> Iterator[str]:
    """Yield the full names that a module imports, of the package's own or others; optionally without deferred ones."""
    for node in ast.iter_child_nodes(tree):
        if only_at_import and (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        ):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full.removeprefix("infoconflict.") in MODULES else str(node.module)
        yield from imports(node, only_at_import=only_at_import)


def own_imports(name: str, *, only_at_import: bool = False) -> set[str]:
    """Return the modules of the package that a module imports."""
    found = imports(ast.parse(MODULES[name].read_text()), only_at_import=only_at_import)
    own = {full.removeprefix("infoconflict.") for full in found if full.startswith("infoconflict.")}
    return (own & MODULES.keys()) - {name}


def top(name: str) -> str:
    return name.split(".")[0]


def layer(name: str) -> int:
    places = [number for number, names in enumerate(LAYERS) if top(name) in names]
    assert len(places) == 1, f"{top(name)} has no layer; name it in LAYERS"
    return places[0]


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_point_one_way(name):
    # A defense's file holds its options, which the config reads, and its algorithm, whose functions import what they call.
    for other in own_imports(name, only_at_import=top(name) == "defenses"):
        assert layer(other) <= layer(name), f"{name} (layer {layer(name)}) imports {other} (layer {layer(other)})"
    for other in own_imports(name):
        assert top(other) not in FORBIDDEN.get(top(name), set()), f"{name} must not know of {other}"


def test_no_module_waits_for_itself():
    above: list[str] = []
    done: set[str] = set()

    def visit(name: str) -> None:
        assert name not in above, " imports ".join([*above[above.index(name) :], name])
        if name in done:
            return
        above.append(name)
        for other in sorted(own_imports(name, only_at_import=True)):
            visit(other)
        done.add(above.pop())

    for name in sorted(MODULES):
        visit(name)


@pytest.mark.parametrize("package", WITHOUT_MODELS)
def test_no_model_library_where_there_is_no_model(package):
    for name in (name for name in MODULES if top(name) == package):
        used = {full.split(".")[0] for full in imports(ast.parse(MODULES[name].read_text()))}
        assert not used & {"torch", "transformers", "peft", "mergekit"}, name


def test_the_package_knows_nothing_of_the_workflow():
    for name, path in MODULES.items():
        used = {full.split(".")[0] for full in imports(ast.parse(path.read_text()))}
        assert not used & {"snakemake", "workflow", "tests"}, name


def test_scripts_have_no_logic_to_share():
    # An adapter imports the package, never another script.
    scripts = {path.stem for path in (ROOT / "workflow/scripts").glob("*.py")}
    for path in (ROOT / "workflow/scripts").glob("*.py"):
        for full in imports(ast.parse(path.read_text())):
            assert full.split(".")[0] not in scripts, path.name


def test_parsing_imports_nothing_heavy():
    # Each job of a cluster parses the workflow again.
    texts = [path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]]
    imported = sorted({name for text in texts for name in re.findall(r"^from (infoconflict[\w.]*) import", text, re.M)})
    assert "infoconflict.config.loading" in imported
    code = f"import sys, {', '.join(imported)}; print(*sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
