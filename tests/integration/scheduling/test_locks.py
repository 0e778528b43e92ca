"""Taking, keeping and giving back locks: ShedLock's rules for its JDBC provider with database time."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from brokers.database import conninfo
from brokers.errors import InvalidValue, Unavailable
from scheduling import assert_locked, extend_lock, scheduler_lock
from scheduling.locks import InvalidLock, Lock, LockFinished, LockLost, NotLocked, connections
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def name() -> str:
    return unique("lock")


@pytest.fixture
def database() -> Iterator[psycopg.Connection[Any]]:
    """Another session than those of the locks."""
    with psycopg.connect(conninfo(), autocommit=True) as conn:
        yield conn


def taken(name: str, at_most_for: str = "PT1M", at_least_for: str = "PT0S") -> Lock:
    lock = scheduler_lock(name, at_most_for, at_least_for).acquire()
    assert lock is not None
    return lock


def is_free(name: str) -> bool:
    """Whether another could take it now; then it is free still."""
    lock = scheduler_lock(name, "PT1M").acquire()
    return lock is not None and lock.unlock()


def free_within(seconds: float, name: str) -> float:
    """Seconds until the lock is free."""
    began = time.monotonic()
    while not is_free(name):
        assert time.monotonic() - began < seconds, "the lock is still held"
    return time.monotonic() - began


def in_another_thread(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(20)


# -- the table ----------------------------------------------------------------------------------------------------


def test_the_table_is_shedlocks(database: psycopg.Connection[Any]) -> None:
    columns = database.execute(
        "select column_name, data_type, character_maximum_length, is_nullable from information_schema.columns"
        " where table_name = 'shedlock' order by ordinal_position"
    ).fetchall()
    assert columns == [
        ("name", "character varying", 64, "NO"),
        ("lock_until", "timestamp without time zone", None, "NO"),
        ("locked_at", "timestamp without time zone", None, "NO"),
        ("locked_by", "character varying", 255, "NO"),
    ]


def test_times_are_utc_by_the_databases_clock(name: str, database: psycopg.Connection[Any]) -> None:
    lock = taken(name, "PT1M")
    row = database.execute(
        "select lock_until - locked_at = interval '1 minute', abs(extract(epoch from now() at time zone 'utc'"
        " - locked_at)) < 5, locked_by from shedlock where name = %s",
        (name,),
    ).fetchone()
    assert row == (True, True, lock.locked_by)
    assert (lock.until - lock.locked_at).total_seconds() == 60
    assert lock.until.utcoffset() is not None


# -- ShedLock's own cases -----------------------------------------------------------------------------------------


def test_it_is_not_given_while_it_is_held(name: str) -> None:
    lock = taken(name)
    assert scheduler_lock(name, "PT1M").acquire() is None
    lock.unlock()
    assert is_free(name)


def test_it_is_given_again_and_again(name: str) -> None:
    for _ in range(10):
        assert taken(name).unlock()


def test_it_lapses_after_at_most_for(name: str) -> None:
    taken(name, "50ms")
    assert not is_free(name)
    assert free_within(5, name) < 2


def test_it_stays_held_for_at_least(name: str) -> None:
    began = time.monotonic()
    lock = taken(name, "PT1M", "PT0.6S")
    assert lock.unlock()
    assert not is_free(name)
    free_within(10, name)
    assert time.monotonic() - began >= 0.6


def test_a_long_lapsed_row_can_be_taken(name: str, database: psycopg.Connection[Any]) -> None:
    database.execute(
        "insert into shedlock values (%s, timezone('utc', now()) - interval '1 day', now() - interval '2 days', 'old')",
        (name,),
    )
    assert is_free(name)


def test_a_lock_is_free_from_the_very_instant_it_ends(name: str, database: psycopg.Connection[Any]) -> None:
    """The time of a transaction stands still, so that both instants can be made the same one."""
    from scheduling.locks.store import SQL

    at_once = {"name": name, "at_most": 0, "locked_by": "a"}
    with database.transaction():
        assert database.execute(SQL.acquire, at_once).fetchone()
        assert database.execute(SQL.acquire, at_once | {"locked_by": "b", "at_most": 1}).fetchone()
        assert database.execute(SQL.acquire, at_once | {"locked_by": "c"}).fetchone() is None


def test_one_lock_leaves_another_alone(name: str) -> None:
    other = taken(f"{name}-b")
    taken(f"{name}-a").unlock()
    assert not is_free(other.name)
    assert other.unlock()


def test_a_row_deleted_by_hand_comes_back(name: str, database: psycopg.Connection[Any]) -> None:
    lock = taken(name)
    database.execute("delete from shedlock where name = %s", (name,))
    assert not lock.unlock()
    assert is_free(name)


def test_of_concurrent_first_takers_one_wins(name: str) -> None:
    start = threading.Barrier(8)

    def take() -> Lock | None:
        start.wait()
        return scheduler_lock(name, "PT1M").acquire()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: take(), range(8)))
    assert sum(lock is not None for lock in found) == 1


def test_a_row_is_never_removed(name: str, database: psycopg.Connection[Any]) -> None:
    taken(name).unlock()
    assert database.execute("select count(*) from shedlock where name = %s", (name,)).fetchone() == (1,)


@pytest.mark.parametrize(
    ("text", "at_most", "at_least"),
    [
        ("", "PT1M", 0),
        ("n" * 65, "PT1M", 0),
        ("n\0", "PT1M", 0),
        ("n", "PT0S", 0),
        ("n", -1, 0),
        ("n", "PT1M", -1),
        ("n", "PT1S", "PT2S"),
        ("n", "soon", 0),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, at_most: str | int, at_least: str | int) -> None:
    with pytest.raises(InvalidValue):
        scheduler_lock(text, at_most, at_least)


def test_a_name_has_64_characters_at_most(name: str) -> None:
    longest = name.ljust(64, "\u20ac")
    assert taken(longest).name == longest
    with pytest.raises(InvalidLock, match="1 to 64"):
        scheduler_lock(longest + "x", "PT1M")


# -- handles ------------------------------------------------------------------------------------------------------


def test_unlocking_twice_is_an_error(name: str) -> None:
    lock = taken(name)
    lock.unlock()
    with pytest.raises(LockFinished, match="unlocked or extended already"):
        lock.unlock()
    with pytest.raises(LockFinished):
        lock.extend()


def test_extending_gives_a_new_handle_and_ends_the_old(name: str) -> None:
    lock = taken(name, "PT10S")
    longer = lock.extend("PT5M")
    assert 295 < (longer.until - lock.until).total_seconds() + 10 < 310
    assert longer.locked_at == lock.locked_at
    for ended in (lock.extend, lock.unlock):
        with pytest.raises(LockFinished):
            ended()
    assert longer.unlock()
    assert is_free(name)


def test_a_lapsed_lock_is_not_extended(name: str) -> None:
    lock = taken(name, "20ms")
    other = None
    while other is None:
        other = scheduler_lock(name, "PT1M").acquire()
    with pytest.raises(LockLost):
        lock.extend("PT1H")
    assert not is_free(name)
    assert other.unlock()


def test_a_late_unlock_frees_nobody_elses_lock(name: str) -> None:
    late = taken(name, "20ms")
    free_within(5, name)
    other = taken(name)
    assert late.unlock() is False
    assert not is_free(name)
    assert other.unlock()


def test_no_two_acquisitions_have_the_same_holder(name: str) -> None:
    holders = set()
    for _ in range(3):
        lock = taken(name)
        holders.add(lock.locked_by)
        lock.unlock()
    assert len(holders) == 3
    assert all(len(holder) <= 255 for holder in holders)


# -- blocks and functions -----------------------------------------------------------------------------------------


def test_a_block_has_the_lock_or_none(name: str) -> None:
    with scheduler_lock(name, "PT1M") as lock:
        assert lock is not None
        refused = in_another_thread(lambda: scheduler_lock(name, "PT1M").__enter__())
        assert refused is None
    assert is_free(name)


def test_a_function_is_skipped_while_the_lock_is_held(name: str, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    @scheduler_lock(name, at_most_for="PT1M")
    def work(number: int) -> int:
        """Documented."""
        calls.append(number)
        return number * 2

    assert work.__doc__ == "Documented."
    assert work(4) == 8
    lock = taken(name)
    with caplog.at_level(logging.INFO, "waystation.locks"):
        assert work(5) is None
    assert "skipped" in caplog.text
    lock.unlock()
    assert work(6) == 12
    assert calls == [4, 6]


def test_a_failing_function_gives_the_lock_back(name: str) -> None:
    @scheduler_lock(name, at_most_for="PT1M")
    def work() -> None:
        raise LookupError("of the work")

    with pytest.raises(LookupError):
        work()
    assert is_free(name)


async def test_coroutines_are_locked_and_skipped(name: str) -> None:
    running, go_on = asyncio.Event(), asyncio.Event()

    @scheduler_lock(name, at_most_for="PT1M")
    async def work() -> str:
        assert_locked(name)
        running.set()
        await go_on.wait()
        return "done"

    first = asyncio.create_task(work())
    await running.wait()
    assert await work() is None
    go_on.set()
    assert await first == "done"
    async with scheduler_lock(name, "PT1M") as lock:
        assert lock is not None


async def test_a_cancelled_task_leaves_no_lock_behind(name: str) -> None:
    async def take() -> None:
        async with scheduler_lock(name, "PT1M"):
            await asyncio.Event().wait()

    for steps in (1, 2, 3, 40):
        task = asyncio.create_task(take())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await asyncio.to_thread(free_within, 5, name)


def test_a_generator_function_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match="generator"):

        @scheduler_lock(name, "PT1M")
        def rows() -> Iterator[int]:
            yield 1


def test_the_holder_does_not_wait_for_itself(name: str) -> None:
    @scheduler_lock(name, "PT1M")
    def inner() -> str:
        return "ran"

    @scheduler_lock(name, "PT1M")
    def outer() -> str | None:
        return inner()

    assert outer() == "ran"
    with scheduler_lock(name, "PT1M") as lock:
        assert inner() == "ran"
        assert lock is not None
        assert not in_another_thread(lambda: is_free(name)), "the inner one has given it back"
    assert is_free(name)


async def test_other_tasks_and_threads_of_the_holder_must_take_it_themselves(name: str) -> None:
    @scheduler_lock(name, "PT1M")
    async def work() -> str:
        return "ran"

    @scheduler_lock(name, "PT1M")
    def sync_work() -> str:
        return "ran"

    async with scheduler_lock(name, "PT1M"):
        assert await work() == "ran"
        assert await asyncio.create_task(work()) is None
        assert await asyncio.to_thread(sync_work) is None
        await asyncio.to_thread(assert_locked, name)


def test_code_can_insist_on_its_lock(name: str) -> None:
    with pytest.raises(NotLocked):
        assert_locked()
    with scheduler_lock(name, "PT1M"):
        assert_locked()
        assert_locked(name)
        with pytest.raises(NotLocked, match="other"):
            assert_locked("other")
        with pytest.raises(NotLocked):
            in_another_thread(assert_locked)
    with pytest.raises(NotLocked):
        assert_locked()


def test_a_block_without_the_lock_is_not_locked(name: str) -> None:
    lock = taken(name)
    with scheduler_lock(name, "PT1M") as refused:
        assert refused is None
        with pytest.raises(NotLocked):
            assert_locked(name)
    assert lock.unlock()


def test_the_innermost_lock_is_extended(name: str) -> None:
    with pytest.raises(NotLocked):
        extend_lock("PT1M")
    with scheduler_lock(name, "PT10S") as outer, scheduler_lock(f"{name}-b", "PT10S"):
        assert outer is not None
        for _ in range(3):
            assert extend_lock("PT5M").name == f"{name}-b"
        assert not in_another_thread(lambda: is_free(f"{name}-b"))
    assert is_free(name)
    assert is_free(f"{name}-b")


def test_a_block_may_extend_and_unlock_by_itself(name: str) -> None:
    with scheduler_lock(name, "PT10S") as lock:
        assert lock is not None
        lock.extend().extend("PT1M").unlock()
        assert in_another_thread(lambda: is_free(name))
        with pytest.raises(NotLocked):
            assert_locked(name)


def test_work_that_overran_is_told_of_in_the_log(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with scheduler_lock(name, "20ms"):
        in_another_thread(lambda: free_within(5, name))
    assert "lost before its work was done" in caplog.text


# -- and the caller's transaction ---------------------------------------------------------------------------------


def test_a_lock_taken_in_a_transaction_survives_its_rollback(name: str) -> None:
    with pytest.raises(LookupError), transaction.atomic():
        lock = taken(name)
        raise LookupError
    assert not is_free(name)
    assert lock.unlock()


def test_a_lock_works_in_a_transaction_that_is_broken(name: str) -> None:
    with transaction.atomic():
        with pytest.raises(Exception, match="division"), connection.cursor() as cursor:
            cursor.execute("select 1 / 0")
        taken(name).unlock()
        transaction.set_rollback(True)


# -- when connections are lost ------------------------------------------------------------------------------------


def lose_connections(database: psycopg.Connection[Any]) -> None:
    database.execute(
        "select pg_terminate_backend(pid, 5000) from pg_stat_activity where application_name = 'waystation-locks'"
    )


def test_a_lost_connection_is_made_anew(name: str, database: psycopg.Connection[Any]) -> None:
    for _ in range(2):
        lock = taken(name)
        lose_connections(database)
        lock = lock.extend()
        lose_connections(database)
        assert lock.unlock()
        lose_connections(database)


def test_an_acquisition_whose_answer_was_lost_is_found(
    name: str, database: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lent: list[Any] = []
    original = connections.connect

    class LosesItsAnswer:
        def __init__(self, conn: Any) -> None:
            self._conn = conn

        def __getattr__(self, attribute: str) -> Any:
            return getattr(self._conn, attribute)

        def execute(self, *arguments: Any) -> Any:
            self._conn.execute(*arguments)
            self._conn.close()
            return self._conn.execute(*arguments)

    def connect() -> Any:
        lent.append(original())
        return LosesItsAnswer(lent[-1]) if len(lent) == 1 else lent[-1]

    connections.close()
    monkeypatch.setattr(connections, "connect", connect)
    lock = taken(name)
    assert len(lent) == 2
    assert lock.unlock()


def test_a_database_that_is_away_is_said_to_be(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    connections.close()
    monkeypatch.setattr(connections, "conninfo", lambda: "host=127.0.0.1 port=1")
    with pytest.raises(Unavailable):
        scheduler_lock(name, "PT1M").acquire()


def test_a_lock_that_cannot_be_given_back_fails_no_work(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @scheduler_lock(name, "PT1M")
    def work() -> str:
        connections.close()
        monkeypatch.setattr(connections, "conninfo", lambda: "host=127.0.0.1 port=1")
        return "done"

    assert work() == "done"
    assert "lapses by itself" in caplog.text


def test_a_statement_that_a_signal_interrupts_leaves_no_connection_in_its_midst(
    name: str, database: psycopg.Connection[Any]
) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise LookupError("of a timeout")

    taken(name).unlock()
    earlier = signal.signal(signal.SIGALRM, interrupt)
    try:
        with database.transaction():
            database.execute("select from shedlock where name = %s for update", (name,))
            signal.setitimer(signal.ITIMER_REAL, 0.1)
            with pytest.raises(LookupError):
                scheduler_lock(name, "PT1M").acquire()
    finally:
        signal.signal(signal.SIGALRM, earlier)
    assert taken(f"{name}-b").unlock()


def test_no_more_connections_are_kept_than_needed(name: str) -> None:
    start = threading.Barrier(12)

    def cycle(number: int) -> None:
        lock = taken(f"{name}-{number}")
        start.wait(10)
        lock.unlock()

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(cycle, range(12)))
    assert len(connections._stack.idle) <= connections.IDLE_KEPT
