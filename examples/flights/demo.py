"""`make demo`: publishes a month of departures, reads exactly those back through a consumer group, and compares.

Works beside a running server, or starts one for as long as it takes. Can be repeated, also after an interruption: it
compares what it published itself, by partition and offset. Run it as `python -m examples.flights.demo`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import django
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from examples.flights import running_server
from examples.flights.departures import RECORDS, departures

GROUP: Final = "flights-demo"
CHUNK: Final = 1000
BUSIEST: Final = 5
SESSION_TIMEOUT_MS: Final = 6000
"""Short, so that a demo after one that was killed need not wait long for its partitions."""
PATIENCE_SECONDS: Final = 20.0
"""How long the reader waits for the next record before it gives up."""

ADVISORY_LOCK: Final = 0x464C49474854
"""The letters FLIGHT."""

Place = tuple[int, int]
"""Partition and offset."""


@dataclass
class Published:
    """What was published: each departure by its place in the topic."""

    seconds: float = 0.0
    departures: dict[Place, dict[str, Any]] = field(default_factory=dict)


@dataclass
class Seen:
    """What was read back."""

    seconds: float = 0.0
    records: int = 0
    different: int = 0
    by_partition: Counter[int] = field(default_factory=Counter)
    by_aircraft: Counter[str] = field(default_factory=Counter)


def main() -> int:
    """Runs the demo; 0 when all that was published was read back, and nothing else."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "messaging_site.settings")
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    django.setup()
    from brokers.errors import BrokerError

    try:
        if _is_running(console):
            console.print("A server is running: using it")
            return _demonstrate(console)
        console.print("No server is running: starting one for the demo")
        with running_server.own_server():
            return _demonstrate(console)
    except (BrokerError, DatabaseError) as error:
        first_line = str(error).partition("\n")[0]
        Console(stderr=True, highlight=False).print(f"demo: {first_line}", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _is_running(console: Console) -> bool:
    """Whether the database of the settings is usable; waits for a server that is only starting."""
    if not _database_is_usable() and running_server.holds(settings.DATA_DIR):
        console.print("A server is starting: waiting for it")
        deadline = time.monotonic() + running_server.READY_SECONDS
        while not _database_is_usable() and running_server.holds(settings.DATA_DIR):
            if time.monotonic() >= deadline:
                break
            time.sleep(0.25)
    return _database_is_usable()


def _database_is_usable() -> bool:
    """Whether it answers and has all tables of this version."""
    try:
        executor = MigrationExecutor(connection)
        return not executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError:
        return False
    finally:
        connection.close()


def _demonstrate(console: Console) -> int:
    from brokers import declarations
    from examples.flights.messaging import DEPARTURES

    declarations.reconcile()
    _wait_for_turn(console)
    _begin_at_the_end(DEPARTURES)
    with _progress(console) as progress:
        published = _publish(DEPARTURES, progress)
        seen = _read_back(DEPARTURES, published, progress)
    _tell(console, DEPARTURES, published, seen)
    complete = seen.records == len(published.departures) == RECORDS and not seen.different
    if not complete:
        console.print(f"Expected {RECORDS:,} equal records. That is not what came back.")
    return 0 if complete else 1


def _wait_for_turn(console: Console) -> None:
    """Lets one demo at a time use the group, whose members would divide the partitions; until this process ends."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(%s)", [ADVISORY_LOCK])
        if not cursor.fetchone()[0]:
            console.print("Another demo is running: waiting for it to end")
            cursor.execute("select pg_advisory_lock(%s)", [ADVISORY_LOCK])


def _begin_at_the_end(topic: str) -> None:
    """Sets the group to the end of each partition, so that it reads what is published from now on.

    The member of a demo that was killed keeps the group busy until its session ends: then this waits for it.
    """
    from brokers import groups
    from brokers.errors import GroupActive

    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            groups.reset(GROUP, topic, groups.ResetTo("latest"), dry_run=False)
            return
        except GroupActive:
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.25)


def _publish(topic: str, progress: Progress) -> Published:
    from brokers import publish_many

    published = Published()
    task = progress.add_task("publishing", total=RECORDS)
    rows = [{"key": row["tailnum"], "value": row} for row in departures()]
    began = time.monotonic()
    for start in range(0, len(rows), CHUNK):
        chunk = rows[start : start + CHUNK]
        for row, position in zip(chunk, publish_many(topic, chunk), strict=True):
            assert position.offset is not None
            published.departures[position.partition, position.offset] = row["value"]
        progress.update(task, completed=start + len(chunk))
    published.seconds = time.monotonic() - began
    return published


def _read_back(topic: str, published: Published, progress: Progress) -> Seen:
    from brokers.consumer import Consumer

    seen = Seen()
    awaited = dict(published.departures)
    task = progress.add_task("reading back", total=RECORDS)
    began = last = time.monotonic()
    with Consumer(GROUP, topic, session_timeout_ms=SESSION_TIMEOUT_MS) as consumer:
        while awaited and time.monotonic() - last < PATIENCE_SECONDS:
            records = consumer.poll(max_records=CHUNK, wait_ms=500)
            for record in records:
                departure = awaited.pop((record.partition, record.offset), None)
                if departure is None:
                    continue  # somebody else publishes to the topic, too
                seen.records += 1
                seen.different += record.value != departure or record.key != departure["tailnum"]
                seen.by_partition[record.partition] += 1
                if record.key is not None:
                    seen.by_aircraft[record.key] += 1
            if records:
                consumer.commit()
                last = time.monotonic()
                progress.update(task, completed=seen.records)
    seen.seconds = max(last - began, 1e-9)
    return seen


def _tell(console: Console, topic: str, published: Published, seen: Seen) -> None:
    count = len(published.departures)
    partitions = Counter(partition for partition, _ in published.departures)
    console.print()
    console.print(f"Published {count:,} records to {topic}: {count / published.seconds:,.0f} records/s, each on disk")
    console.print(
        f"Read back {seen.records:,} records as group {GROUP}: {seen.records / seen.seconds:,.0f} records/s,"
        f" {seen.different:,} different"
    )
    by_partition = _table("Partition", ">Published", ">Read back")
    for partition in sorted(partitions):
        by_partition.add_row(f"{partition}", f"{partitions[partition]:,}", f"{seen.by_partition[partition]:,}")
    busiest = _table("Busiest aircraft", ">Departures")
    for aircraft, departed in sorted(seen.by_aircraft.items(), key=lambda pair: (-pair[1], pair[0]))[:BUSIEST]:
        busiest.add_row(aircraft, f"{departed:,}")
    console.print()
    console.print(by_partition)
    console.print()
    console.print(busiest)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        table.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left")
    return table


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    """Two bars, where the output is a terminal."""
    with Progress(
        TextColumn("{task.description:<12}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.completed:,.0f} records"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        yield progress


if __name__ == "__main__":
    sys.exit(main())
