"""What becomes of a record whose handler failed, within the transaction that commits what came before it.

The rule is `retries.decision`; here it is carried out: the attempt is kept, and the record waits at the head of its
partition, is parked in the lane, or is given up. The record's own effects have been rolled back by then.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import NamedTuple

from brokers import dead_letter_topics, dead_letters, deliveries, metrics, redeliveries, topics
from brokers.deliveries import Delivery
from brokers.errors import TopicNotFound
from brokers.failure import Failure, describe
from brokers.listeners.registration import Listener
from brokers.listeners.work import Again, Failed, Work
from brokers.retries.decision import GiveUp, Retry, decide

log = logging.getLogger("waystation.listeners")


class Verdict(NamedTuple):
    """What was done with a failed record; told to people once it is committed."""

    delivery: Delivery
    number: int
    failure: Failure | None
    retry_ms: int | None
    """The back-off; None: it was given up."""
    reason: str
    is_parked: bool
    dead_letter_id: int | None = None

    @property
    def waits(self) -> bool:
        """Whether the partition waits for it."""
        return self.retry_ms is not None and not self.is_parked

    def tell(self) -> None:
        """Counts and logs it, after the commit."""
        record = self.delivery.record
        facts: dict[str, object] = {
            "handler": self.delivery.handler,
            "consumer_group": self.delivery.group,
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "attempt": self.number,
        }
        if self.failure is not None:
            facts |= {"exception": self.failure.exception_class, "error": self.failure.message[:500]}
        if self.reason in ("", "exception", "attempts_exhausted"):
            metrics.handler_failures.labels(self.delivery.handler).inc()
        if self.retry_ms is not None:
            log.warning("record failed", extra=facts | {"next_in_ms": self.retry_ms})
            return
        metrics.dead_letters.labels(self.delivery.handler).inc()
        log.error("record given up", extra=facts | {"reason": self.reason, "dead_letter": self.dead_letter_id})


@dataclass(frozen=True, slots=True)
class Judge:
    """Carries out one listener's policy."""

    listener: Listener
    group_id: int
    worker: str

    def judge(self, work: Work, index: int, failed: Failed, key: str | None) -> Verdict:
        """Does with a failed record what is to be done, in the open transaction.

        Raises `Again` where the dead-letter topic has to be made first.
        """
        if failed.error is None or failed.reason is not None:
            failure = None if failed.error is None else describe(failed.error)
            return self._give_up(work, index, failed, failure, str(failed.reason), key)
        decision = self._decide(work, index, failed.error)
        failure = describe(failed.error)
        delivery = work.delivery(index, self.listener, self.group_id, key)
        delay = decision.delay_ms if isinstance(decision, Retry) else None
        if isinstance(decision, GiveUp):
            self._require_topic(work, index, failed)
        deliveries.failed(delivery, work.number(index), failed.duration_ms, failure, delay, self.worker)
        if isinstance(decision, GiveUp):
            return self._give_up(work, index, failed, failure, decision.reason, key)
        is_parked = work.is_lane or not self.listener.policy.blocking
        if is_parked:
            self._park(delivery, decision.delay_ms)
        return Verdict(delivery, work.number(index), failure, delay, "", is_parked)

    def judge_together(self, work: Work, failed: Failed) -> list[Verdict]:
        """The same for the first `failed.together` records: their handler did not say which of them failed."""
        assert failed.error is not None
        count = failed.together
        decision = self._decide(work, 0, failed.error)
        if isinstance(decision, GiveUp):
            self._require_topic(work, 0, failed)
        failure = describe(failed.error)
        delay = decision.delay_ms if isinstance(decision, Retry) else None
        failing = [work.delivery(index, self.listener, self.group_id) for index in range(count)]
        numbers = [work.number(index) for index in range(count)]
        deliveries.all_failed(failing, numbers, failed.duration_ms, failure, delay, self.worker)
        if isinstance(decision, GiveUp):
            return [self._give_up(work, index, failed, failure, decision.reason, None) for index in range(count)]
        is_parked = work.is_lane or not self.listener.policy.blocking
        if is_parked:
            for delivery in failing:
                self._park(delivery, decision.delay_ms)
        return [
            Verdict(delivery, number, failure, delay, "", is_parked)
            for delivery, number in zip(failing, numbers, strict=True)
        ]

    def will_give_up(self, work: Work, index: int, failed: Failed) -> bool:
        """Whether a record is to become a dead letter, so that its topic has to be there."""
        if failed.error is None or failed.reason is not None:
            return True
        return isinstance(self._decide(work, index, failed.error), GiveUp)

    def _decide(self, work: Work, index: int, error: BaseException) -> Retry | GiveUp:
        earlier = [attempt.exception_class for attempt in work.earlier(index) if attempt.ended_at is not None]
        return decide(self.listener.policy, error, earlier)

    def _park(self, delivery: Delivery, delay_ms: int) -> None:
        redeliveries.park(delivery, delay_ms)
        if delivery.redelivery is None:
            deliveries.follow_into_lane(delivery)

    def _give_up(
        self, work: Work, index: int, failed: Failed, failure: Failure | None, reason: str, key: str | None
    ) -> Verdict:
        self._require_topic(work, index, failed)
        delivery = work.delivery(index, self.listener, self.group_id, key)
        try:
            letter = dead_letters.give_up(delivery, reason, failure)
        except TopicNotFound:  # somebody has deleted the dead-letter topic just now
            raise Again({index: failed}, prepare=True) from None
        return Verdict(delivery, work.number(index), failure, None, reason, False, letter)

    def _require_topic(self, work: Work, index: int, failed: Failed) -> None:
        if not _is_prepared(work.records[index].topic):
            raise Again({index: failed}, prepare=True)


def _is_prepared(topic: str) -> bool:
    """Whether there is a dead-letter topic with enough partitions, or can be none."""
    name = dead_letter_topics.name_for(topic)
    if name is None:
        return True
    try:
        return len(topics.lookup(name).partition_ids) >= len(topics.lookup(topic).partition_ids)
    except TopicNotFound:
        return False


def prepare(topic: str) -> None:
    """Makes sure of a topic's dead-letter topic, in transactions of its own."""
    dead_letter_topics.prepare(topic, len(topics.lookup(topic).partition_ids))
