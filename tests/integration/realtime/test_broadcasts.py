"""Broadcasts through Valkey: from synchronous and asynchronous code to those who are subscribed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
import redis
from django.conf import settings
from django.db import connections, transaction

from brokers import database, topic_log, topics
from brokers.errors import BrokerError, InvalidValue, TooLarge
from brokers.wakeup import Hub
from realtime import abroadcast, announcing, asend_to_user, broadcast, broadcasting, broadcasts, send_to_user
from realtime.broadcasts import Broadcasts
from realtime.plain_names import PlainNames
from realtime.subscribers import Batch, BroadcastEvent

pytestmark = pytest.mark.django_db(transaction=True)


async def in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    def run() -> Any:
        try:
            return function(*args, **kwargs)
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


class Listener:
    """A subscriber that keeps what it takes."""

    def __init__(self) -> None:
        self.events: list[BroadcastEvent] = []
        self.batches: list[Batch] = []
        self._changed = asyncio.Event()

    def take(self, batch: Batch) -> None:
        self.batches.append(batch)
        for event in batch.events:
            assert isinstance(event, BroadcastEvent)
            self.events.append(event)
        self._changed.set()

    async def take_waiting(self, batch: Batch) -> bool:
        self.take(batch)
        return True

    def stop(self, error: BrokerError) -> None:
        raise error

    async def until(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not enough():
                self._changed.clear()
                await self._changed.wait()

    async def bodies(self, count: int) -> list[bytes]:
        await self.until(lambda: len(self.events) >= count)
        return [event.body for event in self.events]


@pytest_asyncio.fixture
async def live() -> AsyncIterator[Broadcasts]:
    broadcasting.forget_plain()
    made = Broadcasts()
    made.start()
    async with asyncio.timeout(10):
        while not made.connected:
            await asyncio.sleep(0)
    yield made
    await made.stop()
    await database.close()


async def test_synchronous_code_reaches_a_subscriber(live: Broadcasts) -> None:
    listener = Listener()
    await live.subscribe("/topic/greetings", listener)
    await in_thread(broadcast, "/topic/greetings", {"text": "hello"}, headers={"lang": "en"})
    await listener.bodies(1)
    event = listener.events[0]
    assert event.destination == "/topic/greetings"
    assert event.body == b'{"text":"hello"}'
    assert event.content_type == "application/json"
    assert event.headers == {"lang": "en"}


async def test_asynchronous_code_reaches_a_subscriber(live: Broadcasts) -> None:
    listener = Listener()
    await live.subscribe("/topic/greetings", listener)
    await abroadcast("/topic/greetings", b"\x00\x01")
    await abroadcast("/topic/greetings", b"<b>", headers={"content-type": "text/html"})
    assert await listener.bodies(2) == [b"\x00\x01", b"<b>"]
    assert [event.content_type for event in listener.events] == ["application/octet-stream", "text/html"]
    assert listener.events[0].message_id != listener.events[1].message_id


async def test_the_order_is_kept(live: Broadcasts) -> None:
    listener, everything = Listener(), Listener()
    await live.subscribe("/topic/numbers", listener)
    await live.subscribe("/topic/num*", everything)
    for number in range(2000):
        announcing.announce("/topic/numbers", b"%d" % number, "text/plain", {})
    expected = [b"%d" % number for number in range(2000)]
    assert await listener.bodies(2000) == expected
    assert await everything.bodies(2000) == expected
    assert len(listener.batches) < 2000


async def test_a_rollback_sends_nothing_and_a_savepoint_takes_back_its_own(live: Broadcasts) -> None:
    listener = Listener()
    await live.subscribe("/topic/orders", listener)

    def work() -> None:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            broadcast("/topic/orders", "rolled back")
            raise ZeroDivisionError
        with transaction.atomic():
            broadcast("/topic/orders", "first")
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                broadcast("/topic/orders", "of the savepoint")
                raise ZeroDivisionError
            broadcast("/topic/orders", "second")
            assert announcing.flush(5)
            assert not listener.events
        broadcast("/topic/orders", "third")

    await in_thread(work)
    assert await listener.bodies(3) == [b'"first"', b'"second"', b'"third"']


async def test_a_user_is_reached_on_all_sessions_and_nobody_else(live: Broadcasts) -> None:
    name = "anna/*?%@example.org"
    first, second, other = Listener(), Listener(), Listener()
    await live.subscribe("/queue/replies", first, user=name)
    await live.subscribe("/queue/*", second, user=name)
    await live.subscribe("/queue/replies", other, user="anna")
    await live.subscribe("/**", other, allowed=lambda name: True)
    await live.subscribe("/*/*/queue/replies", other)
    await in_thread(send_to_user, name, "/queue/replies", 1)
    await asend_to_user(name, "/queue/replies", 2)
    await abroadcast("/topic/end", 3)
    assert await first.bodies(2) == [b"1", b"2"]
    assert await second.bodies(2) == [b"1", b"2"]
    assert await other.bodies(1) == [b"3"]
    assert {event.destination for event in first.events} == {"/user/queue/replies"}


async def test_a_pattern_receives_what_is_allowed(live: Broadcasts) -> None:
    everything, some = Listener(), Listener()
    await live.subscribe("/topic/price.*", everything)
    await live.subscribe("/topic/price.*", some, allowed=lambda destination: destination != "/topic/price.secret")
    for name in ("price.a", "price.secret", "price.b", "other"):
        await abroadcast(f"/topic/{name}", name)
    await everything.until(lambda: len(everything.events) == 3)
    await some.until(lambda: len(some.events) == 2)
    assert {event.destination for event in some.events} == {"/topic/price.a", "/topic/price.b"}


async def test_after_unsubscribing_nothing_comes(live: Broadcasts) -> None:
    gone, staying = Listener(), Listener()
    for destination in ("/topic/chat", "/topic/*"):
        await live.subscribe(destination, gone)
        await live.subscribe(destination, staying)
        live.unsubscribe(destination, gone)
        live.unsubscribe(destination, gone)
    await abroadcast("/topic/chat", 1)
    assert await staying.bodies(2) == [b"1", b"1"]
    assert not gone.events


async def test_a_topic_of_the_log_gets_a_record(live: Broadcasts) -> None:
    await in_thread(topics.create, "departures", partitions=1)
    listener = Listener()
    await live.subscribe("/topic/departures", listener)
    await abroadcast("/topic/departures", {"flight": 1})
    await in_thread(broadcast, "/topic/departures", {"flight": 2}, headers={"carrier": "UA"})
    assert announcing.flush(5)
    records = (await topic_log.afetch("departures", 0, 0)).records
    assert [record.value for record in records] == [{"flight": 1}, {"flight": 2}]
    assert records[1].headers == {"carrier": "UA"}
    assert not listener.events


@pytest.mark.parametrize(
    ("destination", "payload", "options"),
    [
        ("/queue/x", 1, {}),
        ("topic/x", 1, {}),
        ("/topic/*", 1, {}),
        ("/user/queue/x", 1, {}),
        ("/app/x", 1, {}),
        ("/topic/a/../b", 1, {}),
        (7, 1, {}),
        ("/topic/x", object(), {}),
        ("/topic/x", b"x" * (broadcasting.MAX_BROADCAST_BYTES + 1), {}),
        ("/topic/x", 1, {"headers": {"destination": "/topic/y"}}),
        ("/topic/x", 1, {"headers": {"n": 1}}),
    ],
)
async def test_what_cannot_be_sent_is_refused(destination: Any, payload: object, options: dict[str, Any]) -> None:
    with pytest.raises(BrokerError):
        await in_thread(broadcast, destination, payload, **options)


@pytest.mark.parametrize(("user", "destination"), [("", "/queue/x"), (None, "/queue/x"), ("a", "x"), ("a", "/queue/*")])
async def test_a_user_destination_that_cannot_be_is_refused(user: Any, destination: str) -> None:
    with pytest.raises(BrokerError):
        await asend_to_user(user, destination, 1)


@pytest.mark.parametrize("joined", ["/topic/a", "/topic/*"])
async def test_a_subscription_counts_from_its_confirmation_on(live: Broadcasts, joined: str) -> None:
    for number in range(20):
        listener = Listener()
        await live.subscribe(joined, listener)
        await abroadcast("/topic/a", number)
        assert await listener.bodies(1) == [b"%d" % number]
        live.unsubscribe(joined, listener)
        live._confirmed.clear()
        live._asked.clear()


async def test_a_message_that_comes_twice_is_delivered_once(live: Broadcasts) -> None:
    listener = Listener()
    await live.subscribe("/topic/twice", listener)
    event = BroadcastEvent("/topic/twice", b"1", "text/plain", {}, "m")
    channel = f"{announcing.CHANNEL}{announcing.channel_of('/topic/twice')}"
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        for number in (1, 1, 2, 1):
            client.publish(channel, announcing.encode(("origin", number, [event])))
        client.publish(channel, b"no broadcast")
        client.publish(channel, announcing.encode(("other", 1, [event._replace(body=b"last")])))
    assert await listener.bodies(3) == [b"1", b"1", b"last"]


async def test_a_subscriber_that_fails_costs_the_next_messages_nothing(
    live: Broadcasts, caplog: pytest.LogCaptureFixture
) -> None:
    listener, failing = Listener(), Listener()
    await live.subscribe("/topic/first", failing)
    await live.subscribe("/topic/second", listener)
    failing.take = None  # type: ignore[method-assign, assignment]
    await abroadcast("/topic/first", 1)
    assert announcing.flush(5)
    await abroadcast("/topic/second", 2)
    assert await listener.bodies(1) == [b"2"]
    async with asyncio.timeout(10):
        while "could not be delivered" not in caplog.text:
            await asyncio.sleep(0)


async def test_batches_are_encoded_once_for_all(live: Broadcasts) -> None:
    first, second, rights = Listener(), Listener(), Listener()
    await live.subscribe("/topic/shared", first)
    await live.subscribe("/topic/shared", second)
    await live.subscribe("/topic/shared", rights, allowed=lambda destination: True)
    await abroadcast("/topic/shared", 1)
    for listener in (first, second, rights):
        await listener.bodies(1)
    assert first.batches[0] is second.batches[0] is rights.batches[0]


async def test_many_subscribers_are_one_subscription_of_redis(live: Broadcasts) -> None:
    name = f"{announcing.CHANNEL}{announcing.channel_of('/topic/crowd')}"
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        [(_, before)] = client.pubsub_numsub(name)
        crowd = [Listener() for _ in range(50)]
        for listener in crowd:
            await live.subscribe("/topic/crowd", listener)
        [(_, after)] = client.pubsub_numsub(name)
    assert after == before + 1
    await abroadcast("/topic/crowd", "all")
    assert [await listener.bodies(1) for listener in crowd] == [[b'"all"']] * 50


async def test_channels_that_nobody_needs_are_left(live: Broadcasts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcasts, "_LINGER_SECONDS", 0.0)
    listener = Listener()
    await live.subscribe("/topic/*", listener)
    assert len(live._confirmed) == announcing.CHANNELS
    live.unsubscribe("/topic/*", listener)
    async with asyncio.timeout(10):
        while live._asked:
            live._wanted.set()
            await asyncio.sleep(0)
    await live.subscribe("/topic/again", listener)
    await abroadcast("/topic/again", 1)
    assert await listener.bodies(1) == [b"1"]


async def test_plain_names_in_use_are_looked_up_together(live: Broadcasts, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    lookup = topics.alookup

    async def counted(name: str) -> topics.TopicInfo:
        asked.append(name)
        return await lookup(name)

    monkeypatch.setattr(topics, "alookup", counted)
    plain = PlainNames(Hub(lambda kind, name: None))
    names = [f"plain.{number}" for number in range(20)]
    for name in names * 2:
        assert await plain.topic(name) is None
    until = broadcasting._plain.copy()
    await plain._look_for_topics()
    assert all(broadcasting._plain[name] > until[name] for name in names)
    assert await plain.topic(names[0]) is None
    assert asked == names
    await in_thread(topics.create, names[0])
    await plain._look_for_topics()
    assert await plain.topic(names[0]) is not None


async def test_nobody_subscribes_to_another_users_destination(live: Broadcasts) -> None:
    with pytest.raises(InvalidValue):
        await live.subscribe("/user/anna/queue/x", Listener())


def test_the_limit_of_a_broadcast_is_said() -> None:
    with pytest.raises(TooLarge, match="1048576"):
        broadcasting.encoded(b"x" * 2_000_000, None)
