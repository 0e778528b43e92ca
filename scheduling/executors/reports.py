"""What the executors of all processes do: each process reports its own, in a row that it renews while it lives.

Counts are those of a process's life: when it ends, what it has completed is no longer in any sum. An executor that a
process has not used yet takes part with nothing. Written by `reporter`; read by REST, the console and the command.
Statements are in `sql/executors.sql`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from brokers.database import sync_cursor
from brokers.sql import parse
from scheduling.connections import OwnConnection
from scheduling.executors import registry
from scheduling.executors.definition import Figures, Rejection

SQL: Final = parse(Path(__file__).parent.parent / "sql" / "executors.sql")

STALE_SECONDS: Final = 15.0
"""A process that has not been heard of for so long is gone."""
FORGOTTEN_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class ProcessExecutors:
    """The executors that one process uses, as it reported them some seconds ago at most."""

    host: str
    pid: int
    kind: str
    """`web`, `listener` or `task worker`."""
    at: datetime
    """When it was last heard of, by the database's clock."""
    executors: list[Figures]


@dataclass(frozen=True, slots=True)
class ExecutorSummary:
    """An executor over all processes that use it; its sizes are those of each of them."""

    name: str
    core: int
    max: int
    queue_capacity: int
    rejection: Rejection
    processes: int
    """Live processes that have used it."""
    threads: int
    active: int
    queued: int
    waiting: int
    completed: int
    failed: int
    rejected: int
    seconds: float
    """How long the completed tasks took together."""


def reports() -> list[ProcessExecutors]:
    """What the live processes reported that use executors, by kind. Raises `Unavailable`."""
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.live, (STALE_SECONDS,)).fetchall()
    return [
        ProcessExecutors(host, pid, kind, at, [Figures(**each) for each in _listed(executors)])
        for host, pid, kind, at, executors in rows
    ]


def summed(found: Sequence[ProcessExecutors] | None = None) -> list[ExecutorSummary]:
    """Each executor over all processes, by name; those too that are declared here and that nobody has used.

    Of reports that were read before, or those of now. Raises `Unavailable`.
    """
    used: dict[str, list[Figures]] = {each.name: [] for each in registry.declared()}
    for report in reports() if found is None else found:
        for figures in report.executors:
            used.setdefault(figures.name, []).append(figures)
    return [_summary(name, used[name]) for name in sorted(used)]


def write(connection: OwnConnection, process: UUID, host: str, pid: int, kind: str, found: Sequence[Figures]) -> None:
    """Reports a process's executors, or renews its report. Raises `Unavailable`."""
    executors = json.dumps([asdict(each) for each in found])
    with connection.cursor() as cursor:
        cursor.execute(SQL.write, {"id": process, "host": host, "pid": pid, "kind": kind, "executors": executors})


def remove(connection: OwnConnection, process: UUID) -> None:
    """Takes a report back. Raises `Unavailable`."""
    with connection.cursor() as cursor:
        cursor.execute(SQL.remove, (process,))


def purge(connection: OwnConnection) -> None:
    """Forgets processes that were killed. Raises `Unavailable`."""
    with connection.cursor() as cursor:
        cursor.execute(SQL.purge, (FORGOTTEN_SECONDS,))


def _listed(value: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(value) if isinstance(value, str) else value  # Django leaves JSON as text
    return found


def _summary(name: str, used: Sequence[Figures]) -> ExecutorSummary:
    sizes = used[0] if used else next(each for each in registry.declared() if each.name == name)
    return ExecutorSummary(
        name=name,
        core=sizes.core,
        max=sizes.max,
        queue_capacity=sizes.queue_capacity,
        rejection=sizes.rejection,
        processes=len(used),
        threads=sum(each.threads for each in used),
        active=sum(each.active for each in used),
        queued=sum(each.queued for each in used),
        waiting=sum(each.waiting for each in used),
        completed=sum(each.completed for each in used),
        failed=sum(each.failed for each in used),
        rejected=sum(each.rejected for each in used),
        seconds=sum(each.seconds for each in used),
    )
