"""Who may send and subscribe, asked at each SEND and SUBSCRIBE and again when what somebody may do has changed."""

from __future__ import annotations

from typing import Any

import pytest

from brokers.queues.declaring import declare_exchange
from tests.integration.brokers.queues.living import bodies, queue
from tests.integration.realtime.following import created, in_thread
from tests.integration.realtime.sessions import granted, live
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)


async def test_permission_is_needed_to_send_to_subscribe_and_to_declare() -> None:
    of, exchange = await in_thread(queue), unique("exchange")
    await in_thread(lambda: declare_exchange(exchange, type="fanout"))
    nobody = granted("nobody", ("describe", "queue", "", "prefix"))
    writer = granted("writer", ("write", "queue", "", "prefix"), ("read", "queue", "", "prefix"))
    async with live() as world:
        for command, destination in (
            ("SEND", f"/queue/{of.name}"),
            ("SEND", f"/exchange/{exchange}/a"),
            ("SEND", f"/amq/queue/{of.name}"),
            ("SUBSCRIBE", f"/queue/{of.name}"),
            ("SUBSCRIBE", f"/exchange/{exchange}/a"),
            ("SEND", "/user/somebody/queue/x"),
        ):
            client = await world.client(nobody)
            await client.say(command, "1" if command == "SEND" else "", id="s", destination=destination, receipt="r")
            assert (client.error, client.receipts) == ("forbidden", []), (command, destination)
        for command in ("SEND", "SUBSCRIBE"):
            client = await world.client(writer)
            await client.say(command, id="s", destination=f"/queue/{unique('queue')}")
            assert client.error == "forbidden"
        client = await world.client(writer)
        await client.say("SEND", "1", destination=f"/queue/{of.name}", receipt="r")
        assert client.receipts == ["r"]
        assert await in_thread(lambda: bodies(of)) == [1]


@pytest.mark.parametrize("exchange", ["", "elsewhere"])
async def test_a_declared_queue_dead_letters_only_where_its_declarer_may_send(exchange: str) -> None:
    name = unique("queue")
    everything = [(operation, "queue", name, "literal") for operation in ("read", "write", "create")]
    async with live() as world:
        client = await world.client(granted("writer", *everything))
        await client.say(
            "SEND",
            "1",
            destination=f"/queue/{name}",
            x_dead_letter_exchange=exchange,
            x_dead_letter_routing_key="theirs",
        )
        assert client.error == "forbidden"


async def test_a_permission_that_is_taken_away_ends_what_it_was_for() -> None:
    of, info = await in_thread(queue), await created()
    everything = [(operation, kind, "", "prefix") for operation in ("read", "write") for kind in ("queue", "topic")]
    for destination in (f"/queue/{of.name}", f"/topic/{info.name}", "/topic/plain", "/topic/pl*", "/topic/a/b"):
        async with live() as world:
            client, other = [await world.client(granted("reader", *everything)) for _ in range(2)]
            await client.say("SUBSCRIBE", id="s", destination=destination, receipt="r")
            assert client.receipts == ["r"], destination
            await other.say("SUBSCRIBE", id="s", destination="/user/queue/own")
            for each in (client, other):
                world.hub.registry._change(each.connection, granted("reader", ("write", "topic", "", "prefix")))
            assert (client.error, other.error) == ("forbidden", None), destination
            assert client.wire.closed == (1008, "forbidden")
            await other.say("SEND", "1", destination=f"/queue/{of.name}")
            assert other.error == "forbidden"


async def test_a_permission_that_goes_while_a_subscription_begins_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    info = await created()
    async with live() as world:
        client = await world.client(granted("reader", ("read", "topic", info.name, "literal")))
        real = world.hub.feeds.join

        async def slow(*arguments: Any, **options: Any) -> Any:
            joined = await real(*arguments, **options)
            world.hub.registry._change(client.connection, granted("reader"))
            return joined

        monkeypatch.setattr(world.hub.feeds, "join", slow)
        await client.say("SUBSCRIBE", id="s", destination=f"/topic/{info.name}", receipt="r")
        assert (client.error, client.receipts) == ("forbidden", [])
        assert client.connection.subscriptions == {}
