"""What a rebalance, a worker's death and a replay cost: pauses in milliseconds, replays a second.

Records come steadily; the handler writes a row with the database's time. A pause is the longest time between two
rows of one partition around it. Dead letters are made by a handler that fails, and replayed to one that does not.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator

import psycopg
from django.db import close_old_connections, connection

from bench import listeners, log_steps, stores, workers
from bench.measurement import Measurement
from bench.rounds import Extent
from bench.workload import json_value, key
from brokers import publish_many, topics
from brokers.audit import COMMAND
from brokers.replays import creation
from brokers.selectors import replays
from brokers.selectors.dead_letter_filter import Filter
from messaging_site.processes import Process

PARTITIONS = 4
RATE = 400
REPLAY_GOAL = 1000
RESTART_SECONDS = 0.2
"""The supervisor's first delay before it starts a worker again."""
SESSION_SECONDS = 10.0
"""Of a listener's member, unless declared otherwise."""


class Stream(threading.Thread):
    """Publishes to every partition in turn until it is stopped."""

    def __init__(self, topic: str) -> None:
        super().__init__(name="bench-stream", daemon=True)
        self._topic = topic
        self._stopping = threading.Event()

    def __enter__(self) -> Stream:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.join()

    def run(self) -> None:
        """A record for each partition, then a pause."""
        pause = PARTITIONS / RATE
        for number in itertools.count():
            value = {"key": key(number), "value": json_value(number)}
            publish_many(self._topic, [value | {"partition": partition} for partition in range(PARTITIONS)])
            if self._stopping.wait(pause):
                break
        connection.close()


def _longest_pause(conn: psycopg.Connection[tuple[object, ...]], since: object) -> float:
    """Milliseconds, of the worst partition."""
    rows = conn.execute(
        "select coalesce(max(extract(epoch from gap)), 0) * 1000 from (select at - lag(at) over (partition by partition"
        " order by at) as gap from bench_handled where at > %s) x",
        [since],
    ).fetchall()
    return float(str(rows[0][0]))


def _pause(event: Callable[[list[Process], str], None], started: int, seconds: float) -> float:
    """The longest pause around an event that `started` workers meet, watched for `seconds` after it."""
    topic = log_steps.new_topic(f"bench-handover-{time.monotonic_ns()}", PARTITIONS).name
    listeners.create_table()
    running = [workers.start("row", topic, 2) for _ in range(started)]
    try:
        with stores.bare_connection() as conn, Stream(topic):
            members = "select count(*) from brokers_group_member where ended_at is null"

            def settled() -> bool:
                return int(str(conn.execute(members).fetchall()[0][0])) >= 2 * started and _all_served(conn)

            workers.until(settled, running[0], "every partition is handled")
            time.sleep(2.0)
            since = conn.execute("select clock_timestamp()").fetchall()[0][0]
            time.sleep(0.5)
            event(running, topic)
            time.sleep(seconds)
            pause = _longest_pause(conn, since)
    finally:
        for process in running:
            workers.end(process)
    topics.delete(topic)
    return pause


def _all_served(conn: psycopg.Connection[tuple[object, ...]]) -> bool:
    return len(conn.execute("select distinct partition from bench_handled").fetchall()) == PARTITIONS


def _another_joins(running: list[Process], topic: str) -> None:
    running.append(workers.start("row", topic, 2))


def _killed_and_restarted(running: list[Process], topic: str) -> None:
    victim = running.pop(0)
    victim.kill()
    victim.wait()
    time.sleep(RESTART_SECONDS)
    running.append(workers.start("row", topic, 2))


def _killed(running: list[Process], topic: str) -> None:
    victim = running.pop(0)
    victim.kill()
    victim.wait()


def _pauses(extent: Extent) -> Iterator[Measurement]:
    rounds = extent.rounds
    for what, event, started, seconds in (
        ("a second worker joins", _another_joins, 1, 5.0),
        ("one of two workers is killed and started again", _killed_and_restarted, 2, 6.0),
        ("one of two workers is killed for good", _killed, 2, SESSION_SECONDS + 4.0),
    ):
        taken = tuple(_pause(event, started, seconds) for _ in range(1 if event is _killed else rounds))
        yield Measurement(
            group="handovers",
            what=f"longest pause of a partition: {what}",
            speeds=taken,
            unit="ms",
            details={"records_per_second": RATE, "worst_ms": round(max(taken), 1)},
        )


def _replayed(count: int) -> tuple[float, float]:
    """Dead letters written a second, and replayed a second."""
    topic = log_steps.new_topic(f"bench-replay-{time.monotonic_ns()}", PARTITIONS).name
    for first in range(0, count, 1000):
        records = [
            {"key": key(number), "value": json_value(number), "partition": number % PARTITIONS}
            for number in range(first, first + 1000)
        ]
        publish_many(topic, records)
    with stores.bare_connection() as conn:
        with workers.worker("failing", topic, PARTITIONS) as process:
            dead = workers.speed(conn, topic, count, process)
        with workers.worker("row", topic, PARTITIONS) as process:
            members = "select count(*) from brokers_group_member where ended_at is null"
            workers.until(
                lambda: int(str(conn.execute(members).fetchall()[0][0])) > 0, process, "the worker has joined"
            )
            close_old_connections()
            replay = creation.create(Filter(source_kind="topic", source=topic), reason="benchmark", actor=COMMAND)
            done = "select count(*) from brokers_replay_item where replay_id = %s and outcome = 'succeeded'"

            def finished() -> int:
                return int(str(conn.execute(done, [replay]).fetchall()[0][0]))

            workers.until(lambda: finished() > 0, process, "the first outcome")
            first, started = finished(), time.perf_counter()
            workers.until(lambda: replays.get(replay).state == "completed", process, "the replay is completed")
            replayed = (count - first) / (time.perf_counter() - started)
    topics.delete(topic)
    return dead, replayed


def measure(extent: Extent) -> Iterator[Measurement]:
    """Pauses, dead letters and replays."""
    stores.empty_log()
    listeners.create_table()
    yield from _pauses(extent)
    count = max(2_000, int(2_000 * extent.seconds) // 1000 * 1000)
    taken = [_replayed(count) for _ in range(extent.rounds)]
    for at, what, goal in (
        (0, "dead letters written, one by one", None),
        (1, "replayed to a row-writing handler", REPLAY_GOAL),
    ):
        yield Measurement(
            group="handovers",
            what=what,
            speeds=tuple(pair[at] for pair in taken),
            reference=None if goal is None else f"{goal:,}/s wanted",
            reference_speeds=() if goal is None else (float(goal),),
            goal=None if goal is None else 1.0,
            details={"dead_letters": count},
        )
    stores.empty_log()
