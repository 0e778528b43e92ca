"""The same work against a real Apache Kafka through confluent-kafka, in the same run.

One broker in KRaft mode (peers/kafka.sh), acks=all, no compression, one partition. Two topics: one with
Kafka's own flush settings (no fsync: the page cache is trusted), which is the reference of the goals, and
one with flush.messages=1 (an fsync for every append before the acknowledgement), which gives the durability
that Waystation has by default. Waystation's records are durable in every row.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic
from django.db import transaction

from bench import listeners, log_steps, stores
from bench.handled.models import Handled
from bench.measurement import Measurement
from bench.rounds import Extent, Subject, interleaved, per_second
from bench.workload import bytes_records, pairs

PUBLISH_GOAL = 0.5
CONSUME_GOAL = 1.0
HANDLE_GOAL = 1.0
SCRIPT = Path(__file__).parent / "peers" / "kafka.sh"
BATCH = 1000
_DEFAULT = "bench-default-flush"
_FSYNC = "bench-fsync"
_HANDLED = "bench-handled"
_TRANSACTION = 100
_NAMES = {
    _DEFAULT: "Kafka, its default flush settings (no fsync)",
    _FSYNC: "Kafka, flush.messages=1 (fsync each append)",
}
_START_SECONDS = 300.0
_ANSWER_SECONDS = 30.0


class PeerFailed(Exception):
    """Kafka did not start, or did not take or return what it should."""


@contextmanager
def running(directory: Path) -> Iterator[str]:
    """A Kafka broker with its data in `directory`; yields its bootstrap address. Raises PeerFailed."""
    started = subprocess.run(
        [str(SCRIPT), "start", str(directory)],
        capture_output=True,
        text=True,
        timeout=_START_SECONDS,
        check=False,
    )
    try:
        if started.returncode != 0:
            raise PeerFailed(started.stderr.strip()[-1500:])
        yield started.stdout.strip().splitlines()[-1]
    finally:
        subprocess.run([str(SCRIPT), "stop", str(directory)], timeout=60, check=True)


def _create_topics(address: str) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    new = [
        NewTopic(_DEFAULT, num_partitions=1, replication_factor=1),
        NewTopic(_HANDLED, num_partitions=1, replication_factor=1),
        NewTopic(_FSYNC, num_partitions=1, replication_factor=1, config={"flush.messages": "1"}),
    ]
    for future in admin.create_topics(new).values():
        future.result(timeout=_ANSWER_SECONDS)


def _producer(address: str) -> Producer:
    return Producer({"bootstrap.servers": address, "acks": "all", "compression.type": "none"})


def _producing(producer: Producer, topic: str, *, flush: bool) -> Callable[[], int]:
    records = pairs(BATCH)

    def step() -> int:
        produce = producer.produce
        for key, value in records:
            try:
                produce(topic, value, key)
            except BufferError:  # the client's queue is full: wait until the broker has taken some of it
                producer.poll(1.0)
                produce(topic, value, key)
        if flush and producer.flush(_ANSWER_SECONDS):
            raise PeerFailed("Kafka did not acknowledge a batch in time")
        producer.poll(0)
        return BATCH

    return step


def _pipelined(producer: Producer, topic: str, seconds: float) -> float:
    """Records a second when batches are not waited for one by one but all together at the end."""
    step = _producing(producer, topic, flush=False)
    done = 0
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        done += step()
    if producer.flush(_ANSWER_SECONDS):
        raise PeerFailed("Kafka did not acknowledge everything in time")
    return done / (time.perf_counter() - started)


def _consume(address: str, count: int) -> float:
    """Records a second read from the beginning, key and offset touched; timed from the first answer on."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "bench", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(_DEFAULT, 0, OFFSET_BEGINNING)])
        if not consumer.consume(num_messages=1, timeout=_ANSWER_SECONDS):
            raise PeerFailed("Kafka returned no records")
        done = 0
        started = time.perf_counter()
        while done < count:
            messages = consumer.consume(num_messages=BATCH, timeout=_ANSWER_SECONDS)
            if not messages:
                raise PeerFailed(f"Kafka returned {done} of {count} records")
            for message in messages:
                error = message.error()
                if error is not None:
                    raise KafkaException(error)
                message.key()
                message.offset()
            done += len(messages)
        return done / (time.perf_counter() - started)
    finally:
        consumer.close()


def _publish(extent: Extent, address: str) -> Iterator[Measurement]:
    info = log_steps.new_topic("bench-kafka")
    steps = {
        "append (encodes)": log_steps.appending(info, log_steps.new_records(BATCH)),
        "publish_many of mappings, bytes": log_steps.publishing(info.name, bytes_records(BATCH)),
    }
    producers = {topic: _producer(address) for topic in _NAMES}
    kafka_steps = {topic: _producing(one, topic, flush=True) for topic, one in producers.items()}
    subjects: dict[str, Subject] = {
        name: partial(per_second, step, extent.seconds) for name, step in (steps | kafka_steps).items()
    }
    subjects["pipelined"] = partial(_pipelined, producers[_DEFAULT], _DEFAULT, extent.seconds)
    speeds = interleaved(subjects, extent.rounds)
    for name in steps:
        for topic, label in _NAMES.items():
            yield Measurement(
                group="Kafka, publish",
                what=f"{name}, {BATCH} a batch",
                speeds=speeds[name],
                reference=label,
                reference_speeds=speeds[topic],
                goal=PUBLISH_GOAL if name.startswith("append") and topic == _DEFAULT else None,
            )
    yield Measurement(
        group="Kafka, publish",
        what="append (encodes), each batch waited for",
        speeds=speeds["append (encodes)"],
        reference="Kafka, default flush, pipelined: one wait at the end",
        reference_speeds=speeds["pipelined"],
    )


def _consumption(extent: Extent, address: str) -> Iterator[Measurement]:
    count = extent.kafka_records
    producer = _producer(address)
    fill = _producing(producer, _DEFAULT, flush=True)
    for _ in range(count // BATCH + 1):
        fill()
    info = log_steps.new_topic("bench-kafka-consume")
    log_steps.fill(info, count, BATCH)
    read = log_steps.reading(info, BATCH, 0, count, text_keys=False)
    speeds = interleaved(
        {"fetch": partial(per_second, read, extent.seconds), "kafka": partial(_consume, address, count)},
        extent.rounds,
    )
    yield Measurement(
        group="Kafka, consume",
        what=f"fetch in Python, {BATCH} a call, keys as bytes on both sides",
        speeds=speeds["fetch"],
        reference=f"confluent-kafka consume(num_messages={BATCH})",
        reference_speeds=speeds["kafka"],
        goal=CONSUME_GOAL,
    )


def _handled_by_kafka(address: str, count: int) -> float:
    """Records a second: consume a hundred, a row each by the ORM in a transaction, commit their offsets after it."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": f"bench-{time.monotonic_ns()}",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        consumer.assign([TopicPartition(_HANDLED, 0, OFFSET_BEGINNING)])
        done, started = 0, 0.0
        while done < count:
            messages = consumer.consume(num_messages=_TRANSACTION, timeout=_ANSWER_SECONDS)
            if not messages:
                raise PeerFailed(f"Kafka returned {done} of {count} records")
            with transaction.atomic():
                for message in messages:
                    value = json.loads(message.value() or b"")
                    name = (message.key() or b"").decode()
                    Handled(record_key=name, number=value["number"], text=value["text"]).save(force_insert=True)
            consumer.commit(asynchronous=False)
            if not started:  # from the first transaction on, as the listener's speed is taken
                started = time.perf_counter()
                count += len(messages)
            done += len(messages)
        return (done - _TRANSACTION) / (time.perf_counter() - started)
    finally:
        consumer.close()


def _handling(extent: Extent, address: str) -> Iterator[Measurement]:
    """A row for each record in the same PostgreSQL."""
    count = int(8_000 * max(extent.seconds, 0.5)) // BATCH * BATCH
    producer = _producer(address)
    fill = _producing(producer, _HANDLED, flush=True)
    for _ in range(count // BATCH + 1):
        fill()
    listeners.create_table()
    subjects: dict[str, Subject] = {
        "listener": partial(listeners.listening, "row", count, 1),
        "kafka": partial(_handled_by_kafka, address, count),
    }
    speeds = interleaved(subjects, extent.rounds)
    yield Measurement(
        group="Kafka, handle",
        what="listener, a row by the ORM each, offset in the same transaction",
        speeds=speeds["listener"],
        reference="confluent-kafka, the same rows in transactions of 100, offsets committed after each",
        reference_speeds=speeds["kafka"],
        goal=HANDLE_GOAL,
    )


def measure(extent: Extent, directory: Path) -> Iterator[Measurement]:
    """Publish and consume against the broker that it starts in `directory`."""
    stores.empty_log()
    with running(directory) as address:
        _create_topics(address)
        yield from _publish(extent, address)
        stores.empty_log()
        yield from _consumption(extent, address)
        stores.empty_log()
        yield from _handling(extent, address)
    stores.empty_log()
