"""Locks shared with the real ShedLock: what one side holds the other does not get, in both directions.

Needs Java 17 and Maven, which gets ShedLock from its registry; skipped with the reason where they are missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from brokers.database import conninfo
from scheduling import scheduler_lock
from scheduling.locks import Lock, LockLost
from scheduling.locks.listing import get
from tests.interop.shedlock.java import Java, running
from tests.server import unique

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

MINUTE_MS = 60_000
CONTENTION_SECONDS = 3.0


@pytest.fixture(scope="module")
def java(django_db_setup: None) -> Iterator[Java]:
    with running() as client:
        yield client


@pytest.fixture
def name() -> str:
    return unique("lock")


def mine(name: str, at_most_for: str = "PT1M", at_least_for: str = "PT0S") -> Lock | None:
    return scheduler_lock(name, at_most_for, at_least_for).acquire()


def mine_now(name: str, at_most_for: str = "PT1M", at_least_for: str = "PT0S") -> Lock:
    lock = mine(name, at_most_for, at_least_for)
    assert lock is not None
    return lock


def seconds_until(condition: Callable[[], bool], began: float) -> float:
    """Seconds since `began` until it is so."""
    while not condition():
        assert time.monotonic() - began < 20, "it did not happen in time"
    return time.monotonic() - began


def test_what_java_holds_is_refused_here(java: Java, name: str) -> None:
    assert java.ask("lock", name, MINUTE_MS, 0) == "held"
    assert mine(name) is None
    assert java.ask("unlock", name) == "ok"
    assert mine_now(name).unlock()


def test_what_is_held_here_is_refused_to_java(java: Java, name: str) -> None:
    lock = mine_now(name)
    assert java.ask("lock", name, MINUTE_MS, 0) == "refused"
    assert lock.unlock()
    assert java.ask("lock", name, MINUTE_MS, 0) == "held"
    assert java.ask("unlock", name) == "ok"


def test_what_java_let_lapse_is_taken_over_here(java: Java, name: str) -> None:
    began = time.monotonic()
    assert java.ask("lock", name, 400, 0) == "held"
    assert mine(name) is None
    assert 0.4 <= seconds_until(lambda: mine(name) is not None, began) < 5
    before = get(name)
    assert java.ask("extend", name, MINUTE_MS, 0) == "refused"
    after = get(name)
    assert (after.until, after.locked_by) == (before.until, before.locked_by)


def test_javas_late_unlock_frees_nothing_here(java: Java, name: str) -> None:
    assert java.ask("lock", name, 1, 0) == "held"
    seconds_until(lambda: mine(name) is not None, time.monotonic())
    assert java.ask("unlock", name) == "ok"
    assert mine(name) is None


def test_what_lapsed_here_is_taken_over_by_java(java: Java, name: str) -> None:
    began = time.monotonic()
    lock = mine_now(name, "400ms")
    assert java.ask("lock", name, MINUTE_MS, 0) == "refused"
    assert 0.4 <= seconds_until(lambda: java.ask("lock", name, MINUTE_MS, 0) == "held", began) < 5
    with pytest.raises(LockLost):
        lock.extend("PT1H")
    assert mine(name) is None
    assert java.ask("unlock", name) == "ok"


def test_java_keeps_it_from_us_for_at_least(java: Java, name: str) -> None:
    began = time.monotonic()
    assert java.ask("lock", name, MINUTE_MS, 800) == "held"
    assert java.ask("unlock", name) == "ok"
    assert mine(name) is None
    assert 0.8 <= seconds_until(lambda: mine(name) is not None, began) < 5


def test_we_keep_it_from_java_for_at_least(java: Java, name: str) -> None:
    began = time.monotonic()
    assert mine_now(name, "PT1M", "PT0.8S").unlock()
    assert java.ask("lock", name, MINUTE_MS, 0) == "refused"
    assert 0.8 <= seconds_until(lambda: java.ask("lock", name, MINUTE_MS, 0) == "held", began) < 5
    assert java.ask("unlock", name) == "ok"


def test_what_java_extends_stays_refused_here(java: Java, name: str) -> None:
    assert java.ask("lock", name, 5_000, 0) == "held"
    before = get(name).until
    assert java.ask("extend", name, MINUTE_MS, 0) == "held"
    assert 45 < (get(name).until - before).total_seconds() < 75
    assert mine(name) is None
    assert java.ask("unlock", name) == "ok"
    assert mine_now(name).unlock()


def test_what_is_extended_here_stays_refused_to_java(java: Java, name: str) -> None:
    lock = mine_now(name, "5s").extend("PT1M")
    assert 45 < (get(name).until - get(name).now).total_seconds() <= 60
    assert java.ask("lock", name, MINUTE_MS, 0) == "refused"
    assert lock.unlock()
    assert java.ask("lock", name, MINUTE_MS, 0) == "held"
    assert java.ask("unlock", name) == "ok"


def test_times_are_the_same_on_both_sides(java: Java, name: str) -> None:
    assert java.ask("lock", name, MINUTE_MS, 0) == "held"
    row = get(name)
    assert (row.until - row.locked_at).total_seconds() == 60
    assert abs((row.now - row.locked_at).total_seconds()) < 10
    assert row.pid is None
    assert row.host
    assert java.ask("unlock", name) == "ok"


def test_in_competition_never_two_hold_it(java: Java, name: str) -> None:
    times = 0
    with psycopg.connect(conninfo(), autocommit=True) as conn:
        conn.execute("create table meeting (inside int not null, count int not null)")
        try:
            conn.execute("insert into meeting values (0, 0)")
            java.send("contend", name, int(CONTENTION_SECONDS * 1000))
            end = time.monotonic() + CONTENTION_SECONDS
            while time.monotonic() < end:
                with scheduler_lock(name, "PT30S") as lock:
                    if lock is None:
                        continue
                    row = conn.execute("update meeting set inside = inside + 1 returning inside, count").fetchone()
                    assert row is not None
                    assert row[0] == 1, "both hold it"
                    conn.execute("update meeting set count = %s, inside = inside - 1", (row[1] + 1,))
                    times += 1
            theirs, most = map(int, java.answer().split())
            found = conn.execute("select inside, count from meeting").fetchone()
        finally:
            conn.execute("drop table meeting")
    assert most <= 1
    assert found == (0, times + theirs)
    assert times > 5
    assert theirs > 5
