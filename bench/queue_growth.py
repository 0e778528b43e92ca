"""Claims over a large backlog, after churn, and while another session holds an old snapshot.

What is timed is the claim alone: each step publishes a hundred messages, claims a hundred and acknowledges them, so a
backlog stays as large as it was loaded. The reference is the same on a queue that is new in each round and holds only
what the step has just published. The backlog is loaded by SQL.
"""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterator
from functools import partial
from itertools import count

from bench import stores
from bench.measurement import Measurement
from bench.queue_steps import HOLDER, LEASE_MS, messages, new_queue
from bench.rounds import Extent, Subject, interleaved
from brokers.queues import claims, sending, topology

BACKLOG_GOAL = 0.9
SNAPSHOT_GOAL = 0.7
_SIZE = 100
_LONGER = 5
"""Rounds are so much longer than others: each has its share of the looks from a queue's head on, which are seldom."""
_LOADED_AT_ONCE = 500_000
_QUEUE = "bench-backlog"
_names = count()
_LOAD = """insert into brokers_message (queue_id, priority, pos, encoding, envelope, body)
  select %s::int, 0, nextval('brokers_message_pos_seq'), 1, %b::bytea, %b::bytea from generate_series(1, %s::int)"""


def _load(info: topology.QueueInfo, total: int) -> None:
    """Stores `total` messages as `send` would, and lets the planner know."""
    [message] = messages(1, info.name)
    sending.send_many("", [message])
    with stores.bare_connection() as conn:
        row = conn.execute("select envelope, body from brokers_message where queue_id = %s", [info.id]).fetchone()
        assert row is not None
        for loaded in range(0, total, _LOADED_AT_ONCE):
            conn.execute(_LOAD, [info.id, *row, min(_LOADED_AT_ONCE, total - loaded)])
        conn.execute("insert into brokers_queue_change (queue_id, arrived) values (%s::int, %s::int)", [info.id, total])
        conn.execute("vacuum analyze brokers_message")
        conn.execute("checkpoint")


def _churn(info: topology.QueueInfo, seconds: float) -> float:
    """Publishes, claims and acknowledges for so long; messages claimed in a second of claiming."""
    ready = messages(_SIZE, info.name)
    claiming, done = 0.0, 0
    gc.collect()
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        sending.send_many("", ready)
        started = time.perf_counter()
        claimed = claims.claim(info, _SIZE, LEASE_MS, HOLDER)
        claiming += time.perf_counter() - started
        done += len(claimed)
        claims.ack(info, [claims.Claim.of(message) for message in claimed])
    return done / claiming


def _on_a_new_queue(seconds: float) -> float:
    return _churn(new_queue(f"bench-empty-{next(_names)}"), seconds)


def _compared(what: str, info: topology.QueueInfo, extent: Extent, goal: float) -> Measurement:
    subjects: dict[str, Subject] = {
        "backlog": partial(_churn, info, _LONGER * extent.seconds),
        "empty": partial(_on_a_new_queue, _LONGER * extent.seconds),
    }
    speeds = interleaved(subjects, extent.rounds)
    return Measurement(
        group=f"queues: a backlog of {extent.queue_backlog:,} messages",
        what=what,
        speeds=speeds["backlog"],
        unit="messages/s",
        reference="the same on a new queue",
        reference_speeds=speeds["empty"],
        goal=goal,
    )


@contextlib.contextmanager
def _old_snapshot() -> Iterator[None]:
    """A session that began to read and does not end, as a long report does."""
    with stores.bare_connection() as conn:
        conn.execute("begin isolation level repeatable read")
        conn.execute("select count(*) from brokers_queue")
        yield
        conn.execute("rollback")


def measure(extent: Extent) -> Iterator[Measurement]:
    """Fresh, after churn at full rate, and after as much of it under an old snapshot."""
    info = new_queue(_QUEUE)
    _load(info, extent.queue_backlog)
    yield _compared(f"claims of {_SIZE}, loaded just now", info, extent, BACKLOG_GOAL)
    _churn(info, extent.churn_seconds)
    yield _compared(f"claims of {_SIZE}, after {extent.churn_seconds:.0f} s of churn", info, extent, BACKLOG_GOAL)
    with _old_snapshot():
        _churn(info, extent.churn_seconds)
        what = f"claims of {_SIZE}, after {extent.churn_seconds:.0f} s of churn under an old snapshot, still held"
        yield _compared(what, info, extent, SNAPSHOT_GOAL)
    with stores.bare_connection() as conn:
        conn.execute("truncate brokers_message")
        conn.execute("checkpoint")
