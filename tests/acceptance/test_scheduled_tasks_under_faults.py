"""Two servers over one database, one with its clock an hour off, while beats and workers are killed and stopped.

No due time is fired twice, before its time or never; each run ends, and what its function wrote is there once. The
check is a function of what was seen (`task_history`), which is tested with histories that are wrong.
`FAULT_SECONDS` says for how long (`make faults`: minutes). The seed of a run is printed when it fails.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
import redis
from django.conf import settings

from tests.acceptance.embedded_server import until
from tests.acceptance.task_history import Effect, History, Run, Schedule, problems
from tests.server import Server, fresh_database, running

SECONDS = float(os.environ.get("FAULT_SECONDS", "20"))
BEAT_LOCK = "waystation:beat"
TAKE_OVER_SECONDS = 10.0
"""How long another beat may take to lead; four and a half seconds where the machine is not busy."""
LEAD_SECONDS, LEASE_SECONDS = 4.0, 15.0
"""For how long a silent beat leads, and a silent worker has its run."""
QUIET_SECONDS = 60.0
"""How long runs may take to end when nothing is fired any more: those of killed workers have to be found out."""
BEAT_STARTS = "beat: Starting..."
HOUR_OFF = "+3600s"
VARIABLES = {
    "WAYSTATION_APPS": "tests.acceptance.ticking",
    "WAYSTATION_TASK_PROCESSES": "2",
    "WAYSTATION_LISTENER_PROCESSES": "0",
}
SECOND = timedelta(seconds=1)
SCHEDULES = {
    "rate-a": Schedule("rate", SECOND, "allow"),
    "rate-b": Schedule("rate", SECOND / 2, "allow"),
    "slow": Schedule("rate", SECOND),
    "locked-a": Schedule("rate", SECOND, is_locked=True),
    "locked-b": Schedule("rate", SECOND, is_locked=True, is_on_full_seconds=True),
    "cron-queued": Schedule("rate", SECOND, "queue", is_on_full_seconds=True),
    "cron-skipping": Schedule("rate", 2 * SECOND, is_on_full_seconds=True),
    "delayed": Schedule("delay", 0.7 * SECOND),
    "one-time": Schedule("once"),
}


def an_hour_off() -> dict[str, str]:
    """Variables that have a server see another time; none where libfaketime is not there."""
    spec = importlib.util.find_spec("libfaketime")
    places = [] if spec is None or spec.origin is None else [Path(spec.origin).parent / "vendor/libfaketime/src"]
    for library in (path / "libfaketime.so.1" for path in places):
        if library.exists():
            return {
                "LD_PRELOAD": str(library),
                "FAKETIME": HOUR_OFF,
                "FAKETIME_NO_CACHE": "1",
                "DONT_FAKE_MONOTONIC": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
    print("both servers have the right time: libfaketime (requirements-dev.txt) is not there")
    return {}


def last_time(log: Path) -> datetime:
    """When a server wrote its last line, by its own clock."""
    stamps = re.findall(r'"timestamp": "([^"]+)Z"', log.read_text())
    return datetime.fromisoformat(stamps[-1])


class Tables:
    """What the servers' database says."""

    def __init__(self, url: str) -> None:
        self.connection = psycopg.connect(url, autocommit=True)

    def close(self) -> None:
        """Gives the connection back."""
        self.connection.close()

    def prepare(self) -> None:
        """A place for what the tasks write."""
        self.connection.execute(
            """create table ticking_effect (id bigserial primary key, task text, run bigint, process text,
                                            began_at timestamptz, ended_at timestamptz)"""
        )

    def observe(self) -> None:
        """From now on each run says when it was inserted."""
        with self.connection.transaction():
            self.connection.execute("alter table scheduling_run add column fired_at timestamptz")
            self.connection.execute("alter table scheduling_run alter fired_at set default clock_timestamp()")

    def value(self, statement: Any, *parameters: object) -> Any:
        """The first column of the first row; None for no row."""
        row = self.connection.execute(statement, parameters).fetchone()
        return None if row is None else row[0]

    def leader(self) -> int | None:
        """The process that leads, for as long as its lease lasts."""
        lead = "lock_until > timezone('utc', clock_timestamp())"
        holder = self.value(f"select locked_by from shedlock where name = %s and {lead}", BEAT_LOCK)
        return None if holder is None else int(str(holder).split(":")[-2])

    def busy(self) -> int | None:
        """A process in the midst of a run that takes a while."""
        row = self.value("select process from scheduling_run where function = 'slow' and state = 'running'")
        return None if row is None else int(str(row).split(":")[-1])

    def is_busy(self, pid: int) -> bool:
        """Whether a run is this process's now."""
        mine = f"{socket.gethostname()}:{pid}"
        return bool(self.value("select 1 from scheduling_run where state = 'running' and process = %s", mine))

    def pause_all(self) -> datetime:
        """Has nothing fired any more; when that was."""
        self.connection.execute("update scheduling_scheduledtask set paused = true")
        at: datetime = self.value("select clock_timestamp()")
        return at

    def look(self, victims: frozenset[str], paused_at: datetime) -> History:
        """All that was done since `observe`."""
        runs = [
            Run(*row)
            for row in self.connection.execute(
                """select id, function, due_at, coalesce(fired_at, due_at), state, started_at, ended_at, attempts,
                          process, error
                   from scheduling_run"""
            ).fetchall()
        ]
        first: int = self.value("select min(id) from scheduling_run where fired_at is not null")
        observed = [run for run in runs if run.id >= first or run.task == "one-time"]
        before = [run for run in runs if run.id < first]
        effects = self.connection.execute(
            """select e.task, e.run, e.process, e.began_at, e.ended_at
               from ticking_effect e left join scheduling_run r on r.id = e.run
               where r.id is null or r.fired_at is not null or e.task = 'one-time'"""
        ).fetchall()
        return History(SCHEDULES, observed, [Effect(*row) for row in effects], victims, paused_at, before)


class Nemesis:
    """One fault after the other; leaves nothing stopped."""

    def __init__(self, tables: Tables, servers: list[Server], seed: int) -> None:
        self.done: Counter[str] = Counter()
        self.victims: set[str] = set()
        """Workers' processes that were killed or stopped, as runs name them."""
        self.led: dict[int, Server] = {}
        """Which server's each beat was, that has led."""
        self._tables = tables
        self._servers = servers
        self._dice = random.Random(seed)
        self._killed: Counter[str] = Counter()
        """How many beats of each server."""
        self._stopped: list[tuple[float, psutil.Process]] = []
        """What is to be woken up, and when."""

    def rage(self, seconds: float) -> None:
        """Every kind of fault at least once, then at random; workers first, since their leases are longer."""
        deadline = time.monotonic() + seconds
        plan = [
            self.stop_a_worker_in_a_run,
            self.kill_a_worker_in_a_run,
            self.kill_a_task_server,
            self.stop_the_leading_beat,
            self.end_the_beats_sessions,
            self.cut_off_redis,
            self.kill_the_leading_beat,
            self.stop_the_leading_beat,
            self.stop_a_beat_briefly,
        ]
        faults = list(plan)
        try:
            while plan or time.monotonic() < deadline:
                fault = plan.pop(0) if plan else self._dice.choice(faults[1:] if self._stopped else faults)
                self._remember_the_leader()
                fault()
                self.done[fault.__name__] += 1
                time.sleep(self._dice.uniform(0.1, 0.5))
                self._wake(time.monotonic())
            if self._stopped:
                time.sleep(max(max(when for when, _ in self._stopped) - time.monotonic(), 0.0))
        finally:
            self._wake(float("inf"))

    def beats(self) -> dict[int, Server]:
        """The beats that run, and whose they are."""
        return {child.pid: server for server in self._servers for child in _children(server, "beat")}

    def kill_the_leading_beat(self) -> None:
        """SIGKILL: another leads within seconds."""
        leader = self._leader()
        self._killed[self.beats()[leader.pid].url] += 1
        leader.kill()
        self._await_another(leader)

    def stop_the_leading_beat(self) -> None:
        """SIGSTOP until another leads, then SIGCONT: a zombie."""
        leader = self._leader()
        with _suspended(leader):
            self._await_another(leader)

    def stop_a_beat_briefly(self) -> None:
        """SIGSTOP for less than a lease."""
        with _suspended(self._leader()):
            time.sleep(LEAD_SECONDS / 2)

    def end_the_beats_sessions(self) -> None:
        """PostgreSQL ends the beats' connections, in the middle of statements perhaps."""
        sessions = "application_name in ('waystation-beat', 'waystation-keeper') and datname = current_database()"
        self._tables.connection.execute(f"select pg_terminate_backend(pid) from pg_stat_activity where {sessions}")

    def cut_off_redis(self) -> None:
        """Redis ends all connections, and answers nobody for a second."""
        with redis.Redis.from_url(settings.REDIS_URL) as store:
            for kind in ("normal", "pubsub"):
                store.client_kill_filter(_type=kind)
            store.client_pause(1000)

    def kill_a_worker_in_a_run(self) -> None:
        """SIGKILL of one that does a run now."""
        self._suspend_a_busy_worker().kill()

    def kill_a_task_server(self) -> None:
        """SIGKILL of the process that gives out runs; its workers go with it."""
        found = [process for server in self._servers for process in _children(server, "worker")]
        busy = [process for process in found if not self._is_stopped(process)]
        victim = self._dice.choice(busy)
        self.victims |= {_name(child.pid) for child in victim.children()}
        victim.kill()

    def stop_a_worker_in_a_run(self) -> None:
        """SIGSTOP for longer than the lease of its run, then SIGCONT; meanwhile the other faults."""
        worker = self._suspend_a_busy_worker()
        self._stopped.append((time.monotonic() + LEASE_SECONDS + 2, worker))

    def _is_stopped(self, server: psutil.Process) -> bool:
        return any(process in server.children() for _, process in self._stopped)

    def _suspend_a_busy_worker(self) -> psutil.Process:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            pid = self._tables.busy()
            if pid is not None and pid not in [process.pid for _, process in self._stopped]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker = psutil.Process(pid)
                    worker.suspend()
                    if self._tables.is_busy(pid):
                        self.victims.add(_name(pid))
                        return worker
                    worker.resume()
            time.sleep(0.02)
        raise AssertionError("no worker was in the midst of a run")

    def are_beats_up(self) -> bool:
        """Whether each server has a beat that has come to its first tick."""
        return all(server.log.read_text().count(BEAT_STARTS) > self._killed[server.url] for server in self._servers)

    def _leader(self) -> psutil.Process:
        until(self.are_beats_up, 45, "the killed beats were started again")
        until(lambda: self._tables.leader() in self.beats(), TAKE_OVER_SECONDS, "a beat leads")
        self._remember_the_leader()
        leader = self._tables.leader()
        assert leader is not None
        return psutil.Process(leader)

    def _await_another(self, leader: psutil.Process) -> None:
        began = time.monotonic()
        until(lambda: self._tables.leader() not in (None, leader.pid), TAKE_OVER_SECONDS, "another beat leads")
        print(f"another beat led after {time.monotonic() - began:.1f} s")
        self._remember_the_leader()

    def _remember_the_leader(self) -> None:
        leader = self._tables.leader()
        if leader in (found := self.beats()):
            self.led[leader] = found[leader]

    def _wake(self, now: float) -> None:
        for when, process in list(self._stopped):
            if when <= now:
                self._stopped.remove((when, process))
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()


@contextmanager
def both(*starting: AbstractContextManager[Server]) -> Iterator[list[Server]]:
    """Servers that start at the same time."""
    with ExitStack() as stack, ThreadPoolExecutor(len(starting)) as pool:
        yield list(pool.map(stack.enter_context, starting))


def _children(server: Server, kind: str) -> list[psutil.Process]:
    """The Celery processes of a kind that a server's supervisor has started."""
    found = []
    for child in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.Error):
            if kind in child.cmdline():
                found.append(child)
    return found


@contextmanager
def _suspended(process: psutil.Process) -> Iterator[None]:
    process.suspend()
    try:
        yield
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.resume()


def _name(pid: int) -> str:
    """A process as runs name it."""
    return f"{socket.gethostname()}:{pid}"


@pytest.mark.slow
@pytest.mark.timeout(300 + 2 * SECONDS)
def test_no_due_time_is_missed_or_fired_twice_whatever_is_killed_or_stopped() -> None:
    seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"FAULT_SEED={seed}")
    skewed = an_hour_off()
    with fresh_database() as url, contextlib.closing(Tables(url)) as tables:
        tables.prepare()
        with both(running(url, **VARIABLES), running(url, **VARIABLES, **skewed)) as (one, other):
            tables.observe()
            nemesis = Nemesis(tables, [one, other], seed)
            until(lambda: nemesis.are_beats_up() and tables.busy() is not None, 30, "beats and workers run")
            nemesis.rage(SECONDS)
            paused_at = tables.pause_all()
            open_runs = "select count(*) from scheduling_run where state in ('ready', 'running')"
            until(lambda: tables.value(open_runs) == 0, QUIET_SECONDS, "all runs have ended")
            history = tables.look(frozenset(nemesis.victims), paused_at)
            fired_by = {
                int(row[0].split(":")[-2])
                for row in tables.connection.execute(
                    "select distinct fired_by from scheduling_run where fired_at is not null"
                )
            }
            log = one.log.read_text() + other.log.read_text()
            ahead = last_time(other.log) - last_time(one.log)
    assert bool(skewed) == (ahead > timedelta(minutes=50)), f"the other server's clock is ahead by {ahead}"
    found = problems(history)
    assert not found, "\n".join([*found[:50], log[-6000:]])
    states = Counter(run.state for run in history.runs)
    print(dict(states), dict(nemesis.done))
    assert states["lost"] >= 1, "a worker was killed in the midst of a run, and another stopped"
    assert {nemesis.led[pid].url for pid in fired_by & set(nemesis.led)} == {one.url, other.url}, "each has led"
    odd = [line for line in log.splitlines() if "Traceback" in line and "WorkerLostError" not in line]
    assert not odd, odd[0][:3000]
