"""COMMIT: all that a transaction holds is stored and settled as one, or nothing of it."""

from __future__ import annotations

from typing import Any

import pytest

from brokers import topic_log
from brokers.queues.declaring import bind, declare_exchange
from brokers.queues.topology import QueueInfo
from brokers.topics import TopicInfo
from tests.integration.brokers.queues.living import bodies, pass_time, put, queue, take, tend
from tests.integration.realtime.following import created, in_thread
from tests.integration.realtime.sessions import Client, Live, granted, live
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)


async def left(of: QueueInfo) -> list[Any]:
    return await in_thread(lambda: bodies(of))  # type: ignore[no-any-return]


async def values(info: TopicInfo) -> list[bytes | None]:
    return [record.value_bytes for record in (await topic_log.afetch(info.name, 0, 0)).records]


async def begun(world: Live, of: QueueInfo, messages: int = 1) -> tuple[Client, list[str]]:
    """A client with an open transaction `t` that holds messages of a queue, and what acknowledges them."""
    client = await world.client()
    await client.say("SUBSCRIBE", id="s", destination=f"/queue/{of.name}", ack="client-individual")
    found = await client.got(messages)
    await client.say("BEGIN", transaction="t", receipt="begin")
    return client, [message.headers["ack"] for message in found]


async def test_what_was_made_of_a_message_is_stored_with_its_acknowledgement() -> None:
    source, target, info = await in_thread(queue), await in_thread(queue), await created()
    await in_thread(lambda: put(source, 1, 2, 3))
    async with live() as world:
        client, acks = await begun(world, source, 3)
        await client.say("SEND", "a", destination=f"/topic/{info.name}", transaction="t", receipt="a")
        await client.say("ACK", id=acks[0], transaction="t", receipt="ack")
        await client.say("SEND", "10", destination=f"/queue/{target.name}", transaction="t", receipt="10")
        await client.say("SEND", "b", destination=f"/topic/{info.name}", transaction="t")
        await client.say("NACK", id=acks[1], transaction="t")
        assert client.receipts == ["begin", "ack"]
        assert (await left(source), await left(target), await values(info)) == ([1, 2, 3], [], [])
        await client.say("COMMIT", transaction="t", receipt="commit")
        assert client.receipts == ["begin", "ack", "a", "10", "commit"]
        assert (await left(source), await left(target), await values(info)) == ([3], [10], [b"a", b"b"])


async def test_the_order_of_a_queues_messages_is_that_of_the_sends() -> None:
    of, exchange = await in_thread(queue), unique("exchange")

    def bound() -> None:
        declare_exchange(exchange, type="fanout")
        bind(exchange, queue=of.name)

    await in_thread(bound)
    async with live() as world:
        client = await world.client()
        await client.say("BEGIN", transaction="t")
        for number, destination in enumerate([f"/queue/{of.name}", f"/exchange/{exchange}/k"] * 3):
            await client.say("SEND", str(number), destination=destination, transaction="t")
        await client.say("COMMIT", transaction="t")
        assert await left(of) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"destination": "/topic/{topic}", "partition": "7"}, "partition_not_found"),
        ({"destination": "/topic/{topic}", "content_type": "application/json"}, "malformed_json"),
        ({"destination": "/exchange/none-such/a"}, "exchange_not_found"),
        ({"destination": "/queue/{full}"}, "queue_full"),
        ({"destination": "/nowhere/a"}, "invalid_destination"),
    ],
)
async def test_one_that_is_refused_leaves_nothing_of_the_transaction(bad: dict[str, str], code: str) -> None:
    source, info = await in_thread(queue), await created()
    full = await in_thread(lambda: queue(max_length=0, overflow="reject-publish"))
    await in_thread(lambda: put(source, 1))
    async with live() as world:
        client, [ack] = await begun(world, source)
        hearer = await world.client()
        await hearer.say("SUBSCRIBE", id="s", destination="/topic/plain", receipt="r")
        await client.say("SEND", "a", destination=f"/topic/{info.name}", transaction="t", receipt="a")
        await client.say("SEND", "plain", destination="/topic/plain", transaction="t")
        await client.say("ACK", id=ack, transaction="t")
        headers = {name: text.format(topic=info.name, full=full.name) for name, text in bad.items()}
        await client.say("SEND", "{bad", transaction="t", receipt="bad", **headers)
        assert client.error is None
        await client.say("COMMIT", transaction="t", receipt="commit")
        assert client.error == code
        assert client.receipts == ["begin"]
        assert client.wire.frames[-1].headers["receipt-id"] == "commit"
        await client.leave()
        assert (await left(source), await values(info)) == ([1], [])
        other = await world.client()
        await other.say("SUBSCRIBE", id="s", destination=f"/queue/{source.name}")
        assert (await other.got(1))[0].headers["redelivered"] == "true"
        await other.say("SEND", "later", destination="/topic/plain")
        await hearer.got(1)
        assert hearer.bodies == ["later"]


async def test_a_message_that_was_lost_meanwhile_takes_the_transaction_with_it() -> None:
    source, info = await in_thread(queue), await created()
    await in_thread(lambda: put(source, 1))
    async with live() as world:
        client, [ack] = await begun(world, source)
        await client.say("SEND", "a", destination=f"/topic/{info.name}", transaction="t")
        await client.say("ACK", id=ack, transaction="t")
        await in_thread(lambda: pass_time(source, "lease_until"))
        await in_thread(tend)
        await in_thread(lambda: take(source))
        await client.say("COMMIT", transaction="t", receipt="commit")
        assert (client.error, client.receipts) == ("lease_lost", ["begin"])
        assert await values(info) == []


async def test_permission_is_asked_for_at_the_commit() -> None:
    info = await created()
    async with live() as world:
        client = await world.client(granted("writer", ("write", "topic", info.name, "literal")))
        await client.say("BEGIN", transaction="t")
        await client.say("SEND", "a", destination=f"/topic/{info.name}", transaction="t")
        world.hub.registry._change(client.connection, granted("writer"))
        await client.say("COMMIT", transaction="t")
        assert client.error == "forbidden"
        assert await values(info) == []


@pytest.mark.parametrize("end", ["ABORT", "DISCONNECT", "gone"])
async def test_what_is_not_committed_never_happened(end: str) -> None:
    source, info = await in_thread(queue), await created()
    await in_thread(lambda: put(source, 1))
    async with live() as world:
        client, [ack] = await begun(world, source)
        await client.say("SEND", "a", destination=f"/topic/{info.name}", transaction="t", receipt="never")
        await client.say("ACK", id=ack, transaction="t")
        if end != "gone":
            await client.say(end, transaction="t", receipt="end")
            assert client.receipts == ["begin", "end"]
        if end != "ABORT":
            await client.leave()
        assert (await left(source), await values(info)) == ([1], [])
        if end == "ABORT":  # the message is still the client's to settle
            await client.say("ACK", id=ack, receipt="acked")
            assert await left(source) == []
