"""Locks under contention, stopped and forked holders, the fence, and keeping alive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psycopg
import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction

from brokers.audit import Actor
from brokers.database import conninfo
from brokers.models import AuditEntry
from scheduling import assert_locked, extend_lock, fence, scheduler_lock
from scheduling.locks import InvalidLock, LockLost, NotLocked, keep_alive, store, terms
from scheduling.locks.errors import LockChanged, LockNotFound
from scheduling.locks.releasing import release
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[3]
CONTENTION_SECONDS = 4.0
ACQUISITIONS = 50
"""At least so many, however slow the machine is."""
OPERATOR = Actor("ada", "console")


@pytest.fixture
def name() -> str:
    return unique("lock")


@pytest.fixture
def database() -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(conninfo(), autocommit=True) as conn:
        yield conn


@pytest.fixture
def effects(database: psycopg.Connection[Any]) -> Iterator[None]:
    """A table for guarded work to write to."""
    database.execute("create table effects (name text not null)")
    yield
    database.execute("drop table effects")


def until_true(condition: Any, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class Holder:
    """The process of `holder.py`."""

    def __init__(self, process: subprocess.Popen[str], commands: IO[str], answers: IO[str]) -> None:
        self.process, self._commands, self._answers = process, commands, answers

    def answer(self) -> str:
        return self._answers.readline().strip()

    def send(self, order: str) -> None:
        self._commands.write(order + "\n")
        self._commands.flush()

    def ask(self, order: str) -> str:
        self.send(order)
        return self.answer()


@contextmanager
def holder(name: str, at_most_for: str) -> Iterator[Holder]:
    script = Path(__file__).with_name("holder.py")
    command = [sys.executable, str(script), connection.settings_dict["NAME"], name, at_most_for]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            found = Holder(process, process.stdin, process.stdout)
            assert found.answer() == "held"
            yield found
        finally:
            process.send_signal(signal.SIGCONT)
            process.stdin.close()
            process.wait(10)


# -- contention ---------------------------------------------------------------------------------------------------


def test_of_fifty_threads_never_two_hold_it(name: str) -> None:
    within, most, acquired = 0, 0, 0
    began = time.monotonic()

    def goes_on() -> bool:
        seconds = time.monotonic() - began
        return seconds < CONTENTION_SECONDS or (acquired < ACQUISITIONS and seconds < 60)

    def compete() -> None:
        nonlocal within, most, acquired
        while goes_on():
            with scheduler_lock(name, "PT30S") as lock:
                if lock is not None:
                    within += 1  # one thread at a time, if the lock is one
                    most = max(most, within)
                    time.sleep(0)
                    acquired += 1
                    within -= 1

    with ThreadPoolExecutor(50) as pool:
        for done in [pool.submit(compete) for _ in range(50)]:
            done.result()
    assert most == 1
    assert within == 0
    assert acquired >= ACQUISITIONS


# -- a holder that is stopped -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("effects")
def test_a_stopped_holder_changes_nothing_when_it_wakes(name: str, database: psycopg.Connection[Any]) -> None:
    with holder(name, "PT1S") as stopped:
        assert stopped.ask("extend") == "ok"
        stopped.process.send_signal(signal.SIGSTOP)
        mine = scheduler_lock(name, "PT1M")
        until_true(lambda: mine.acquire() is not None)
        before = database.execute("select * from shedlock where name = %s", (name,)).fetchone()
        stopped.process.send_signal(signal.SIGCONT)
        assert stopped.ask("fenced work") == "LockLost"
        assert stopped.ask("extend") == "LockLost"
        assert database.execute("select * from shedlock where name = %s", (name,)).fetchone() == before
        assert database.execute("select count(*) from effects").fetchone() == (0,)


def test_a_stopped_holders_late_unlock_hits_nothing(name: str, database: psycopg.Connection[Any]) -> None:
    with holder(name, "PT0.5S") as stopped:
        stopped.process.send_signal(signal.SIGSTOP)
        mine = scheduler_lock(name, "PT1M")
        until_true(lambda: mine.acquire() is not None)
        before = database.execute("select * from shedlock where name = %s", (name,)).fetchone()
        stopped.process.send_signal(signal.SIGCONT)
        assert stopped.ask("unlock") == "LockLost"
        assert database.execute("select * from shedlock where name = %s", (name,)).fetchone() == before


@pytest.mark.slow
def test_a_holder_stopped_behind_its_fence_keeps_the_lock_for_seconds_only(name: str) -> None:
    with holder(name, "PT1S") as stopped:
        assert stopped.ask("fence and wait") == "fenced"
        stopped.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        mine = scheduler_lock(name, "PT1M")
        until_true(lambda: mine.acquire() is not None, 20)
        assert time.monotonic() - began < 12
        stopped.process.kill()


# -- the fence ----------------------------------------------------------------------------------------------------


def rows() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from effects")
        row = cursor.fetchone()
    return int(row[0])


def work_and_fence() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("insert into effects values ('x')")
        fence()


@pytest.mark.usefixtures("effects")
def test_the_holder_passes_its_fence(name: str) -> None:
    with scheduler_lock(name, "PT1M"), scheduler_lock(f"{name}-b", "PT1M"):
        work_and_fence()
        with transaction.atomic():
            fence(name)
    assert rows() == 1


@pytest.mark.usefixtures("effects")
def test_work_is_rolled_back_when_the_lock_has_lapsed(name: str) -> None:
    with scheduler_lock(name, "20ms"):
        until_true(lambda: lapsed(name))
        with pytest.raises(LockLost):
            work_and_fence()
    assert rows() == 0


def lapsed(name: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("select lock_until < timezone('utc', now()) from shedlock where name = %s", (name,))
        return bool(cursor.fetchone()[0])


@pytest.mark.usefixtures("effects")
def test_a_lapse_within_the_transaction_is_seen_by_its_fence(name: str) -> None:
    """The transaction's own time stands still; the fence does not look at it."""
    with scheduler_lock(name, "100ms"), pytest.raises(LockLost), transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("insert into effects values ('x')")
            cursor.execute("select pg_sleep(0.2)")
        fence()
    assert rows() == 0


def test_nobody_takes_a_fenced_lock_before_the_commit(name: str) -> None:
    lock = scheduler_lock(name, "150ms")
    with lock, transaction.atomic():
        fence()
        until_true(lambda: lapsed_by_clock(name))
        with ThreadPoolExecutor(1) as pool:
            competing = pool.submit(scheduler_lock(name, "PT1M").acquire)
            with pytest.raises(TimeoutError):
                competing.result(0.3)
            transaction.set_rollback(False)
            with connection.cursor() as cursor:
                cursor.execute("commit; begin")
            assert competing.result(5) is not None


def lapsed_by_clock(name: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("select lock_until < timezone('utc', clock_timestamp()) from shedlock where name = %s", (name,))
        return bool(cursor.fetchone()[0])


def test_a_fence_needs_a_lock_and_a_transaction(name: str) -> None:
    with pytest.raises(NotLocked), transaction.atomic():
        fence()
    with scheduler_lock(name, "PT1M"), pytest.raises(NotLocked, match="transaction"):
        fence()


def test_a_fenced_transaction_is_not_left_idle(name: str) -> None:
    with scheduler_lock(name, "PT1M"), transaction.atomic(), connection.cursor() as cursor:
        fence()
        cursor.execute("show idle_in_transaction_session_timeout")
        assert cursor.fetchone()[0] == "5s"


def test_a_lock_inside_of_its_fenced_transaction_is_given_back_after_it(name: str) -> None:
    began = time.monotonic()
    with transaction.atomic():
        with scheduler_lock(name, "PT1M"):
            fence()
        assert not lapsed_by_clock(name)
        assert time.monotonic() - began < 1.5, "it waited for itself"
    assert scheduler_lock(name, "PT1M").acquire() is not None


@pytest.mark.usefixtures("effects")
async def test_asynchronous_work_is_fenced_in_its_thread(name: str) -> None:
    async with scheduler_lock(name, "PT1M"):
        await sync_to_async(work_and_fence)()
    assert await sync_to_async(rows)() == 1
    await sync_to_async(connections.close_all)()


# -- keeping alive ------------------------------------------------------------------------------------------------


@pytest.fixture
def short_keeping(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept alive may be short."""
    monkeypatch.setattr(terms, "KEEP_ALIVE_MIN_MS", 100)
    monkeypatch.setattr(keep_alive, "LINGER_SECONDS", 0.05)


def test_what_is_too_short_is_not_kept_alive(name: str) -> None:
    with pytest.raises(InvalidLock, match="30000 ms or more"):
        scheduler_lock(name, "PT29.999S", keep_alive=True)
    scheduler_lock(name, "PT30S", keep_alive=True)


@pytest.mark.usefixtures("short_keeping")
def test_a_lock_is_kept_alive_past_its_time(name: str) -> None:
    with scheduler_lock(name, "PT1S", keep_alive=True) as lock:
        assert lock is not None
        end = time.monotonic() + 2.2
        while time.monotonic() < end:
            assert scheduler_lock(name, "PT1M").acquire() is None
        with pytest.raises(InvalidLock, match="extended by itself"):
            extend_lock("PT1M")
    assert scheduler_lock(name, "PT1M").acquire() is not None
    until_true(lambda: not any(thread.name == "lock-keeper" for thread in threading.enumerate()))


@pytest.mark.usefixtures("short_keeping")
def test_a_kept_lock_that_was_taken_away_is_told_of(name: str, caplog: pytest.LogCaptureFixture) -> None:
    with scheduler_lock(name, "PT0.4S", keep_alive=True):
        assert release(name, actor=OPERATOR)
        until_true(lambda: "a lock was lost" in caplog.text)
        with pytest.raises(NotLocked):
            assert_locked(name)


@pytest.mark.usefixtures("short_keeping")
def test_keeping_alive_outlasts_a_database_that_is_away_for_a_moment(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keep_alive, "AGAIN_SECONDS", 0.05)
    failed = threading.Event()
    original = store.extend

    def extend(*arguments: Any) -> Any:
        if not failed.is_set():
            failed.set()
            raise psycopg.OperationalError("away")
        return original(*arguments)

    monkeypatch.setattr(store, "extend", extend)
    with scheduler_lock(name, "PT1S", keep_alive=True) as lock:
        assert lock is not None
        assert failed.wait(5)
        until_true(lambda: lease_of(name) > lock.until)


def lease_of(name: str) -> Any:
    from scheduling.locks.listing import get

    return get(name).until


# -- processes that fork ------------------------------------------------------------------------------------------


def test_a_forked_child_holds_none_of_its_parents_locks(name: str) -> None:
    code = f"""
import os, sys, django
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "messaging_site.settings")
django.setup()
from django.db import connection
connection.settings_dict["NAME"] = {connection.settings_dict["NAME"]!r}
from scheduling import assert_locked, scheduler_lock
from scheduling.locks import NotLocked
with scheduler_lock({name!r}, "PT30S", keep_alive=True) as lock:
    assert lock is not None
    scheduler_lock("other-{name}", "PT1M").acquire().unlock()   # so that a connection is idle
    child = os.fork()
    if child == 0:
        try:
            assert_locked()
        except NotLocked:
            pass
        else:
            os._exit(2)
        with scheduler_lock({name!r}, "PT1M") as second:
            if second is not None:
                os._exit(3)
        with scheduler_lock("child-{name}", "PT30S", keep_alive=True) as own:
            if own is None:
                os._exit(4)
        sys.exit(0)                                             # leaves the parent's block as well
    assert os.waitpid(child, 0)[1] == 0
    assert_locked()
    assert lock.unlock(), "the child has given it back"
"""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr


# -- releasing by force -------------------------------------------------------------------------------------------


def test_a_lock_released_by_force_is_lost_to_its_holder(name: str) -> None:
    with pytest.raises(LockLost), scheduler_lock(name, "PT1M", "PT1M") as lock:
        assert lock is not None
        assert release(name, actor=OPERATOR, held_by=lock.locked_by, reason="it hangs")
        other = scheduler_lock(name, "PT2M")
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(other.acquire).result(5) is not None
        with pytest.raises(LockLost), transaction.atomic():
            fence()
        lock.extend()
    assert scheduler_lock(name, "PT1M").acquire() is None, "the end of the block freed the other's lock"
    entry = AuditEntry.objects.get(operation="release", resource=name)
    assert (entry.resource_type, entry.principal, entry.surface) == ("lock", "ada", "console")
    assert lock is not None
    assert (entry.details["held_by"], entry.details["reason"]) == (lock.locked_by, "it hangs")


def test_releasing_what_is_free_changes_nothing(name: str) -> None:
    lock = scheduler_lock(name, "PT1M").acquire()
    assert lock is not None
    lock.unlock()
    assert release(name, actor=OPERATOR) is False
    assert not AuditEntry.objects.filter(resource=name).exists()


def test_releasing_what_another_holds_by_now_is_refused(name: str) -> None:
    scheduler_lock(name, "PT1M").acquire()
    with pytest.raises(LockChanged):
        release(name, actor=OPERATOR, held_by="somebody:1:aaaaaaaaaaaa")
    assert scheduler_lock(name, "PT1M").acquire() is None


def test_releasing_what_never_was_is_refused(name: str) -> None:
    with pytest.raises(LockNotFound):
        release(name, actor=OPERATOR)
