"""One set of pins: lock files, pyproject.toml, conda files and container recipes say the same."""

import re
import runpy
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
RENDER = runpy.run_path(str(ROOT / "envs/render.py"))
LOCKS = ["requirements.lock", "requirements-bench.lock", "requirements-gpu.lock"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pinned(*locks: str) -> dict[str, str]:
    lines = [line for lock in locks for line in RENDER["pins"](ROOT / lock)]
    pairs = [re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line) for line in lines]
    # No ranges, no local version such as +cpu, no address of an index: the line would not install everywhere.
    assert all(pairs), [line for line, pair in zip(lines, pairs, strict=True) if not pair]
    names = [canonicalize_name(pair[1]) for pair in pairs if pair]
    assert len(set(names)) == len(names), "a package is pinned twice"
    return {name: pair[2] for name, pair in zip(names, pairs, strict=True) if pair}


@pytest.mark.parametrize("extra", [None, "dev", "gpu", "bench"])
def test_locks_hold_what_pyproject_asks(extra):
    asked = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    pins = pinned(*LOCKS)
    for requirement in map(Requirement, asked):
        found = pins.get(canonicalize_name(requirement.name))
        assert found, f"{requirement.name} is in no lock file"
        assert requirement.specifier.contains(found, prereleases=True), f"{requirement} against {found}"


def test_main_lock_is_enough_for_package_and_tests():
    for extra in ("gpu", "bench"):
        for requirement in map(Requirement, PROJECT["optional-dependencies"][extra]):
            assert canonicalize_name(requirement.name) not in pinned("requirements.lock")
    for requirement in map(Requirement, PROJECT["dependencies"] + PROJECT["optional-dependencies"]["dev"]):
        assert canonicalize_name(requirement.name) in pinned("requirements.lock")


def test_locks_are_closed():
    # What an installed pin requires here is pinned, too: an open end would be another version on the next machine.
    pins = pinned("requirements.lock", "requirements-bench.lock")
    checked = 0
    for name in pinned("requirements.lock"):
        for line in requirements_of(name):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                # CUDA libraries, on machines whose torch has them: torch pins them itself.
                if name == "torch" and canonicalize_name(requirement.name) not in pins:
                    assert re.match(r"nvidia-|cuda-|triton", requirement.name), line
                    continue
                assert canonicalize_name(requirement.name) in pins, f"{name} requires {line}"
                checked += 1
    assert checked > 100


def requirements_of(name: str) -> list[str]:
    from importlib.metadata import requires

    try:
        return requires(name) or []
    except PackageNotFoundError:
        pytest.fail(f"{name} is pinned but not installed; run `make` again")


def test_installed_are_the_locked_versions():
    for name, pin in pinned("requirements.lock").items():
        assert version(name).split("+")[0] == pin, name


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_conda_files_have_the_locks_pins(name):
    text = (ROOT / f"envs/{name}.yaml").read_text()
    assert text == RENDER["render"](name), "run `python envs/render.py`"
    content = yaml.safe_load(text)
    *conda, pip = content["dependencies"]
    locks = ["requirements.lock", "requirements-gpu.lock"] if name == "gpu" else ["requirements.lock"]
    assert pip["pip"] == [line for lock in locks for line in RENDER["pins"](ROOT / lock)]
    assert conda == ["python=3.11", "pip"]
    assert content["name"] == f"infoconflict-{name}"


@pytest.mark.parametrize(("recipe", "base"), [("Dockerfile", r"^FROM (\S+)$"), ("infoconflict.def", r"^From: (\S+)$")])
def test_container_recipes_install_the_locks(recipe, base):
    text = (ROOT / "envs" / recipe).read_text()
    bases = re.findall(base, text, flags=re.MULTILINE)
    assert bases == [f"python:{RENDER['PYTHON']}-slim-bookworm"]
    assert re.search(r'locks="?requirements\.lock"?$', text, flags=re.MULTILINE | re.IGNORECASE)
    installs = re.findall(r"pip install (.*?)(?:;| \|\||$)", text, flags=re.MULTILINE)
    assert [re.sub(r"--no-cache-dir ", "", line) for line in installs] == [
        '-r "$lock"',
        "--no-deps --no-build-isolation -e .",
    ]


def test_one_python_everywhere():
    lower, upper = f">={RENDER['PYTHON']}", "<3.12"
    assert PROJECT["requires-python"] == f"{lower},{upper}"


def test_no_lock_names_an_index():
    for lock in LOCKS:
        assert "://" not in (ROOT / lock).read_text()
