"""Scheduling: how late tasks begin, how soon another beat leads, locks, executors and durable background work."""

from __future__ import annotations

from collections.abc import Iterator

from bench import durable, executors, jitter, lock_cycles, take_overs
from bench.measurement import Measurement
from bench.rounds import Extent


def measure(extent: Extent) -> Iterator[Measurement]:
    """Everything on this page, one after the other."""
    yield from lock_cycles.measure(extent)
    yield from executors.measure(extent)
    yield from jitter.measure(extent)
    yield from take_overs.measure(extent)
    yield from durable.measure(extent)
