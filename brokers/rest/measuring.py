"""Counts and times the answers of one operation for `brokers.metrics`.

An answer costs a few additions here; the metrics, which are files shared by the web processes, get the sums about
once a second.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict

from prometheus_client import Counter

from brokers import metrics


class Meter:
    """Of one operation; used by the tasks of one event loop."""

    def __init__(self, operation: str) -> None:
        self._operation = operation
        self._seconds = metrics.request_seconds.labels(operation)
        self._bounds: list[float] = self._seconds._upper_bounds
        self._counters: dict[int, Counter] = {}
        self._reset()

    def _reset(self) -> None:
        self._statuses: defaultdict[int, int] = defaultdict(int)
        self._buckets = [0] * len(self._bounds)
        self._sum = 0.0

    def add(self, status: int, seconds: float) -> None:
        """Notes one answer."""
        self._statuses[status] += 1
        self._buckets[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def flush(self) -> None:
        """Adds what was noted to the metrics."""
        if not self._statuses:
            return
        for status, count in self._statuses.items():
            if status not in self._counters:
                self._counters[status] = metrics.requests.labels(self._operation, str(status))
            self._counters[status].inc(count)
        # The client has no call for many observations; these are what its `observe` adds to.
        self._seconds._sum.inc(self._sum)
        for bucket, count in zip(self._seconds._buckets, self._buckets, strict=True):
            if count:
                bucket.inc(count)
        self._reset()
