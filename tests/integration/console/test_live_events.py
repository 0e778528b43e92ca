"""The stream of the console's own live updates: who gets it, what it tells, how it ends."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import wait
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import connections
from django.test import Client

from brokers import access, database, publishing, topics
from brokers.coalescer import Coalescer
from brokers.models import (
    Alert,
    AlertRule,
    CommittedOffset,
    ConsumerGroup,
    FailureChange,
    Grant,
    QueueChange,
    Replay,
    ReplayChange,
)
from brokers.selectors import changes
from brokers.wakeup import Hub
from messaging_site.console import live_changes, live_events
from messaging_site.console.live_events import BACKLOG_BYTES, ConsoleEvents, Page
from realtime import connection_reports, registry
from realtime.connections import Connection
from realtime.hub import LiveHub
from realtime.threads import threads
from realtime.wheel import Wheel
from scheduling import announcing
from tests.events import Event, EventReader
from tests.web_process import eventually, serving

pytestmark = pytest.mark.usefixtures("transactional_db")


@pytest.fixture(autouse=True)
async def _no_connection_stays(transactional_db: None) -> AsyncIterator[None]:
    """Closes those of the pool and of the thread in which `sync_to_async` runs."""
    yield
    await database.close()
    await sync_to_async(connections.close_all)()


def signed_in(user: User) -> dict[str, str]:
    """The cookie of a browser in which the user has signed in."""
    browser = Client()
    browser.force_login(user)
    return {settings.SESSION_COOKIE_NAME: browser.cookies[settings.SESSION_COOKIE_NAME].value}


@pytest.fixture
def admin(transactional_db: None) -> User:
    return User.objects.create_superuser("admin")


@dataclass
class Stream:
    """An open stream and what it has told."""

    response: httpx.Response
    events: list[Event]
    reader: EventReader
    ended: bool = False

    @property
    def told(self) -> list[str]:
        """The names of its events, but for the first and the beats."""
        return [event.name for event in self.events if event.name not in ("connected", "beat")]

    async def read(self) -> None:
        async for part in self.response.aiter_raw():
            self.events += self.reader.feed(part)
        self.ended = True


@dataclass
class Site:
    """A running server."""

    live: LiveHub
    events: ConsoleEvents
    client: httpx.AsyncClient

    @asynccontextmanager
    async def open(self, user: User, kinds: str = "topics,queues") -> AsyncIterator[Stream]:
        """The stream of a page on which the user looks at these kinds, once it is connected."""
        cookies = await sync_to_async(signed_in)(user)
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
        async with self.client.stream("GET", f"/admin/events?kinds={kinds}", headers=headers) as response:
            assert response.status_code == 200, await response.aread()
            stream = Stream(response, [], EventReader())
            reading = asyncio.create_task(stream.read())
            try:
                await eventually(lambda: bool(stream.events))
                yield stream
            finally:
                reading.cancel()

    def connections(self) -> list[Connection]:
        return list(self.live.registry.connections.values())


@pytest.fixture
async def site(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Site]:
    """A server of this stream alone, in the test's own event loop."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
    monkeypatch.setattr(registry, "REVALIDATE_SECONDS", 0.05)
    monkeypatch.setattr(live_changes, "POLL_INTERVAL_SECONDS", 0.05)
    hub = Hub(lambda kind, name: topics.forget(name) if kind == "t" else None)
    live = LiveHub(hub, Coalescer())
    events = ConsoleEvents(live)
    hub.start()
    live.start()
    try:
        await eventually(lambda: hub.connected)
        async with serving(events) as address, httpx.AsyncClient(base_url=f"http://{address}", timeout=20) as client:
            yield Site(live, events, client)
            live.drain()
    finally:
        await live.stop()
        await hub.stop()
        await asyncio.to_thread(_close_connections)


def _close_connections() -> None:
    together = threading.Barrier(threads.size)

    def close() -> None:
        together.wait(10)
        connections.close_all()

    wait([threads.executor.submit(close) for _ in range(threads.size)])


# -- what it tells --------------------------------------------------------------------------------------------------


async def test_a_page_hears_of_what_is_published_and_of_nothing_else(site: Site, admin: User) -> None:
    await sync_to_async(topics.create)("orders", partitions=2)
    async with site.open(admin, "topics,replays") as stream:
        assert stream.events[0].json() == {"kinds": ["replays", "topics"]}
        assert stream.reader.retry == live_events.RETRY_MS
        await sync_to_async(publishing.publish)("orders", {"n": 1})
        await eventually(lambda: "topics" in stream.told)
        assert "replays" not in stream.told
        assert all(event.data == "{}" for event in stream.events[1:])


async def test_a_page_of_tasks_hears_of_runs(site: Site, admin: User) -> None:
    async with site.open(admin, "tasks,executors,topics") as stream:
        announcing.tasks_changed()
        await eventually(lambda: {"tasks", "executors"} <= set(stream.told))
        assert "topics" not in stream.told


async def test_it_tells_of_a_kind_at_most_once_a_second(site: Site, admin: User) -> None:
    await sync_to_async(topics.create)("orders", partitions=2)
    async with site.open(admin, "topics") as stream:
        for number in range(60):
            await sync_to_async(publishing.publish)("orders", {"n": number})
        await asyncio.sleep(0.1)
        assert 1 <= len(stream.told) <= 2
        told = len(stream.told)
        await eventually(lambda: len(stream.told) > told)


def a_commit() -> None:
    group = ConsumerGroup.objects.create(name="g")
    CommittedOffset.objects.create(group=group, partition_id=1, committed_offset=4)


def a_replay() -> Replay:
    return Replay.objects.create(state="running", selection={}, total=1, created_by="a", reason="r", consumers=[])


def an_alert() -> None:
    rule = AlertRule.objects.create(name="r", metric="open", threshold=1)
    Alert.objects.create(rule=rule, scope="topic orders", value=2)


CHANGES: dict[str, tuple[str, Callable[[], Any]]] = {
    "a commit": ("groups", a_commit),
    "an acknowledgement": ("queues", lambda: QueueChange.objects.create(queue_id=1, arrived=0, gone=1)),
    "a failure": ("dead-letters", lambda: FailureChange.objects.create(failure_group_id=1, state="open", change=1)),
    "a replay's state": ("replays", a_replay),
    "a replay's progress": (
        "replays",
        lambda: ReplayChange.objects.create(replay_id=1, sent=1, succeeded=0, failed_again=0, skipped=0),
    ),
    "an alert": ("alerts", an_alert),
}


@pytest.mark.parametrize("what", CHANGES)
async def test_what_no_hint_tells_of_moves_a_mark(what: str, transactional_db: None) -> None:
    kind, change = CHANGES[what]
    before = await changes.marks()
    assert await changes.marks() == before
    await sync_to_async(change)()
    after = await changes.marks()
    assert {each for each in before if before[each] != after[each]} == {kind}


async def test_such_a_change_reaches_the_page(site: Site, admin: User) -> None:
    async with site.open(admin, "groups,queues,exchanges") as stream:
        await sync_to_async(a_commit)()
        await eventually(lambda: "groups" in stream.told)
        await sync_to_async(CHANGES["an acknowledgement"][1])()
        await eventually(lambda: {"queues", "exchanges"} <= set(stream.told))


async def test_a_page_hears_of_live_connections_while_it_looks_at_them(
    site: Site, admin: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_reports, "_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(live_changes, "TELL_SECONDS", 0.05)
    await sync_to_async(connection_reports.look)()
    async with site.open(admin, "connections") as stream:
        await eventually(lambda: "connections" in stream.told)
        async with site.open(admin, "topics"):
            await eventually(lambda: len(stream.told) > 1)
            settled = await _settled(stream)
        await eventually(lambda: len(stream.told) > settled)  # the other one has gone
        await _settled(stream)


async def _settled(stream: Stream) -> int:
    """What it has been told once it is told no more: being told of connections is no change of connections."""
    async with asyncio.timeout(10):
        while True:
            told = len(stream.told)
            await asyncio.sleep(0.3)
            if len(stream.told) == told:
                return told


async def test_the_stream_is_one_of_the_live_connections(site: Site, admin: User) -> None:
    async with site.open(admin, "topics,queues"):
        (connection,) = site.connections()
        assert (connection.protocol, connection.subscriptions) == ("sse", {"console": "console: queues, topics"})
        assert connection.principal is not None
        assert connection.principal.name == "admin"
    await eventually(lambda: not site.connections())
    assert site.events.changes._looking is None


async def test_a_page_hears_that_the_stream_lives(site: Site, admin: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_events, "BEAT_SECONDS", 0.2)
    async with site.open(admin) as stream:
        await eventually(lambda: "beat" in [event.name for event in stream.events])


# -- who gets it ----------------------------------------------------------------------------------------------------


ROGUES: dict[str, tuple[int, str, dict[str, str]]] = {
    "no session": (401, "unauthenticated", {"cookie": ""}),
    "a session that is none": (401, "unauthenticated", {"cookie": f"{settings.SESSION_COOKIE_NAME}=abcdef"}),
    "an API token": (401, "unauthenticated", {"cookie": "", "authorization": "Bearer " + "x" * 40}),
    "another origin": (403, "origin_not_allowed", {"origin": "https://evil.example"}),
    "no origin to be named": (403, "origin_not_allowed", {"origin": "null"}),
    "another site": (403, "origin_not_allowed", {"sec-fetch-site": "cross-site"}),
    "a neighbour": (403, "origin_not_allowed", {"sec-fetch-site": "same-site"}),
}


@pytest.mark.parametrize("who", ROGUES)
async def test_nobody_else_gets_it(who: str, site: Site, admin: User) -> None:
    status, code, headers = ROGUES[who]
    cookies = await sync_to_async(signed_in)(admin)
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    answer = await site.client.get("/admin/events?kinds=topics", headers={"cookie": cookie} | headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert "access-control-allow-origin" not in answer.headers
    assert site.connections() == []


async def test_a_user_who_is_no_staff_gets_nothing(site: Site, transactional_db: None) -> None:
    plain = await sync_to_async(User.objects.create_user)("plain")
    cookies = await sync_to_async(signed_in)(plain)
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    answer = await site.client.get("/admin/events?kinds=topics", headers={"cookie": cookie})
    assert answer.status_code == 401


@pytest.mark.parametrize("query", ["", "?", "?kinds=", "?kinds=topics,secrets", "?of=topics", "?kinds=%ff", "?kinds"])
async def test_it_says_what_there_is_to_be_told_of(query: str, site: Site) -> None:
    answer = await site.client.get(f"/admin/events{query}")
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_value")


@pytest.mark.parametrize("method", ["POST", "HEAD", "DELETE", "OPTIONS"])
async def test_it_is_only_read(method: str, site: Site) -> None:
    answer = await site.client.request(method, "/admin/events?kinds=topics")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


async def test_a_page_hears_only_of_what_its_reader_may_see_some_of(site: Site, transactional_db: None) -> None:
    reader = await sync_to_async(User.objects.create_user)("reader", is_staff=True)
    grant = await Grant.objects.acreate(user=reader, operation="read", resource_type="topic", name="a", match="prefix")
    await Grant.objects.acreate(
        user=reader, operation="read", resource_type="queue", name="a", match="prefix", effect="deny"
    )
    async with site.open(reader, "topics,queues,connections") as stream:
        assert stream.events[0].json() == {"kinds": ["topics"]}
        site.events.changes.tell("queues")
        site.events.changes.tell("topics")
        await eventually(lambda: bool(stream.told))
        assert stream.told == ["topics"]
        await grant.adelete()
        (connection,) = site.connections()
        await eventually(lambda: connection.principal is not None and not connection.principal.rules[1:])
        page = next(iter(site.events.changes._watchers))
        await eventually(lambda: page.kinds == frozenset())


async def test_a_user_has_no_more_streams_than_other_connections(site: Site, admin: User) -> None:
    site.live.registry._limit_per_user = 1
    cookies = await sync_to_async(signed_in)(admin)
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    async with site.open(admin):
        answer = await site.client.get("/admin/events?kinds=topics", headers={"cookie": cookie})
        assert (answer.status_code, answer.json()["code"]) == (429, "too_many_connections")


# -- how it ends ----------------------------------------------------------------------------------------------------


async def sign_out(user: User) -> None:
    await Session.objects.all().adelete()


async def no_more_staff(user: User) -> None:
    await User.objects.filter(pk=user.pk).aupdate(is_staff=False)


async def no_more_active(user: User) -> None:
    await User.objects.filter(pk=user.pk).aupdate(is_active=False)


@pytest.mark.parametrize("end", [sign_out, no_more_staff, no_more_active])
async def test_it_ends_with_the_right_to_it(end: Callable[[User], Awaitable[None]], site: Site, admin: User) -> None:
    async with site.open(admin) as stream:
        await end(admin)
        await eventually(lambda: stream.ended)
        assert stream.events[-1].name == "ended"
        assert stream.events[-1].json() == {"code": "token_revoked"}
    assert site.connections() == []


async def test_a_process_that_stops_sends_its_pages_elsewhere(site: Site, admin: User) -> None:
    async with site.open(admin) as stream:
        site.live.drain()
        await eventually(lambda: stream.ended)
        assert stream.reader.retry is not None
        assert 1000 <= stream.reader.retry <= 5000
    answer = await site.client.get("/admin/events?kinds=topics")
    assert answer.status_code in (401, 503)


class Slow:
    """A transport whose peer reads nothing until told to."""

    kind = "sse"
    wrap = bytes

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.waiting = 0

    def put(self, frame: bytes) -> bool:
        self.written.append(frame)
        return True

    def buffered(self) -> int:
        return self.waiting


async def test_a_page_that_does_not_read_is_told_once_when_it_does(admin: User) -> None:
    slow = Slow()
    page = Page(frozenset({"topics", "queues"}))
    page.admit(await sync_to_async(access.principal_of_user)(admin))
    page.connection = Connection("sse", slow, wheel=Wheel())  # type: ignore[arg-type]
    slow.waiting = BACKLOG_BYTES
    for _ in range(1000):
        page.changed("topics")
        page.changed("queues")
    assert page.beat()
    assert slow.written == []
    slow.waiting = 0
    assert page.beat()
    assert b"".join(slow.written) == b"event: queues\ndata: {}\n\nevent: topics\ndata: {}\n\nevent: beat\ndata: {}\n\n"
    assert page.connection.sent == 0
