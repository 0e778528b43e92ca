"""SENDs that come together are stored together: in order, each with its receipt, up to the first that is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from brokers import topic_log, topics
from brokers.errors import Unavailable
from brokers.outgoing import Outgoing
from brokers.topics import TopicInfo
from realtime import mappings, message_mapping
from realtime.stomp import outbox
from tests.integration.brokers.queues.living import bodies, queue
from tests.integration.realtime.following import created, in_thread, until
from tests.integration.realtime.sessions import Client, granted, live
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)


async def values(info: TopicInfo, partition: int = 0) -> list[str]:
    """What a partition holds."""
    return [
        (record.value_bytes or b"").decode()
        for record in (await topic_log.afetch(info.name, partition, 0, 1000)).records
    ]


def sends(client: Client, destination: str, *bodies: str, **headers: str) -> list[bytes]:
    """SENDs whose receipts are their bodies."""
    return [client.frame("SEND", body, destination=destination, receipt=body, **headers) for body in bodies]


@pytest.fixture
def appends(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many records were appended with each other."""
    sizes: list[int] = []
    real = topic_log.aappend

    async def counted(info: TopicInfo, batches: Any) -> Any:
        sizes.append(sum(batch.record_count for _, batch in batches))
        return await real(info, batches)

    monkeypatch.setattr(topic_log, "aappend", counted)
    return sizes


async def test_records_that_come_in_one_piece_are_one_append(appends: list[int]) -> None:
    info = await created()
    numbers = list(map(str, range(100)))
    async with live() as world:
        client = await world.client()
        await client.pour(*sends(client, f"/topic/{info.name}", *numbers))
        assert client.receipts == numbers
        assert await values(info) == numbers
        assert appends == [100]


async def test_what_comes_while_others_are_stored_follows_together(
    appends: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    info = await created()
    hold = asyncio.Event()
    async with live() as world:
        client = await world.client()
        real = world.hub.coalescer.publish

        async def held(info: TopicInfo, outgoing: Outgoing) -> Any:
            await hold.wait()
            return await real(info, outgoing)

        monkeypatch.setattr(world.hub.coalescer, "publish", held)
        for frame in sends(client, f"/topic/{info.name}", *"abcdef"):
            await client.session.received(frame)
            await asyncio.sleep(0)
        assert client.receipts == []
        hold.set()
        await client.session.done()
        assert client.receipts == list("abcdef")
        assert await values(info) == list("abcdef")
        assert appends == [1, 5]


async def test_destinations_may_alternate() -> None:
    one, two, of = await created(), await created(), await in_thread(queue)
    async with live() as world:
        client, reader = await world.client(), await world.client()
        await reader.say("SUBSCRIBE", id="s", destination="/topic/plain", receipt="r")
        pieces = []
        for n in range(0, 30, 5):
            for place, to in enumerate((one.name, one.name, two.name, "plain")):
                pieces += sends(client, f"/topic/{to}", str(n + place))
            pieces += sends(client, f"/queue/{of.name}", str(n + 4))
        await client.pour(*pieces)
        assert client.receipts == [str(n) for n in range(30)]
        assert await values(one) == [str(n) for n in range(30) if n % 5 < 2]
        assert await values(two) == [str(n) for n in range(30) if n % 5 == 2]
        assert await in_thread(lambda: bodies(of)) == [n for n in range(30) if n % 5 == 4]
        await reader.got(6)
        assert reader.bodies == [str(n) for n in range(30) if n % 5 == 3]


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"partition": "7"}, "partition_not_found"),
        ({"partition": "x"}, "invalid_value"),
        ({"content_type": "application/json"}, "malformed_json"),
        ({"message_id": "mine"}, "invalid_header"),
        ({"destination": "/nowhere/a"}, "invalid_destination"),
        ({"destination": "/topic/forbidden"}, "forbidden"),
        ({"destination": ""}, "missing_destination"),
    ],
)
async def test_one_that_is_refused_takes_nothing_from_those_before_it(bad: dict[str, str], code: str) -> None:
    info = await created()
    principal = granted("writer", ("write", "topic", info.name, "literal"))
    async with live() as world:
        client = await world.client(principal)
        destination = f"/topic/{info.name}"
        wrong = client.frame("SEND", "{bad", **({"destination": destination, "receipt": "bad"} | bad))
        await client.pour(*sends(client, destination, *"ab"), wrong, *sends(client, destination, *"cd"))
        assert client.receipts == ["a", "b"]
        assert client.error == code
        assert client.wire.frames[-1].headers["receipt-id"] == "bad"
        assert await values(info) == ["a", "b"]


async def test_a_record_too_large_is_told_from_its_neighbours() -> None:
    info = await created(max_record_bytes=1024)
    async with live() as world:
        client = await world.client()
        destination = f"/topic/{info.name}"
        large = client.frame("SEND", "x" * 2000, destination=destination, receipt="large")
        await client.pour(*sends(client, destination, *"ab"), large, *sends(client, destination, *"cd"))
        assert (client.receipts, client.error) == (["a", "b"], "record_too_large")
        assert await values(info) == ["a", "b"]


async def test_a_queue_takes_what_it_has_room_for_and_refuses_the_next() -> None:
    of = await in_thread(lambda: queue(max_length=3, overflow="reject-publish"))
    async with live() as world:
        client = await world.client()
        await client.pour(*sends(client, f"/queue/{of.name}", "1", "2", "3", "4", "5"))
        assert (client.receipts, client.error) == (["1", "2", "3"], "queue_full")
        assert client.wire.frames[-1].headers["receipt-id"] == "4"
        assert await in_thread(lambda: bodies(of)) == [1, 2, 3]


async def test_a_queue_that_drops_its_oldest_is_cut_to_its_length() -> None:
    of = await in_thread(lambda: queue(max_length=3))
    async with live() as world:
        client = await world.client()
        await client.pour(*sends(client, f"/queue/{of.name}", "1", "2", "3", "4", "5"))
        assert client.error is None
        assert await in_thread(lambda: bodies(of)) == [3, 4, 5]


async def test_a_frame_that_cannot_be_read_ends_what_was_read_before_it_in_good_order() -> None:
    info = await created()
    async with live() as world:
        client = await world.client()
        await client.pour(*sends(client, f"/topic/{info.name}", *"ab"), b"NONSENSE\n\n\0")
        assert (client.receipts, client.error) == (["a", "b"], "unknown_command")
        assert "receipt-id" not in client.wire.frames[-1].headers
        assert await values(info) == ["a", "b"]


async def test_when_the_store_is_away_nothing_is_receipted(monkeypatch: pytest.MonkeyPatch) -> None:
    info = await created()
    async with live() as world:
        client = await world.client()

        async def away(*_: object) -> None:
            raise Unavailable("the database cannot be used now")

        monkeypatch.setattr(world.hub.coalescer, "publish", away)
        await client.pour(*sends(client, f"/topic/{info.name}", *"abc"))
        assert (client.receipts, client.error) == ([], "store_unavailable")
        assert client.wire.frames[-1].headers["receipt-id"] == "a"
        assert client.wire.closed == (1011, "store_unavailable")
        assert await values(info) == []


async def test_what_a_client_sent_before_it_went_is_stored() -> None:
    info = await created()
    numbers = list(map(str, range(outbox.MAX_FRAMES * 3)))
    async with live() as world:
        client = await world.client()
        await client.session.received(b"".join(sends(client, f"/topic/{info.name}", *numbers)))
        await client.session.closed()
        assert await values(info) == numbers


async def test_no_more_is_read_than_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    hold = asyncio.Event()
    info = await created()
    async with live() as world:
        client = await world.client()
        real = world.hub.coalescer.publish

        async def held(info: TopicInfo, outgoing: Outgoing) -> Any:
            await hold.wait()
            return await real(info, outgoing)

        monkeypatch.setattr(world.hub.coalescer, "publish", held)
        numbers = list(map(str, range(outbox.MAX_FRAMES * 2)))
        reading = asyncio.create_task(client.session.received(b"".join(sends(client, f"/topic/{info.name}", *numbers))))
        await until(lambda: client.connection.received > outbox.MAX_FRAMES)
        for _ in range(20):
            await asyncio.sleep(0)
        assert not reading.done()
        assert client.connection.received < len(numbers)
        hold.set()
        await reading
        await client.session.done()
        assert client.receipts == numbers


async def test_a_topic_deleted_meanwhile_makes_plain_broadcasts_of_what_follows() -> None:
    info = await created()
    async with live() as world:
        client = await world.client()
        await client.pour(*sends(client, f"/topic/{info.name}", "a"))
        await in_thread(lambda: topics.delete(info.name))
        await client.pour(*sends(client, f"/topic/{info.name}", "b", "c"))
        assert (client.receipts, client.error) == (["a", "b", "c"], None)


async def test_a_tombstone_and_text_keep_what_they_are() -> None:
    info = await created()
    async with live() as world:
        client, reader = await world.client(), await world.client()
        await reader.say("SUBSCRIBE", id="s", destination=f"/topic/{info.name}", receipt="r")
        await client.say("SEND", "null", destination=f"/topic/{info.name}", key="k")
        await client.say("SEND", "hello", destination=f"/topic/{info.name}", content_type="text/plain")
        tombstone, text = await reader.got(2)
        assert (tombstone.body, tombstone.headers["tombstone"], tombstone.headers["key"]) == (b"", "true", "k")
        assert (text.body, text.headers["content-type"]) == (b"hello", "text/plain")
        assert "tombstone" not in text.headers


@pytest.mark.parametrize(
    ("destination", "code"),
    [
        ("/topic/some.*", "invalid_destination"),
        ("/user/queue/*", "invalid_destination"),
        ("/temp-queue/mine", "invalid_destination"),
        ("/exchange/none-such/key", "exchange_not_found"),
        ("/amq/queue/none-such", "queue_not_found"),
    ],
)
async def test_what_nothing_can_be_sent_to(destination: str, code: str) -> None:
    async with live() as world:
        client = await world.client()
        await client.say("SEND", "1", destination=destination, receipt="r")
        assert (client.error, client.receipts) == (code, [])


async def test_a_queue_is_declared_as_the_headers_say() -> None:
    name = unique("queue")
    async with live() as world:
        client = await world.client()
        await client.say(
            "SEND", "1", destination=f"/queue/{name}", priority="4", x_max_priority="5", x_message_ttl="60000"
        )
        assert client.error is None
        await client.say("SUBSCRIBE", id="s", destination=f"/queue/{name}", x_max_priority="9")
        [message] = await client.got(1)
        assert message.headers["priority"] == "4"
        assert "x-max-priority" not in message.headers
        await client.say("SEND", "1", destination=f"/queue/{unique('queue')}", x_max_priority="many")
        assert client.error == "invalid_header"


async def test_an_applications_handler_is_called_and_its_answer_is_sent_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mappings, "_mappings", {})
    monkeypatch.setattr(mappings, "_ordered", [])
    called: list[tuple[str, object, str]] = []

    @message_mapping("/rooms/{room}/say")
    async def say(text: dict[str, str], room: str, user: str) -> dict[str, str]:
        called.append((room, text, user))
        if not text:
            raise ValueError("nothing to say")
        return {"from": user, **text}

    async with live() as world:
        client = await world.client(granted("ada", ("read", "topic", "rooms/", "prefix")))
        await client.say("SUBSCRIBE", id="s", destination="/topic/rooms/7/say")
        for body in ('{"text": "hello"}', "{}"):
            await client.say("SEND", body, destination="/app/rooms/7/say", receipt=body)
        await client.say("SEND", "1", destination="/app/nobody/is/there", receipt="nobody")
        [answer] = await client.got(1)
        assert answer.body == b'{"from":"ada","text":"hello"}'
        assert answer.headers["content-type"] == "application/json"
        assert called == [("7", {"text": "hello"}, "ada"), ("7", {}, "ada")]
        assert client.receipts == ['{"text": "hello"}', "{}", "nobody"]
        await client.say("SEND", "[1]", destination="/app/rooms/7/say", receipt="wrong")
        assert client.error == "invalid_type"
        assert len(called) == 2
