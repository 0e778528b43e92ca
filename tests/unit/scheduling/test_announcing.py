"""Hints of runs and tasks: the first at once, what follows shortly after as one, and none is lost."""

from __future__ import annotations

import threading

import pytest

from brokers import wakeup
from scheduling.announcing import Announcement


def test_many_changes_make_few_hints_and_the_last_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []
    twice = threading.Event()

    def tell(kind: str, name: str) -> None:
        told.append((kind, name))
        if len(told) == 2:
            twice.set()

    monkeypatch.setattr(wakeup, "announce_change", tell)
    announcement = Announcement()
    announcement.tell()
    assert told == [("s", "")]
    for _ in range(1000):
        announcement.tell()
    assert twice.wait(5)
    assert len(told) <= 3  # one more on a machine that is very busy
