"""Fixtures of the evidence tests."""

from collections.abc import Iterator

import pytest

from tests.evidence.misbehaving import FakeEndpoint, running_endpoint


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with running_endpoint() as fake:
        yield fake
