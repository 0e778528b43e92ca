"""Listeners: records handled a second by a worker process, against loops that do the same work without messaging.

The references run in this process, in transactions of 100 rows. Every subject reads a topic that was filled
before; its speed is taken from the first commit seen to the last.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import uvloop
from django.db import connection, transaction

from bench import latency, log_steps, stores, workers
from bench.handled import models
from bench.handled.models import Handled
from bench.measurement import Measurement
from bench.rounds import Extent, Subject, interleaved, per_second, percentile
from bench.workload import json_value, key
from brokers import groups, topics
from brokers.record import JSON

ROW_GOAL = 0.7
BATCH_GOAL = 0.8
EMPTY_GOAL = 0.15
LATENCY_GOAL_MS = 10.0
_SIZE = 100
_PARTITIONS = (1, 4)
_names = count()


def _filled(records: int, partitions: int) -> str:
    """A new topic with `records` records, spread evenly, in stored batches of 1000."""
    info = log_steps.new_topic(f"bench-handled-{next(_names)}", partitions)
    ready = log_steps.new_records(1000, JSON)
    for first in range(0, records, 1000):
        part = [record._replace(partition=first // 1000 % partitions) for record in ready]
        log_steps.publishing(info.name, part)()
    return info.name


def listening(listener: str, records: int, partitions: int) -> float:
    """One round: a topic, a worker, its speed."""
    topic = _filled(records, partitions)
    with stores.bare_connection() as conn, workers.worker(listener, topic, partitions) as process:
        speed = workers.speed(conn, topic, records, process)
    topics.delete(topic)
    return speed


def create_table() -> None:
    """The table of the handlers and of the loops, empty."""
    with connection.cursor() as cursor:
        cursor.execute(models.CREATE)
        cursor.execute("truncate bench_handled")


def row_loop() -> int:
    """A hundred rows by the ORM, one by one, in a transaction: no messaging at all."""
    with transaction.atomic():
        for number in range(_SIZE):
            value = json_value(number)
            Handled(record_key=key(number), number=value["number"], text=value["text"]).save(force_insert=True)
    return _SIZE


def bulk_loop() -> int:
    """A hundred rows by bulk_create in a transaction."""
    with transaction.atomic():
        values = [(key(number), json_value(number)) for number in range(_SIZE)]
        Handled.objects.bulk_create(
            [Handled(record_key=name, number=value["number"], text=value["text"]) for name, value in values]
        )
    return _SIZE


def _against(
    what: str,
    listener: str,
    records: int,
    extent: Extent,
    reference: str,
    loop: Callable[[], Subject],
    goal: float | None,
) -> Iterator[Measurement]:
    for partitions in _PARTITIONS:
        subjects: dict[str, Subject] = {
            "listener": partial(listening, listener, records, partitions),
            "reference": loop(),
        }
        speeds = interleaved(subjects, extent.rounds)
        create_table()
        yield Measurement(
            group="listeners",
            what=f"{what}, {partitions} partition{'s' if partitions > 1 else ''}",
            speeds=speeds["listener"],
            reference=reference,
            reference_speeds=speeds["reference"],
            goal=goal if partitions == 1 else None,
        )


def _reading(extent: Extent) -> Subject:
    info = log_steps.new_topic("bench-handled-read")
    past = min(extent.fetch_records, 100_000)
    log_steps.fill(info, past, 1000)
    return partial(per_second, log_steps.reading(info, 1000, 0, past), extent.seconds)


def _latency(extent: Extent) -> Measurement:
    """From when a record was due to the call of its handler, at a thousand single records a second over REST."""
    expected = int(latency.RATE * extent.latency_seconds)
    log_steps.new_topic(latency.TOPIC)
    token = stores.issue_token()
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "latencies"
        more = {"BENCH_EXPECTED": str(expected), "BENCH_OUTPUT": str(output)}
        with (
            stores.bare_connection() as conn,
            stores.web(stores.PRODUCT) as port,
            workers.worker("timed", latency.TOPIC, 1, more) as process,
        ):
            members = "select count(*) from brokers_group_member where ended_at is null"
            workers.until(lambda: conn.execute(members).fetchall()[0][0] == 1, process, "the listener has joined")
            uvloop.run(latency.publish_only(port, token, extent.latency_seconds))
            workers.until(output.exists, process, "every record is handled")
        ordered = sorted(json.loads(output.read_text(encoding="utf-8"))[latency.RATE // 2 :])
    topics.delete(latency.TOPIC)
    return Measurement(
        group="listeners",
        what=f"publish to handler, {latency.RATE} single records/s for {extent.latency_seconds:.0f} s, p50",
        speeds=(percentile(ordered, 0.5),),
        unit="ms",
        details={
            "p99_ms": round(percentile(ordered, 0.99), 2),
            "p999_ms": round(percentile(ordered, 0.999), 2),
            "max_ms": round(ordered[-1], 2),
            "goal_p99_ms": LATENCY_GOAL_MS,
        },
    )


def measure(extent: Extent) -> Iterator[Measurement]:
    """Single-record and batch handlers that write rows, handlers that do nothing, and latency."""
    stores.empty_log()
    create_table()
    loops = {
        "row": lambda: partial(per_second, row_loop, extent.seconds),
        "rows": lambda: partial(per_second, bulk_loop, extent.seconds),
    }
    seconds = max(extent.seconds, 0.5)
    rows = int(8_000 * seconds) // 1000 * 1000
    bare = "the same ORM writes in transactions of 100, no messaging"
    yield from _against("a row by the ORM each", "row", rows, extent, bare, loops["row"], ROW_GOAL)
    yield from _against(
        "a row each, ack_mode record", "row, ack_mode record", rows // 4, extent, bare, loops["row"], None
    )
    many = int(60_000 * seconds) // 1000 * 1000
    yield from _against("bulk_create in a batch handler", "rows", many, extent, bare, loops["rows"], BATCH_GOAL)
    read = partial(_reading, extent)
    most = int(300_000 * seconds) // 1000 * 1000
    fetch = "fetch in Python, 1000 a call"
    yield from _against("no database touched", "empty", most, extent, fetch, read, EMPTY_GOAL)
    yield from _against("no database touched, batch", "empty batch", most, extent, fetch, read, None)
    yield _latency(extent)
    groups.forget_ended_members()
    stores.empty_log()
