"""What one look into a consumer group tells a member: what it owns, and where each partition's reading goes on.

`group_polling` makes positions of it that move with each poll; listeners, whose position is in their memory and whose
offsets move with their transactions, only look (`look`).
"""

from __future__ import annotations

from typing import NamedTuple

from brokers import codec, wakeup
from brokers.database import in_transaction
from brokers.errors import NoCommittedOffset, OffsetOutOfRange
from brokers.group_members import SQL, announce, settle, unknown
from brokers.record import Record
from brokers.steps import Rows, Steps, atomically, run


class View(NamedTuple):
    """The row of `brokers_group_poll`; the lists are of the partitions owned, longest unserved first."""

    status: str
    group_id: int
    member: int
    generation: int
    heard: int
    paused: bool
    reset: str
    pace_ms: int
    subscribed: list[str]
    partition_ids: list[int] | None
    topics: list[str] | None
    numbers: list[int] | None
    claims: list[int] | None
    positions: list[int | None] | None
    committed: list[int | None] | None
    starts: list[int | None] | None
    earliest: list[int] | None
    latest: list[int] | None
    awaited: list[int] | None
    released: list[int] | None

    def lanes(self) -> list[Lane]:
        """What the member owns."""
        columns = (
            self.partition_ids,
            self.topics,
            self.numbers,
            self.claims,
            self.positions,
            self.committed,
            self.starts,
            self.earliest,
            self.latest,
        )
        return [Lane(*row) for row in zip(*(column or () for column in columns), strict=True)]


class Lane(NamedTuple):
    """One owned partition and all that decides where its reading goes on."""

    partition_id: int
    topic: str
    number: int
    claim: int
    position: int | None
    committed: int | None
    began: int | None
    earliest: int
    latest: int

    def start(self, given: int | None, reset: str) -> tuple[int, bool]:
        """Where to read on, and whether the reset policy said so."""
        offset = given if given is not None else self.position
        if offset is None:
            offset = self.committed
        if offset is None and reset != "none":
            offset = self.began
        if offset is not None and offset >= self.earliest:
            return offset, False
        if reset == "none":
            if offset is not None:
                raise OffsetOutOfRange(self.topic, self.number, offset, self.earliest, self.latest)
            raise NoCommittedOffset(
                f"nothing is committed for {self.topic}/{self.number} and auto_offset_reset is none: "
                "commit an offset, or poll with `from`"
            )
        return (self.earliest if reset == "earliest" else self.latest), True


def look(group: str, member_id: str) -> View:
    """A member's heartbeat, and what it owns now; divides the group first where there is a reason to.

    Partitions that another member shall have pass to it here: call it between two transactions. Raises `UnknownMember`
    once the session is over, and `Unavailable`.
    """
    while True:
        view = View(*run(_poll(group, member_id))[0])
        if view.status == "unknown_member":
            raise unknown(group, member_id)
        if view.status != "undivided":
            wakeup.announce_partitions(view.released or ())
            return view
        announce(atomically(settle(view.group_id)))


def pin(group_id: int, member: int, lane: Lane, start: int) -> None:
    """Remembers where the group begins with a partition of which nothing is committed, for its next owner too."""
    run(_advance(group_id, member, lane, start))


def decode(lane: Lane, start: int, rows: Rows, room: int) -> tuple[list[Record], int]:
    """Up to `room` records of a partition from `start` on, and the offset at which to go on."""
    records: list[Record] = []
    end = start
    for base, span, base_ts, kind, payload in rows:
        if len(records) >= room:
            break
        batch = codec.decode(lane.topic, lane.number, base, base_ts, kind, payload)
        records += batch if base >= start else [record for record in batch if record.offset >= start]
        end = base + span
    if len(records) > room:
        del records[room:]
        end = records[-1].offset + 1
    return records, end


def _poll(group: str, member_id: str) -> Steps[Rows]:
    return (yield SQL.poll, (group, member_id, True, True, not in_transaction()))


def _advance(group_id: int, member: int, lane: Lane, start: int) -> Steps[Rows]:
    asked = [[lane.partition_id], [lane.claim], [lane.position], [lane.position], [start], [False]]
    return (yield SQL.advance, (group_id, member, *asked, False, not in_transaction()))
