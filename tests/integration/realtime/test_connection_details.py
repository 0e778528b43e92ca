"""What is recorded and reported of one connection, and only while somebody looks at it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
import redis
from django.conf import settings

from brokers import topic_log
from brokers.errors import Unavailable
from realtime import connection_details, connection_reports
from realtime.connection_details import EXAMINED, ConnectionDetail, Examiner
from realtime.connections import Connection
from realtime.frame_recorder import CUT_BYTES, MOST_FRAMES, MOST_RAW_BYTES, MOST_SAMPLES, FrameRecorder
from realtime.sse.event import event
from realtime.stomp.encoder import encode
from realtime.stomp.frame import Frame
from realtime.wheel import Wheel
from tests.integration.brokers.queues.living import put, queue
from tests.integration.realtime.following import created, in_thread
from tests.integration.realtime.sessions import Client, Live, Wire, live
from tests.server import unique
from tests.web_process import eventually

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nobody_looks")]


@pytest.fixture
def nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of another test, and a second passes quickly."""
    monkeypatch.setattr(connection_reports, "_EVERY_SECONDS", 0.03)
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        for key in client.scan_iter("waystation:connections:*"):
            client.delete(key)


def looked_at(name: str) -> ConnectionDetail | None:
    """What a page would show."""
    connection_reports.look()
    return connection_details.examine(name).detail


async def seen(client: Client, condition: Callable[[ConnectionDetail], bool] = bool) -> ConnectionDetail:
    """The first report that fulfils the condition."""
    async with asyncio.timeout(10):
        while True:
            found: ConnectionDetail | None = await in_thread(lambda: looked_at(client.connection.id))
            if found is not None and condition(found):
                return found
            await asyncio.sleep(0.01)


@asynccontextmanager
async def watched() -> AsyncIterator[tuple[Live, Client]]:
    """A client that somebody looks at."""
    async with live() as world:
        client = await world.client()
        await seen(client)
        yield world, client


async def test_frames_of_both_directions_are_reported_without_their_secrets() -> None:
    async with watched() as (_, client):
        await client.say("SUBSCRIBE", id="n", destination="/topic/news/*", receipt="r", cookie="a=b")
        await client.say("SEND", '{"n":1}', destination="/topic/news/x", authorization="Bearer x", colour="blue")
        await client.got(1)
        found = await seen(client, lambda detail: len(detail.frames) >= 4)
    assert [(each.command, each.is_sent) for each in found.frames] == [
        ("SUBSCRIBE", False),
        ("RECEIPT", True),
        ("SEND", False),
        ("MESSAGE", True),
    ]
    subscribe, _, send, message = found.frames
    assert subscribe.headers == {"id": "n", "destination": "/topic/news/*", "receipt": "r", "cookie": "•••"}
    assert (send.headers["authorization"], send.headers["colour"], send.body, send.size) == (
        "•••",
        "blue",
        b'{"n":1}',
        7,
    )
    assert (message.destination, message.subscribed) == ("/topic/news/x", "/topic/news/*")
    assert message.headers["authorization"] == "•••"
    assert found.connection.id == client.connection.id
    assert [sample.received for sample in found.samples][-1] == client.connection.received


async def test_nothing_is_recorded_of_whom_nobody_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched() as (world, client):
        other = await world.client()
        assert client.connection.recorder is not None
        assert other.connection.recorder is None
        store = redis.Redis.from_url(settings.REDIS_URL)
        store.delete(EXAMINED)
        await eventually(lambda: client.connection.recorder is None)
        await seen(client)
        await eventually(lambda: client.connection.recorder is not None)
        store.delete(connection_reports.WATCHED)
        await eventually(lambda: client.connection.recorder is None)
        store.close()


async def test_a_position_in_a_topic_has_offsets_a_token_and_a_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    info = await created(partitions=3)
    async with watched() as (_, client):
        await client.say("SEND", "1", destination=f"/topic/{info.name}", partition="1")
        await client.say("SUBSCRIBE", id="all", destination=f"/topic/{info.name}", offset="earliest")
        await client.say("SUBSCRIBE", id="one", destination=f"/topic/{info.name}", partition="2")
        await client.got(1)
        found = await seen(client, lambda detail: len(detail.positions) == 2 and detail.positions[0].lag == 0)
        everything, one = found.positions
        assert [(each.partition, each.offset, each.lag) for each in everything.partitions] == [
            (0, 0, 0),
            (1, 1, 0),
            (2, 0, 0),
        ]
        assert (everything.id, everything.kind, everything.filter, everything.catching_up) == (
            "all",
            "topic",
            "",
            False,
        )
        assert everything.token == client.messages[0].headers["message-id"]
        assert ([each.partition for each in one.partitions], one.filter) == ([2], "partition")

        reads = topic_log.aends_of_topics

        async def further(topics: list[int]) -> dict[int, list[topic_log.PartitionEnds]]:
            return {
                topic: [end._replace(latest_offset=end.latest_offset + 5) for end in ends]
                for topic, ends in (await reads(topics)).items()
            }

        monkeypatch.setattr(topic_log, "aends_of_topics", further)
        found = await seen(client, lambda detail: detail.positions[0].lag == 15)
        assert found.positions[1].lag == 5

        async def away(topics: list[int]) -> dict[int, list[topic_log.PartitionEnds]]:
            raise Unavailable("away")

        monkeypatch.setattr(topic_log, "aends_of_topics", away)
        found = await seen(client, lambda detail: detail.positions[0].lag is None)
        assert found.positions[0].partitions[1].offset == 1


async def test_a_position_in_a_queue_is_what_is_not_acknowledged_and_a_broadcast_has_none() -> None:
    of = await in_thread(queue)
    await in_thread(lambda: put(of, 1, 2, 3))
    async with watched() as (_, client):
        await client.say("SUBSCRIBE", id="b", destination=f"/topic/{unique()}/x")
        await client.say(
            "SUBSCRIBE", id="q", destination=f"/queue/{of.name}", ack="client-individual", prefetch_count="2"
        )
        await client.got(2)
        found = await seen(client, lambda detail: any(each.unacknowledged == 2 for each in detail.positions))
        broadcast, held = found.positions
        assert (broadcast.kind, broadcast.lag, broadcast.partitions, broadcast.unacknowledged) == (
            "broadcast",
            None,
            [],
            None,
        )
        assert (held.id, held.kind, held.name, held.prefetch) == ("q", "queue", of.name, 2)


async def test_the_last_report_of_a_connection_that_ends_says_why() -> None:
    async with watched() as (world, client):
        await client.say("ACK", id="unknown")
        world.hub.registry.close(client.connection)
        found = await seen(client, lambda detail: detail.is_over)
        assert (found.frames[-1].command, found.frames[-1].headers["message"]) == ("ERROR", "unknown_ack")
        assert found.connection.last_error == "unknown_ack"
        with redis.Redis.from_url(settings.REDIS_URL) as store:
            assert 5 < store.ttl(f"waystation:connections:detail:{client.connection.id}") <= 120
        await asyncio.sleep(0.15)
        again = await in_thread(lambda: looked_at(client.connection.id))
        assert again is not None
        assert again.is_over


async def test_a_process_records_those_looked_at_last_and_no_more() -> None:
    connections = {each.id: each for each in (Connection("stomp", Wire(), wheel=Wheel()) for _ in range(30))}
    examiner = Examiner(connections)
    for name in connections:
        await in_thread(lambda name=name: connection_details.examine(name))  # type: ignore[misc]
    store = redis.asyncio.Redis.from_url(settings.REDIS_URL)
    await examiner.report(store, "process")
    recorded = [place for place, each in enumerate(connections.values()) if each.recorder is not None]
    assert recorded == list(range(10, 30))
    examiner.stop()
    assert not any(each.recorder for each in connections.values())
    await store.aclose()


async def test_the_process_that_holds_a_connection_reports_it() -> None:
    here, elsewhere = (Connection("stomp", Wire(), wheel=Wheel()) for _ in range(2))
    await in_thread(lambda: connection_details.examine(elsewhere.id))
    store = redis.asyncio.Redis.from_url(settings.REDIS_URL)
    assert not await Examiner({here.id: here}).report(store, "first")
    assert await in_thread(lambda: looked_at(elsewhere.id)) is None
    await Examiner({elsewhere.id: elsewhere}).report(store, "second")
    found = await in_thread(lambda: looked_at(elsewhere.id))
    assert found is not None
    assert found.process == "second"
    assert here.recorder is None
    await store.aclose()


def test_a_recorder_keeps_a_bounded_part() -> None:
    connection = Connection("stomp", Wire(), wheel=Wheel())
    recorder = connection.recorder = FrameRecorder(connection)
    for size in (100, 40_000, 3_000_000):
        frame = encode(Frame("MESSAGE", {"h" * 500: "v" * 500} | {f"h{n}": "" for n in range(60)}, b"x" * size), "1.2")
        for _ in range(200):
            recorder.sent(frame)
            recorder.received(Frame("SEND", {}, b"x" * size))
        assert len(recorder._raw) <= MOST_FRAMES
        assert recorder._raw_bytes <= MOST_RAW_BYTES
        assert recorder.look()
        assert len(recorder.frames) <= MOST_FRAMES
        last = recorder.frames[-2]
        assert (last.command, last.size, len(last.body)) == (
            "MESSAGE",
            size,
            min(size, 512) if size < CUT_BYTES else len(last.body),
        )
        assert sum(map(len, last.headers)) + sum(map(len, last.headers.values())) < 1000
        assert last.more_headers > 30
    for _ in range(200):
        assert not recorder.look()
    assert len(recorder.samples) == MOST_SAMPLES


def test_a_large_event_of_a_stream_tells_its_size() -> None:
    connection = Connection("sse", Wire(), wheel=Wheel())
    connection.subscriptions["stream"] = "topic orders"
    recorder = FrameRecorder(connection)
    recorder.sent(event("record", b"[" + b"1," * 100_000 + b"1]", "AAM"))
    recorder.look()
    (frame,) = recorder.frames
    assert (frame.size, frame.subscribed, frame.destination) == (200_003, "topic orders", None)


def test_the_most_that_waited_in_a_second_is_told() -> None:
    wire = Wire()
    connection = Connection("stomp", wire, wheel=Wheel())
    recorder = connection.recorder = FrameRecorder(connection)
    wire.stalled = True
    connection.write(encode(Frame("RECEIPT", {"receipt-id": "r" * 1000}), "1.2"), 1)
    wire.stalled = False
    recorder.look()
    recorder.look()
    assert [sample.buffered > 1000 for sample in recorder.samples] == [True, False]
    assert time.time() - recorder.samples[0].at < 60
