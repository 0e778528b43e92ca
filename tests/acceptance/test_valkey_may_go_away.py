"""Valkey killed, stopped and started again under consumers that wait: it carries wake-ups and nothing that counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.acceptance.embedded_server import VALKEY, EmbeddedServer, embedded_server, until
from tests.server import unique

SOON = 0.4
"""Seconds to a record that a wake-up brings; without one it takes up to a second."""
POLLED = 2.0
"""Seconds to a record that the waiter finds by itself, at most."""


@dataclass
class Seen:
    """When a record was published and answered, and when the waiting consumer had it."""

    sent: float
    answered: float
    received: float


class Waiting:
    """A consumer that holds long polls, and a publisher that sends it one record after the other."""

    def __init__(self, server: EmbeddedServer, topic: str) -> None:
        self.expected = 0
        self._server, self._topic = server, topic
        self._arrived: dict[int, float] = {}
        self.order: list[int] = []
        self.failures: list[Any] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._consume)
        self._client = server.client()

    def __enter__(self) -> Waiting:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._client.post(f"/api/v1/topics/{self._topic}/records", json={"records": [{"value": None}]})
        self._thread.join()
        self._client.close()

    def _consume(self) -> None:
        try:
            with self._server.client() as client:
                self.consume(client)
        except (httpx.HTTPError, KeyError, AssertionError) as error:
            self.failures.append(error)

    def consume(self, client: httpx.Client) -> None:
        """Reads on from offset to offset."""
        offset = 0
        path = f"/api/v1/topics/{self._topic}/partitions/0/records"
        while not self._stop.is_set():
            answer = client.get(path, params={"offset": offset, "wait_ms": 5000})
            assert answer.status_code == 200, answer.text
            self.received(answer.json()["records"])
            offset = answer.json()["next_offset"]

    def received(self, records: list[dict[str, Any]]) -> None:
        """Notes what came."""
        now = time.monotonic()
        for record in records:
            if record["value"] is not None:
                self._arrived[record["value"]] = now
                self.order.append(record["value"])

    def send(self) -> Seen:
        """Publishes one record and waits until the consumer has it."""
        number = self.expected
        self.expected += 1
        sent = time.monotonic()
        answer = self._client.post(f"/api/v1/topics/{self._topic}/records", json={"records": [{"value": number}]})
        answered = time.monotonic()
        assert answer.status_code == 200, answer.text
        until(lambda: number in self._arrived, 10, f"record {number} arrives")
        return Seen(sent, answered, self._arrived[number])


class WaitingMember(Waiting):
    """The same as the member of a consumer group that commits what it read."""

    def consume(self, client: httpx.Client) -> None:
        """Polls and commits."""
        joined = client.post(f"/api/v1/groups/{self._topic}/members", json={"topics": [self._topic]}).json()
        base = f"/api/v1/groups/{self._topic}/members/{joined['member_id']}"
        while not self._stop.is_set():
            answer = client.post(f"{base}/poll", json={"wait_ms": 5000})
            assert answer.status_code == 200, answer.text
            records = answer.json()["records"]
            self.received(records)
            if records:
                offset = records[-1]["offset"] + 1
                offsets = [{"topic": self._topic, "partition": 0, "offset": offset}]
                assert client.post(f"{base}/commits", json={"offsets": offsets}).status_code < 300


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with embedded_server() as started:
        yield started


@pytest.fixture(params=[Waiting, WaitingMember], ids=["a long poll", "a group's member"])
def waiting(server: EmbeddedServer, request: pytest.FixtureRequest) -> Iterator[Waiting]:
    topic = unique()
    with server.client() as client:
        assert client.post("/api/v1/topics", json={"name": topic, "partitions": 1}).status_code == 201
    with request.param(server, topic) as made:
        yield made
    assert not made.failures
    assert made.order == list(range(made.expected)), "a record was lost, repeated or out of order"


def ready(server: EmbeddedServer) -> tuple[int, str]:
    answer = httpx.get(f"{server.url}/readyz", timeout=5)
    return answer.status_code, answer.json()["parts"]["Valkey"]


def wakes(waiting: Waiting) -> bool:
    seen = waiting.send()
    return seen.received - seen.answered < SOON


def test_wake_ups_come_back_after_valkey_was_killed(server: EmbeddedServer, waiting: Waiting) -> None:
    until(lambda: wakes(waiting), 10, "wake-ups work before")
    server.kill(VALKEY)
    seen = waiting.send()
    assert seen.answered - seen.sent < 1
    assert seen.received - seen.answered < POLLED
    until(lambda: ready(server)[1].startswith("healthy"), 20, "it is back")
    until(lambda: all(wakes(waiting) for _ in range(5)), 20, "wake-ups work again")


def test_while_valkey_does_not_answer_publishing_goes_on_and_waiters_poll(
    server: EmbeddedServer, waiting: Waiting
) -> None:
    """Stopped and not killed: connections stay, and nothing comes of them."""
    until(lambda: wakes(waiting), 10, "wake-ups work before")
    until(lambda: server.find(VALKEY) is not None, 10, "Valkey runs")
    valkey = server.find(VALKEY)
    assert valkey is not None
    valkey.suspend()
    try:
        for _ in range(4):
            seen = waiting.send()
            assert seen.answered - seen.sent < 1
            assert seen.received - seen.answered < POLLED
        status, part = ready(server)
        assert status == 200
        assert part.startswith("degraded: cannot be reached")
    finally:
        valkey.resume()
    until(lambda: all(wakes(waiting) for _ in range(5)), 20, "wake-ups work again")


def test_a_consumer_is_woken_and_does_not_wait_for_its_own_look(waiting: Waiting) -> None:
    until(lambda: wakes(waiting), 10, "wake-ups work")
    delays = sorted((seen := waiting.send()).received - seen.answered for _ in range(40))
    assert delays[20] < 0.1
    assert delays[37] < SOON
