"""/queue over STOMP: messages are claimed, settled as the ack mode says, and go back when their consumer goes."""

from __future__ import annotations

import pytest

from tests.integration.brokers.queues.living import bodies, put, queue
from tests.integration.realtime.following import in_thread
from tests.integration.realtime.sessions import live
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
