"""stomp.js 7 over a WebSocket and over sockjs-client 1.6 with each of its transports, against two web processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.protocol.sockjs import node
from tests.server import ADMIN_TOKEN, Server, fresh_database, running, unique

TRANSPORTS = ("websocket-native", "websocket", "xhr-streaming", "eventsource", "xhr-polling")


@pytest.fixture(scope="module")
def processes() -> Iterator[Server]:
    """A server of two web processes: which of them a request reaches is chance."""
    node.installed()
    with fresh_database() as url, running(url, WAYSTATION_WEB_PROCESSES="2") as started:
        yield started


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_clients_day(processes: Server, transport: str) -> None:
    topic, queue = unique("topic"), unique("queue")
    with processes.client() as api:
        assert api.post("/api/v1/topics", json={"name": topic, "partitions": 1}).status_code == 201
        given = {"url": processes.url, "token": ADMIN_TOKEN, "transport": transport, "topic": topic, "queue": queue}
        done = node.result(node.start("journey.js", **given))
        assert done["connects"] >= 4
        assert done["received"] == 135
        assert done["used"] == ([] if transport == "websocket-native" else [transport])
        assert api.get(f"/api/v1/queues/{queue}/messages").json()["items"] == []


def test_clients_survive_the_end_of_a_process(processes: Server) -> None:
    topic = unique("topic")
    with processes.client() as api:
        assert api.post("/api/v1/topics", json={"name": topic, "partitions": 1}).status_code == 201
    given = {"url": processes.url, "token": ADMIN_TOKEN, "topic": topic, "until": 30}
    clients = [node.start("survivor.js", **given, transport=each) for each in ("xhr-streaming", "xhr-polling")]
    try:
        first, second = web_processes(processes)
        publish(processes, topic, 10)
        for client in clients:
            read_until(client, 10)
        for ended, published in ((first, 20), (second, 30)):
            os.kill(ended, signal.SIGKILL)
            publish(processes, topic, 10)
            connects = [read_until(client, published) for client in clients]
        assert all(count >= 2 for count in connects), connects
        for client in clients:
            client.communicate(timeout=20)
            assert client.returncode == 0
    finally:
        for client in clients:
            client.kill()
            client.communicate()


def web_processes(server: Server) -> list[int]:
    """The web processes' ids."""
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return [int(each) for each in children if b"uvicorn" in Path(f"/proc/{each}/cmdline").read_bytes()]


def publish(server: Server, topic: str, count: int) -> None:
    """Publishes, again where the process that was asked has just died."""
    records = {"records": [{"key": "k", "value": "x"} for _ in range(count)]}
    headers = {"Idempotency-Key": unique()}
    for _ in range(20):
        with server.client() as api:
            try:
                answer = api.post(f"/api/v1/topics/{topic}/records", json=records, headers=headers)
            except httpx.TransportError:
                continue
            if answer.status_code not in (409, 503):  # of what the dead process had begun
                assert answer.status_code == 200, answer.text
                return
    raise AssertionError("no web process answers")


def read_until(client: subprocess.Popen[str], received: int) -> int:
    """Reads what the program says until it has received so many records; how often it has connected."""
    assert client.stdout is not None
    for line in client.stdout:
        said = json.loads(line)
        if said["next"] >= received:
            return int(said["connects"])
    raise AssertionError(f"the program ended: {client.communicate()[1]}")
