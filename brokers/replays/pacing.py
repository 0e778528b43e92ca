"""How many items a replay may send now: its rate, what is under way, its canary and its stop rule. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, NamedTuple

CHUNK: Final = 500
"""Items sent in one transaction."""
UNDER_WAY: Final = 2000
"""Items sent and without an outcome at a time."""
UNDER_WAY_CAREFULLY: Final = 200
"""The same of a replay with a canary or a stop rule, which should not come much too late."""
WINDOW: Final = 50
"""Newest outcomes that the stop rule looks at."""
LEAST_OUTCOMES: Final = 10
"""Fewer outcomes stop no replay."""
_BURST_SECONDS: Final = 1.0
"""A rate makes up for this much of a delay, and forgets what is longer."""
_LOT_SECONDS: Final = 0.05
"""What comes due in this time is sent together."""


class Budget(NamedTuple):
    """What a rate allows now."""

    tokens: float
    rate: float | None
    now: datetime

    @property
    def items(self) -> int:
        """Items that may be sent; none until it is worth a transaction."""
        if self.rate is None:
            return CHUNK
        return int(self.tokens) if self.tokens >= _lot(self.rate) else 0

    def spent(self, items: int) -> datetime | None:
        """The moment to remember after so many were sent; None without a rate."""
        if self.rate is None:
            return None
        return self.now - timedelta(seconds=(self.tokens - items) / self.rate)

    def seconds_to_next(self) -> float:
        """Until some may be sent."""
        return 0.0 if self.rate is None else max(0.0, _lot(self.rate) - self.tokens) / self.rate


def _lot(rate: float) -> float:
    return min(CHUNK, max(1.0, rate * _LOT_SECONDS))


def budget(rate: float | None, spent_at: datetime | None, now: datetime) -> Budget:
    """What a rate allows after the moment up to which it was spent; the first ones may go at once."""
    if rate is None:
        return Budget(0.0, None, now)
    tokens = _lot(rate) if spent_at is None else (now - spent_at).total_seconds() * rate
    return Budget(min(max(tokens, 0.0), max(1.0, rate * _BURST_SECONDS)), rate, now)


def room(under_way: int, careful: bool) -> int:
    """How many more may be under way."""
    return max(0, (UNDER_WAY_CAREFULLY if careful else UNDER_WAY) - under_way)


def stops(outcomes: int, failed_again: int, share: float) -> bool:
    """Whether the newest outcomes break the stop rule."""
    return outcomes >= LEAST_OUTCOMES and failed_again > share * outcomes


def canary_passes(succeeded: int, failed_again: int, min_success: float) -> bool:
    """Whether enough of a canary succeeded; skipped ones count for neither side."""
    outcomes = succeeded + failed_again
    return outcomes == 0 or succeeded >= min_success * outcomes
