"""Who may open streams from where, how many, and what a hostile or slow client gets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client

from brokers import publishing, wakeup
from brokers.record import JSON, NewRecord
from realtime.sse.transport import MAX_QUEUED_BYTES
from tests.integration.realtime.following import created
from tests.protocol.sse.serving import Streams, in_thread, issued, streams, until

pytestmark = pytest.mark.django_db(transaction=True)
PATH = "/api/notifications/stream"
FOREIGN = {"Origin": "https://elsewhere.example"}
LISTED = {"Origin": "https://app.example"}


@pytest.fixture
async def served(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Streams]:
    """A server, and a client of the user ann."""
    monkeypatch.setattr(settings, "LIVE_ALLOWED_ORIGINS", ["https://app.example"], raising=False)
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)  # threads keep none beyond the test
    async with streams(await issued("ann", ("read", "topic", ""))) as made:
        yield made


# -- origins and cookies --------------------------------------------------------------------------------------------


async def test_a_page_from_elsewhere_gets_nothing(served: Streams) -> None:
    for origin in (FOREIGN, {"Origin": "null"}, {"Origin": "x"}, {"Origin": "http://127.0.0.1"}):
        answer = await served.client.get(PATH, headers=origin)
        assert (answer.status_code, answer.json()["code"]) == (403, "origin_not_allowed"), origin
        assert not [name for name in answer.headers if name.startswith("access-control")]
        asked = await served.client.options(PATH, headers=origin | {"Access-Control-Request-Method": "GET"})
        assert asked.status_code == 405
        assert not [name for name in asked.headers if name.startswith("access-control")]


async def test_a_page_of_a_listed_origin_may_read_streams_and_get_tickets(served: Streams) -> None:
    async with served.open(PATH, headers=LISTED) as stream:
        headers = stream.response.headers
        assert headers["access-control-allow-origin"] == "https://app.example"
        assert (headers["access-control-allow-credentials"], headers["vary"]) == ("true", "Origin")
    for path, method in ((PATH, "GET"), ("/api/v1/tickets", "POST")):
        asked = await served.client.options(path, headers=LISTED | {"Access-Control-Request-Method": method})
        assert asked.status_code == 204
        assert asked.headers["access-control-allow-origin"] == "https://app.example"
        assert asked.headers["access-control-allow-methods"] == method
        assert "authorization" in asked.headers["access-control-allow-headers"]
        other = await served.client.options(path, headers=LISTED | {"Access-Control-Request-Method": "PUT"})
        assert other.status_code == 405
    made = await served.client.post("/api/v1/tickets", headers=LISTED)
    assert made.headers["access-control-allow-origin"] == "https://app.example"
    refused = await served.client.get(PATH, headers=LISTED | {"Authorization": ""})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "https://app.example")


async def test_the_consoles_session_counts_for_its_own_pages_alone(served: Streams) -> None:
    def signed_in() -> str:
        browser = Client()
        browser.force_login(User.objects.get(username="ann"))
        return str(browser.cookies[settings.SESSION_COOKIE_NAME].value)

    cookie = {"Cookie": f"{settings.SESSION_COOKIE_NAME}={await in_thread(signed_in)}"}
    own = {"Origin": f"http://127.0.0.1:{served.port}"}
    async with served.browser() as browser:
        for page in ({"Sec-Fetch-Site": "same-origin"}, own):
            async with browser.open(PATH, headers=cookie | page) as stream:
                assert (await stream.next()).json() == {"user": "ann"}
        for page in ({}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}):
            assert (await browser.client.get(PATH, headers=cookie | page)).status_code == 401
        assert (await browser.client.get(PATH, headers=cookie | FOREIGN)).status_code == 403
        assert (await browser.client.post("/api/v1/tickets", headers=cookie | own)).status_code == 401


# -- methods and bytes ------------------------------------------------------------------------------------------------


async def test_methods(served: Streams) -> None:
    head = await served.client.head(PATH)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"].startswith("text/event-stream")
    assert (await served.client.head("/api/v1/topics/unknown/stream")).status_code == 404
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"):
        answer = await served.client.request(method, PATH)
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS"), method
    assert served.connections() == []


async def test_bytes_that_are_no_request_leave_the_server_as_it_was(served: Streams) -> None:
    hostile = [
        b"GET /api/notifications/stream HTTP/1.1\r\nHost: x\r\nLast-Event-ID: a\0b\r\n\r\n",
        b"GET /api/notifications/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
        b"GET /api/notifications/stream?\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/progress/" + b"%" * 5000 + b"/stream HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /api/notifications/stream?ticket=" + b"a" * 50_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    for request in hostile:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(request)
        async with asyncio.timeout(10):
            status = (await reader.readline()).split()[1]
        writer.close()
        await writer.wait_closed()
        assert status[:1] == b"4", request[:60]
    assert served.connections() == []


async def test_one_authorization_header_is_enough(served: Streams) -> None:
    token = served.client.headers["Authorization"]
    async with served.browser() as browser:
        answer = await browser.client.get(PATH, headers=[("Authorization", token), ("Authorization", token)])
    assert answer.status_code == 401


# -- how many, how slow, how long -------------------------------------------------------------------------------------


async def test_a_user_may_have_so_many_streams(served: Streams) -> None:
    served.live.registry._limit_per_user = 2
    other = {"Authorization": f"Bearer {await issued('bob')}"}
    async with served.open(PATH), served.open(PATH):
        refused = await served.client.get(PATH)
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_connections")
        assert refused.headers["retry-after"] == "1"
        async with served.open(PATH, headers=other):
            pass
    await until(lambda: not served.connections())
    async with served.open(PATH):
        pass


async def test_a_process_that_is_full_says_so(served: Streams) -> None:
    served.live.registry._limit = 1
    async with served.open(PATH):
        refused = await served.client.get(PATH)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")


async def test_an_administrator_ends_a_stream(served: Streams) -> None:
    async with served.open(PATH, headers={"User-Agent": "watcher/1"}) as stream:
        await stream.next()
        [connection] = served.connections()
        assert (connection.protocol, connection.user_agent, connection.principal.user_name()) == (
            "sse",
            "watcher/1",
            "ann",
        )
        wakeup.announce_disconnect(connection.id)
        [error] = await stream.rest(5)
        assert error.json()["code"] == "disconnected"


async def test_who_does_not_read_is_cut_off_and_costs_others_nothing(served: Streams) -> None:
    info = await created()
    path = f"/api/v1/topics/{info.name}/stream"
    stalled = socket.create_connection(("127.0.0.1", served.port))
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    stalled.sendall(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {served.client.headers['Authorization']}\r\n\r\n".encode()
    )
    await until(lambda: len(served.connections()) == 1)
    [slow] = served.connections()
    value = b'"' + b"x" * 100_000 + b'"'
    async with served.open(path) as stream:
        await stream.next()
        sent, most = 0, 0
        while not slow.ended and sent < 200:
            await publishing.apublish_many(info.name, [NewRecord(None, value, JSON)] * 4)
            sent += 4
            for event in await stream.take(4):
                assert event.name == "record"
            most = max(most, slow.transport._out_bytes)
        assert (slow.ended, slow.last_error, slow.dropped > 0) == (True, "slow_consumer", True)
        assert most <= MAX_QUEUED_BYTES
        assert slow.transport._out_bytes < 1000
        await publishing.apublish_many(info.name, [NewRecord(None, b"1", JSON)])
        assert (await stream.next()).json()["value"] == 1
    stalled.close()
    await until(lambda: not served.connections())


async def test_one_who_reads_slowly_catches_up_whatever_waits(served: Streams) -> None:
    info = await created()
    value = b'"' + b"x" * 50_000 + b'"'
    for _ in range(4):
        await publishing.apublish_many(info.name, [NewRecord(None, value, JSON)] * 10)
    async with served.open(f"/api/v1/topics/{info.name}/stream?from=earliest") as stream:
        [connection] = served.connections()
        await until(lambda: connection.transport.buffered() > 0)
        assert [event.json()["offset"] for event in (await stream.take(41))[1:]] == list(range(40))
