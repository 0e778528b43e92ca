"""How many messages queues hold: the figures, the ledger behind them, and emptying a queue.

Each statement that adds messages or takes them away leaves a row in a ledger, in its own transaction; `fold` adds such
rows to a count for each queue and to minutes. Until then readers add them themselves, so a figure is exact at any time
and nothing is counted twice. Called by housekeeping, surfaces and limits of length.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from brokers import audit
from brokers.database import acquire, sync_cursor
from brokers.queues import topology
from brokers.queues.looks import Looks
from brokers.queues.planning import by_index
from brokers.queues.topology import QueueInfo
from brokers.sql import load

SQL = load("lengths")

CHUNK: Final = 5000
"""Rows of the ledger added up in one transaction."""
CHUNKS: Final = 20
"""Transactions of one fold at most; the rest waits for the next one."""
KEPT_DAYS: Final = 7
"""How long minutes are kept."""
PURGED_AT_ONCE: Final = 2000
"""Messages removed in one transaction of a purge."""
_FORGOTTEN_AT_ONCE: Final = 10_000


class Figures(NamedTuple):
    """How many messages a queue holds. One whose lease has run out is unacknowledged until it is returned."""

    ready: int
    unacknowledged: int
    delayed: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.ready + self.unacknowledged + self.delayed


def figures(queue_ids: Sequence[int]) -> dict[int, Figures]:
    """The figures of each of these queues, by id; one that holds nothing, or is no more, has zeros."""
    with sync_cursor() as cursor:
        return _figures(cursor.execute(SQL.figures, (list(queue_ids),)).fetchall())


async def afigures(queue_ids: Sequence[int]) -> dict[int, Figures]:
    """`figures` on the pool."""
    async with acquire() as conn:
        return _figures(await (await conn.execute(SQL.figures, (list(queue_ids),))).fetchall())


def _figures(rows: Sequence[tuple[Any, ...]]) -> dict[int, Figures]:
    return {queue: Figures(messages - leased - due, leased, due) for queue, messages, leased, due in rows}


# -- the ledger -------------------------------------------------------------------------------------------------

_looks = Looks(beginning=0, seconds=5.0)


def fold() -> int:
    """Adds what the ledger holds, a bounded number of rows, to counts and minutes; says how many rows.

    Transactions of its own, unless the caller has one open. Any number of folds may run at once.
    """
    total, after, began = 0, _looks.begin(), time.monotonic()
    for _ in range(CHUNKS):
        with sync_cursor() as cursor:
            row = cursor.execute(SQL.fold, (after, CHUNK)).fetchone()
        assert row is not None
        folded, last = row
        total += folded
        after = max(after, last or 0)
        if folded < CHUNK:
            break
    _looks.end(after, time.monotonic() - began)
    return total


def forget_old_minutes() -> int:
    """Removes minutes of queues and exchanges that are older than seven days, a bounded number; says how many."""
    with sync_cursor() as cursor:
        statements = (SQL.forget_queue_minutes, SQL.forget_exchange_minutes)
        return sum(cursor.execute(each, (KEPT_DAYS, _FORGOTTEN_AT_ONCE)).rowcount for each in statements)


# -- emptying ---------------------------------------------------------------------------------------------------


def _always() -> bool:
    return True


def purge(
    queue: QueueInfo | str, actor: audit.Actor, keep_going: Callable[[], bool] = _always, *, reason: str = ""
) -> int:
    """Removes the messages that a queue holds now, but for those under a claim; says how many.

    Ready and delayed ones; they are not dead-lettered. Transactions of its own, a bounded number of messages each; ends
    early once `keep_going` says no. Audited. Raises `QueueNotFound`.
    """
    info = topology.queue(queue) if isinstance(queue, str) else queue
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.newest).fetchone()
    assert row is not None
    wanted = {"queue": info.id, "newest": row[0], "limit": PURGED_AT_ONCE}
    removed = 0
    for priority in range(info.max_priority or 0, -1, -1):
        after: int | None = 0
        while after is not None and keep_going():
            more, after = _step(SQL.purge, {**wanted, "priority": priority, "after": after})
            removed += more
    while keep_going():
        more = _step(SQL.purge_delayed, wanted)[0]
        removed += more
        if more < PURGED_AT_ONCE:
            break
    audit.record(actor, "purge", "queue", info.name, {"messages": removed} | ({"reason": reason} if reason else {}))
    return removed


def _step(statement: Any, parameters: dict[str, Any]) -> tuple[Any, ...]:
    with by_index() as cursor:
        row = cursor.execute(statement, parameters).fetchone()
    assert row is not None
    return row
