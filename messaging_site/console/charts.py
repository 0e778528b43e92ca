"""Geometry of the console's charts, drawn on the server as SVG: coordinates out, no markup.

Pure functions over per-minute counts. The templates under console/partials draw what these return; the same
numbers are always offered as a table too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

WIDTH = 600
HEIGHT = 160
SPARK_WIDTH = 84
SPARK_HEIGHT = 20
SECONDS_PER_POINT = 60


@dataclass(frozen=True, slots=True)
class Point:
    """One minute of a chart."""

    at: datetime
    records: int
    per_second: float
    left: float
    """Where the strip that shows its tooltip begins."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A line over an hour, in a box of WIDTH by HEIGHT."""

    line: str
    area: str
    points: list[Point]
    strip: float
    """Width of one point's strip."""
    y_labels: list[str]
    x_labels: list[datetime]
    grid: list[float]
    peak: float
    width: int = WIDTH
    height: int = HEIGHT


def rate_chart(minutes: Sequence[tuple[datetime, int]]) -> Chart | None:
    """The chart of records per second from (minute, records in it); None without two minutes to connect."""
    if len(minutes) < 2:
        return None
    rates = [records / SECONDS_PER_POINT for _, records in minutes]
    top = _round_up(max(rates))
    step = WIDTH / (len(minutes) - 1)
    ends = [(round(at * step, 2), round(HEIGHT * (1 - value / top), 2)) for at, value in enumerate(rates)]
    line = " ".join(f"{x:g},{y:g}" for x, y in ends)
    points = [
        Point(at, records, rates[i], round(max(0.0, (i - 0.5) * step), 2)) for i, (at, records) in enumerate(minutes)
    ]
    quarter = (len(minutes) - 1) / 4
    return Chart(
        line=line,
        area=f"0,{HEIGHT} {line} {WIDTH},{HEIGHT}",
        points=points,
        strip=round(step, 2),
        y_labels=[_label(top * part / 4) for part in (4, 3, 2, 1, 0)],
        x_labels=[minutes[round(quarter * part)][0] for part in range(5)],
        grid=[HEIGHT * part / 4 for part in range(5)],
        peak=max(rates),
    )


def spark_points(values: Sequence[int]) -> str:
    """The points of a sparkline over the complete minutes; empty without two of them."""
    values = values[:-1]
    if len(values) < 2:
        return ""
    top = max(max(values), 1)
    step = SPARK_WIDTH / (len(values) - 1)
    return " ".join(
        f"{at * step:.1f},{1 + (SPARK_HEIGHT - 2) * (1 - value / top):.1f}" for at, value in enumerate(values)
    )


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8, 10 times a power of ten: grid lines get plain labels; at least 4."""
    if value <= 4:
        return 4.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 4, 6, 8, 10) if factor * power >= value)


def _label(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
