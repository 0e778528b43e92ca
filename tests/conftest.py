"""Fixtures of the whole suite. The stores that they run against are started by `tests.stores`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import httpx
import pytest

from tests import flushing
from tests.server import Server, fresh_database, running

flushing.install()


@pytest.fixture(autouse=True)
def _remembers_nothing() -> None:
    """Each test begins without what the one before had cached of topics, queues and tokens."""
    from brokers import access, topics
    from brokers.queues import tending, topology

    topics.forget()
    topology.forget()
    tending.forget()
    access.forget()


@pytest.fixture
def nothing_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """No application has declared anything, and what the test declares is forgotten after it."""
    from brokers import declarations, partitioner

    for registry in ("_topics", "_exchanges", "_queues", "_bindings"):
        monkeypatch.setattr(declarations, registry, {})
    monkeypatch.setattr(partitioner, "_BY_NAME", dict(partitioner._BY_NAME))


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


@pytest.fixture(autouse=True)
def _keeps_no_locks_connections() -> Iterator[None]:
    """The test's database can be dropped: idle connections of locks would stand in its way."""
    yield
    locks = sys.modules.get("scheduling.locks.connections")
    if locks is not None:
        locks.close()
