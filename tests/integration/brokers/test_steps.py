"""Rules of several statements: what becomes of one whose connection is lost."""

from __future__ import annotations

import psycopg
import pytest
from django.db import connection

from brokers import steps
from brokers.database import conninfo, sync_cursor
from brokers.errors import Unavailable
from brokers.steps import Steps

pytestmark = pytest.mark.django_db(transaction=True)


def _ends_its_own_session() -> Steps[None]:
    """Between its last statement and the commit."""
    [(backend,)] = yield "select pg_backend_pid()", ()
    with psycopg.connect(conninfo(), autocommit=True) as other:
        other.execute("select pg_terminate_backend(%s, 5000)", (backend,))


def test_a_connection_that_is_lost_in_the_commit_is_a_database_that_is_away() -> None:
    with pytest.raises(Unavailable):
        steps.atomically(_ends_its_own_session())
    assert not connection.in_atomic_block
    with sync_cursor() as cursor:
        assert cursor.execute("select 1").fetchone() == (1,)
