"""Geometry of the console's charts, drawn on the server as SVG: coordinates out, no markup.

Pure functions over counts of minutes, or over what was measured each second. The templates draw what these return; the
same numbers are always offered as a table too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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


@dataclass(frozen=True, slots=True)
class TimeChart:
    """Lines over the last seconds, in a box of WIDTH by HEIGHT; now is at the right."""

    lines: list[str]
    area: str
    """Below the first line."""
    strips: list[tuple[float, float]]
    """Where the strip begins that shows a sample's tooltip, and how wide it is."""
    y_labels: list[str]
    grid: list[float]
    width: int = WIDTH
    height: int = HEIGHT


def time_chart(
    ages: Sequence[float],
    series: Sequence[Sequence[float]],
    *,
    seconds: float,
    top: float,
    label: Callable[[float], str],
) -> TimeChart | None:
    """The chart of several series that were sampled together, `ages` seconds ago, the newest last.

    What is older than `seconds` is left out; `top` is the value at the upper edge, and `label` writes one. None without
    two samples to connect.
    """
    places = [index for index, age in enumerate(ages) if age <= seconds]
    if len(places) < 2:
        return None
    xs = [round(WIDTH * (1 - max(0.0, ages[index]) / seconds), 2) for index in places]
    lines = [
        " ".join(
            f"{x:g},{HEIGHT * (1 - min(values[index], top) / top):.4g}" for x, index in zip(xs, places, strict=True)
        )
        for values in series
    ]
    before = [0.0 if n == 0 else (xs[n - 1] + x) / 2 for n, x in enumerate(xs)]
    before[0] = max(0.0, xs[0] - (before[1] - xs[0]))
    after = [*before[1:], float(WIDTH)]
    return TimeChart(
        lines=lines,
        area=f"{xs[0]:g},{HEIGHT} {lines[0]} {xs[-1]:g},{HEIGHT}",
        strips=[(round(begin, 2), round(end - begin, 2)) for begin, end in zip(before, after, strict=True)],
        y_labels=[label(top * part / 4) for part in (4, 3, 2, 1, 0)],
        grid=[HEIGHT * part / 4 for part in range(5)],
    )


def rate_chart(minutes: Sequence[tuple[datetime, int]]) -> Chart | None:
    """The chart of records per second from (minute, records in it); None without two minutes to connect."""
    if len(minutes) < 2:
        return None
    rates = [records / SECONDS_PER_POINT for _, records in minutes]
    top = round_up(max(rates))
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
        y_labels=[plain(top * part / 4) for part in (4, 3, 2, 1, 0)],
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


def round_up(value: float) -> float:
    """The next of 1, 2, 4, 6, 8, 10 times a power of ten: grid lines get plain labels; at least 4."""
    if value <= 4:
        return 4.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 2, 4, 6, 8, 10) if factor * power >= value)


def plain(value: float) -> str:
    """A value beside an axis."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"
