"""The one-node Slurm, started once for all tests of this folder."""

import os
from collections.abc import Iterator

import pytest

from tests.slurm.node import SlurmNode, why_unavailable


@pytest.fixture(scope="session")
def slurm() -> Iterator[SlurmNode]:
    if reason := why_unavailable():
        message = f"NO SLURM HERE, its tests show nothing: {reason}"
        # On a build server a missing Slurm is a fault; on a user's machine it is a fact.
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    with SlurmNode() as node:
        yield node
