"""The Connections screens, over summaries as web processes write them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest
import redis
from django.conf import settings
from django.test import Client

from brokers import wakeup
from brokers.models import AuditEntry, Grant
from realtime import connection_reports
from realtime.connection_reports import ConnectionReport, ProcessReport

Staff = Callable[..., Client]
HOSTILE = "<script>x</script>\u202e"


def an_id(number: int) -> str:
    """The id of the connection of that number."""
    return f"{number:032x}"


def a_connection(number: int, **facts: object) -> ConnectionReport:
    """A quiet STOMP connection of `ada`, that many seconds old."""
    usual: dict[str, object] = {
        "id": an_id(number),
        "protocol": "stomp",
        "transport": "websocket",
        "user": "ada",
        "token_id": "tokenofa",
        "principal": "ada/board",
        "address": "192.0.2.7",
        "user_agent": "stomp.js",
        "connected_at": time.time() - number,
        "sent": 1234,
        "received": 5,
        "dropped": 0,
        "buffered": 0,
        "last_error": None,
        "subscriptions": {"sub-0": "/topic/flights.departures"},
    }
    return msgspec.convert(usual | facts, ConnectionReport)


@pytest.fixture
def store() -> Iterator[redis.Redis]:
    """Redis, with no summary left in it."""
    client = redis.Redis.from_url(settings.REDIS_URL)
    yield client
    for key in client.scan_iter("waystation:connections:*"):
        client.delete(key)
    client.close()


@pytest.fixture
def reported(store: redis.Redis) -> Callable[..., None]:
    """Has one web process report these connections."""

    def write(*connections: ConnectionReport, process: str = "first", total: int | None = None) -> None:
        report = ProcessReport(process, 4711, time.time(), total or len(connections), list(connections))
        store.set(f"waystation:connections:of:{process}", msgspec.json.encode(report), ex=60)

    return write


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The connections that were told to end."""
    told: list[str] = []
    monkeypatch.setattr(wakeup, "announce_disconnect", told.append)
    return told


def test_it_lists_the_connections_of_all_processes_newest_first(admin: Client, reported: Callable[..., None]) -> None:
    reported(a_connection(2), a_connection(1, principal="grace", user="grace", token_id=None))
    reported(a_connection(3, protocol="sse", transport="sse", subscriptions={}), process="second")
    page = admin.get("/admin/connections/").content.decode()
    assert [page.index(an_id(number)) for number in (1, 2, 3)] == sorted(page.index(an_id(n)) for n in (1, 2, 3))
    assert "1 stream, 2 processes" in page
    assert "/topic/flights.departures" in page
    assert ">SSE<" in page


def test_each_process_has_its_line_and_its_list(admin: Client, reported: Callable[..., None]) -> None:
    reported(a_connection(1, rate=2.5, buffered=10), a_connection(2, rate=0.5))
    assert "Web processes" not in admin.get("/admin/connections/").content.decode()
    reported(a_connection(3), process="second")
    page = admin.get("/admin/connections/").content.decode()
    assert "Web processes" in page
    assert "process=second" in page
    of_first = admin.get("/admin/connections/?process=first")
    text = of_first.content.decode()
    assert an_id(1) in text
    assert an_id(3) not in text
    assert [(each.rate, each.waiting, each.chosen) for each in of_first.context["per_process"]][-1] in (
        (3.0, 10, True),
        (0.0, 0, False),
    )
    assert "No connection matches" in admin.get("/admin/connections/?process=gone").content.decode()


def test_a_report_that_lapses_takes_its_connections_with_it(
    admin: Client, reported: Callable[..., None], store: redis.Redis
) -> None:
    reported(a_connection(1))
    reported(a_connection(2), process="second")
    assert an_id(1) in admin.get("/admin/connections/").content.decode()
    store.delete("waystation:connections:of:first")
    page = admin.get("/admin/connections/").content.decode()
    assert an_id(1) not in page
    assert an_id(2) in page


def test_looking_asks_the_processes_to_report(admin: Client, store: redis.Redis) -> None:
    page = admin.get("/admin/connections/").content.decode()
    assert "No web process has answered yet" in page
    assert store.ttl(connection_reports.WATCHED) > 0


def test_it_tells_nobody_from_no_match(admin: Client, reported: Callable[..., None]) -> None:
    reported()
    assert "Nobody is connected" in admin.get("/admin/connections/").content.decode()
    reported(a_connection(1))
    page = admin.get("/admin/connections/?q=nowhere").content.decode()
    assert "No connection matches" in page
    assert "1 exists outside this filter" in page


def test_it_says_when_redis_is_away(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_reports, "look", lambda: connection_reports.Look([], available=False))
    page = admin.get("/admin/connections/")
    assert page.status_code == 200
    assert "Redis cannot be reached" in page.content.decode()


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=ADA", {1, 3}),
        ("q=otherone", {2}),
        ("q=198.51", {2}),
        ("q=/topic/gates", {3}),
        ("only=sse", {2}),
        ("only=stomp", {1, 3}),
        ("only=waiting", {3}),
        ("only=troubled", {1}),
    ],
)
def test_a_filter_narrows_the_list(query: str, found: set[int], admin: Client, reported: Callable[..., None]) -> None:
    reported(
        a_connection(1, last_error="rate_limited"),
        a_connection(2, protocol="sse", principal="x/y", user="x", token_id="otherone", address="198.51.100.1"),
        a_connection(3, buffered=200_000, subscriptions={"a": "/topic/gates"}),
    )
    page = admin.get(f"/admin/connections/?{query}").content.decode()
    assert {number for number in (1, 2, 3) if an_id(number) in page} == found


def test_a_long_list_has_pages(admin: Client, reported: Callable[..., None]) -> None:
    reported(*(a_connection(number) for number in range(1, 121)))
    url, seen, pages = "/admin/connections/", 0, 0
    while url:
        page = admin.get(url)
        seen += page.content.decode().count("row-link")
        pages += 1
        following = page.context["following"]
        url = f"/admin/connections/?after={following}" if following else ""
    assert (seen, pages) == (120, 3)


def test_a_connection_shows_whose_it_is_and_what_it_reads(admin: Client, reported: Callable[..., None]) -> None:
    reported(a_connection(1, buffered=262_144, dropped=7, last_error=HOSTILE, user_agent=HOSTILE), a_connection(2))
    page = admin.get(f"/admin/connections/{an_id(1)}/").content.decode()
    for text in ("ada/board", "192.0.2.7", "1,234", "256 KiB", "/topic/flights.departures", "as 1 other", "tokenofa"):
        assert text in page
    assert HOSTILE not in page
    assert "\u202e" not in page


def test_a_connection_shows_its_rate_and_when_it_was_heard(admin: Client, reported: Callable[..., None]) -> None:
    reported(a_connection(1, rate=12.0, silent_s=95), a_connection(2, protocol="sse", transport="sse"))
    page = admin.get(f"/admin/connections/{an_id(1)}/").content.decode()
    assert "12 /s to the client" in page
    assert re.search(r"last heard <time[^>]*>1 min ago", page)
    assert "web, pid 4711" in page
    assert "a stream is only read" in admin.get(f"/admin/connections/{an_id(2)}/").content.decode()
    assert "12 /s" in admin.get("/admin/connections/").content.decode()


@pytest.mark.parametrize("path", ["/admin/connections/", f"/admin/connections/{an_id(1)}/"])
def test_it_is_fetched_again_when_connections_change(path: str, admin: Client, reported: Callable[..., None]) -> None:
    reported(a_connection(1))
    page = admin.get(path).content.decode()
    assert 'data-live="connections"' in page
    assert f'hx-get="{path}"' in page


def test_a_connection_that_is_over_says_so(admin: Client, reported: Callable[..., None]) -> None:
    reported()
    assert admin.get(f"/admin/connections/{an_id(1)}/").status_code == 200  # it may have begun after the last report
    page = admin.get(f"/admin/connections/{an_id(1)}/")
    assert page.status_code == 404
    assert "This connection is over" in page.content.decode()


def test_one_is_told_to_end_and_that_is_recorded(
    admin: Client, reported: Callable[..., None], announced: list[str]
) -> None:
    reported(a_connection(1), a_connection(2))
    page = admin.post(f"/admin/connections/{an_id(1)}/disconnect/", follow=True)
    assert "was told to end" in page.content.decode()
    assert announced == [an_id(1)]
    entry = AuditEntry.objects.get(operation="disconnect")
    assert (entry.resource_type, entry.resource, entry.details["user"]) == ("connection", an_id(1), "ada")


def test_one_that_is_over_already_changes_nothing(
    admin: Client, reported: Callable[..., None], announced: list[str]
) -> None:
    reported()
    page = admin.post(f"/admin/connections/{an_id(1)}/disconnect/", follow=True)
    assert "is over already" in page.content.decode()
    assert announced == []
    assert not AuditEntry.objects.filter(operation="disconnect").exists()


def test_all_of_a_token_end_with_a_reason(admin: Client, reported: Callable[..., None], announced: list[str]) -> None:
    reported(a_connection(1), a_connection(2, token_id="otherone"))
    reported(a_connection(3), process="second")
    url = "/admin/connections/token/tokenofa/disconnect/"
    assert "Will end 2 connections" in admin.get(url).content.decode()
    assert admin.post(url, {"reason": ""}).status_code == 422
    assert announced == []
    page = admin.post(url, {"reason": "it leaked"}, follow=True)
    assert "2 connections were told to end" in page.content.decode()
    assert sorted(announced) == [an_id(1), an_id(3)]
    entries = AuditEntry.objects.filter(operation="disconnect")
    assert {entry.details["reason"] for entry in entries} == {"it leaked"}


def test_a_token_without_connections_is_no_such_page(admin: Client, reported: Callable[..., None]) -> None:
    reported(a_connection(1))
    assert admin.get("/admin/connections/token/unknown/disconnect/").status_code == 404


PATHS = ("/admin/connections/", f"/admin/connections/{an_id(1)}/")


def grant(client: Client, operation: str) -> None:
    """Lets the member of staff do this to live connections."""
    Grant.objects.create(
        user_id=client.session["_auth_user_id"],
        operation=operation,
        resource_type="server",
        name="connections",
        match="literal",
    )


@pytest.mark.parametrize("path", PATHS)
def test_looking_needs_a_grant(path: str, staff: Staff, reported: Callable[..., None]) -> None:
    reported(a_connection(1))
    client = staff()
    refused = client.get(path)
    assert refused.status_code == 403
    assert "ada" not in refused.content.decode()
    grant(client, "describe")
    page = client.get(path)
    assert page.status_code == 200
    assert "ada/board" in page.content.decode()


def test_ending_needs_more_than_looking(staff: Staff, reported: Callable[..., None], announced: list[str]) -> None:
    reported(a_connection(1))
    client = staff()
    grant(client, "describe")
    assert "You lack: alter on server connections" in client.get(PATHS[1]).content.decode()
    assert client.post(f"{PATHS[1]}disconnect/").status_code == 403
    assert client.get("/admin/connections/token/tokenofa/disconnect/").status_code == 403
    assert announced == []
    grant(client, "alter")
    assert client.post(f"{PATHS[1]}disconnect/").status_code == 302
    assert announced == [an_id(1)]
