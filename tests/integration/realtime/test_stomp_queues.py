"""/queue over STOMP: messages are claimed, settled as the ack mode says, and go back when their consumer goes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from brokers.models import DeadLetter, Queue
from brokers.queues.declaring import declare_exchange, delete_queue
from brokers.queues.topology import QueueInfo
from realtime.stomp.session import MAX_SUBSCRIPTIONS
from tests.integration.brokers.queues.living import bodies, pass_time, put, queue, take, tend
from tests.integration.realtime.following import created, in_thread
from tests.integration.realtime.sessions import granted, live
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)


async def test_a_queue_is_declared_when_missing_and_delivers_to_its_consumer() -> None:
    name = unique("queue")
    async with live() as world:
        writer, reader = await world.client(), await world.client()
        await writer.say("SEND", '{"n":1}', destination=f"/queue/{name}", colour="blue", receipt="stored")
        assert writer.receipts == ["stored"]
        await reader.say("SUBSCRIBE", id="s", destination=f"/queue/{name}")
        [message] = await reader.got(1)
        assert message.body == b'{"n":1}'
        headers = message.headers
        assert (headers["subscription"], headers["destination"]) == ("s", f"/queue/{name}")
        assert (headers["redelivered"], headers["colour"]) == ("false", "blue")
        assert "ack" not in headers
        of = await in_thread(lambda: queue(name))
        for _ in range(1000):
            if not await in_thread(lambda: bodies(of)):
                break
        assert await in_thread(lambda: bodies(of)) == []


async def test_an_ack_of_mode_client_settles_all_before_it_and_the_rest_goes_back() -> None:
    of = await in_thread(queue)
    await in_thread(lambda: put(of, 1, 2, 3, 4))
    async with live() as world:
        reader = await world.client()
        await reader.say("SUBSCRIBE", id="s", destination=f"/queue/{of.name}", ack="client")
        messages = await reader.got(4)
        await reader.say("ACK", id=messages[2].headers["ack"], receipt="acked")
        assert reader.receipts == ["acked"]
        await reader.say("DISCONNECT", receipt="bye")
        again = await world.client()
        await again.say("SUBSCRIBE", id="s", destination=f"/queue/{of.name}", ack="client")
        [message] = await again.got(1)
        assert (message.body, message.headers["redelivered"]) == (b"4", "true")
        await again.say("ACK", id=messages[2].headers["ack"])
        assert again.error == "unknown_ack"


async def test_prefetch_bounds_what_is_under_way() -> None:
    of = await in_thread(queue)
    await in_thread(lambda: put(of, 1, 2, 3, 4, 5))
    async with live() as world:
        reader = await world.client()
        await reader.say(
            "SUBSCRIBE", id="s", destination=f"/queue/{of.name}", ack="client-individual", prefetch_count="2"
        )
        first, second = await reader.got(2)
        await reader.say("ACK", id=second.headers["ack"])
        messages = await reader.got(3)
        assert reader.bodies == ["1", "2", "3"]
        await reader.say("NACK", id=first.headers["ack"], requeue="true")
        await reader.got(4)
        assert reader.messages[3].headers["redelivered"] == "true"
        await reader.say("ACK", id=messages[2].headers["ack"])
        await reader.got(5)


# -- settling ------------------------------------------------------------------------------------------------------


async def letters(of: QueueInfo) -> list[tuple[str, str]]:
    """Reason and note of a queue's dead letters."""
    found = DeadLetter.objects.filter(source_kind="queue", source=of.name).order_by("id")
    return await in_thread(lambda: list(found.values_list("reason", "error")))  # type: ignore[no-any-return]


async def left(of: QueueInfo) -> list[Any]:
    return await in_thread(lambda: bodies(of))  # type: ignore[no-any-return]


async def until_left(of: QueueInfo, *expected: Any) -> None:
    """What is acknowledged without a receipt is gone soon."""
    async with asyncio.timeout(10):
        while await left(of) != list(expected):
            await asyncio.sleep(0.005)


async def test_a_nack_dead_letters_all_before_it_too_in_mode_client() -> None:
    of = await in_thread(queue)
    await in_thread(lambda: put(of, 1, 2, 3))
    async with live() as world:
        reader = await world.client()
        await reader.say("SUBSCRIBE", id="s", destination=f"/queue/{of.name}", ack="client")
        messages = await reader.got(3)
        await reader.say("NACK", id=messages[1].headers["ack"], reason="no such flight", receipt="r")
        assert reader.receipts == ["r"]
        assert [reason for reason, _ in await letters(of)] == ["rejected", "rejected"]
        assert "no such flight" in (await letters(of))[0][1]
        assert await left(of) == [3]


async def test_a_nack_of_mode_client_individual_is_of_one_message() -> None:
    of = await in_thread(queue)
    await in_thread(lambda: put(of, 1, 2, 3))
    async with live() as world:
        reader = await world.client()
        await reader.say("SUBSCRIBE", id="s", destination=f"/queue/{of.name}", ack="client-individual")
        messages = await reader.got(3)
        await reader.say("NACK", id=messages[1].headers["ack"], receipt="r")
        assert len(await letters(of)) == 1
        assert await left(of) == [1, 3]
        await reader.say("NACK", id=messages[0].headers["ack"], requeue="perhaps")
        assert reader.error == "invalid_header"


async def test_an_ack_of_mode_client_is_of_its_own_subscription_alone() -> None:
    one, two = await in_thread(queue), await in_thread(queue)
    await in_thread(lambda: [put(of, 1, 2) for of in (one, two)])
    async with live() as world:
        reader = await world.client()
        for of in (one, two):
            await reader.say("SUBSCRIBE", id=of.name, destination=f"/queue/{of.name}", ack="client")
        messages = await reader.got(4)
        last = [message for message in messages if message.headers["subscription"] == two.name][-1]
        await reader.say("ACK", id=last.headers["ack"], receipt="r")
        assert (await left(one), await left(two)) == ([1, 2], [])


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_earlier_versions_acknowledge_by_the_message_id(version: str) -> None:
    of = await in_thread(queue)
    await in_thread(lambda: put(of, 1, 2))
    async with live() as world:
        reader = await world.client(version=version)
        await reader.say("SUBSCRIBE", id="s", destination=f"/queue/{of.name}", ack="client")
        messages = await reader.got(2)
        headers = {"message_id": messages[1].headers["message-id"], "receipt": "r"}
        if version == "1.1":
            headers["subscription"] = "s"
        await reader.say("ACK", **headers)
        assert (reader.receipts, await left(of)) == (["r"], [])
        await reader.say("ACK", **{name: text for name, text in headers.items() if name != "message_id"})
        assert reader.error == "missing_id"


async def test_1_1_names_the_subscription_too() -> None:
    of = await in_thread(queue)
    await in_thread(lambda: put(of, 1))
    async with live() as world:
        reader = await world.client(version="1.1")
        await reader.say("SUBSCRIBE", id="s", destination=f"/queue/{of.name}", ack="client")
        [message] = await reader.got(1)
        await reader.say("ACK", message_id=message.headers["message-id"])
        assert reader.error == "missing_id"


async def test_acks_without_receipts_are_stored_together_and_before_whatever_follows() -> None:
    of = await in_thread(queue)
    await in_thread(lambda: put(of, *range(20)))
    async with live() as world:
        reader = await world.client()
        await reader.say("SUBSCRIBE", id="s", destination=f"/queue/{of.name}", ack="client-individual")
        messages = await reader.got(20)
        await reader.pour(*[reader.frame("ACK", id=message.headers["ack"]) for message in messages[:15]])
        await until_left(of, *range(15, 20))
        await reader.pour(
            *[reader.frame("ACK", id=message.headers["ack"]) for message in messages[15:]],
            reader.frame("DISCONNECT", receipt="bye"),
        )
        assert reader.receipts == ["bye"]
        assert await left(of) == []


@pytest.mark.parametrize("asks", [{}, {"receipt": "r"}])
async def test_what_was_taken_back_meanwhile_is_said_to_be_lost(asks: dict[str, str]) -> None:
    of = await in_thread(queue)
    await in_thread(lambda: put(of, 1))
    async with live() as world:
        reader = await world.client()
        await reader.say("SUBSCRIBE", id="s", destination=f"/queue/{of.name}", ack="client", prefetch_count="1")
        [message] = await reader.got(1)
        await in_thread(lambda: pass_time(of, "lease_until"))
        await in_thread(tend)
        await in_thread(lambda: take(of))
        await reader.say("ACK", id=message.headers["ack"], **asks)
        assert await reader.failed() == "lease_lost"
        assert reader.receipts == []
        assert len(await left(of)) == 1


async def test_an_ack_of_mode_auto_or_a_second_one_is_an_error() -> None:
    of = await in_thread(queue)
    await in_thread(lambda: put(of, 1))
    async with live() as world:
        for mode in ("client", "auto"):
            reader = await world.client()
            await reader.say("SUBSCRIBE", id="s", destination=f"/queue/{of.name}", ack=mode)
            [message] = await reader.got(1)
            await reader.say("NACK", id=message.headers["message-id"], requeue="true", receipt="r")
            if mode == "client":
                assert reader.receipts == ["r"]
                await reader.say("UNSUBSCRIBE", id="s")
                await reader.say("SUBSCRIBE", id="s", destination="/topic/x", ack="client")
                await reader.say("ACK", id=message.headers["message-id"])
            assert reader.error == "unknown_ack"


async def test_records_and_broadcasts_need_no_settling_beside_a_queue_that_does() -> None:
    of, info = await in_thread(queue), await created()
    await in_thread(lambda: put(of, 1))
    async with live() as world:
        reader = await world.client()
        await reader.say("SUBSCRIBE", id="q", destination=f"/queue/{of.name}", ack="client")
        await reader.got(1)
        await reader.say("SUBSCRIBE", id="t", destination=f"/topic/{info.name}", ack="client")
        await reader.say("SEND", "2", destination=f"/topic/{info.name}")
        record = (await reader.got(2))[1]
        await reader.say("ACK", id=record.headers["ack"], receipt="r")
        assert (reader.receipts, reader.error) == (["r"], None)


# -- consumers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["UNSUBSCRIBE", "DISCONNECT", "error", "gone"])
async def test_messages_go_back_when_their_consumer_goes_however_it_goes(command: str) -> None:
    of = await in_thread(queue)
    await in_thread(lambda: put(of, 1, 2))
    async with live() as world:
        reader, other = await world.client(), await world.client()
        await reader.say("SUBSCRIBE", id="s", destination=f"/queue/{of.name}", ack="client")
        await reader.got(2)
        await other.say("SUBSCRIBE", id="s", destination=f"/queue/{of.name}", ack="client")
        if command == "error":
            await reader.say("SUBSCRIBE", id="s", destination="/topic/a")
            assert reader.error == "duplicate_subscription"
        elif command == "gone":
            await reader.leave()
        else:
            await reader.say(command, id="s")
        messages = await other.got(2)
        assert {message.headers["redelivered"] for message in messages} == {"true"}


async def test_consumers_compete_for_messages() -> None:
    of = await in_thread(queue)
    async with live() as world:
        readers = [await world.client() for _ in range(2)]
        for reader in readers:
            await reader.say(
                "SUBSCRIBE", id="s", destination=f"/queue/{of.name}", ack="client-individual", prefetch_count="5"
            )
        await readers[0].pour(
            *[readers[0].frame("SEND", str(number), destination=f"/queue/{of.name}") for number in range(10)]
        )
        for reader in readers:
            await reader.got(5)
        assert sorted(readers[0].bodies + readers[1].bodies) == [str(number) for number in range(10)]


async def test_a_queue_that_is_deleted_ends_its_subscriptions() -> None:
    of = await in_thread(queue)
    async with live() as world:
        reader = await world.client()
        await reader.say("SUBSCRIBE", id="s", destination=f"/queue/{of.name}")
        await in_thread(lambda: delete_queue(of.name))
        assert await reader.failed() == "queue_not_found"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"prefetch_count": "many"}, "invalid_prefetch_count"),
        ({"prefetch_count": "-1"}, "invalid_prefetch_count"),
        ({"prefetch_count": "10001"}, "invalid_prefetch_count"),
        ({"ack": "sometimes"}, "invalid_ack_mode"),
        ({"destination": "/amq/queue/none-such"}, "queue_not_found"),
        ({"destination": "/exchange/none-such/key"}, "exchange_not_found"),
        ({"destination": "/temp-queue/mine"}, "invalid_destination"),
        ({"destination": "/reply-queue/theirs"}, "invalid_destination"),
        ({"destination": "/app/hello"}, "invalid_destination"),
    ],
)
async def test_a_subscription_that_cannot_be(headers: dict[str, str], code: str) -> None:
    async with live() as world:
        reader = await world.client()
        await reader.say("SUBSCRIBE", **({"id": "s", "destination": f"/queue/{unique()}", "receipt": "r"} | headers))
        assert (reader.error, reader.receipts) == (code, [])


async def test_an_exchange_is_subscribed_to_through_a_queue_that_goes_with_the_subscription() -> None:
    name = unique("exchange")
    await in_thread(lambda: declare_exchange(name, type="topic"))
    async with live() as world:
        writer, reader = await world.client(), await world.client()
        await reader.say("SUBSCRIBE", id="s", destination=f"/exchange/{name}/delayed.*", ack="client", receipt="r")
        assert reader.receipts == ["r"]
        for key in ("delayed.EWR", "cancelled.EWR", "delayed.JFK"):
            await writer.say("SEND", f'"{key}"', destination=f"/exchange/{name}/{key}")
        messages = await reader.got(2)
        assert [message.headers["destination"] for message in messages] == [
            f"/exchange/{name}/delayed.EWR",
            f"/exchange/{name}/delayed.JFK",
        ]
        temporary = Queue.objects.filter(temporary=True, name__startswith="live.")
        assert await in_thread(temporary.count) == 1
        await reader.say("UNSUBSCRIBE", id="s")
        await world.hub.temporary_queues.drain()
        assert await in_thread(temporary.count) == 0


async def test_answers_come_to_a_queue_of_the_sessions_own() -> None:
    of = await in_thread(queue)
    answerer = granted("answerer", ("read", "queue", of.name, "literal"))
    async with live() as world:
        asker, worker = await world.client(), await world.client(answerer)
        await worker.say("SUBSCRIBE", id="s", destination=f"/queue/{of.name}")
        for number in ("1", "2"):
            await asker.say(
                "SEND", number, destination=f"/queue/{of.name}", reply_to="/temp-queue/mine", correlation_id=number
            )
        for question in await worker.got(2):
            assert question.headers["reply-to"].startswith("/reply-queue/reply.")
            await worker.say(
                "SEND",
                "answer",
                destination=question.headers["reply-to"],
                correlation_id=question.headers["correlation-id"],
            )
        assert worker.error is None
        answers = await asker.got(2)
        assert {answer.headers["subscription"] for answer in answers} == {"/temp-queue/mine"}
        assert [answer.headers["correlation-id"] for answer in answers] == ["1", "2"]
        assert list(asker.connection.subscriptions) == ["/temp-queue/mine"]
        await worker.say("SEND", "1", destination=f"/reply-queue/{of.name}")
        assert worker.error == "forbidden"


async def test_who_waits_for_an_answer_no_more_costs_its_sender_nothing() -> None:
    async with live() as world:
        client = await world.client(granted("answerer"))
        await client.say("SEND", "late", destination="/reply-queue/reply.0123456789", receipt="r")
        assert (client.receipts, client.error) == (["r"], None)


async def test_queues_for_answers_count_as_subscriptions() -> None:
    of = await in_thread(queue)
    async with live() as world:
        client = await world.client()
        for number in range(MAX_SUBSCRIPTIONS):
            await client.say("SUBSCRIBE", id=str(number), destination="/user/queue/own")
        await client.say("SEND", "1", destination=f"/queue/{of.name}", reply_to="/temp-queue/mine")
        assert client.error == "too_many_subscriptions"
        client = await world.client()
        await client.say("SUBSCRIBE", id="/temp-queue/mine", destination="/topic/other")
        await client.say("SEND", "1", destination=f"/queue/{of.name}", reply_to="/temp-queue/mine")
        assert client.error == "duplicate_subscription"
