"""Write the conda environment files from the lock files: one set of pins, several forms.

Run as ``python envs/render.py`` after a change of a lock file; a test compares.
"""

import sys
from pathlib import Path

ENVS = Path(__file__).resolve().parent
ROOT = ENVS.parent
PYTHON = "3.11"

HEADER = """\
# {title} Same pins as the lock files, from which envs/render.py writes this; not by hand.
# Create it with `conda env create -f envs/{name}.yaml`, then `pip install --no-deps -e .` in the checkout.
"""
ENVIRONMENTS = {
    "cpu": ("To run and test everything without a GPU.", ["requirements.lock"]),
    "gpu": ("For NVIDIA GPUs: with 4-bit loading.", ["requirements.lock", "requirements-gpu.lock"]),
}


def pins(lock: Path) -> list[str]:
    """Return the requirements of a lock file, without its comments."""
    lines = (line.strip() for line in lock.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def render(name: str) -> str:
    """Return the text of a conda environment file."""
    title, locks = ENVIRONMENTS[name]
    lines = [
        HEADER.format(title=title, name=name) + f"name: infoconflict-{name}",
        "channels: [conda-forge, nodefaults]",
        "dependencies:",
        f"  - python={PYTHON}",
        "  - pip",
        "  - pip:",
    ]
    lines += [f"      - {pin}" for lock in locks for pin in pins(ROOT / lock)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for environment in ENVIRONMENTS:
        (ENVS / f"{environment}.yaml").write_text(render(environment), encoding="utf-8")
        sys.stdout.write(f"wrote envs/{environment}.yaml\n")
