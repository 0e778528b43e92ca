"""Two servers over one database, one with its clock an hour off, while beats and workers are killed and stopped.

No due time is fired twice, before its time or never; each run ends, and what its function wrote is there once. The
check is a function of what was seen (`task_history`), and is tested here with histories that are wrong.
`FAULT_SECONDS` says for how long (`make faults`: minutes). The seed of a run is printed when it fails.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from tests.acceptance.embedded_server import until
from tests.acceptance.task_history import LOCKED, RAN_INTO, Effect, History, Run, Schedule, problems
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

# -- the check ------------------------------------------------------------------------------------------------------

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def ran(number: int, task: str, due: float, *, took: float = 0.1, fired: float | None = None) -> Run:
    """A run that went well."""
    when = at(due if fired is None else fired)
    ended = when + timedelta(seconds=took)
    return Run(number, task, at(due), when, "succeeded", when, ended, 1, "host:1")


class Draft:
    """A history that is right, to be spoilt."""

    def __init__(self) -> None:
        self.runs = {run.id: run for run in self._runs()}
        self.effects = {
            run.id: Effect(run.task, run.id, run.process, run.started, run.ended)
            for run in self.runs.values()
            if run.started is not None and run.state == "succeeded"
        }
        self.more: list[Effect] = []
        self.end = at(10)
        self.effects[23] = replace(self.effects[22], run=23, process="host:2", began=at(3.1), ended=None)

    def _runs(self) -> Iterator[Run]:
        yield from (ran(1 + second, "rate", second) for second in range(4))
        yield ran(5, "rate", 4, fired=7.5)  # a take-over: those of 5, 6 and 7 are made good for
        yield from (ran(second - 2, "rate", second) for second in (8, 9))
        yield from (ran(20 + second, "slow", second, took=0.5) for second in range(3))
        yield replace(ran(23, "slow", 3), state="lost", process="host:2", ended=at(6.5))
        skipped = replace(ran(24, "slow", 4), state="skipped", error=RAN_INTO, attempts=0, started=None, process="")
        yield from (
            skipped,
            replace(skipped, id=25, due=at(5), fired=at(5)),
            replace(skipped, id=26, due=at(6), fired=at(6)),
        )
        yield from (ran(20 + second, "slow", second, took=0.5) for second in (7, 8, 9))
        yield ran(40, "locked", 0.2)
        yield replace(ran(41, "locked", 1.2), state="skipped", error=LOCKED)
        yield from (ran(40 + second, "locked", second + 0.2) for second in range(2, 10))
        yield from (ran(60 + number, "delayed", 1.1 * number) for number in range(9))
        yield ran(80, "once", 0)

    def history(self) -> History:
        schedules = {
            "rate": Schedule("rate", SECOND, "allow", is_on_full_seconds=True),
            "slow": Schedule("rate", SECOND),
            "locked": Schedule("rate", SECOND, is_locked=True),
            "delayed": Schedule("delay", SECOND),
            "once": Schedule("once"),
        }
        runs, effects = list(self.runs.values()), [*self.effects.values(), *self.more]
        return History(schedules, runs, effects, frozenset({"host:2"}), self.end)

    def change(self, number: int, **facts: Any) -> None:
        self.runs[number] = replace(self.runs[number], **facts)


def _fired_twice(draft: Draft) -> None:
    draft.runs[100] = ran(100, "rate", 2)
    draft.effects[100] = replace(draft.effects[3], run=100)


def _without(draft: Draft, *numbers: int) -> None:
    for number in numbers:
        del draft.runs[number], draft.effects[number]


def _ends_later(draft: Draft) -> None:
    draft.end = at(60)


SPOILT: dict[str, tuple[Callable[[Draft], Any], str]] = {
    "a due time fired twice": (_fired_twice, "fired twice"),
    "a due time off the grid": (lambda draft: draft.change(3, due=at(2.25)), "drifts"),
    "a due time off the second": (lambda draft: draft.change(3, due=at(2.25)), "off the full second"),
    "a due time missed": (lambda draft: _without(draft, 3), "neither fired nor made good"),
    "missed times not made good for": (lambda draft: draft.change(5, fired=at(6.9)), "neither fired nor made good"),
    "fired before its time": (lambda draft: draft.change(3, fired=at(1.9)), "before it was due"),
    "fired far too late": (lambda draft: draft.change(2, fired=at(12)), "later"),
    "begun before its time": (lambda draft: draft.change(3, started=at(1.9)), "before it was due"),
    "due in the future": (lambda draft: draft.change(7, due=at(3609), fired=at(3609)), "due after the end"),
    "never fired": (lambda draft: _without(draft, 80), "never fired"),
    "one time, twice": (lambda draft: draft.runs.update({81: ran(81, "once", 5)}), "fired 2 times"),
    "a rate that stopped": (_ends_later, "rate was last fired"),
    "a task of nobody": (lambda draft: draft.change(80, task="other"), "nobody has declared"),
    "an effect twice": (lambda draft: draft.more.append(draft.effects[1]), "with 2 effects"),
    "an effect of a lost run twice": (lambda draft: draft.more.append(draft.effects[23]), "has 2 effects"),
    "an effect lost": (lambda draft: draft.effects.pop(1), "with 0 effects"),
    "half an effect": (lambda draft: draft.more.append(replace(draft.effects.pop(1), ended=None)), "0 of them whole"),
    "an effect of no run": (lambda draft: draft.more.append(replace(draft.effects[1], run=None)), "is not there"),
    "an effect of what was skipped": (
        lambda draft: draft.more.append(replace(draft.effects[22], run=24)),
        "was skipped and has",
    ),
    "an effect by another process": (lambda draft: draft.change(1, process="host:3"), "has an effect by"),
    "a run with no end": (lambda draft: draft.change(1, ended=None), "has no end"),
    "a run left over": (lambda draft: draft.change(1, state="ready"), "ready"),
    "a run that failed": (lambda draft: draft.change(1, state="failed", error="why"), "failed, why"),
    "lost by a worker that lives": (lambda draft: draft.change(23, process="host:1"), "nothing was done"),
    "two attempts": (lambda draft: draft.change(1, attempts=2), "after 2 attempts"),
    "skipped beside nothing": (
        lambda draft: draft.change(22, state="skipped", error=RAN_INTO, started=None),
        "no run of it was open",
    ),
    "skipped for no beat": (lambda draft: draft.change(41, error="no beat was running"), "because no beat"),
    "runs that exclude each other at once": (lambda draft: draft.change(20, ended=at(1.2)), "before 20 had ended"),
    "out of order": (lambda draft: draft.change(20, started=at(2.6), ended=at(2.9)), "which was due later"),
    "under a lock at once": (
        lambda draft: draft.effects.update({42: replace(draft.effects[42], ended=at(3.3))}),
        "under one lock",
    ),
    "a delay cut short": (lambda draft: draft.change(63, ended=at(3.9)), "was due 0:00:00.5"),
    "a delay that grew": (lambda draft: draft.change(63, ended=at(3.2)), "ended as succeeded"),
    "a delay that stopped": (_ends_later, "delayed is not due any more"),
}


def test_the_check_passes_what_is_right() -> None:
    assert problems(Draft().history()) == []


@pytest.mark.parametrize("what", SPOILT)
def test_the_check_sees_what_is_wrong(what: str) -> None:
    draft = Draft()
    spoil, told = SPOILT[what]
    spoil(draft)
    found = problems(draft.history())
    assert any(told in problem for problem in found), found


# -- what is done to the servers --------------------------------------------------------------------------------------


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
        earlier = "select 1 from scheduling_run where fired_at is null and state in ('ready', 'running')"
        until(lambda: self.value(earlier) is None, 30, "the runs before have ended")

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
        rows = self.connection.execute(
            """select id, function, due_at, coalesce(fired_at, started_at), state, started_at, ended_at, attempts,
                      process, error
               from scheduling_run where fired_at is not null or function = 'one-time'"""
        ).fetchall()
        effects = self.connection.execute(
            """select e.task, e.run, e.process, e.began_at, e.ended_at
               from ticking_effect e left join scheduling_run r on r.id = e.run
               where r.id is null or r.fired_at is not null or e.task = 'one-time'"""
        ).fetchall()
        return History(SCHEDULES, [Run(*row) for row in rows], [Effect(*row) for row in effects], victims, paused_at)


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
            self.kill_the_leading_beat,
            self.stop_the_leading_beat,
            self.stop_a_beat_briefly,
        ]
        faults = list(plan)
        try:
            while plan or time.monotonic() < deadline:
                fault = plan.pop(0) if plan else self._dice.choice(faults)
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
        if not self._stopped:
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
        with running(url, **VARIABLES) as one, running(url, **VARIABLES, **skewed) as other:
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
    found = problems(history)
    assert not found, "\n".join([*found[:50], log[-6000:]])
    states = Counter(run.state for run in history.runs)
    print(dict(states), dict(nemesis.done))
    assert states["lost"] >= 2, "a worker was killed in the midst of a run, and another stopped"
    assert {nemesis.led[pid].url for pid in fired_by & set(nemesis.led)} == {one.url, other.url}, "each has led"
    odd = [line for line in log.splitlines() if "Traceback" in line and "WorkerLostError" not in line]
    assert not odd, odd[0][:3000]
