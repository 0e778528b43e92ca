"""The sizes and the rejection policy of an executor, checked; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from brokers.errors import InvalidType, shown
from brokers.names import validate
from scheduling.errors import InvalidExecutor

Rejection = Literal["abort", "caller_runs", "discard", "discard_oldest"]
"""What becomes of a task for which there is neither a thread nor a place in the queue.

`abort` raises `TaskRejected`, `caller_runs` runs it in the thread that submits, `discard` cancels its future, and
`discard_oldest` cancels the one that has waited longest, whose place it takes. (Those of `ThreadPoolExecutor` in Java.)
"""

MAX_THREADS: Final = 1000
MAX_QUEUE: Final = 1_000_000
KEEP_ALIVE_MS: Final = 60_000
"""How long a thread beyond the core waits for work before it ends, as Spring's."""


@dataclass(frozen=True, slots=True)
class Definition:
    """What an executor was declared with; two declarations of a name must agree on it."""

    name: str
    core: int
    max: int
    queue_capacity: int
    thread_name_prefix: str
    rejection: Rejection
    keep_alive_ms: int = KEEP_ALIVE_MS

    def checked(self) -> Definition:
        """Itself; raises `InvalidExecutor`, `InvalidName` and `InvalidType`."""
        validate("executor", self.name)
        if not isinstance(self.thread_name_prefix, str):
            raise InvalidType(f"thread_name_prefix is text, not {shown(self.thread_name_prefix)}")
        self._whole("core", self.core, 1, MAX_THREADS)
        self._whole("max", self.max, 1, MAX_THREADS)
        self._whole("queue_capacity", self.queue_capacity, 0, MAX_QUEUE)
        if self.max < self.core:
            raise InvalidExecutor(f"max of the executor {self.name} ({self.max}) is less than its core ({self.core})")
        if self.rejection not in get_args(Rejection):
            policies = ", ".join(get_args(Rejection))
            raise InvalidExecutor(
                f"rejection of the executor {self.name} is one of {policies}, not {shown(self.rejection)}"
            )
        return self

    def _whole(self, field: str, value: object, low: int, high: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidExecutor(
                f"{field} of the executor {self.name} is a whole number from {low} to {high}, not {shown(value)}"
            )


@dataclass(frozen=True, slots=True)
class Figures:
    """What an executor of this process does and did."""

    name: str
    core: int
    max: int
    queue_capacity: int
    rejection: Rejection
    threads: int
    """Alive, busy or not."""
    active: int
    """Tasks that run."""
    queued: int
    waiting: int
    """Asynchronous callers that wait for a place in the queue."""
    completed: int
    """Tasks that ended, well or not."""
    failed: int
    """Of those, the ones that raised."""
    rejected: int
    """Tasks for which there was no room, whatever the policy then did."""
    seconds: float = 0.0
    """How long the completed tasks took together."""
