"""Delivers what a member owns, and counts attempts that might kill the worker before the call."""

from __future__ import annotations

import time
from collections.abc import Callable

from brokers import deliveries
from brokers.deliveries import Delivery
from brokers.listeners.deliverer import Deliverer
from brokers.listeners.partition_work import Membership, PartitionWork
from brokers.listeners.work import WORKER_LOST, Failed, Settled, Work


class PartitionDeliverer(Deliverer):
    """Delivers under one membership; the other parameters are `Deliverer`'s."""

    def __init__(
        self,
        membership: Membership,
        worker: str,
        search_path: str,
        *,
        is_stopping: Callable[[], bool],
        pause: Callable[[float], object],
    ) -> None:
        super().__init__(membership.listener, worker, search_path, is_stopping=is_stopping, pause=pause)
        self.membership = membership
        self._begun: tuple[Delivery, int, float] | None = None

    def deliver(self, work: Work) -> Settled:
        """As `Deliverer.deliver`, and moves the partition on."""
        if isinstance(work, PartitionWork) and work.with_care:
            self._begin(work)
        settled = super().deliver(work)
        self._begun = None
        return settled

    def withdraw_begun(self) -> None:
        """Takes back the attempt that was counted before a call, if the fault was not the record's.

        It was, if the call took longer than a member may work without a poll.
        """
        if self._begun is None:
            return
        delivery, number, began = self._begun
        if time.monotonic() - began < self.membership.listener.subscription.max_poll_interval_ms / 1000:
            deliveries.withdraw(delivery, number, self.worker)
        self._begun = None

    def _begin(self, work: PartitionWork) -> None:
        lost = sum(attempt.ended_at is None for attempt in work.earlier(0))
        if lost >= self.membership.listener.max_worker_losses:
            work.known[0] = Failed(None, WORKER_LOST)
            return
        delivery, number = work.delivery(0), work.number(0)
        deliveries.begin(delivery, number, self.worker)
        self._begun = (delivery, number, time.monotonic())
