"""Taking a lock and giving it back, against two bare UPDATEs of one row, each with a commit of its own.

The bare row is of a table like ShedLock's, and its statements set the columns that the lock's do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench import stores
from bench.measurement import Measurement
from bench.rounds import Extent, speeds_of
from bench.task_processes import Connection
from scheduling import scheduler_lock
from scheduling.locks import connections, store

GROUP = "scheduling"
GOAL = 0.8
REFERENCE = "two bare UPDATEs of one row, two commits"
NAME = "bench-lock"
_TAKE = """update bench_lock set lock_until = timezone('utc', current_timestamp) + interval '60 s',
  locked_at = timezone('utc', current_timestamp), locked_by = %s::text where name = %s::text"""
_GIVE = """update bench_lock set lock_until = timezone('utc', current_timestamp)
  where name = %s::text and locked_by = %s::text"""


def measure(extent: Extent) -> Iterator[Measurement]:
    """The context manager that applications use, and the statements below it."""
    with stores.bare_connection() as conn:
        conn.execute("create table bench_lock (like shedlock including all)")
        conn.execute("insert into bench_lock select %s, now(), now(), ''", [NAME])
        steps: dict[str, Callable[[], int]] = {
            "scheduler_lock": _with_block,
            "the lock's two statements": _statements,
            REFERENCE: lambda: _bare(conn),
        }
        speeds = speeds_of(steps, extent.in_short_rounds())
        conn.execute("drop table bench_lock")
    connections.close()
    reference = speeds.pop(REFERENCE)
    for what, values in speeds.items():
        yield Measurement(
            group=GROUP,
            what=f"acquire and release: {what}",
            speeds=values,
            unit="cycles/s",
            reference=REFERENCE,
            reference_speeds=reference,
            goal=GOAL if what == "scheduler_lock" else None,
        )


def _with_block() -> int:
    with scheduler_lock(NAME, at_most_for="PT60S") as lock:
        assert lock is not None
    return 1


def _statements() -> int:
    holder = store.holder()
    assert store.acquire(NAME, 60_000, holder) is not None
    assert store.unlock(NAME, 0, holder) is not None
    return 1


def _bare(conn: Connection) -> int:
    holder = store.holder()
    conn.execute(_TAKE, [holder, NAME])
    conn.execute(_GIVE, [NAME, holder])
    return 1
