"""SEND and SUBSCRIBE on /topic: records where there is a topic of the log, plain broadcasts where there is none."""

from __future__ import annotations

import pytest

from brokers import topic_log, topics
from brokers.record import JSON, RAW
from tests.integration.realtime.following import created, in_thread, until
from tests.integration.realtime.sessions import granted, live
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)


async def test_what_is_sent_to_a_topic_is_stored_before_its_receipt_and_received_by_its_subscribers() -> None:
    info = await created()
    async with live() as world:
        reader, writer = await world.client(), await world.client()
        await reader.say("SUBSCRIBE", id="s", destination=f"/topic/{info.name}", receipt="subscribed")
        assert reader.receipts == ["subscribed"]
        await writer.say(
            "SEND", '{"n": 1}', destination=f"/topic/{info.name}", key="k", colour="blue", receipt="stored"
        )
        assert writer.receipts == ["stored"]
        found = (await topic_log.afetch(info.name, 0, 0)).records
        assert [(record.key, record.value_bytes, record.encoding, record.headers) for record in found] == [
            ("k", b'{"n": 1}', JSON, {"colour": "blue"})
        ]
        [message] = await reader.got(1)
        assert message.body == b'{"n": 1}'
        assert message.headers["subscription"] == "s"
        assert message.headers["destination"] == f"/topic/{info.name}"
        assert [message.headers[name] for name in ("key", "partition", "offset", "colour")] == ["k", "0", "0", "blue"]


@pytest.mark.parametrize(
    ("body", "headers", "encoding"),
    [
        (b"[1]", {}, JSON),
        (b"[1", {}, RAW),
        (b"\xff", {}, RAW),
        (b"", {}, RAW),
        (b"[1]", {"content_type": "text/plain"}, RAW),
        (b"[1]", {"content_type": "application/json;charset=utf-8"}, JSON),
        (b"[1]", {"content_type": "application/geo+json"}, JSON),
    ],
)
async def test_a_body_is_json_if_it_says_so_or_says_nothing_and_is(
    body: bytes, headers: dict[str, str], encoding: int
) -> None:
    info = await created()
    async with live() as world:
        writer = await world.client()
        await writer.say("SEND", body, destination=f"/topic/{info.name}", **headers)
        assert writer.error is None
        [record] = (await topic_log.afetch(info.name, 0, 0)).records
        assert (record.value_bytes, record.encoding) == (body, encoding)


async def test_a_body_that_is_not_the_json_it_says_to_be_is_refused() -> None:
    info = await created()
    async with live() as world:
        writer = await world.client()
        await writer.say("SEND", "[1", destination=f"/topic/{info.name}", content_type="application/json", receipt="r")
        assert writer.error == "malformed_json"
        assert writer.receipts == []


async def test_a_subscription_begins_where_it_says_and_resumes_after_the_message_seen_last() -> None:
    info = await created()
    async with live() as world:
        one = await world.client()
        for number in range(4):
            await one.say("SEND", str(number), destination=f"/topic/{info.name}")
        await one.say("SUBSCRIBE", id="all", destination=f"/topic/{info.name}", offset="earliest")
        messages = await one.got(4)
        two = await world.client()
        await two.say("SUBSCRIBE", id="s", destination=f"/topic/{info.name}", offset="3", partition="0")
        await two.got(1)
        three = await world.client()
        resume = messages[1].headers["message-id"]
        await three.say("SUBSCRIBE", id="s", destination=f"/topic/{info.name}", resume=resume)
        await three.got(2)
        assert (two.bodies, three.bodies) == (["3"], ["2", "3"])


@pytest.mark.parametrize(
    "headers", [{"offset": "soon"}, {"offset": "-1"}, {"offset": "99"}, {"resume": "garbage"}, {"partition": "x"}]
)
async def test_a_position_that_cannot_be_is_an_error(headers: dict[str, str]) -> None:
    info = await created()
    async with live() as world:
        client = await world.client()
        await client.say("SUBSCRIBE", id="s", destination=f"/topic/{info.name}", **headers)
        assert client.error == "invalid_offset"


async def test_a_name_without_a_topic_is_a_plain_broadcast_until_a_topic_gets_it() -> None:
    name = unique()
    async with live() as world:
        reader, pattern, writer = [await world.client() for _ in range(3)]
        await reader.say("SUBSCRIBE", id="s", destination=f"/topic/{name}")
        await pattern.say("SUBSCRIBE", id="p", destination=f"/topic/{name[:-1]}*")
        await writer.say("SEND", "hello", destination=f"/topic/{name}", colour="blue", receipt="r")
        [message], _ = await reader.got(1), await pattern.got(1)
        assert message.headers["destination"] == f"/topic/{name}"
        assert message.headers["colour"] == "blue"
        await in_thread(lambda: topics.create(name))
        assert await reader.failed() == "topic_created"
        await until(lambda: reader.wire.closed is not None)
        await reader.session.closed()
        assert pattern.error is None


async def test_permission_on_the_name_is_needed_to_send_and_to_subscribe() -> None:
    info = await created()
    reads = granted("reader", ("read", "topic", info.name, "literal"))
    async with live() as world:
        client = await world.client(reads)
        await client.say("SUBSCRIBE", id="s", destination=f"/topic/{info.name}", receipt="r")
        assert client.receipts == ["r"]
        await client.say("SEND", "1", destination=f"/topic/{info.name}")
        assert client.error == "forbidden"
        for destination in ("/topic/other", "/topic/other/deep", f"/topic/{info.name}*", "/topic/**"):
            client = await world.client(reads)
            await client.say("SUBSCRIBE", id="s", destination=destination)
            assert client.error == "forbidden", destination


async def test_a_pattern_delivers_only_what_its_subscriber_may_read() -> None:
    name = unique()
    async with live() as world:
        rules = granted("reader", ("read", "topic", f"{name}.", "prefix"))
        reader, writer = await world.client(rules), await world.client()
        await reader.say("SUBSCRIBE", id="s", destination=f"/topic/{name}.*")
        for last in ("a", "b"):
            await writer.say("SEND", last, destination=f"/topic/{name}.{last}")
        await reader.got(2)
        await writer.say("SUBSCRIBE", id="s", destination=f"/topic/{name}.a", ack="client")
        await writer.say("SEND", "c", destination=f"/topic/{name}.a")
        [message] = await writer.got(1)
        await writer.say("ACK", id=message.headers["ack"], receipt="acked")
        assert writer.receipts == ["acked"]


async def test_a_users_own_destination_reaches_all_sessions_of_that_user_alone() -> None:
    async with live() as world:
        ada, again, bob = [await world.client(granted(name)) for name in ("ada", "ada", "bob")]
        for client in (ada, again, bob):
            await client.say("SUBSCRIBE", id="s", destination="/user/queue/replies")
        boss = await world.client()
        await boss.say("SEND", "hello", destination="/user/ada/queue/replies")
        for client in (ada, again):
            [message] = await client.got(1)
            assert message.headers["destination"] == "/user/queue/replies"
        await ada.say("SEND", "to myself", destination="/user/queue/replies")
        await again.got(2)
        await bob.say("SEND", "no", destination="/user/ada/queue/replies")
        assert bob.error == "forbidden"
        assert bob.messages == []
