"""Delivers a member's work, transaction after transaction, until it is through or its claim is lost.

Between two tries of the same work it learns: which records have failed, that a dead-letter topic is missing, that
others were in the way. An attempt that must be counted even if it kills the worker is counted here, before the call.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Final

from brokers import deliveries
from brokers.deliveries import Delivery
from brokers.listeners import failing
from brokers.listeners.calling import caller
from brokers.listeners.delivery import Setting, Transaction
from brokers.listeners.failing import Judge
from brokers.listeners.registration import Listener
from brokers.listeners.work import WORKER_LOST, Again, Failed, Settled, TransactionConflict, Unattributed, Work

MAX_CONFLICTS: Final = 3
"""How often a transaction that conflicts with others is begun anew before that is a failure."""
_CONFLICT_PAUSE_SECONDS: Final = 0.05


class Deliverer:
    """Delivers to one listener on one thread, under one membership.

    `pause` waits so many seconds, less when the worker stops; `is_stopping` says that it does: the record under way is
    then the last one.
    """

    def __init__(
        self,
        listener: Listener,
        group_id: int,
        member: int,
        worker: str,
        search_path: str,
        *,
        is_stopping: Callable[[], bool],
        pause: Callable[[float], object],
    ) -> None:
        self._listener = listener
        self._group_id = group_id
        self._worker = worker
        self._is_stopping = is_stopping
        self._pause = pause
        self._setting = Setting(
            listener, group_id, member, search_path, caller(listener), Judge(listener, group_id, worker), is_stopping
        )
        self._begun: tuple[Delivery, int, float] | None = None

    def deliver(self, work: Work) -> Settled:
        """Handles records of a partition and commits; moves the partition on.

        Fewer than given may have passed: the rest comes again. Raises `ClaimLost`, and `Unavailable` when the
        connection is lost; nothing counts then.
        """
        if work.with_care:
            self._begin(work)
        conflicts, is_blamed = 0, False
        while True:
            try:
                settled = Transaction(self._setting, work, conflicts < MAX_CONFLICTS).run()
                self._begun = None
                return settled
            except Again as again:
                work.known |= again.known
                if again.prepare:
                    failing.prepare(work.partition.lane.topic)
            except TransactionConflict:
                conflicts += 1
                self._pause(_CONFLICT_PAUSE_SECONDS * conflicts * random.uniform(0.5, 1.5))  # noqa: S311
            except Unattributed as failure:
                if len(work.records) > 1:
                    return self._one_by_one(work)
                if is_blamed:  # not even what follows a failure can be written
                    raise failure.error from None
                work.known.setdefault(0, Failed(failure.error))
                is_blamed = True

    def withdraw_begun(self) -> None:
        """Takes back the attempt that was counted before a call, if the fault was not the record's.

        It was, if the call took longer than a member may work without a poll.
        """
        if self._begun is None:
            return
        delivery, number, began = self._begun
        if time.monotonic() - began < self._listener.subscription.max_poll_interval_ms / 1000:
            deliveries.withdraw(delivery, number, self._worker)
        self._begun = None

    def _begin(self, work: Work) -> None:
        lost = sum(attempt.ended_at is None for attempt in work.earlier(0))
        if lost >= self._listener.max_worker_losses:
            work.known[0] = Failed(None, WORKER_LOST)
            return
        delivery, number = work.delivery(0, self._listener, self._group_id), work.number(0)
        deliveries.begin(delivery, number, self._worker)
        self._begun = (delivery, number, time.monotonic())

    def _one_by_one(self, work: Work) -> Settled:
        """A commit failed, and it cannot be seen whose fault that was: each record in a transaction of its own."""
        settled = None
        passed = 0
        for index, record in enumerate(work.records):
            alone = Work(work.partition, [record], work.attempts, work.redeliveries[index : index + 1])
            settled = self.deliver(alone)
            passed += settled.passed
            holds_back = work.is_lane and settled.has_parked  # those of its key must not overtake it
            if not settled.passed or holds_back or self._is_stopping():
                break
        assert settled is not None
        return settled._replace(passed=passed)
