"""Executors over REST: their sizes and what they do, over all processes. `messaging_site.asgi` adds this."""

from __future__ import annotations

from dataclasses import asdict
from typing import Literal

import msgspec

from brokers.rest.operation import Access, Answer, Call, Operation
from brokers.rest.threads import in_thread
from scheduling.executors import reports


class ExecutorState(msgspec.Struct):
    """An executor; its sizes are those that each process has, its counts are sums over live processes."""

    name: str
    core: int
    max: int
    queue_capacity: int
    rejection: Literal["abort", "caller_runs", "discard", "discard_oldest"]
    processes: int
    """Live processes that have used it."""
    threads: int
    active: int
    """Tasks that run."""
    queued: int
    waiting: int
    """Asynchronous callers that wait for a place in the queue."""
    completed: int
    """Tasks that ended, well or not, since these processes began."""
    failed: int
    """Of those, the ones that raised."""
    rejected: int
    """Tasks for which there was no room, whatever the rejection policy then did."""
    seconds: float
    """How long the completed tasks took together."""


class ExecutorList(msgspec.Struct):
    """All executors, by name."""

    items: list[ExecutorState]


async def get_executors(call: Call) -> Answer:
    """Executors of all processes of this database, by name, as they were a second or two ago.

    Those are listed that applications declare, used or not, and the one of that name for work that names none. Counts
    are of each process's life, and go with it.
    """

    def read() -> ExecutorList:
        return ExecutorList([ExecutorState(**asdict(each)) for each in reports.summed()])

    return Answer(body=await in_thread(read))


def operations() -> list[Operation]:
    """The one declaration."""
    return [
        Operation(
            method="GET",
            path="/api/v1/executors",
            summary="List executors",
            tag="Executors",
            access=(Access("describe", "server"),),
            handler=get_executors,
            answers={200: ExecutorList},
        )
    ]
