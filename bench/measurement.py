"""One result of a run, the table that people read and the file that keeps it.

A measurement holds the speeds of every round, so that the spread stays visible. Written by `bench.__main__`;
the measuring modules only build `Measurement`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from bench.rounds import median

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Measurement:
    """Speeds of a subject and its reference, one a round, in `unit`; `goal` is the least ratio wanted."""

    group: str
    what: str
    speeds: tuple[float, ...]
    unit: str = "records/s"
    reference: str | None = None
    reference_speeds: tuple[float, ...] = ()
    goal: float | None = None
    details: Mapping[str, float | int | str] = field(default_factory=dict)

    @property
    def speed(self) -> float:
        """The median of the rounds."""
        return median(self.speeds)

    @property
    def reference_speed(self) -> float | None:
        """The median of the reference's rounds, None without a reference."""
        return median(self.reference_speeds) if self.reference_speeds else None

    @property
    def ratio(self) -> float | None:
        """Median of the subject over median of the reference."""
        reference = self.reference_speed
        return None if reference is None else self.speed / reference

    @property
    def reached(self) -> bool | None:
        """Whether the goal is reached; None without a goal or a reference."""
        return None if self.goal is None or self.ratio is None else self.ratio >= self.goal

    def document(self) -> dict[str, Any]:
        """The measurement as it stands in the result file."""
        return {
            "group": self.group,
            "what": self.what,
            "unit": self.unit,
            "speed": round(self.speed, 3),
            "speeds": [round(value, 3) for value in self.speeds],
            "reference": self.reference,
            "reference_speed": None if self.reference_speed is None else round(self.reference_speed, 3),
            "reference_speeds": [round(value, 3) for value in self.reference_speeds],
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "goal": self.goal,
            "reached": self.reached,
            "details": dict(self.details),
        }


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _ratio(measurement: Measurement) -> str:
    if measurement.ratio is None:
        return ""
    colour = {None: "default", True: "green", False: "red"}[measurement.reached]
    return f"[{colour}]{measurement.ratio:.2f}[/]"


def _description(measurement: Measurement) -> str:
    lines = [measurement.what]
    if measurement.reference is not None:
        lines.append(f"[dim]against {measurement.reference}[/]")
    if measurement.details:
        lines.append(f"[dim]{', '.join(f'{name} {value}' for name, value in measurement.details.items())}[/]")
    return "\n".join(lines)


def table(measurements: Sequence[Measurement]) -> Table:
    """All measurements as one table, in the order in which they were taken."""
    result = Table(title="Waystation benchmarks: medians of one run", title_justify="left")
    result.add_column("what", overflow="fold")
    for heading in ("measured", "reference", "ratio", "at least"):
        result.add_column(heading, justify="right", no_wrap=True)
    previous = ""
    for one in measurements:
        if one.group != previous:
            result.add_section()
            result.add_row(f"[bold]{one.group}[/]")
            previous = one.group
        result.add_row(
            _description(one),
            f"{_number(one.speed)} {one.unit}",
            _number(one.reference_speed),
            _ratio(one),
            "" if one.goal is None else f"{one.goal:.2f}",
        )
    return result


def save(document: dict[str, Any], stamp: str, *, complete: bool) -> Path:
    """Writes the run to results/<stamp>.json and, when it is a complete one, to results/latest.json too."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    path = RESULTS / (f"{stamp}.json" if complete else f"{stamp}-partial.json")
    path.write_text(text, encoding="utf-8")
    if complete:
        (RESULTS / "latest.json").write_text(text, encoding="utf-8")
    return path
