"""What tests of scheduled tasks share: the database as beats and workers see it, and a beat that leads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scheduling.beat.leadership import Leadership
from scheduling.tasks import store
from tests.integration.scheduling.ticking import Database


@pytest.fixture
def database() -> Iterator[Database]:
    """With no beat in the lead."""
    found = Database()
    found.do("delete from shedlock where name = %s", store.BEAT_LOCK)
    yield found
    found.own.close()


@pytest.fixture
def leads(database: Database) -> Iterator[Leadership]:
    """A beat that leads."""
    leadership = Leadership()
    assert leadership.hold()
    yield leadership
    leadership.resign()
