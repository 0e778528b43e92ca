"""Polling: a member's heartbeat, what it owns, and the next records of it.

A look takes at most three round trips: the heartbeat with the assignment and positions, the batches, the positions
moved on. Records are read outside of any lock; a position moves only from where it was read, so that of two polls at
once, or of one that lost its partition meanwhile, none gives the same records again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from brokers import wakeup
from brokers.database import in_transaction
from brokers.errors import InvalidValue
from brokers.group_members import SQL, Assigned, announce, known_form, settle, unknown
from brokers.group_offsets import GroupOffset, checked_offsets
from brokers.group_views import Lane, View, decode
from brokers.record import Record
from brokers.settings import DEFAULT_FETCH_BYTES, MAX_RECORDS_PER_REQUEST, MAX_WAIT_MS
from brokers.steps import Rows, Steps, aatomically, arun, atomically, run

FETCH_BYTES: Final = DEFAULT_FETCH_BYTES
"""Stored bytes that one poll reads at most, beyond the first batch."""


class Polled(NamedTuple):
    """A poll's answer; records of a partition are in order."""

    generation: int
    assignment: list[Assigned]
    records: list[Record]


Permit = Callable[[Sequence[str]], None]
"""Is told the topics of a member before anything of them is read; raises when the caller may not read them."""


def poll(
    group: str,
    member_id: str,
    *,
    max_records: int = 100,
    wait_ms: int = 0,
    start: Sequence[GroupOffset] = (),
    subscription: wakeup.Subscription | None = None,
) -> Polled:
    """The next records of what the member owns, and its heartbeat; with `max_records` 0 the heartbeat alone.

    Reads on where the last poll ended, or from `start` for whoever lost an answer. With `wait_ms` (at most 30000)
    it waits on `subscription` for a record or a change of the group. Raises `UnknownMember` once the session is
    over, `NoCommittedOffset` and `OffsetOutOfRange` where `auto_offset_reset` is none, `InvalidValue`,
    `Unavailable`. Call it outside of a transaction: inside of one it holds the member's row until the end.
    """
    asked = _Poll(group, member_id, max_records, wait_ms, start, None)
    while True:
        seen = run(asked.look(relaxed=not in_transaction()))
        wakeup.announce_partitions(seen.released)
        if seen.answer is not None:
            return seen.answer
        if seen.undivided is not None:
            announce(atomically(settle(seen.undivided)))
        elif seen.seconds > 0:
            if subscription is None:
                with wakeup.Subscription() as own:
                    own.wait(seen.wait_for, seen.seconds)
            else:
                subscription.wait(seen.wait_for, seen.seconds)


async def apoll(
    hub: wakeup.Hub,
    group: str,
    member_id: str,
    *,
    max_records: int = 100,
    wait_ms: int = 0,
    start: Sequence[GroupOffset] = (),
    permit: Permit | None = None,
) -> Polled:
    """`poll` on the pool; waits on the hub, holding no connection."""
    asked = _Poll(group, member_id, max_records, wait_ms, start, permit)
    while True:
        mark = hub.mark()
        seen = await arun(asked.look(relaxed=True))
        wakeup.announce_partitions(seen.released)
        if seen.answer is not None:
            return seen.answer
        if seen.undivided is not None:
            settled = await aatomically(settle(seen.undivided))
            wakeup.announce_partitions(settled.partition_ids)
        elif seen.seconds > 0:
            await hub.wait(seen.wait_for, seen.seconds, mark)
        if hub.closing:
            asked.end_waiting()


class _Seen(NamedTuple):
    """What a look came to: an answer, a group to divide first, or a wait (of 0 seconds: look again at once)."""

    answer: Polled | None = None
    undivided: int | None = None
    wait_for: Sequence[int] = ()
    seconds: float = 0.0
    released: Sequence[int] = ()


class _Move(NamedTuple):
    """A partition's position to move on, and the records that this gives."""

    lane: Lane
    start: int
    position: int
    pin: int | None
    records: list[Record]


class _Poll:
    """One poll with all of its looks."""

    def __init__(
        self,
        group: str,
        member_id: str,
        max_records: int,
        wait_ms: int,
        start: Sequence[GroupOffset],
        permit: Permit | None,
    ) -> None:
        if not 0 <= max_records <= MAX_RECORDS_PER_REQUEST:
            raise InvalidValue(f"max_records must be 0 to {MAX_RECORDS_PER_REQUEST}", pointer="/max_records")
        if not 0 <= wait_ms <= MAX_WAIT_MS:
            raise InvalidValue(f"wait_ms must be 0 to {MAX_WAIT_MS}", pointer="/wait_ms")
        self._group = group
        self._member_id = known_form(group, member_id)
        self._max_records = max_records
        self._permit = permit
        places = checked_offsets(start, "/from") if max_records else []
        self._given = {(topic, number): (index, at) for index, (topic, number, at) in enumerate(places)}
        self._deadline = time.monotonic() + (wait_ms / 1000 if max_records else 0)
        self._seen: list[Assigned] | None = None

    def end_waiting(self) -> None:
        """The next look answers with what it finds."""
        self._deadline = 0.0

    def look(self, *, relaxed: bool) -> Steps[_Seen]:
        """Looks once; `relaxed` says that no transaction is open, so that a heartbeat need not reach the disk."""
        left = self._deadline - time.monotonic()
        waited = self._seen is not None
        asked = (self._group, self._member_id, self._max_records > 0, not waited or left <= 0, relaxed)
        view = View(*(yield SQL.poll, asked)[0])
        if view.status == "unknown_member":
            raise unknown(self._group, self._member_id)
        if view.status == "undivided":
            return _Seen(undivided=view.group_id)
        if self._permit is not None:
            self._permit(view.subscribed)
        lanes = view.lanes()
        assignment = sorted(Assigned(lane.topic, lane.number, lane.claim) for lane in lanes)
        changed = view.heard != view.generation or (waited and assignment != self._seen)
        self._seen = assignment
        released = view.released or ()
        records: list[Record] = []
        if self._max_records and not view.paused:
            records, again = yield from self._read(view, lanes, waited=waited, relaxed=relaxed)
            if again and not records:
                return _Seen(released=released)
        if records or changed or left <= 0:
            return _Seen(Polled(view.generation, assignment, records), released=released)
        waiting_for = [*(view.partition_ids or ()), *(view.awaited or ())]
        return _Seen(wait_for=waiting_for, seconds=min(left, view.pace_ms / 1000), released=released)

    def _read(self, view: View, lanes: list[Lane], *, waited: bool, relaxed: bool) -> Steps[tuple[list[Record], bool]]:
        """Records, and whether there is a reason to look again at once where there are none."""
        self._check_given(view.subscribed, lanes)
        begins = [(lane, *lane.start(self._given_for(lane), view.reset)) for lane in lanes]
        readable = [(lane.partition_id, start) for lane, start, _ in begins if start < lane.latest]
        rows: Rows = []
        if readable:
            ids, starts = map(list, zip(*readable, strict=True))
            rows = yield SQL.fetch, (ids, starts, self._max_records, FETCH_BYTES)
        moves = list(self._moves(begins, rows))
        if not moves:
            return [], False
        moved = yield from _advance(view, moves, waited=waited, relaxed=relaxed)
        made = [move for move in moves if move.lane.partition_id in moved]
        for move in made:
            self._given.pop((move.lane.topic, move.lane.number), None)
        again = len(made) < len(moves) or any(move.position > move.start for move in made)
        return [record for move in made for record in move.records], again

    def _moves(self, begins: list[tuple[Lane, int, bool]], rows: Rows) -> Iterator[_Move]:
        batches: dict[int, Rows] = {}
        for partition_id, *batch in rows:
            batches.setdefault(partition_id, []).append(tuple(batch))
        room = self._max_records
        for lane, start, by_policy in begins:
            records, end = decode(lane, start, batches.get(lane.partition_id, []), room)
            room -= len(records)
            if end > start or by_policy or self._given_for(lane) is not None:
                pin = start if by_policy and lane.committed is None else None
                yield _Move(lane, start, end, pin, records)

    def _given_for(self, lane: Lane) -> int | None:
        place = self._given.get((lane.topic, lane.number))
        return None if place is None else place[1]

    def _check_given(self, subscribed: Sequence[str], lanes: list[Lane]) -> None:
        """A partition that has gone to another member meanwhile is passed over: the answer says so."""
        for (topic, _), (index, _) in self._given.items():
            if topic not in subscribed:
                raise InvalidValue(f"the member has not joined for {topic}", pointer=f"/from/{index}/topic")
        for lane in lanes:
            place = self._given.get((lane.topic, lane.number))
            if place is not None and place[1] > lane.latest:
                raise InvalidValue(
                    f"offset {place[1]} of {lane.topic}/{lane.number} is not there yet: the next is {lane.latest}",
                    pointer=f"/from/{place[0]}/offset",
                )


def _advance(view: View, moves: list[_Move], *, waited: bool, relaxed: bool) -> Steps[frozenset[int]]:
    """Moves positions on; the partitions whose position was still where the reading had begun."""
    moves = sorted(moves, key=lambda move: move.lane.partition_id)
    rows = yield (
        SQL.advance,
        (
            view.group_id,
            view.member,
            [move.lane.partition_id for move in moves],
            [move.lane.claim for move in moves],
            [move.lane.position for move in moves],
            [move.position for move in moves],
            [move.pin for move in moves],
            [bool(move.records) for move in moves],
            waited,
            relaxed,
        ),
    )
    return frozenset(rows[0][0])
