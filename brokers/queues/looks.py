"""Where a look for due work may begin: a guess that spares dead index entries, never a truth.

Under an old snapshot whatever was handled stays in the index before what is to come, so a look from its beginning
costs more each time. Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Looks(Generic[T]):
    """Looks begin where the last one has seen all, but every so often at the very beginning, where late ones may be.

    That is after `seconds`, and so seldom that it takes a `share` of the time at most.
    """

    beginning: T
    seconds: float
    share: float = 0.05
    clock: Callable[[], float] = monotonic
    _reached: T | None = None
    _whole_at: float = field(default=0.0)
    """When to begin at the very beginning again."""

    def begin(self) -> T:
        """From where to look now."""
        if self._reached is None or self.clock() >= self._whole_at:
            self._reached = None
            return self.beginning
        return self._reached

    def end(self, reached: T | None, took: float) -> None:
        """A look took so many seconds and has seen all up to `reached`; None: not all, and the next begins as this."""
        if self._reached is None:
            self._whole_at = self.clock() + max(self.seconds, took / self.share)
        if reached is not None:
            self._reached = reached
