"""What one transaction of a listener is to handle, and what came of it: the words between member and delivery."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from brokers.deliveries import Attempt, Delivery, Redelivered
from brokers.errors import BrokerError
from brokers.listeners.partitions import Partition
from brokers.listeners.registration import Listener
from brokers.record import Record

WORKER_LOST: Final = "worker_lost"
UNDECODABLE: Final = "undecodable"


class ClaimLost(Exception):
    """The partition is another's, or was reset, since it was read: the transaction is rolled back, nothing counts."""


class HandlerBrokeTransaction(BrokerError):
    """A handler ended, aborted or left open what was not its own: the listener's transaction or connection."""

    code = "handler_broke_transaction"


class NotAwaited(BrokerError):
    """A handler answered a coroutine or a generator: nothing of it has run."""

    code = "handler_not_awaited"


class Failed(NamedTuple):
    """Why a record is not handled."""

    error: BaseException | None
    """None: its workers were lost."""
    reason: str | None = None
    """The record is given up for it, whatever the policy says."""
    duration_ms: int = 0
    together: int = 0
    """So many records failed with it: a batch handler did not say which."""

    @staticmethod
    def since(started: float, error: BaseException, together: int = 0) -> Failed:
        """A call that began at `started` (of `time.perf_counter`) and raised."""
        return Failed(error, None, int((time.perf_counter() - started) * 1000), together)


class Again(Exception):
    """The transaction is rolled back and begins anew, with what is known now of some records, by index."""

    def __init__(self, known: Mapping[int, Failed], *, prepare: bool = False) -> None:
        super().__init__("the transaction begins anew")
        self.known = known
        self.prepare = prepare
        """The dead-letter topic has to be made first."""


class TransactionConflict(Exception):
    """Other transactions were in the way (deadlock, serialization, a time limit): the same again may succeed."""


class Unattributed(Exception):
    """The transaction failed outside of any handler."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(slots=True)
class Work:
    """Records of one partition, of its log or of its lane, to be handled in one transaction."""

    partition: Partition
    records: Sequence[Record]
    attempts: Mapping[int, Sequence[Attempt]]
    """Earlier ones, by offset; of the lane by the redelivery's id."""
    redeliveries: Sequence[Redelivered] = ()
    """Of each record, when they are from the lane."""
    with_care: bool = False
    """A single record, whose attempt is counted before the call."""
    known: dict[int, Failed] = field(default_factory=dict)
    """Records that are not to be handled any more, by index."""

    @property
    def is_lane(self) -> bool:
        """Whether these are redeliveries; the committed offset stays then."""
        return bool(self.redeliveries)

    def earlier(self, index: int) -> Sequence[Attempt]:
        """The attempts so far at one of the records."""
        if not self.attempts:
            return ()
        return self.attempts.get(self.redeliveries[index].id if self.is_lane else self.records[index].offset, ())

    def number(self, index: int) -> int:
        """The number of the attempt that is due at one of the records."""
        earlier = self.earlier(index)
        return earlier[-1].number + 1 if earlier else 1

    def delivery(self, index: int, listener: Listener, group_id: int, key: str | None = None) -> Delivery:
        """One of the records and whom it is for."""
        return Delivery(
            listener.group,
            group_id,
            listener.name,
            self.partition.lane.partition_id,
            self.records[index],
            self.redeliveries[index] if self.is_lane else None,
            key,
        )


class Settled(NamedTuple):
    """What a committed transaction came to."""

    generation: int
    """The group's: when it is not the one that the member knows, it is time to look."""
    paused: bool
    passed: int
    """Records that are through: handled, skipped, parked or given up."""
    has_parked: bool = False
    """Some of them wait in the lane now."""
