"""Gathers publishes that arrive together over REST or STOMP into one append for each topic.

One append of a topic is in flight at a time; what arrives meanwhile forms the next one, so a lone publish never waits
and a crowd shares a flush. An append that fails refuses everybody in it, and nothing of it is stored.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from brokers.errors import BrokerError, Unavailable
from brokers.outgoing import Outgoing
from brokers.publishing import apublish_outgoing
from brokers.settings import MAX_RECORDS_PER_REQUEST
from brokers.topics import TopicInfo

MAX_WAITING_RECORDS = 50_000
"""Records of one topic that may wait in this process; more are refused with 503."""
Pair = tuple[int, int]
"""Partition and offset of a record."""
_GATHER_RECORDS = 2 * MAX_RECORDS_PER_REQUEST
"""Records of one append, about; a request is never divided."""


@dataclass(slots=True)
class _Waiting:
    outgoing: Outgoing
    done: asyncio.Future[list[Pair]]


@dataclass(slots=True)
class _Lane:
    """The publishes of one topic: what waits, and whether an append is in flight."""

    info: TopicInfo
    waiting: list[_Waiting] = field(default_factory=list)
    records: int = 0
    running: asyncio.Task[None] | None = None


class Coalescer:
    """One for each event loop."""

    def __init__(self) -> None:
        self._lanes: dict[int, _Lane] = {}

    async def publish(self, info: TopicInfo, outgoing: Outgoing) -> list[Pair]:
        """Stores the records, all or none, and answers partition and offset of each once they are on disk.

        Raises what `apublish_outgoing` raises, and `Unavailable` when too much waits already.
        """
        lane = self._lanes.get(info.id)
        if lane is None:
            lane = self._lanes[info.id] = _Lane(info)
        if lane.records + len(outgoing.rows) > MAX_WAITING_RECORDS:
            raise Unavailable(f"{lane.records} records wait to be stored in {info.name}; try again in a second")
        lane.info = info
        entry = _Waiting(outgoing, asyncio.get_running_loop().create_future())
        lane.waiting.append(entry)
        lane.records += len(outgoing.rows)
        if lane.running is None:
            lane.running = asyncio.create_task(self._run(lane), name=f"append-{info.name}")
        return await entry.done

    async def drain(self) -> None:
        """Waits until nothing is in flight."""
        running = [lane.running for lane in self._lanes.values() if lane.running is not None]
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, lane: _Lane) -> None:
        try:
            while lane.waiting:
                taken = _take(lane)
                try:
                    await _append(lane.info, taken)
                finally:
                    lane.records -= sum(len(entry.outgoing.rows) for entry in taken)
        finally:
            lane.running = None
            self._lanes.pop(lane.info.id, None)
            for entry in lane.waiting:
                _refuse(entry, Unavailable("the server is shutting down"))


def _take(lane: _Lane) -> list[_Waiting]:
    count = size = 0
    for entry in lane.waiting:
        if count and size + len(entry.outgoing.rows) > _GATHER_RECORDS:
            break
        count += 1
        size += len(entry.outgoing.rows)
    taken, lane.waiting = lane.waiting[:count], lane.waiting[count:]
    return taken


async def _append(info: TopicInfo, taken: list[_Waiting]) -> None:
    """Appends what was gathered; one bad request among several is found by appending each alone."""
    try:
        if len(taken) == 1:
            _answer(taken[0], list((await apublish_outgoing(info, taken[0].outgoing)).pairs()))
            return
        joined = Outgoing.joined([entry.outgoing for entry in taken])
        positions = list((await apublish_outgoing(info, joined)).pairs())
        start = 0
        for entry in taken:
            end = start + len(entry.outgoing.rows)
            _answer(entry, positions[start:end])
            start = end
    except BaseException as error:
        stops = not isinstance(error, Exception)
        if len(taken) == 1 or stops or (isinstance(error, BrokerError) and error.retryable):
            for entry in taken:
                _refuse(entry, Unavailable("the server is shutting down") if stops else error)
            if stops:
                raise
            return
        for entry in taken:
            await _append(info, [entry])


def _answer(entry: _Waiting, positions: list[Pair]) -> None:
    if not entry.done.done():
        entry.done.set_result(positions)


def _refuse(entry: _Waiting, error: BaseException) -> None:
    if not entry.done.done():
        entry.done.set_exception(error)
