"""Queues against a real RabbitMQ through pika: publish, claim and acknowledge at 1, 10, 100 and 500 a call.

Both keep a message on disk before they say that they have it: RabbitMQ's queue is durable, its messages persistent, and
a window of them is waited for by publisher confirms, as many as one of our calls holds. pika consumes with a prefetch
of the same window and acknowledges it with one `multiple`. Rounds take turns, so that a slow moment meets both.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from bench import pika_peer, queue_growth, stores, workers
from bench.measurement import Measurement
from bench.pika_peer import RabbitMq
from bench.queue_steps import draining, new_queue, publishing
from bench.rounds import Extent, Subject, interleaved, per_second, percentile
from brokers.queues import declaring, sending, topology

SIZES = (1, 10, 100, 500)
GOALS = {1: 1.0, 100: 3.0}
LATENCY_RATE = 500
LATENCY_GOAL_MS = 10.0
_QUEUE = "bench-queue"
_ACKS = {
    "committed": "one ack a window, its commit waited for",
    "each": "an ack for each message, waited for by nobody",
    "multiple": "one ack a window, waited for by nobody",
}


def _filled(info: topology.QueueInfo, count: int) -> None:
    step = publishing(info.name, min(count, 1000))
    for _ in range(0, count, 1000):
        step()


def _drained(info: topology.QueueInfo, size: int, count: int) -> float:
    """Messages a second of a backlog of `count`, claimed and acknowledged."""
    _filled(info, count)
    step = draining(info, size)
    started = time.perf_counter()
    for _ in range(0, count, size):
        step()
    return count / (time.perf_counter() - started)


def _against_rabbitmq(extent: Extent, rabbit: RabbitMq) -> Iterator[Measurement]:
    for size in SIZES:
        info = new_queue(_QUEUE)
        with rabbit.publisher() as peer:
            subjects: dict[str, Subject] = {
                "ours": partial(per_second, publishing(info.name, size), extent.seconds),
                "theirs": partial(per_second, partial(peer.publish_window, size), extent.seconds),
            }
            speeds = interleaved(subjects, extent.rounds)
        yield _compared(f"publish, {size} a call", speeds, f"pika, confirms in windows of {size}", GOALS.get(size))
        rabbit.empty()
    for size in SIZES:
        info = new_queue(_QUEUE)
        count = max(1000, int(extent.seconds * (1500 if size == 1 else 20_000)) // 1000 * 1000)
        subjects = {"ours": partial(_drained, info, size, count)}
        subjects |= {acks: partial(rabbit.drain, size, count, acks) for acks in _ACKS}
        speeds = interleaved(subjects, extent.rounds)
        for acks, how in _ACKS.items():
            speeds["theirs"] = speeds[acks]
            reference = f"pika, prefetch {size}, {how}"
            yield _compared(f"claim and acknowledge, {size} a call", speeds, reference, GOALS.get(size))


def _compared(what: str, speeds: dict[str, tuple[float, ...]], reference: str, goal: float | None) -> Measurement:
    return Measurement(
        group="queues against RabbitMQ",
        what=what,
        speeds=speeds["ours"],
        unit="messages/s",
        reference=reference,
        reference_speeds=speeds["theirs"],
        goal=goal,
    )


def _latency(extent: Extent) -> Measurement:
    """From when a message was due to the call of its handler, at 500 single messages a second from Python."""
    expected = int(LATENCY_RATE * extent.latency_seconds)
    new_queue("bench-latency")
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "latencies"
        more = {"BENCH_EXPECTED": str(expected), "BENCH_OUTPUT": str(output)}
        with (
            stores.bare_connection() as conn,
            workers.worker("timed message", "bench-latency", 1, more) as process,
        ):
            consumers = "select count(*) from brokers_queue_consumer"
            workers.until(lambda: conn.execute(consumers).fetchall()[0][0] == 1, process, "the listener consumes")
            _publish_at_a_rate("bench-latency", expected)
            workers.until(output.exists, process, "every message is handled")
        ordered = sorted(json.loads(output.read_text(encoding="utf-8"))[LATENCY_RATE // 2 :])
    declaring.delete_queue("bench-latency")
    return Measurement(
        group="queues",
        what=f"publish to handler, {LATENCY_RATE} single messages/s for {extent.latency_seconds:.0f} s, p50",
        speeds=(percentile(ordered, 0.5),),
        unit="ms",
        details={
            "p99_ms": round(percentile(ordered, 0.99), 2),
            "p999_ms": round(percentile(ordered, 0.999), 2),
            "max_ms": round(ordered[-1], 2),
            "goal_p99_ms": LATENCY_GOAL_MS,
        },
    )


def _publish_at_a_rate(queue: str, count: int) -> None:
    """Open-loop: a message's time starts when it was due, so that a slow moment is not hidden by sending less."""
    started = time.perf_counter_ns() + 50_000_000
    for number in range(count):
        due = started + number * 1_000_000_000 // LATENCY_RATE
        while (left := due - time.perf_counter_ns()) > 0:
            time.sleep(left / 1e9)
        sending.send("", queue, {"due": due, "text": "x" * 60})


def measure(extent: Extent, data_dir: Path) -> Iterator[Measurement]:
    """Against RabbitMQ where there is one, then latency, then growth."""
    reason = pika_peer.missing()
    if reason is not None:
        print(f"queues: not compared with RabbitMQ: {reason}", file=sys.stderr)
    else:
        with pika_peer.running(data_dir / "rabbitmq") as rabbit:
            yield from _against_rabbitmq(extent, rabbit)
    yield _latency(extent)
    yield from queue_growth.measure(extent)
