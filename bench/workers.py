"""Listener workers of the product as processes of their own, and how far a group has come."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from bench import stores
from messaging_site.processes import Process, spawn, stop

STOP_STEPS = ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0))
DEADLINE_SECONDS = 120.0
_COMMITTED = """select coalesce(sum(c.committed_offset), 0) from brokers_committed_offset c
  join brokers_partition p on p.id = c.partition_id join brokers_topic t on t.id = p.topic_id where t.name = %s"""


class WorkerFailed(Exception):
    """A worker ended, or did not get on in time."""


def start(listener: str, topic: str, concurrency: int = 1, variables: Mapping[str, str] | None = None) -> Process:
    """A worker with one listener of `bench.handled`; its output goes to the end of a file below the system's own."""
    log = Path(tempfile.gettempdir()) / f"waystation-bench-listener-{os.getpid()}.log"
    with log.open("ab") as output:
        return spawn(
            [sys.executable, stores.ROOT / "manage.py", "listen"],
            parent_death_signal=signal.SIGKILL,
            cwd=stores.ROOT,
            env={
                **os.environ,
                "WAYSTATION_APPS": "bench.handled",
                "BENCH_LISTENER": listener,
                "BENCH_TOPIC": topic,
                "BENCH_CONCURRENCY": str(concurrency),
                **(variables or {}),
            },
            output=output,
        )


def end(process: Process) -> None:
    """SIGTERM, then SIGKILL."""
    stop(process, STOP_STEPS)


@contextmanager
def worker(
    listener: str, topic: str, concurrency: int = 1, variables: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """`start` and, at the end of the block, `end`."""
    process = start(listener, topic, concurrency, variables)
    try:
        yield process
    finally:
        end(process)


def handled(conn: psycopg.Connection[tuple[object, ...]], topic: str) -> int:
    """Records of the topic that are committed."""
    return int(str(conn.execute(_COMMITTED, [topic]).fetchall()[0][0]))


def until(condition: Callable[[], bool], process: Process | None, what: str) -> None:
    """Returns when the condition holds; raises WorkerFailed when the worker ends before, or after two minutes."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        if process is not None and process.poll() is not None:
            raise WorkerFailed(f"the worker ended with {process.returncode} before {what}")
        if time.monotonic() >= deadline:
            raise WorkerFailed(f"not within {DEADLINE_SECONDS:.0f} s: {what}")
        time.sleep(0.01)


def speed(conn: psycopg.Connection[tuple[object, ...]], topic: str, count: int, process: Process) -> float:
    """Records a second from the first commit that is seen to the last one, of `count` in all."""
    until(lambda: handled(conn, topic) > 0, process, "the first commit")
    first, started = handled(conn, topic), time.perf_counter()
    until(lambda: handled(conn, topic) >= count, process, f"{count} records are handled")
    return (count - first) / (time.perf_counter() - started)
