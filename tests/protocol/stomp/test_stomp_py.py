"""An unmodified client written elsewhere: stomp.py over a WebSocket, as its users would write it."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import stomp
from stomp.adapter.ws import WSStompConnection

from tests.server import ADMIN_TOKEN, Server, unique

SECONDS = 15.0


class Heard(stomp.ConnectionListener):  # type: ignore[misc]  # the library has no types
    """Keeps what the client is told."""

    def __init__(self) -> None:
        self.messages: queue.Queue[Any] = queue.Queue()
        self.receipts: queue.Queue[str] = queue.Queue()
        self.errors: queue.Queue[Any] = queue.Queue()
        self.ended: queue.Queue[bool] = queue.Queue()
        self.timeouts = 0

    def on_message(self, frame: Any) -> None:
        self.messages.put(frame)

    def on_receipt(self, frame: Any) -> None:
        self.receipts.put(frame.headers["receipt-id"])

    def on_error(self, frame: Any) -> None:
        self.errors.put(frame)

    def on_heartbeat_timeout(self) -> None:
        self.timeouts += 1

    def on_disconnected(self) -> None:
        self.ended.put(True)


@contextmanager
def client(server: Server, token: str = ADMIN_TOKEN, **options: Any) -> Iterator[tuple[Any, Heard]]:
    """A connected client and what it hears."""
    address = urlsplit(server.url)
    made = WSStompConnection([(address.hostname, address.port)], ws_path="/ws", **options)
    heard = Heard()
    made.set_listener("test", heard)
    made.connect("anybody", token, wait=True)
    try:
        yield made, heard
    finally:
        if made.is_connected():
            made.disconnect("bye")
            while heard.receipts.get(timeout=SECONDS) != "bye":
                pass


@pytest.fixture
def topic(api: httpx.Client) -> str:
    """A topic of the log."""
    name = unique()
    assert api.post("/api/v1/topics", json={"name": name, "partitions": 2}).status_code == 201
    return name


def test_records_go_in_and_come_out(server: Server, topic: str) -> None:
    with client(server) as (connection, heard):
        connection.subscribe(f"/topic/{topic}", id="1", headers={"receipt": "subscribed"})
        assert heard.receipts.get(timeout=SECONDS) == "subscribed"
        for number in range(20):
            connection.send(f"/topic/{topic}", f'{{"n": {number}}}', key="a:b\\c", receipt=f"r{number}")
        assert [heard.receipts.get(timeout=SECONDS) for _ in range(20)] == [f"r{number}" for number in range(20)]
        frames = [heard.messages.get(timeout=SECONDS) for _ in range(20)]
        assert [frame.body for frame in frames] == [f'{{"n": {number}}}' for number in range(20)]
        assert {frame.headers["destination"] for frame in frames} == {f"/topic/{topic}"}
        assert {frame.headers["key"] for frame in frames} == {"a:b\\c"}
        offsets = [int(frame.headers["offset"]) for frame in frames]
        assert offsets == list(range(20))


def test_it_resumes_after_the_last_message_it_saw(server: Server, topic: str) -> None:
    with client(server) as (connection, heard):
        connection.subscribe(f"/topic/{topic}", id="1", headers={"receipt": "subscribed"})
        assert heard.receipts.get(timeout=SECONDS) == "subscribed"
        connection.send(f"/topic/{topic}", "1")
        seen = heard.messages.get(timeout=SECONDS).headers["message-id"]
    with client(server) as (connection, heard):
        connection.send(f"/topic/{topic}", "2", receipt="stored")
        assert heard.receipts.get(timeout=SECONDS) == "stored"
        connection.subscribe(f"/topic/{topic}", id="1", headers={"resume": seen})
        assert heard.messages.get(timeout=SECONDS).body == "2"


def test_a_queue_with_individual_acknowledgements(server: Server) -> None:
    destination = f"/queue/{unique()}"
    with client(server) as (connection, heard):
        for number in range(3):
            connection.send(destination, str(number), receipt=str(number))
            assert heard.receipts.get(timeout=SECONDS) == str(number)
        connection.subscribe(destination, id="q", ack="client-individual")
        frames = [heard.messages.get(timeout=SECONDS) for _ in range(3)]
        assert [frame.body for frame in frames] == ["0", "1", "2"]
        connection.ack(frames[1].headers["ack"], receipt="acked")
        assert heard.receipts.get(timeout=SECONDS) == "acked"
    with client(server) as (connection, heard):
        connection.subscribe(destination, id="q", ack="client")
        frames = [heard.messages.get(timeout=SECONDS) for _ in range(2)]
        assert [frame.body for frame in frames] == ["0", "2"]
        assert {frame.headers["redelivered"] for frame in frames} == {"true"}
        connection.ack(frames[1].headers["ack"], receipt="both")
        assert heard.receipts.get(timeout=SECONDS) == "both"
    with client(server) as (connection, heard):
        connection.send(destination, "last", receipt="stored")
        assert heard.receipts.get(timeout=SECONDS) == "stored"
        connection.subscribe(destination, id="q", ack="auto")
        assert heard.messages.get(timeout=SECONDS).body == "last"


def test_a_transaction(server: Server, topic: str) -> None:
    with client(server) as (connection, heard):
        connection.subscribe(f"/topic/{topic}", id="1", headers={"receipt": "subscribed"})
        assert heard.receipts.get(timeout=SECONDS) == "subscribed"
        aborted = connection.begin()
        connection.send(f"/topic/{topic}", "never", transaction=aborted)
        connection.abort(aborted)
        committed = connection.begin()
        connection.send(f"/topic/{topic}", "1", transaction=committed, key="k")
        connection.send(f"/topic/{topic}", "2", transaction=committed, key="k")
        connection.send(f"/topic/{topic}", "0", key="k", receipt="outside")
        assert heard.receipts.get(timeout=SECONDS) == "outside"
        connection.commit(committed)
        assert [heard.messages.get(timeout=SECONDS).body for _ in range(3)] == ["0", "1", "2"]


def test_heart_beats_keep_a_connection_without_messages(server: Server) -> None:
    with client(server, heartbeats=(1_000, 1_000)) as (connection, heard):
        with pytest.raises(queue.Empty):
            heard.ended.get(timeout=6.0)  # longer than the agreed interval, which is 5 s
        assert heard.timeouts == 0
        assert connection.is_connected()


def test_an_error_ends_the_connection(server: Server) -> None:
    with client(server) as (connection, heard):
        connection.send("/nowhere/a", "x", receipt="r")
        error = heard.errors.get(timeout=SECONDS)
        assert error.headers["message"] == "invalid_destination"
        assert error.headers["receipt-id"] == "r"
        assert heard.ended.get(timeout=SECONDS)


def test_a_wrong_passcode_is_an_error(server: Server) -> None:
    with pytest.raises(stomp.exception.ConnectFailedException), client(server, "wrong"):
        pass


def test_bytes_that_are_no_text(server: Server, topic: str) -> None:
    with client(server, auto_decode=False, binary_mode=True) as (connection, heard):
        connection.subscribe(f"/topic/{topic}", id="1", headers={"receipt": "subscribed"})
        assert heard.receipts.get(timeout=SECONDS) == "subscribed"
        connection.send(f"/topic/{topic}", b"\xff\0\xfe", content_type="application/octet-stream")
        frame = heard.messages.get(timeout=SECONDS)
        assert frame.body == b"\xff\0\xfe"
        assert frame.headers["content-type"] == "application/octet-stream"
