"""Where a claim begins to look: guesses that spare it the remains of messages that are gone.

A queue's head is where messages leave, and their index entries stay there until vacuum removes them, which it cannot do
while any old transaction is open. So each process remembers, for each queue and priority, the lowest position of its
last claim, and begins there. A message below it may become ready all the same (it was requeued, its delay ended, its
transaction committed late): so a claim looks from the head on when the last one came back short, once a second in any
case, and as often as costs a few per cent of the time otherwise. Order is by age but for such a message, which may
wait a second while newer ones are handed out.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final

FULL_SCAN_SECONDS: Final = 1.0
"""A claim looks from the head on at least this often."""
_IDLE_SCAN_SECONDS: Final = 0.2
"""And this often at most, where that is slow and the queue is empty."""
_SHARE: Final = 20
"""After a look from the head on that took t, the next one may come after 20 t."""
_MOST_QUEUES: Final = 10_000


class Hints:
    """What one process knows of one queue."""

    __slots__ = ("_due_at", "_highest", "_idle_at", "_is_short", "_lowest")

    def __init__(self) -> None:
        self._lowest: dict[int, int] = {}
        self._highest = 0
        self._is_short = True
        self._due_at = 0.0
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
            self._due_at = now + FULL_SCAN_SECONDS
            self._idle_at = now + min(took * _SHARE, _IDLE_SCAN_SECONDS)
            # Levels without any were empty below what had been seen before, or were not reached.
            last = min(lowest) if lowest and not is_short else -1
            for priority in priorities:
                if priority not in lowest:
                    self._lowest[priority] = highest if priority > last else self._lowest.get(priority, 0)
        self._lowest.update(lowest)
        self._is_short = is_short

    def reset(self) -> None:
        """Something below may be ready: the next claim looks from the head on."""
        self._due_at = 0.0


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
    """Something of the queue became ready again: the next claim in this process looks from the head on."""
    found = _hints.get(queue_id)
    if found is not None:
        found.reset()
