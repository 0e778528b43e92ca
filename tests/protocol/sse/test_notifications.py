"""Streams of notifications, as a client over HTTP sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from realtime import anotify, notifications, notify
from realtime.sse import following
from tests.protocol.sse.serving import Streams, execute, in_thread, issued, revoke, streams, until

pytestmark = pytest.mark.django_db(transaction=True)
PATH = "/api/notifications/stream"


@pytest.fixture
async def served() -> AsyncIterator[Streams]:
    """A server, and a client of the user ann, who may do nothing else."""
    async with streams(await issued("ann")) as made:
        yield made


async def test_a_user_is_told_what_comes(served: Streams) -> None:
    await anotify("ann", "before")
    async with served.open(PATH) as stream:
        connected = await stream.next()
        assert (connected.name, connected.json(), stream.reader.retry) == ("connected", {"user": "ann"}, 3000)
        await in_thread(notify, "ann", {"text": "a\nb"}, kind="mail")
        found = await stream.next()
        told = found.json()
        assert told.pop("created_at").endswith("Z")
        assert (found.name, told) == ("notification", {"number": 2, "kind": "mail", "payload": {"text": "a\nb"}})
        assert found.last_id.endswith("-2")


async def test_every_stream_of_a_user_shows_them_and_no_stream_of_another(served: Streams) -> None:
    other = {"Authorization": f"Bearer {await issued('bob')}"}
    async with served.open(PATH) as one, served.open(PATH) as two, served.open(PATH, headers=other) as bobs:
        for stream in (one, two, bobs):
            await stream.next()
        await anotify("ann", 1)
        await anotify("bob", 2)
        assert [(await stream.next()).json()["payload"] for stream in (one, two, bobs)] == [1, 1, 2]
        assert one.events == two.events == bobs.events == []


async def test_what_came_meanwhile_is_shown_after_a_reconnect_also_to_another_process(served: Streams) -> None:
    async with served.open(PATH) as stream:
        start = (await stream.next()).last_id
    for n in range(250):
        await anotify("ann", n)
    async with streams(await issued("ann")) as elsewhere:
        async with elsewhere.open(PATH, headers={"Last-Event-ID": start}) as stream:
            events = (await stream.take(251))[1:]
            assert [event.json()["payload"] for event in events] == list(range(250))
        async with elsewhere.open(PATH, params={"last_event_id": events[99].last_id}) as stream:
            assert [event.json()["payload"] for event in (await stream.take(151))[1:]] == list(range(100, 250))


async def test_earliest_shows_all_that_is_kept(served: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "KEPT", 3)
    for n in range(5):
        await anotify("ann", n)
    async with served.open(f"{PATH}?from=earliest") as stream:
        events = await stream.take(4)
        assert [event.name for event in events] == ["connected", *["notification"] * 3]


async def test_what_was_dropped_meanwhile_is_a_gap(served: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "KEPT", 3)
    async with served.open(PATH) as stream:
        start = (await stream.next()).last_id
    for n in range(5):
        await anotify("ann", n)
    async with served.open(PATH, headers={"Last-Event-ID": start}) as stream:
        events = await stream.take(5)
        assert [event.name for event in events] == ["connected", "gap", *["notification"] * 3]
        assert events[1].json() == {"first_number": 3}
    await execute("delete from realtime_notification")
    async with served.open(PATH, headers={"Last-Event-ID": start}) as stream:
        events = await stream.take(2)
        assert [event.name for event in events] == ["connected", "gap"]
        assert events[1].json() == {"first_number": 6}
    async with served.open(PATH, headers={"Last-Event-ID": events[1].last_id}) as stream:
        await anotify("ann", "next")
        assert [event.name for event in await stream.take(2)] == ["connected", "notification"]


async def test_ids_of_others_and_of_the_future_are_refused(served: Streams) -> None:
    await anotify("ann", 1)
    await anotify("bob", 1)
    inbox, other = (await notifications.open_inbox("ann")).inbox, (await notifications.open_inbox("bob")).inbox
    for wrong in (f"{other}-1", f"{inbox}-2", f"{inbox}--1", f"{inbox}", "x", "1-" + "9" * 30, "0-0", "é-1"):
        answer = await served.client.get(PATH, headers={b"Last-Event-ID": wrong.encode()})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_last_event_id"), wrong
    async with served.open(PATH, headers={"Last-Event-ID": f"{inbox}-0"}) as stream:
        assert len(await stream.take(2)) == 2


async def test_a_lost_hint_costs_a_second(served: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "POLL_INTERVAL_SECONDS", 0.1)
    monkeypatch.setattr(notifications, "_stored", lambda inbox: None)
    async with served.open(PATH) as stream:
        await stream.next()
        await anotify("ann", 1)
        assert (await stream.next()).json()["payload"] == 1


async def test_it_takes_a_token_and_ends_with_it(served: Streams) -> None:
    answer = await served.client.get(PATH, headers={"Authorization": ""})
    assert answer.status_code == 401
    async with served.open(PATH) as stream:
        await stream.next()
        await revoke("ann")
        [error] = await stream.rest(5)
        assert error.json()["code"] == "token_revoked"
    await until(lambda: not served.connections())
    assert served.application._following._followers == {}
