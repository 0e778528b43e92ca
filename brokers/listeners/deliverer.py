"""Delivers a thread's work, transaction after transaction, until it is through or is its own no more.

Between two tries of the same work it learns: what has failed, that something has to be prepared, that others were in
the way.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from brokers.listeners.calling import caller
from brokers.listeners.delivery import Setting, Transaction
from brokers.listeners.failing import Judge
from brokers.listeners.handlers import Handler
from brokers.listeners.work import Again, Failed, Settled, TransactionConflict, Unattributed, Work

MAX_CONFLICTS: Final = 3
"""How often a transaction that conflicts with others is begun anew before that is a failure."""
_CONFLICT_PAUSE_SECONDS: Final = 0.05


class Deliverer:
    """Delivers to one listener on one thread.

    `worker` is what attempts are signed with. `pause` waits so many seconds, less when the worker stops; `is_stopping`
    says that it does: the record under way is then the last one. `before_call` is called before each call.
    """

    def __init__(
        self,
        listener: Handler,
        worker: str,
        search_path: str,
        *,
        is_stopping: Callable[[], bool],
        pause: Callable[[float], object],
        before_call: Callable[[], object] | None = None,
    ) -> None:
        self.worker = worker
        self._is_stopping = is_stopping
        self._pause = pause
        call = caller(listener)

        def announced(argument: Any) -> None:
            assert before_call is not None
            before_call()
            call(argument)

        called = call if before_call is None else announced
        self._setting = Setting(listener, search_path, called, Judge(listener, worker), is_stopping)

    def deliver(self, work: Work) -> Settled:
        """Handles the work and commits.

        Fewer than given may have passed: the rest comes again. Raises `ClaimLost`, and `Unavailable` when the
        connection is lost; nothing counts then.
        """
        conflicts, is_blamed = 0, False
        while True:
            try:
                return Transaction(self._setting, work, conflicts < MAX_CONFLICTS).run()
            except Again as again:
                work.known |= again.known
                if again.prepare:
                    work.prepare()
            except TransactionConflict:
                conflicts += 1
                self._pause(_CONFLICT_PAUSE_SECONDS * conflicts * random.uniform(0.5, 1.5))  # noqa: S311
            except Unattributed as failure:
                if len(work.items) > 1:
                    return self._one_by_one(work)
                if is_blamed:  # not even what follows a failure can be written
                    raise failure.error from None
                work.known.setdefault(0, Failed(failure.error))
                is_blamed = True

    def _one_by_one(self, work: Work) -> Settled:
        """A commit failed, and it cannot be seen whose fault that was: each in a transaction of its own."""
        settled = None
        passed = 0
        for index in range(len(work.items)):
            settled = self.deliver(work.alone(index))
            passed += settled.passed
            holds_back = work.is_lane and settled.has_parked  # those of its key must not overtake it
            if not settled.passed or holds_back or self._is_stopping():
                break
        assert settled is not None
        return settled._replace(passed=passed)
