"""Subscribers that are cut at random, again and again, see every record once and in order, whatever Valkey does."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from websockets.exceptions import WebSocketException

from tests.acceptance.embedded_server import VALKEY, EmbeddedServer, embedded_server
from tests.live_client import live_client
from tests.server import ADMIN_TOKEN, unique

RECORDS = int(os.environ.get("LIVE_RECORDS", "10000"))
SUBSCRIBERS = int(os.environ.get("LIVE_SUBSCRIBERS", "12"))
CUTS = int(os.environ.get("LIVE_CUTS", "300"))
SEED = int(os.environ.get("LIVE_SEED", "1"))
SECONDS = 90.0


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with embedded_server(WAYSTATION_WEB_PROCESSES="2") as started:
        yield started


@dataclass
class Subscriber:
    """One reader over all of its connections."""

    token: str | None = None
    seen: dict[int, list[int]] = field(default_factory=dict)
    count: int = 0
    cuts: int = 0
    refused: list[str] = field(default_factory=list)


@dataclass
class Run:
    """What all readers and the writer share."""

    server: EmbeddedServer
    topic: str
    chance: random.Random
    written: int = 0
    cuts: int = 0

    def is_over(self, subscriber: Subscriber) -> bool:
        """Whether a reader has all that was to be written."""
        return subscriber.count >= RECORDS


async def read_once(run: Run, subscriber: Subscriber) -> None:
    """One connection: resumes, reads, and is cut after a random number of messages while cuts are left."""
    patience = run.chance.randint(1, 2 * RECORDS * SUBSCRIBERS // CUTS)
    async with live_client(run.server.url, ADMIN_TOKEN) as client:
        start = {"resume": subscriber.token} if subscriber.token else {"offset": "earliest"}
        await client.subscribe(f"/topic/{run.topic}", **start)
        while not run.is_over(subscriber):
            received = await client.receive()
            if received.command == "ERROR":
                subscriber.refused.append(received.headers.get("message", ""))
                return
            if received.command != "MESSAGE":
                continue
            assert "gap" not in received.headers
            subscriber.token = received.headers["message-id"]
            partition = int(received.headers["partition"])
            subscriber.seen.setdefault(partition, []).append(int(received.headers["offset"]))
            subscriber.count += 1
            patience -= 1
            if patience == 0 and run.cuts < CUTS:
                run.cuts += 1
                subscriber.cuts += 1
                client.cut()
                return


async def read(run: Run, subscriber: Subscriber) -> None:
    """Connects again until everything was seen."""
    while not run.is_over(subscriber):
        try:
            await read_once(run, subscriber)
        except (OSError, WebSocketException):
            await asyncio.sleep(0.02)  # a client's back-off; the server may be busy with the others


async def write(run: Run) -> None:
    """Publishes everything over REST in small batches, adding a partition on the way."""
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with httpx.AsyncClient(base_url=run.server.url, headers=headers, timeout=30) as client:
        while run.written < RECORDS:
            count = min(run.chance.randint(1, 30), RECORDS - run.written)
            records: list[dict[str, Any]] = [{"value": run.written + one} for one in range(count)]
            answer = await client.post(f"/api/v1/topics/{run.topic}/records", json={"records": records})
            assert answer.status_code == 200, answer.text
            before, run.written = run.written, run.written + count
            if before < RECORDS // 2 <= run.written:
                answer = await client.patch(f"/api/v1/topics/{run.topic}", json={"partitions": 7})
                assert answer.status_code == 200, answer.text


async def disturb(run: Run) -> None:
    """Kills Valkey at a third and at two thirds; the supervisor starts it again."""
    for part in (1, 2):
        while run.written < part * RECORDS // 3:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(run.server.kill, VALKEY)


async def everything(run: Run, subscribers: list[Subscriber]) -> None:
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        group.create_task(write(run))
        group.create_task(disturb(run))
        for subscriber in subscribers:
            group.create_task(read(run, subscriber))


def wrong(run: Run, subscriber: Subscriber) -> list[str]:
    """What one reader saw that it should not have, or did not see."""
    found = [
        f"partition {partition}: position {at} holds offset {offset}"
        for partition, offsets in subscriber.seen.items()
        for at, offset in enumerate(offsets)
        if at != offset
    ]
    return found[:5] + [f"refused: {reason}" for reason in subscriber.refused]


def test_subscribers_cut_hundreds_of_times_miss_nothing_and_see_nothing_twice(server: EmbeddedServer) -> None:
    topic = unique()
    with server.client() as client:
        assert client.post("/api/v1/topics", json={"name": topic, "partitions": 6}).status_code == 201
    run = Run(server, topic, random.Random(SEED))
    subscribers = [Subscriber() for _ in range(SUBSCRIBERS)]
    asyncio.run(everything(run, subscribers))
    assert [wrong(run, subscriber) for subscriber in subscribers] == [[]] * SUBSCRIBERS
    assert [subscriber.count for subscriber in subscribers] == [RECORDS] * SUBSCRIBERS
    assert run.cuts >= CUTS * 0.9


def test_the_check_finds_a_record_that_came_twice_and_one_that_is_missing(server: EmbeddedServer) -> None:
    run = Run(server, "any", random.Random(SEED))
    assert wrong(run, Subscriber(seen={0: [0, 1, 2], 1: [0]})) == []
    assert wrong(run, Subscriber(seen={0: [0, 1, 1, 2]}))
    assert wrong(run, Subscriber(seen={0: [0, 2]}))
    assert wrong(run, Subscriber(seen={0: [1, 0]}))
