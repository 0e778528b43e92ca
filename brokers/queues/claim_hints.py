"""Where a claim begins to look: guesses that spare it the remains of messages that are gone.

A queue's head is where messages leave, and their index entries stay there until vacuum removes them, which it cannot do
while any old transaction is open. So each process remembers, for each queue and priority, the lowest position of its
last claim, and begins there. A message below it may become ready all the same (it was requeued, its delay ended, its
transaction committed late): so a claim looks from the head on when the last one came back short, and once a second in
any case; where an old transaction makes such a look slow, as often as costs a twentieth of the time. Order is by age
but for such a message, which may wait that long while newer ones are handed out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final

FULL_SCAN_SECONDS: Final = 1.0
"""A claim looks from the head on this often, unless that is slow."""
LONGEST_SECONDS: Final = 30.0
"""And at least this often, however slow it is."""
_IDLE_SCAN_SECONDS: Final = 0.2
"""And this often at most, where that is slow and the queue is empty."""
_SHARE: Final = 20
"""After a look from the head on that took t, the next one may come after 20 t."""
_MOST_QUEUES: Final = 10_000


class Hints:
    """What one process knows of one queue."""

    __slots__ = ("_due_at", "_earliest_at", "_highest", "_idle_at", "_is_short", "_lowest")

    def __init__(self) -> None:
        self._lowest: dict[int, int] = {}
        self._highest = 0
        self._is_short = True
        self._due_at = 0.0
        self._earliest_at = 0.0
        self._idle_at = 0.0

    def start(self, priorities: Sequence[int]) -> list[int] | None:
        """Where to begin in each level; None: from the head on."""
        now = time.monotonic()
        if now >= self._due_at or (self._is_short and now >= self._idle_at):
            return None
        return [self._lowest.get(priority, 0) for priority in priorities]

    def may_look_again(self) -> bool:
        """Whether a claim that came back short may look from the head on at once."""
        return time.monotonic() >= self._idle_at

    def learn(
        self,
        priorities: Sequence[int],
        found: Iterable[tuple[int, int]],
        *,
        was_full: bool,
        is_short: bool,
        took: float,
    ) -> None:
        """What a claim has found, as pairs of priority and position; `took` seconds."""
        highest = self._highest
        lowest: dict[int, int] = {}
        for priority, pos in found:
            if pos < lowest.get(priority, pos + 1):
                lowest[priority] = pos
            if pos > self._highest:
                self._highest = pos
        if was_full:
            now = time.monotonic()
            self._earliest_at = now + min(took * _SHARE, LONGEST_SECONDS)
            self._due_at = max(now + FULL_SCAN_SECONDS, self._earliest_at)
            self._idle_at = min(self._earliest_at, now + _IDLE_SCAN_SECONDS)
            # Levels without any were empty below what had been seen before, or were not reached.
            last = min(lowest) if lowest and not is_short else -1
            for priority in priorities:
                if priority not in lowest:
                    self._lowest[priority] = highest if priority > last else self._lowest.get(priority, 0)
        self._lowest.update(lowest)
        self._is_short = is_short

    def reset(self) -> None:
        """Something below may be ready: a claim looks from the head on as soon as that may cost its time."""
        self._due_at = min(self._due_at, self._earliest_at)

    def lower(self, priority: int, pos: int) -> None:
        """A message of that place is ready again: the next claim begins no later."""
        if pos < self._lowest.get(priority, 0):
            self._lowest[priority] = pos


_hints: dict[int, Hints] = {}


def of(queue_id: int) -> Hints:
    """This process's hints for a queue."""
    found = _hints.get(queue_id)
    if found is None:
        if len(_hints) >= _MOST_QUEUES:
            _hints.clear()
        found = _hints[queue_id] = Hints()
    return found


def reset(queue_id: int) -> None:
    """Something of the queue became ready again: a claim in this process looks from the head on soon."""
    found = _hints.get(queue_id)
    if found is not None:
        found.reset()


def lower(queue_id: int, places: Iterable[tuple[int, int]]) -> None:
    """Messages of these priorities and positions are ready again: the next claim in this process finds them."""
    found = _hints.get(queue_id)
    if found is not None:
        for priority, pos in places:
            found.lower(priority, pos)
