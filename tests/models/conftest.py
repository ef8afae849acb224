import pytest
import torch

from infoconflict.models.prepare import prepare_model
from infoconflict.models.tiny import ARCHITECTURES


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory):
    """One generated checkpoint per architecture; treat them as read-only."""
    folder = tmp_path_factory.mktemp("tiny")
    for architecture in ARCHITECTURES:
        prepare_model({"source": "tiny", "architecture": architecture}, folder / architecture, seed=0)
    return {architecture: folder / architecture for architecture in ARCHITECTURES}
