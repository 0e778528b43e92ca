"""Streams that are cut again and again while records flow, and go on at one of two servers."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator

import pytest

from brokers import publishing
from brokers.record import JSON, NewRecord
from brokers.topics import TopicInfo
from realtime.sse import app
from tests.events import Event, EventReader
from tests.integration.realtime.following import created
from tests.protocol.sse.serving import Streams, issued, streams

pytestmark = pytest.mark.django_db(transaction=True)
RECORDS = 2400
PARTITIONS = 4
KEYS = (b"even", b"odd")


@pytest.fixture
async def servers() -> AsyncIterator[list[Streams]]:
    """Two of them, on one event loop."""
    token = await issued("ann", ("read", "topic", ""))
    async with streams(token) as one, streams(token) as two:
        yield [one, two]


async def publish(info: TopicInfo, chance: random.Random) -> None:
    """Publishes numbers in small batches, each to some partition."""
    sent = 0
    while sent < RECORDS:
        some = range(sent, min(sent + chance.randint(1, 30), RECORDS))
        records = [NewRecord(KEYS[n % 2], b"%d" % n, JSON, partition=chance.randrange(PARTITIONS)) for n in some]
        await publishing.apublish_many(info.name, records)
        sent += len(some)
        await asyncio.sleep(chance.random() * 0.01)


async def read(servers: list[Streams], path: str, count: int, chance: random.Random) -> tuple[list[Event], int]:
    """So many records of a stream that is cut after some bytes each time; and how often it was."""
    events: list[Event] = []
    last, cuts = "", 0
    while True:
        reader, left = EventReader(last_id=last, seen_id=last), chance.randint(500, 20_000)
        headers = {"Last-Event-ID": last} if last else {}
        async with chance.choice(servers).client.stream("GET", path, headers=headers) as response:
            assert response.status_code == 200
            async for part in response.aiter_raw():
                found = reader.feed(part[:left])  # a cut may come within an event, which then does not count
                events += [event for event in found if event.name != "connected"]
                left -= len(part)
                if len(events) >= count:
                    return events, cuts
                if left <= 0:
                    break
        last = reader.seen_id
        cuts += 1


async def test_nothing_is_missed_or_shown_twice(servers: list[Streams], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "KEEP_ALIVE_SECONDS", 0.2)
    info = await created(PARTITIONS)
    path = f"/api/v1/topics/{info.name}/stream?from=earliest"
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(publish(info, random.Random(1)))
        of_all = [group.create_task(read(servers, path, RECORDS, random.Random(n))) for n in range(2, 6)]
        of_key = group.create_task(read(servers, f"{path}&key=even", RECORDS // 2, random.Random(6)))
    for task in of_all:
        events, cuts = task.result()
        assert cuts >= 20
        assert {event.name for event in events} == {"record"}
        for partition in range(PARTITIONS):
            offsets = [event.json()["offset"] for event in events if event.json()["partition"] == partition]
            assert offsets == list(range(len(offsets)))
        assert {event.json()["value"] for event in events} == set(range(RECORDS))
    events, cuts = of_key.result()
    assert cuts >= 10
    assert sorted(event.json()["value"] for event in events) == list(range(0, RECORDS, 2))
