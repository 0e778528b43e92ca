"""Tasks and background functions that do nothing; see `bench/jitter.py`, `bench/take_overs.py` and `bench/durable.py`.

A thousand tasks, whose periods keep them from being due again while a round is measured, which sets their due times
itself; and one that is due ten times a second.
"""

from __future__ import annotations

import time
from pathlib import Path

from scheduling import background, scheduled

TASKS = 1000
OFTEN = "bench.often"
LOOK_SECONDS = 0.05


def nothing() -> None:
    """The task."""


def name(number: int) -> str:
    """Of one of the thousand."""
    return f"bench.task-{number:04}"


for _number in range(TASKS):
    scheduled(fixed_rate="PT1H", initial_delay="PT1H", name=name(_number))(nothing)

scheduled(fixed_rate="PT0.1S", initial_delay="PT1H", name=OFTEN, overlap="allow")(nothing)


@background(durable=True, name="bench.durable-nothing")
def durable_nothing() -> None:
    """Background work that is done at once."""


@background(durable=True, name="bench.durable-waiting")
def durable_waiting(path: str) -> None:
    """Background work that lasts until there is a file of that name."""
    while not Path(path).exists():
        time.sleep(LOOK_SECONDS)
