"""How a speed is taken: steps repeated for a fixed time, subjects in turn, several rounds, the median.

Subjects and their references alternate within a round, and every other round goes through them backwards, so
that a slow moment of the machine meets all of them. Called by every measurement of this package.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial


@dataclass(frozen=True)
class Extent:
    """How much is measured: `rounds` of `seconds` each, and the sizes of what is read back or loaded."""

    rounds: int
    seconds: float
    fetch_records: int
    growth_records: int
    queue_backlog: int
    churn_seconds: float
    latency_seconds: float
    kafka_records: int
    jitter_seconds: float
    stock_rounds: int
    take_overs: int
    durable_tasks: int
    killed_workers: int

    def in_short_rounds(self) -> Extent:
        """The same time in three times as many rounds, for steps so short that a round is many of them."""
        return replace(self, rounds=3 * self.rounds, seconds=self.seconds / 3)


FULL = Extent(
    rounds=3,
    seconds=2.0,
    fetch_records=400_000,
    growth_records=20_000_000,
    queue_backlog=10_000_000,
    churn_seconds=600.0,
    latency_seconds=15.0,
    kafka_records=2_000_000,
    jitter_seconds=20.0,
    stock_rounds=3,
    take_overs=6,
    durable_tasks=3_000,
    killed_workers=3,
)
QUICK = Extent(
    rounds=3,
    seconds=0.3,
    fetch_records=50_000,
    growth_records=200_000,
    queue_backlog=200_000,
    churn_seconds=5.0,
    latency_seconds=2.0,
    kafka_records=200_000,
    jitter_seconds=4.0,
    stock_rounds=1,
    take_overs=3,
    durable_tasks=1_000,
    killed_workers=1,
)

Subject = Callable[[], float]
"""Runs once for a round and returns its speed, per second."""


def per_second(step: Callable[[], int], seconds: float, warm_up: int = 2) -> float:
    """Repeats `step`, which returns how many records it handled, for `seconds`; records per second."""
    for _ in range(warm_up):
        step()
    gc.collect()
    done = 0
    started = time.perf_counter()
    deadline = started + seconds
    while (now := time.perf_counter()) < deadline:
        done += step()
    return done / (now - started)


def once(work: Callable[[], int]) -> float:
    """Runs `work`, which returns how many records it handled, one time; records per second."""
    gc.collect()
    started = time.perf_counter()
    done = work()
    return done / (time.perf_counter() - started)


def interleaved(subjects: Mapping[str, Subject], rounds: int) -> dict[str, tuple[float, ...]]:
    """Each subject's speed in each round, the subjects taking turns within a round."""
    speeds: dict[str, list[float]] = {name: [] for name in subjects}
    order = list(subjects)
    for _ in range(rounds):
        for name in order:
            speeds[name].append(subjects[name]())
        order.reverse()
    return {name: tuple(values) for name, values in speeds.items()}


def speeds_of(steps: Mapping[str, Callable[[], int]], extent: Extent) -> dict[str, tuple[float, ...]]:
    """`interleaved` for steps that are repeated for the extent's time."""
    subjects = {name: partial(per_second, step, extent.seconds) for name, step in steps.items()}
    return interleaved(subjects, extent.rounds)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the sorted values lie (nearest rank)."""
    if not ordered:
        raise ValueError("a percentile needs at least one value")
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    """The middle value; of an even number, the mean of the two in the middle."""
    return statistics.median(values)
