"""A real RabbitMQ and pika, its Python client: what `bench.queues` compares with.

Publishing uses pika's asynchronous connection, because the blocking one waits for each confirm by itself. Messages are
persistent and the queue is durable; a window is over when the broker has confirmed all of it.
"""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pika
import pika.adapters.blocking_connection
import pika.spec

from bench.workload import bytes_value

SCRIPT = Path(__file__).parent / "peers" / "rabbitmq.sh"
QUEUE = "bench"
_START_SECONDS = 90.0
_INSTALL_SECONDS = 600.0
_ANSWER_SECONDS = 30.0
_PERSISTENT = pika.BasicProperties(delivery_mode=2, content_type="application/json")


logging.getLogger("pika").setLevel(logging.ERROR)  # it tells of each connection


class PeerFailed(Exception):
    """RabbitMQ did not start, or did not take or return what it should."""


def missing() -> str | None:
    """Why there is no RabbitMQ on this machine, after trying to install Debian's; None when there is one."""
    if subprocess.run([str(SCRIPT), "installed"], check=False).returncode == 0:
        return None
    tried = subprocess.run(
        [str(SCRIPT), "install"], capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False
    )
    return None if tried.returncode == 0 else tried.stderr.strip()[-500:]


@contextmanager
def web_stomp(directory: Path) -> Iterator[int]:
    """A broker with the Web-STOMP plugin and its data in `directory`; the port of its WebSocket. Raises PeerFailed."""
    with _started(directory, "web-stomp") as lines:
        yield int(lines[0].rpartition(":")[2])


@contextmanager
def running(directory: Path) -> Iterator[RabbitMq]:
    """A broker with its data in `directory`. Raises PeerFailed."""
    with _started(directory) as lines:
        host, _, port = lines[-1].partition(":")
        yield RabbitMq(pika.ConnectionParameters(host, int(port), heartbeat=0))


@contextmanager
def _started(directory: Path, *plugins: str) -> Iterator[list[str]]:
    """The addresses that the script prints; the broker ends with the block."""
    started = subprocess.run(
        [str(SCRIPT), "start", str(directory), *plugins],
        capture_output=True,
        text=True,
        timeout=_START_SECONDS,
        check=False,
    )
    try:
        if started.returncode != 0:
            raise PeerFailed(started.stderr.strip()[-1500:])
        yield started.stdout.strip().splitlines()
    finally:
        subprocess.run([str(SCRIPT), "stop", str(directory)], timeout=60, check=True)


class RabbitMq:
    """The running broker."""

    def __init__(self, parameters: pika.ConnectionParameters) -> None:
        self.parameters = parameters

    @contextmanager
    def channel(self) -> Iterator[pika.adapters.blocking_connection.BlockingChannel]:
        """A channel of a blocking connection; the queue is there."""
        connection = pika.BlockingConnection(self.parameters)
        try:
            channel = connection.channel()
            channel.queue_declare(QUEUE, durable=True)
            yield channel
        finally:
            connection.close()

    def empty(self) -> None:
        """Removes all messages."""
        with self.channel() as channel:
            channel.queue_purge(QUEUE)

    @contextmanager
    def publisher(self) -> Iterator[Publisher]:
        """A connection that publishes."""
        with self.channel():
            publisher = Publisher(self.parameters)
        try:
            yield publisher
        finally:
            publisher.close()

    def drain(self, size: int, count: int, acks: str) -> float:
        """Messages a second of a backlog of `count`, consumed with a prefetch of `size` and acknowledged.

        `acks` is how: `multiple` sends one for each window and waits for nothing; `each` sends one for each message, as
        consumers of RabbitMQ mostly do; `committed` is `multiple` in a transaction of the channel, whose commit is
        waited for, so that the acknowledgement is known to have been made, as ours is.
        """
        self.empty()
        with self.publisher() as publisher:
            for _ in range(0, count, 1000):
                publisher.publish_window(min(count, 1000))
        with self.channel() as channel:
            channel.basic_qos(prefetch_count=size)
            if acks == "committed":
                channel.tx_select()
            done, window = 0, 0
            started = time.perf_counter()
            for method, _, _ in channel.consume(QUEUE, inactivity_timeout=_ANSWER_SECONDS):
                if method is None:
                    raise PeerFailed(f"RabbitMQ returned {done} of {count} messages")
                done, window = done + 1, window + 1
                is_over = window == size or done == count
                if acks == "each":
                    channel.basic_ack(method.delivery_tag)
                elif is_over:
                    channel.basic_ack(method.delivery_tag, multiple=True)
                if is_over:
                    window = 0
                    if acks == "committed":
                        channel.tx_commit()
                if done == count:
                    break
            took = time.perf_counter() - started
            channel.cancel()
        return count / took


class Publisher:
    """Publishes windows of messages and waits for their confirms."""

    def __init__(self, parameters: pika.ConnectionParameters) -> None:
        self._published = 0
        self._unconfirmed: set[int] = set()
        self._error: object = None
        self._channel: Any = None
        self._connection = pika.SelectConnection(
            parameters,
            on_open_callback=self._opened,
            on_open_error_callback=self._failed,
            on_close_callback=self._failed,
        )
        self._connection.ioloop.call_later(_ANSWER_SECONDS, self._connection.ioloop.stop)
        self._connection.ioloop.start()
        if self._channel is None or self._error is not None:
            raise PeerFailed(f"RabbitMQ could not be reached: {self._error}")

    def publish_window(self, size: int) -> int:
        """Publishes `size` messages and returns once all are confirmed."""
        publish = self._channel.basic_publish
        values = _values(size)
        self._unconfirmed.update(range(self._published + 1, self._published + size + 1))
        self._published += size
        for value in values:
            publish("", QUEUE, value, _PERSISTENT)
        if self._unconfirmed:
            self._connection.ioloop.start()
        if self._error is not None or self._unconfirmed:
            raise PeerFailed(f"RabbitMQ left {len(self._unconfirmed)} messages unconfirmed: {self._error}")
        return size

    def close(self) -> None:
        """Ends the connection."""
        if self._connection.is_open:
            self._connection.close()
            self._connection.ioloop.start()

    def _opened(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._ready)

    def _ready(self, channel: Any) -> None:
        channel.confirm_delivery(self._heard, callback=lambda _: self._connection.ioloop.stop())
        self._channel = channel

    def _failed(self, _connection: object, error: object) -> None:
        if self._channel is None or self._unconfirmed:
            self._error = error
        self._connection.ioloop.stop()

    def _heard(self, frame: Any) -> None:
        method = frame.method
        if isinstance(method, pika.spec.Basic.Nack):
            self._error = "a message was refused"
        if method.multiple:
            self._unconfirmed = {tag for tag in self._unconfirmed if tag > method.delivery_tag}
        else:
            self._unconfirmed.discard(method.delivery_tag)
        if not self._unconfirmed or self._error is not None:
            self._connection.ioloop.stop()


@cache
def _values(size: int) -> tuple[bytes, ...]:
    return tuple(bytes_value(number) for number in range(size))
