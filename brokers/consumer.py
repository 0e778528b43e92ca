"""A consumer in a synchronous program: one member of a group, as a context manager.

Built on `groups` and for what runs to an end by itself: `manage.py consume`, the demo, scripts, tests. Listeners, which
commit in their handler's transaction, use `groups` themselves. Not for several threads at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from brokers import groups, wakeup
from brokers.errors import UnknownMember
from brokers.group_members import MAX_POLL_INTERVAL_MS, SESSION_TIMEOUT_MS
from brokers.record import Record


class Consumer:
    """Reads topics as a member of `group`, from entry to exit of its `with` block.

    Several consumers of a group share the partitions. Nothing is committed but by `commit`; what was polled and not
    committed is read again, by this or another member. Times are in milliseconds.
    """

    def __init__(
        self,
        group: str,
        topics: str | Sequence[str],
        *,
        auto_offset_reset: str = "earliest",
        session_timeout_ms: int = SESSION_TIMEOUT_MS,
        max_poll_interval_ms: int = MAX_POLL_INTERVAL_MS,
    ) -> None:
        self.group = group
        self._subscription = groups.Subscription(
            (topics,) if isinstance(topics, str) else tuple(topics),
            auto_offset_reset,
            session_timeout_ms,
            max_poll_interval_ms,
        )
        self._wakeup = wakeup.Subscription()
        self._member_id: str | None = None
        self._polled: dict[groups.Assigned, int] = {}
        """The next offset after what was polled and not yet committed, of each partition owned."""
        self.assignment: list[groups.Assigned] = []
        """What the last poll said is this member's."""

    def __enter__(self) -> Self:
        self._join()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _join(self) -> str:
        joined = groups.join(self.group, self._subscription)
        self._member_id = joined.member_id
        self._polled.clear()
        self.assignment = joined.assignment
        return joined.member_id

    def poll(self, max_records: int = 100, wait_ms: int = 0) -> list[Record]:
        """The next records of this member's partitions, those of one partition in order; none when there are none.

        Waits up to `wait_ms` (at most 30000) for a record or a change of the group. A member whose session has ended
        joins again: records that it polled before and did not commit come again, to whoever owns them now. Call it
        outside of a transaction. Raises `TopicNotFound`, `NoCommittedOffset`, `OffsetOutOfRange`, `Unavailable`.
        """
        member_id = self._member_id or self._join()
        try:
            polled = self._poll(member_id, max_records, wait_ms)
        except UnknownMember:
            polled = self._poll(self._join(), max_records, wait_ms)
        owned = {(place.topic, place.partition): place for place in polled.assignment}
        self.assignment = polled.assignment
        self._polled = {place: offset for place, offset in self._polled.items() if place in owned.values()}
        for record in polled.records:
            self._polled[owned[record.topic, record.partition]] = record.offset + 1
        return polled.records

    def _poll(self, member_id: str, max_records: int, wait_ms: int) -> groups.Polled:
        return groups.poll(self.group, member_id, max_records=max_records, wait_ms=wait_ms, subscription=self._wakeup)

    def commit(self) -> None:
        """Commits all that was polled, in the caller's transaction if one is open.

        Raises `StaleGeneration` when the group has moved on: nothing is committed. Poll again, which tells what is
        still this member's, and commit then; the rest is read again by its new owner.
        """
        if self._polled and self._member_id is not None:
            offsets = [
                groups.GroupOffset(place.topic, place.partition, offset) for place, offset in self._polled.items()
            ]
            groups.commit(self.group, self._member_id, offsets)
            self._polled.clear()

    def close(self) -> None:
        """Leaves the group at once, without a commit. May be called twice."""
        member_id, self._member_id = self._member_id, None
        if member_id is not None:
            try:
                groups.leave(self.group, member_id)
            except UnknownMember:
                self._polled.clear()
            finally:
                self._wakeup.__exit__()
