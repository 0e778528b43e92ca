"""A session beside its client: one that falls silent, does not read, may come no more, or whose server stops."""

from __future__ import annotations

import asyncio

import pytest

from brokers import topic_log
from realtime import connections
from realtime.positions import encode
from realtime.stomp import negotiation, outbox
from tests.integration.realtime.following import add, created, until
from tests.integration.realtime.sessions import ADMIN, Client, live
from tests.integration.realtime.test_feeds_retention import retain

pytestmark = pytest.mark.django_db(transaction=True)


# -- heart-beats ---------------------------------------------------------------------------------------------------


async def test_a_client_that_falls_silent_is_ended_and_one_that_beats_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(negotiation, "SERVER_HEART_BEAT", (200, 200))
    async with live() as world:
        silent, beating = Client(world.hub, ADMIN, "1.2"), Client(world.hub, ADMIN, "1.2")
        world.clients += [silent, beating]
        for client in (silent, beating):
            await client.say("CONNECT", accept_version="1.2", heart_beat="100,0")
        async with asyncio.timeout(10):
            while silent.wire.closed is None:
                await beating.session.received(b"\n")
                await asyncio.sleep(0.05)
        assert silent.wire.closed == (1008, "no heart-beat")
        assert silent.connection.last_error == "heart_beat_missed"
        assert beating.wire.closed is None


async def test_a_client_is_not_silent_while_the_server_is_busy_with_what_it_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(negotiation, "SERVER_HEART_BEAT", (100, 100))
    monkeypatch.setattr(outbox, "MAX_FRAMES", 1)
    hold = asyncio.Event()
    info = await created()
    async with live() as world:
        client, other = Client(world.hub, ADMIN, "1.2"), Client(world.hub, ADMIN, "1.2")
        world.clients += [client, other]
        for each in (client, other):
            await each.say("CONNECT", accept_version="1.2", heart_beat="100,0")
        real = world.hub.coalescer.publish

        async def held(*arguments: object) -> object:
            await hold.wait()
            return await real(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(world.hub.coalescer, "publish", held)
        sending = asyncio.create_task(client.say("SEND", "1", destination=f"/topic/{info.name}", receipt="r"))
        await until(lambda: other.wire.closed is not None)
        hold.set()
        await sending
        assert (client.receipts, client.wire.closed) == (["r"], None)


# -- those who read slowly -----------------------------------------------------------------------------------------


async def test_one_that_does_not_read_is_ended_and_costs_the_others_nothing() -> None:
    async with live() as world:
        slow, quick, writer = [await world.client() for _ in range(3)]
        for client in (slow, quick):
            await client.say("SUBSCRIBE", id="s", destination="/topic/plain", receipt="r")
        slow.wire.stalled = True
        body = "x" * 100_000
        for number in range(1, 9):
            await writer.say("SEND", body, destination="/topic/plain")
            await quick.got(number)
        assert slow.error == "slow_consumer"
        assert slow.wire.closed == (1008, "slow_consumer")
        assert slow.connection.dropped > 0
        assert quick.error is None


async def test_whoever_catches_up_is_waited_for() -> None:
    info = await created()
    async with live() as world:
        reader = await world.client()
        for start in range(0, 60, 20):
            await add(info, *["x" * 20_000 for _ in range(start, start + 20)])
        reader.wire.stalled = True
        await reader.say("SUBSCRIBE", id="s", destination=f"/topic/{info.name}", offset="earliest")
        await until(lambda: reader.wire.unread > 256 * 1024)
        assert len(reader.messages) < 60
        reader.wire.stalled = False
        await reader.got(60)
        assert reader.error is None


# -- positions -----------------------------------------------------------------------------------------------------


async def test_a_position_behind_retention_is_told_of_the_gap() -> None:
    info = await created()
    for number in range(6):
        await add(info, number)
    await retain(info.partition_ids[0], 4)
    async with live() as world:
        reader = await world.client()
        await reader.say("SUBSCRIBE", id="s", destination=f"/topic/{info.name}", resume=encode(info.id, [1]))
        first, second = await reader.got(2)
        assert (first.headers["gap"], first.headers["offset"]) == ("4", "4")
        assert "gap" not in second.headers


async def test_a_position_of_another_topic_is_a_gap_too() -> None:
    """It cannot be told from one in a topic that was deleted and made again."""
    info, other = await created(), await created()
    await add(info, 1, 2)
    async with live() as world:
        reader = await world.client()
        await reader.say("SUBSCRIBE", id="s", destination=f"/topic/{info.name}", resume=encode(other.id, [1]))
        first, second = await reader.got(2)
        assert first.headers["gap"] == "0"
        assert "gap" not in second.headers


async def test_positions_that_cannot_be() -> None:
    info, two = await created(), await created(2)
    wrong = [
        {"resume": encode(info.id, [7])},
        {"resume": encode(info.id, [0, 0])},
        {"resume": ""} | {"offset": "1"},
        {"partition": "0", "offset": "1"},
        {"resume": "A" * 2000},
    ]
    async with live() as world:
        for headers in wrong:
            reader = await world.client()
            await reader.say("SUBSCRIBE", id="s", destination=f"/topic/{info.name}", receipt="r", **headers)
            assert (reader.error, reader.receipts) == ("invalid_offset", []), headers
        for headers, code in (({"offset": "0"}, "invalid_offset"), ({"partition": "2"}, "partition_not_found")):
            reader = await world.client()
            await reader.say("SUBSCRIBE", id="s", destination=f"/topic/{two.name}", **headers)
            assert reader.error == code
        reader = await world.client()
        await reader.say("SUBSCRIBE", id="s", destination="/topic/plain", offset="earliest")
        assert reader.error == "topic_not_found"


async def test_two_filters_and_the_keys_that_are_no_text() -> None:
    info = await created(2)
    async with live() as world:
        reader = await world.client()
        await reader.say("SUBSCRIBE", id="p", destination=f"/topic/{info.name}", partition="1")
        await reader.say("SUBSCRIBE", id="k", destination=f"/topic/{info.name}", key="b")
        await add(info, 0, partition=0, key=b"a")
        await add(info, 1, partition=1, key=b"\xff")
        await add(info, 2, partition=0, key=b"b")
        found = {(each.headers["subscription"], each.body) for each in await reader.got(2)}
        assert found == {("p", b"1"), ("k", b"2")}
        [binary] = [each for each in reader.messages if each.body == b"1"]
        assert binary.headers["key-base64"] == "/w=="
        resumed = await world.client()
        await resumed.say(
            "SUBSCRIBE",
            id="p",
            destination=f"/topic/{info.name}",
            partition="1",
            resume=binary.headers["message-id"],
            receipt="r",
        )
        await add(info, 3, partition=1)
        await resumed.got(1)
        assert resumed.bodies == ["3"]


# -- limits and the end --------------------------------------------------------------------------------------------


async def test_whoever_stores_too_much_too_fast_is_slowed_down_and_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "RECEIVED_AT_ONCE", 100)
    monkeypatch.setattr(connections, "RECEIVED_PER_SECOND", 2_000)
    info = await created()
    async with live() as world:
        client = await world.client()
        await client.pour(*[client.frame("SEND", str(n), destination=f"/topic/{info.name}") for n in range(500)])
        assert client.error is None
        assert len((await topic_log.afetch(info.name, 0, 0, 1000)).records) == 500
        await client.pour(client.frame("BEGIN", transaction="t"), client.frame("ABORT", transaction="t") * 2_000)
        assert client.error in ("rate_limited", "unknown_transaction")


async def test_draining_closes_with_1001_and_without_an_error() -> None:
    async with live() as world:
        client = await world.client()
        await client.say("SUBSCRIBE", id="s", destination="/topic/plain")
        world.hub.drain()
        assert client.wire.closed == (1001, "the server is stopping")
        assert client.error is None
        await until(lambda: not client.connection.subscriptions)


async def test_an_administrator_ends_one_connection() -> None:
    async with live() as world:
        client, other = await world.client(), await world.client()
        world.hub.registry._hear(f"d{client.connection.id}")
        assert client.error == "disconnected"
        assert other.error is None
