"""`manage.py locks`."""

from __future__ import annotations

import io
import json

import pytest
from django.core.management import call_command

from brokers.models import AuditEntry
from scheduling import scheduler_lock
from scheduling.locks.errors import LockNotFound
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)


def run(*arguments: str) -> str:
    output = io.StringIO()
    call_command("locks", *arguments, stdout=output)
    return output.getvalue()


@pytest.fixture
def held() -> str:
    name = unique("lock")
    assert scheduler_lock(name, "PT1H").acquire()
    return name


def test_locks_are_listed_with_their_holders(held: str) -> None:
    line = next(line for line in run().splitlines() if held in line)
    assert " held " in line
    rows = {row["name"]: row for row in map(json.loads, run("list", "--json").splitlines())}
    assert rows[held]["state"] == "held"
    assert rows[held]["locked_by"] in line


def test_a_lock_is_released_and_that_is_recorded(held: str) -> None:
    assert run("release", held) == f"lock {held} is released\n"
    assert scheduler_lock(held, "PT1H").acquire()
    assert AuditEntry.objects.get(resource=held).surface == "command"
    assert json.loads(run("release", held, "--json")) == {"name": held, "released": True}
    assert run("release", held) == f"lock {held} was free already\n"


def test_a_lock_that_never_was_cannot_be_released() -> None:
    with pytest.raises(LockNotFound):
        run("release", unique("never"))
