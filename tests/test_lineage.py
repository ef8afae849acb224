"""The code that a script depends on is found by its imports, whatever form they take."""

from pathlib import Path

from infoconflict.attacks import METHODS
from infoconflict.lineage import SOURCE, canonical, code_closure

SCRIPTS = SOURCE.parents[1] / "workflow/scripts"


def names(script: str, *modules: str) -> set[str]:
    files = code_closure(SCRIPTS / f"{script}.py", *(SOURCE / module for module in modules))
    return {file.relative_to(SOURCE).as_posix() for file in files}


def test_imports_inside_functions_count() -> None:
    # answer -> loading -> changes; launch imports the trainer's checkpoints and settings.
    assert {"models/changes.py", "packing.py", "prompts.py"} <= names("answer")
    assert {"training/checkpoints.py", "training/settings.py"} <= names("train_conflict")


def test_narrow_rules_stay_narrow() -> None:
    assert not any(name.startswith(("training", "reporting", "attacks", "merging")) for name in names("answer"))
    assert not any(name.startswith(("models", "training", "attacks")) for name in names("metrics"))
    attacks = {f"attacks/{method}.py" for method in METHODS}
    assert names("poison_train", "attacks/badnets.py") & attacks == {"attacks/badnets.py"}
    assert not any(name.startswith("editing") for name in names("poison_train", "attacks/badnets.py"))
    edit = names("edit_model", "attacks/rome.py", "editing/rome.py")
    assert edit & (attacks | {name.replace("attacks", "editing") for name in attacks}) == {
        "attacks/rome.py",
        "editing/rome.py",
    }


def test_type_checking_imports_do_not_count(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from infoconflict.metrics import Rate\n"
        "def main():\n    import infoconflict.packing\n"
    )
    found = {file.relative_to(SOURCE).as_posix() for file in code_closure(script)}
    assert "packing.py" in found
    assert "metrics.py" not in found


def test_every_script_depends_on_the_job_that_runs_it() -> None:
    for script in SCRIPTS.glob("*.py"):
        assert "jobs.py" in names(script.stem), script.name


def test_canonical_ignores_order_and_sees_exchanged_values() -> None:
    assert canonical({"a": 1, "b": {"d": 2, "c": 3}}) == canonical({"b": {"c": 3, "d": 2}, "a": 1})
    assert canonical({"a": 1, "b": 2}) != canonical({"a": 2, "b": 1})
