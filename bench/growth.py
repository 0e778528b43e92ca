"""The same speeds on an empty log and behind many records (20 million unless told otherwise).

Two databases of the same PostgreSQL, one small and one grown, take turns in every round, so that a slow
moment of the machine meets both. The grown log is one partition in batches of 100 records, loaded by SQL.
The small one is emptied before each append round; what is read from it is 100,000 records, which fit the
buffers, as is the grown log's tail. The middle is read in order, each round another stretch that no round
has read before.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from psycopg import sql

from bench import growth_worker, stores
from bench.measurement import Measurement
from bench.rounds import Extent, Subject, interleaved
from messaging_site import embedded

APPEND_GOAL, TAIL_GOAL, MIDDLE_GOAL = 0.9, 0.8, 0.5
_APPEND_SIZES = (1, 100, 1000)
_COMMAND_SECONDS = 1200.0


class WorkerFailed(Exception):
    """A worker ended before it had answered."""


class _Database:
    """The parent's end of one worker."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def answer(self) -> float:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise WorkerFailed(f"the worker of the growth measurement ended with status {self.process.wait()}")
        found = json.loads(line)
        return float(found) if isinstance(found, int | float) else 0.0

    def call(self, name: str, **arguments: float) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, arguments]) + "\n")
        self.process.stdin.flush()
        return self.answer()


@contextmanager
def _database(data_dir: Path, name: str) -> Iterator[_Database]:
    with stores.bare_connection() as conn:
        conn.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    parts = urlsplit(embedded.database_url(data_dir))
    environ = {
        **os.environ,
        "DATABASE_URL": urlunsplit(parts._replace(path=f"/{name}")),
        "REDIS_URL": embedded.redis_url(data_dir),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.growth_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environ,
        cwd=stores.ROOT,
    )
    try:
        database = _Database(process)
        database.answer()
        yield database
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        with stores.bare_connection() as conn:
            conn.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))


def _emptied_append(small: _Database, size: int, seconds: float) -> Subject:
    def run() -> float:
        small.call("empty")
        return small.call("append", size=size, seconds=seconds)

    return run


def _appends(small: _Database, grown: _Database, extent: Extent) -> Iterator[Measurement]:
    for size in _APPEND_SIZES:
        subjects: dict[str, Subject] = {
            "grown": partial(grown.call, "append", size=size, seconds=extent.seconds),
            "empty": _emptied_append(small, size, extent.seconds),
        }
        speeds = interleaved(subjects, extent.rounds)
        yield Measurement(
            group=f"growth to {extent.growth_records:,} records",
            what=f"append (encodes), {size} a batch",
            speeds=speeds["grown"],
            reference="the same on an empty log",
            reference_speeds=speeds["empty"],
            goal=APPEND_GOAL if size >= 100 else None,
        )


def _reads(small: _Database, grown: _Database, extent: Extent) -> Iterator[Measurement]:
    total = extent.growth_records
    stretch = growth_worker.SMALL_RECORDS
    small.call("empty")
    small.call("load", records=stretch)
    small.call("settle")
    middle = total // 2
    unread = total // 16_000 * 1000

    def in_the_middle(how: str) -> Subject:
        next_first = middle if how == "fetch" else middle + 4 * unread

        def run() -> float:
            nonlocal next_first
            first = next_first
            next_first += unread
            return grown.call(how, first=first, past=next_first, seconds=0)

        return run

    for how, what in (("fetch", "fetch in Python"), ("select", "bare SELECT, not decoded")):
        subjects: dict[str, Subject] = {
            "tail": partial(grown.call, how, first=total - stretch, past=total, seconds=extent.seconds),
            "small": partial(small.call, how, first=0, past=stretch, seconds=extent.seconds),
            "middle": in_the_middle(how),
        }
        speeds = interleaved(subjects, extent.rounds)
        for where, goal in (("tail", TAIL_GOAL), ("middle", MIDDLE_GOAL)):
            yield Measurement(
                group=f"growth to {total:,} records",
                what=f"{what}, {'at the tail' if where == 'tail' else 'in order in the middle'}",
                speeds=speeds[where],
                reference="the same on a small log",
                reference_speeds=speeds["small"],
                goal=goal if how == "fetch" else None,
            )


def measure(extent: Extent, data_dir: Path) -> Iterator[Measurement]:
    """Loads the grown log, reads it at the tail and in the middle, then appends behind it."""
    stores.empty_log()
    with ExitStack() as stack:
        small = stack.enter_context(_database(data_dir, "bench_small"))
        grown = stack.enter_context(_database(data_dir, "bench_grown"))
        started = time.perf_counter()
        loaded = grown.call("load", records=extent.growth_records)
        seconds = time.perf_counter() - started
        size = grown.call("settle")
        yield Measurement(
            group=f"growth to {extent.growth_records:,} records",
            what="load by INSERT ... SELECT of encoded batches of 100",
            speeds=(loaded / seconds,),
            details={"seconds": round(seconds, 1), "gigabytes_on_disk": round(size / 1e9, 2)},
        )
        yield from _reads(small, grown, extent)
        yield from _appends(small, grown, extent)
