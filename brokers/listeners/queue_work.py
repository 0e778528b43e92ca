"""Messages of a queue as the work of a transaction: settled by their acknowledgement, under their claims' tokens."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import Any

from brokers import metrics
from brokers.database import sync_cursor
from brokers.deliveries import Attempt
from brokers.failure import Failure
from brokers.listeners.queue_registration import QueueListener
from brokers.listeners.work import ClaimLost, Outcome, Settled, Settlement, Verdict, Work
from brokers.queues import attempts, claims
from brokers.queues.claims import Claim
from brokers.queues.dead_lettering import dead_letter
from brokers.queues.deaths import DELIVERY_LIMIT, REJECTED
from brokers.queues.message import Message
from brokers.queues.topology import QueueInfo
from brokers.retries.decision import GiveUp, Retry
from brokers.sql import load

SQL = load("queue_work")

_body = attrgetter("body")


class QueueWork(Work):
    """Messages of one queue that this thread has claimed. Reads the earlier attempts at those that have failed."""

    noun = "message"
    fails_together = False

    def __init__(self, queue: QueueInfo, listener: QueueListener, messages: Sequence[Message]) -> None:
        super().__init__(messages)
        self.decode = _body
        self.queue = queue
        self.messages = messages
        self._listener = listener
        self._skipped: Collection[int] = ()
        tried = [message.row for message in messages if message.attempts]
        self._attempts = attempts.of(tried) if tried else {}

    def number(self, index: int) -> int:
        """As `Work.number`."""
        return self.messages[index].attempt

    def earlier(self, index: int) -> Sequence[Attempt]:
        """As `Work.earlier`."""
        return self._attempts.get(self.messages[index].row, ())

    def alone(self, index: int) -> QueueWork:
        """As `Work.alone`."""
        return QueueWork(self.queue, self._listener, [self.messages[index]])

    def facts(self, index: int) -> dict[str, object]:
        """As `Work.facts`."""
        message = self.messages[index]
        return {"queue": self.queue.name, "id": message.id, "routing_key": message.routing_key}

    # -- failures -------------------------------------------------------------------------------------------------

    def bounded(self, index: int, decision: Retry | GiveUp) -> Retry | GiveUp:
        """No message fails more often than its queue's delivery limit allows, this delivery included."""
        message, limit = self.messages[index], self.queue.delivery_limit
        if isinstance(decision, Retry) and 0 <= limit < message.deliveries - message.returns:
            return GiveUp(DELIVERY_LIMIT)
        return decision

    def keep_attempts(
        self, indexes: Sequence[int], duration_ms: int, failure: Failure, delay_ms: int | None, worker: str
    ) -> None:
        """As `Work.keep_attempts`."""
        for index in indexes:
            number = self.number(index)
            if not attempts.failed(self.messages[index], number, duration_ms, failure, delay_ms, worker):
                raise ClaimLost

    def retry(self, index: int, delay_ms: int) -> Outcome:
        """It goes back to its queue, and holds up nothing there."""
        if not claims.requeue(self.queue, [Claim.of(self.messages[index])], delay_ms, counts=True):
            raise ClaimLost
        return Outcome(True)

    def give_up(self, index: int, reason: str, failure: Failure | None, key: str | None) -> Outcome:
        """It goes to its queue's dead-letter exchange, and a dead letter tells of it."""
        found = claims.locked(self.queue, [Claim.of(self.messages[index])])
        if not found:
            raise ClaimLost
        is_limit = reason == DELIVERY_LIMIT
        [letter] = dead_letter(
            self.queue,
            found,
            reason if is_limit else REJECTED,
            letter_reason=reason,
            failure=failure,
            handler=self._listener.name,
            idempotency_key=key,
        )
        return Outcome(False, letter)

    # -- the end --------------------------------------------------------------------------------------------------

    def clear_up(self, through: Sequence[int], skipped: Collection[int]) -> None:
        """What a replay gave back and was processed before has not succeeded by this handling."""
        self._skipped = {index for index in skipped if self.messages[index].replay_item_id is not None}
        if self._skipped:
            wanted = [Claim.of(self.messages[index]) for index in sorted(self._skipped)]
            found = claims.locked(self.queue, wanted)
            if len(found) < len(wanted):
                raise ClaimLost
            with sync_cursor() as cursor:
                cursor.execute(SQL.skip, (self.queue.id, [message.row for message in found]))

    def settlement(self, passed: int, through: Sequence[int]) -> Settlement:
        """The acknowledgement of all that was handled."""
        handled = [self.messages[index] for index in through if index not in self._skipped]
        rows = [message.row for message in handled]
        return Settlement(SQL.settle, (self.queue.id, rows, [message.token for message in handled]))

    def committed(self, answer: tuple[Any, ...], passed: int, verdicts: Sequence[Verdict]) -> Settled:
        """As `Work.committed`."""
        metrics.messages_acknowledged.inc(answer[0])
        return Settled(passed, has_parked=False)
