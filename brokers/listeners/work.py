"""What one transaction of a listener is to handle, and what came of it: the words between member and delivery.

`Work` is what the transaction asks of its source. There are two: `partition_work` (a partition's log, or its lane) and
`queue_work` (messages of a queue under leases).
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, LiteralString, NamedTuple

from brokers.deliveries import Attempt
from brokers.errors import BrokerError
from brokers.failure import Failure
from brokers.listeners.handlers import Item
from brokers.retries.decision import GiveUp, Retry

WORKER_LOST: Final = "worker_lost"
UNDECODABLE: Final = "undecodable"


class ClaimLost(Exception):
    """What was to be handled is another's since it was read, or gone: all is rolled back, and nothing counts."""


class HandlerBrokeTransaction(BrokerError):
    """A handler ended, aborted or left open what was not its own: the listener's transaction or connection."""

    code = "handler_broke_transaction"


class NotAwaited(BrokerError):
    """A handler answered a coroutine or a generator: nothing of it has run."""

    code = "handler_not_awaited"


class Failed(NamedTuple):
    """Why a record or message is not handled."""

    error: BaseException | None
    """None: its workers were lost."""
    reason: str | None = None
    """It is given up for that, whatever the policy says."""
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
        """What giving up needs has to be made first: `Work.prepare`."""


class TransactionConflict(Exception):
    """Other transactions were in the way (deadlock, serialization, a time limit): the same again may succeed."""


class Unattributed(Exception):
    """The transaction failed outside of any handler."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(str(error))
        self.error = error


class Settlement(NamedTuple):
    """The last statement of a transaction: that the work was still its own, and that it is settled."""

    statement: LiteralString
    """Raises SQLSTATE WS409 where the work is not its own any more, and answers one row."""
    parameters: tuple[Any, ...]
    """Of the statement, but for the last one: whether its commit need not be waited for until it is on disk."""


class Outcome(NamedTuple):
    """What became of a record or message that failed."""

    is_parked: bool
    """It is out of the way of what comes behind it."""
    dead_letter_id: int | None = None


class Verdict(NamedTuple):
    """What was done with a failed record or message; told to people once it is committed."""

    place: int
    """Index of it."""
    number: int
    """Of the attempt."""
    failure: Failure | None
    retry_ms: int | None
    """The back-off; None: it was given up."""
    reason: str
    outcome: Outcome
    facts: Mapping[str, object]
    """For the log."""

    @property
    def waits(self) -> bool:
        """Whether what comes behind it waits for it."""
        return self.retry_ms is not None and not self.outcome.is_parked


class Settled(NamedTuple):
    """What a committed transaction came to."""

    passed: int
    """Records or messages that are through: handled, skipped, parked or given up."""
    has_parked: bool
    """Some of them wait elsewhere now."""
    generation: int = 0
    """Of a partition the group's: when it is not the one that the member knows, it is time to look."""
    paused: bool = False


class Work(ABC):
    """Records or messages to be handled in one transaction, and what their source makes of the outcome.

    All that writes does so in the open transaction.
    """

    noun: str
    """What one of them is called in the log."""
    decode: Callable[[Any], object]
    """Decodes what was published, and keeps it; raises what is in `calling.UNREADABLE`."""
    is_lane = False
    """Whether these are redeliveries: they come one by one to a batch handler, and those of one key in order."""
    with_care = False
    """A single record, whose attempt is counted before the call."""
    fails_together = True
    """Whether what a batch handler has failed with as a whole is tried again as a whole."""

    items: Sequence[Item]
    known: dict[int, Failed]
    """What is not to be handled any more, by index."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.items = items
        self.known = {}

    @property
    def is_numbered(self) -> bool:
        """Whether items must be told the number of their attempt, as it is not 1, or not known to them."""
        return False

    @abstractmethod
    def number(self, index: int) -> int:
        """The number of the attempt that is due at one of them."""

    def set_number(self, index: int) -> None:  # noqa: B027 - not all have to be told
        """Tells one of them that number, where `is_numbered`."""

    @abstractmethod
    def earlier(self, index: int) -> Sequence[Attempt]:
        """The attempts so far at one of them."""

    def order_key(self, index: int) -> bytes | None:
        """What must not overtake one of them that is parked has the same key as it."""
        return None

    @abstractmethod
    def alone(self, index: int) -> Work:
        """The same with one of them."""

    @abstractmethod
    def facts(self, index: int) -> dict[str, object]:
        """What the log says of one of them."""

    # -- failures -------------------------------------------------------------------------------------------------

    def bounded(self, index: int, decision: Retry | GiveUp) -> Retry | GiveUp:
        """What the listener's policy decided, within what the source allows."""
        return decision

    def can_give_up(self, index: int) -> bool:
        """Whether all that giving up needs is there."""
        return True

    def prepare(self) -> None:  # noqa: B027 - not all need anything
        """Makes what giving up needs, in transactions of its own."""

    @abstractmethod
    def keep_attempts(
        self, indexes: Sequence[int], duration_ms: int, failure: Failure, delay_ms: int | None, worker: str
    ) -> None:
        """Keeps attempts that failed; `delay_ms` is the back-off after them, None when they were the last."""

    @abstractmethod
    def retry(self, index: int, delay_ms: int) -> Outcome:
        """One is to be tried again after the back-off."""

    @abstractmethod
    def give_up(self, index: int, reason: str, failure: Failure | None, key: str | None) -> Outcome:
        """One becomes a dead letter; `key` is its idempotency key. Raises `Again` when it has to be prepared first."""

    # -- the end --------------------------------------------------------------------------------------------------

    @abstractmethod
    def clear_up(self, through: Sequence[int], skipped: Collection[int]) -> None:
        """What was handled leaves behind goes with its effects; `skipped` are those of them processed before.

        Raises `ClaimLost`.
        """

    @abstractmethod
    def settlement(self, passed: int, through: Sequence[int]) -> Settlement:
        """What settles the first `passed`, of which those at `through` were handled or skipped."""

    @abstractmethod
    def committed(self, answer: tuple[Any, ...], passed: int, verdicts: Sequence[Verdict]) -> Settled:
        """Called after the commit, with the row that the settlement has answered."""
