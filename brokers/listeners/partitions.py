"""A partition that a member owns, as its thread keeps it between two transactions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from brokers.deliveries import Attempt
from brokers.group_views import Lane
from brokers.record import Record


@dataclass(slots=True, eq=False)
class Partition:
    """Where reading and handling stand under one claim; made anew when the claim changes.

    Instants are of the monotonic clock. Nothing here is the truth: offsets, attempts and lanes are rows, and a claim
    that is made anew reads them again.
    """

    lane: Lane
    """The member's last look at it."""
    handled: int
    """The next offset to handle, which is what the group has committed."""
    position: int
    """Where to read on."""
    careful_until: int | None = None
    """Until this offset records are handled one at a time: the last owner was lost."""
    is_marked: bool = False
    """The assignment's row says that it is to be read with care."""
    careful_redelivery: int = 0
    """Up to this id so is what is in the lane."""
    attempts: dict[int, list[Attempt]] = field(default_factory=dict)
    """Failed and lost attempts at records that are not settled, by offset."""
    records: Sequence[Record] = ()
    """Read and not handled yet."""
    taken: int = 0
    """How many of them are handled."""
    is_dry: bool = False
    """There was nothing more to read."""
    was_announced: bool = False
    """A hint came since it was last read."""
    waits_until: float = 0.0
    """The head's back-off."""
    lane_due_at: float | None = None
    """When the first redelivery is due; None: the lane is empty."""
    serve_lane_next: bool = True
    """Log and lane take turns."""

    @property
    def claim(self) -> int:
        """The generation since which the partition is the member's."""
        return self.lane.claim

    @property
    def is_careful(self) -> bool:
        """Whether records of the log are handled one at a time."""
        return self.careful_until is not None

    def is_past_care(self, offset: int) -> bool:
        """Whether, with everything before `offset` settled, nothing is left that the lost owner may have had."""
        return self.is_marked and self.careful_redelivery == 0 and offset >= (self.careful_until or 0)

    def has_read(self) -> bool:
        """Whether there are records to handle without reading more."""
        return self.taken < len(self.records)

    def wants_to_read(self) -> bool:
        """Whether the log is worth a look."""
        return not self.is_dry and not self.has_read()

    def fill(self, records: Sequence[Record], position: int) -> None:
        """What was read; the reading goes on at `position`."""
        self.records, self.taken, self.position = records, 0, position

    def upcoming(self, limit: int) -> Sequence[Record]:
        """The next records to handle, at most so many."""
        if self.taken == 0 and len(self.records) <= limit:
            return self.records
        return self.records[self.taken : self.taken + limit]

    def end_of(self, count: int) -> int:
        """The offset to commit once the next `count` records that were read are through."""
        following = self.taken + count
        return self.records[following].offset if following < len(self.records) else self.position

    def pass_over(self, count: int) -> None:
        """So many records more are settled and committed."""
        self.handled = self.end_of(count)
        for record in self.records[self.taken : self.taken + count] if self.attempts else ():
            self.attempts.pop(record.offset, None)
        self.taken += count
        if self.taken >= len(self.records):
            self.records, self.taken = (), 0

    def rewind(self, offset: int) -> None:
        """Forgets what was read: the log is read again from `offset`."""
        self.records, self.taken, self.position, self.handled, self.is_dry = (), 0, offset, offset, False

    def is_log_ready(self, now: float) -> bool:
        """Whether a record may be handled, or read."""
        return now >= self.waits_until and (self.has_read() or not self.is_dry)

    def is_lane_ready(self, now: float) -> bool:
        """Whether a redelivery is due."""
        return self.lane_due_at is not None and now >= self.lane_due_at

    def wait_seconds(self, now: float | None = None) -> float | None:
        """Seconds until a back-off is over or a redelivery is due; None when there is nothing to wait for."""
        now = time.monotonic() if now is None else now
        due = []
        if self.has_read() or not self.is_dry:
            due.append(self.waits_until)
        if self.lane_due_at is not None:
            due.append(self.lane_due_at)
        return max(0.0, min(due) - now) if due else None
