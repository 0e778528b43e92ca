"""How a connection kept up over the last two minutes: what waited for its client, messages each second, and drops.

Drawn of the samples that its process takes each second while somebody watches. Pure; `charts` has the geometry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final

from messaging_site.console import charts, formatting
from messaging_site.console.charts import TimeChart
from realtime.frame_recorder import Sample

SECONDS: Final = 120
X_LABELS: Final = ("2 min ago", "90 s", "1 min", "30 s", "now")
_LEAST_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Second:
    """One sample, and what has happened since the one before."""

    at: datetime
    waiting: int
    """Most bytes that waited for the client."""
    sent: float
    """Messages per second."""
    received: float
    dropped: int
    left: float = 0.0
    """Where its strip begins in the charts."""
    strip: float = 0.0


@dataclass(frozen=True, slots=True)
class Backpressure:
    """The charts of one connection, and the same numbers as a table."""

    waiting: TimeChart
    rates: TimeChart
    seconds: list[Second]
    """The newest last."""
    most_waiting: int
    most_sent: float
    most_received: float
    dropped: int
    x_labels: Sequence[str] = X_LABELS


def backpressure(samples: Sequence[Sample], now: float) -> Backpressure | None:
    """The charts as of `now`, in seconds since 1970; None before there are three samples."""
    pairs = [(before, last) for before, last in pairwise(samples) if now - last.at <= SECONDS]
    if len(pairs) < 2:
        return None
    seconds = [_second(before, last) for before, last in pairs]
    ages = [now - last.at for _, last in pairs]
    sent, received = [each.sent for each in seconds], [each.received for each in seconds]
    most_waiting = max(each.waiting for each in seconds)
    waiting = charts.time_chart(
        ages,
        [[each.waiting for each in seconds]],
        seconds=SECONDS,
        top=_bytes_above(most_waiting),
        label=lambda value: formatting.size(int(value)),
    )
    rates = charts.time_chart(
        ages, [sent, received], seconds=SECONDS, top=charts.round_up(max(sent + received)), label=charts.plain
    )
    assert waiting is not None and rates is not None  # noqa: PT018 - there are two samples
    return Backpressure(
        waiting=waiting,
        rates=rates,
        seconds=[_placed(each, *strip) for each, strip in zip(seconds, waiting.strips, strict=True)],
        most_waiting=most_waiting,
        most_sent=max(sent),
        most_received=max(received),
        dropped=sum(each.dropped for each in seconds),
    )


def _second(before: Sample, last: Sample) -> Second:
    elapsed = max(last.at - before.at, 0.001)
    return Second(
        at=datetime.fromtimestamp(last.at, UTC),
        waiting=last.buffered,
        sent=round((last.sent - before.sent) / elapsed, 1),
        received=round((last.received - before.received) / elapsed, 1),
        dropped=last.dropped - before.dropped,
    )


def _placed(second: Second, left: float, strip: float) -> Second:
    return Second(second.at, second.waiting, second.sent, second.received, second.dropped, left, strip)


def _bytes_above(value: int) -> float:
    """A power of two, so that a quarter of it reads well."""
    top = _LEAST_BYTES
    while top < value:
        top *= 2
    return float(top)
