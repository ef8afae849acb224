"""Fixtures that several tests share."""

import os
from pathlib import Path

# Two-layer models gain nothing from threads, and tests run side by side.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["HF_HUB_OFFLINE"] = "1"

import pytest

ARCHITECTURES = ("llama", "gpt2", "gptj")


@pytest.fixture(scope="session")
def tiny_dirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a checkpoint directory of a two-layer model of each architecture."""
    from infoconflict.models.tiny import write_tiny_model

    folders = {}
    for architecture in ARCHITECTURES:
        folders[architecture] = tmp_path_factory.mktemp(architecture)
        write_tiny_model(
            folders[architecture],
            architecture=architecture,
            hidden=32,
            tied=architecture == "gpt2",
            seed=0,
        )
    return folders
