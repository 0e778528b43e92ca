"""What becomes of a record or message whose handler failed, within the transaction that commits what came before it.

The rule is `retries.decision`; here it is carried out: the attempt is kept, and the record waits, is parked, or is
given up, as its source has it. Its own effects have been rolled back by then.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from brokers import metrics
from brokers.failure import Failure, describe
from brokers.listeners.handlers import Handler
from brokers.listeners.work import Again, Failed, Verdict, Work
from brokers.retries.decision import GiveUp, Retry, decide

log = logging.getLogger("waystation.listeners")


@dataclass(frozen=True, slots=True)
class Judge:
    """Carries out one listener's policy."""

    listener: Handler
    worker: str

    def judge(self, work: Work, index: int, failed: Failed, key: str | None) -> Verdict:
        """Does with what has failed what is to be done, in the open transaction.

        Raises `Again` where something has to be prepared first, and `ClaimLost`.
        """
        if failed.error is None or failed.reason is not None:
            failure = None if failed.error is None else describe(failed.error)
            return self._give_up(work, index, failed, failure, str(failed.reason), key)
        decision = self._decide(work, index, failed.error)
        if isinstance(decision, GiveUp):
            _require(work, index, failed)
        failure = describe(failed.error)
        delay = decision.delay_ms if isinstance(decision, Retry) else None
        work.keep_attempts([index], failed.duration_ms, failure, delay, self.worker)
        if isinstance(decision, GiveUp):
            return self._give_up(work, index, failed, failure, decision.reason, key)
        return self._retry(work, index, failure, decision)

    def judge_together(self, work: Work, failed: Failed) -> list[Verdict]:
        """The same for the first `failed.together`: their handler did not say which of them failed."""
        assert failed.error is not None
        indexes = range(failed.together)
        if not work.fails_together:
            return [self.judge(work, index, failed, None) for index in indexes]
        decision = self._decide(work, 0, failed.error)
        if isinstance(decision, GiveUp):
            _require(work, 0, failed)
        failure = describe(failed.error)
        delay = decision.delay_ms if isinstance(decision, Retry) else None
        work.keep_attempts(indexes, failed.duration_ms, failure, delay, self.worker)
        if isinstance(decision, GiveUp):
            return [self._give_up(work, index, failed, failure, decision.reason, None) for index in indexes]
        return [self._retry(work, index, failure, decision) for index in indexes]

    def will_give_up(self, work: Work, index: int, failed: Failed) -> bool:
        """Whether it is to become a dead letter, so that what this needs has to be there."""
        if failed.error is None or failed.reason is not None:
            return True
        return isinstance(self._decide(work, index, failed.error), GiveUp)

    def tell(self, work: Work, verdict: Verdict) -> None:
        """Counts and logs it, after the commit."""
        facts: dict[str, object] = {"handler": self.listener.name, **verdict.facts, "attempt": verdict.number}
        if verdict.failure is not None:
            facts |= {"exception": verdict.failure.exception_class, "error": verdict.failure.message[:500]}
        if verdict.reason in ("", "exception", "attempts_exhausted", "delivery_limit"):
            metrics.handler_failures.labels(self.listener.name).inc()
        if verdict.retry_ms is not None:
            log.warning("%s failed", work.noun, extra=facts | {"next_in_ms": verdict.retry_ms})
            return
        metrics.dead_letters.labels(self.listener.name).inc()
        told = facts | {"reason": verdict.reason, "dead_letter": verdict.outcome.dead_letter_id}
        log.error("%s given up", work.noun, extra=told)

    def _decide(self, work: Work, index: int, error: BaseException) -> Retry | GiveUp:
        earlier = [attempt.exception_class for attempt in work.earlier(index) if attempt.ended_at is not None]
        return work.bounded(index, decide(self.listener.policy, error, earlier))

    def _retry(self, work: Work, index: int, failure: Failure, decision: Retry) -> Verdict:
        outcome = work.retry(index, decision.delay_ms)
        return Verdict(index, work.number(index), failure, decision.delay_ms, "", outcome, work.facts(index))

    def _give_up(
        self, work: Work, index: int, failed: Failed, failure: Failure | None, reason: str, key: str | None
    ) -> Verdict:
        _require(work, index, failed)
        try:
            outcome = work.give_up(index, reason, failure, key)
        except Again as again:
            again.known = {index: failed}
            raise
        return Verdict(index, work.number(index), failure, None, reason, outcome, work.facts(index))


def _require(work: Work, index: int, failed: Failed) -> None:
    if not work.can_give_up(index):
        raise Again({index: failed}, prepare=True)
