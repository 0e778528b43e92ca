"""Fixtures of the whole suite. The stores that they run against are started by `tests.stores`."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests import flushing
from tests.server import Server, fresh_database, running

flushing.install()


@pytest.fixture(autouse=True)
def _remembers_nothing() -> None:
    """Each test begins without what the one before had cached of topics and tokens."""
    from brokers import access, topics

    topics.forget()
    access.forget()


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A whole server (`manage.py up`) shared by the tests of one run; they use names of their own."""
    with fresh_database() as url, running(url) as started:
        yield started


@pytest.fixture
def api(server: Server) -> Iterator[httpx.Client]:
    """An HTTP client of the administrator."""
    with server.client() as client:
        yield client
