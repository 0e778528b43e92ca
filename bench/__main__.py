"""`python -m bench`: runs the benchmarks, prints a table and writes bench/results/.

Starts everything it measures and stops it again. A full run takes some fifteen minutes; `--quick` one or
two, for trying the benchmarks themselves rather than the product. Run by `make bench`.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

from rich.console import Console

from bench import machine, measurement, stores, summary
from bench.measurement import Measurement
from bench.rounds import FULL, QUICK, Extent

GROUPS = (
    "append",
    "fetch",
    "transactional",
    "rest",
    "latency",
    "listeners",
    "handovers",
    "kafka",
    "queues",
    "live",
    "scheduling",
    "growth",
)
Measure = Callable[[], Iterator[Measurement]]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and short: seconds instead of minutes")
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=[], metavar="NAME", help=", ".join(GROUPS))
    parser.add_argument("--growth-records", type=int, metavar="N", help="records of the grown log, 200,000 at least")
    parser.add_argument("--no-kafka", action="store_true", help="without the comparison that needs Java and Maven")
    arguments = parser.parse_args()
    if arguments.growth_records is not None and not 200_000 <= arguments.growth_records <= 200_000_000:
        parser.error("--growth-records must be 200,000 to 200,000,000")
    return arguments


def _measures(extent: Extent, data_dir: Path) -> dict[str, Measure]:
    # Imported here: they need Django to be set up on the run's own stores.
    from bench import (
        append,
        fetch,
        growth,
        handovers,
        kafka,
        latency,
        listeners,
        live,
        queues,
        rest,
        scheduling,
        transactional,
    )

    return {
        "append": lambda: append.measure(extent),
        "fetch": lambda: fetch.measure(extent),
        "transactional": lambda: transactional.measure(extent),
        "rest": lambda: rest.measure(extent),
        "latency": lambda: latency.measure(extent),
        "listeners": lambda: listeners.measure(extent),
        "handovers": lambda: handovers.measure(extent),
        "kafka": lambda: kafka.measure(extent, data_dir / "kafka"),
        "queues": lambda: queues.measure(extent, data_dir),
        "live": lambda: live.measure(extent, data_dir),
        "scheduling": lambda: scheduling.measure(extent),
        "growth": lambda: growth.measure(extent, data_dir),
    }


def _line(one: Measurement) -> str:
    ratio = "" if one.ratio is None else f"  ratio {one.ratio:.2f}"
    goal = "" if one.goal is None else f" of {one.goal:.2f}"
    return f"{one.group}: {one.what}: {one.speed:,.2f} {one.unit}{ratio}{goal}"


def _end(number: int, frame: FrameType | None) -> None:
    """Lets every `with` block stop what it started."""
    sys.exit(128 + number)


def main() -> int:
    """Runs what the arguments name; 0 when everything could be measured, whatever the ratios are."""
    arguments = _arguments()
    extent = QUICK if arguments.quick else FULL
    if arguments.growth_records is not None:
        extent = replace(extent, growth_records=arguments.growth_records)
    chosen = [name for name in GROUPS if not arguments.only or name in arguments.only]
    if arguments.no_kafka and "kafka" in chosen:
        chosen.remove("kafka")
    signal.signal(signal.SIGTERM, _end)
    console = Console() if sys.stdout.isatty() else Console(width=120)
    progress = Console(stderr=True)
    started = dt.datetime.now(dt.UTC)
    clock = time.monotonic()
    taken: list[Measurement] = []
    with stores.running() as data_dir:
        about = {**machine.describe(data_dir), "postgresql": stores.postgres_version()}
        measures = _measures(extent, data_dir)
        for name in chosen:
            for one in measures[name]():
                taken.append(one)
                progress.print(_line(one), highlight=False, soft_wrap=True)
    complete = not arguments.quick and not arguments.only and not arguments.no_kafka
    document = {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - clock, 1),
        "complete": complete and extent.growth_records >= FULL.growth_records,
        "extent": vars(extent),
        "machine": about,
        "load_average_after": [round(value, 2) for value in os.getloadavg()],
        "measurements": [one.document() for one in taken],
    }
    console.print(measurement.table(taken))
    path = measurement.save(document, started.strftime("%Y%m%dT%H%M%SZ"), complete=bool(document["complete"]))
    if document["complete"]:
        summary.update(document)
    console.print(f"written to {path.relative_to(stores.ROOT)}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
