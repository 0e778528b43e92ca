"""The page of one connection: positions, frames as far as the operator may see them, and how it kept up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest
import redis
from django.conf import settings
from django.test import Client

from brokers.models import Grant
from realtime.connection_details import EXAMINED, ConnectionDetail
from realtime.connection_reports import ConnectionReport, ProcessReport
from realtime.frame_recorder import FrameReport, Sample
from realtime.subscription_positions import PartitionPosition, SubscriptionPosition

Staff = Callable[..., Client]
Write = Callable[..., None]
ID = "c" * 32
PATH = f"/admin/connections/{ID}/"
HOSTILE = "<script>x</script>\u202e"
NOW = time.time()
REPORT = ConnectionReport(
    id=ID,
    protocol="stomp",
    transport="websocket",
    user="ada",
    token_id="tokenofa",
    principal="ada/board",
    address="192.0.2.7",
    user_agent="stomp.js",
    connected_at=NOW,
    sent=1,
    received=1,
    dropped=0,
    buffered=0,
    last_error=None,
    subscriptions={"s": "/topic/orders"},
)


def a_frame(number: int, command: str = "MESSAGE", **facts: object) -> FrameReport:
    """A frame that went to the client, about the topic `orders`."""
    usual: dict[str, object] = {
        "number": number,
        "is_sent": True,
        "command": command,
        "at": NOW + number,
        "size": 9,
        "destination": "/topic/orders",
        "subscribed": "/topic/orders",
        "headers": {"destination": "/topic/orders", "message-id": "AAM", "colour": "secretblue"},
        "more_headers": 0,
        "body": b"payload-%d" % number,
    }
    return FrameReport(**(usual | facts))  # type: ignore[arg-type]


@pytest.fixture
def store() -> Iterator[redis.Redis]:
    """Redis, with nothing left of connections."""
    client = redis.Redis.from_url(settings.REDIS_URL)
    yield client
    for key in client.scan_iter("waystation:connections:*"):
        client.delete(key)
    client.close()


@pytest.fixture
def reported(store: redis.Redis) -> Write:
    """Has a web process report this of the connection, which it has no room for in its list."""

    def write(*frames: FrameReport, **facts: object) -> None:
        usual: dict[str, object] = {
            "connection": REPORT,
            "process": "first",
            "pid": os.getpid(),
            "at": time.time(),
            "since": NOW,
            "is_over": False,
            "positions": [],
            "frames": list(frames),
            "samples": [],
        }
        detail = ConnectionDetail(**(usual | facts))  # type: ignore[arg-type]
        store.set(f"waystation:connections:detail:{ID}", msgspec.json.encode(detail), ex=60)
        summary = ProcessReport("first", 4711, time.time(), 1500, [])
        store.set("waystation:connections:of:first", msgspec.json.encode(summary), ex=60)

    return write


def grant(client: Client, operation: str, resource_type: str, name: str) -> None:
    Grant.objects.create(
        user_id=client.session["_auth_user_id"],
        operation=operation,
        resource_type=resource_type,
        name=name,
        match="literal",
    )


def test_the_last_frames_are_shown_the_newest_first(admin: Client, reported: Write) -> None:
    sent = a_frame(2, "SEND", is_sent=False, headers={"destination": "/topic/x", HOSTILE: HOSTILE}, more_headers=3)
    reported(a_frame(1), sent, a_frame(3, "ERROR", destination=None, headers={"message": "forbidden"}, body=b"why"))
    page = admin.get(PATH)
    text = page.content.decode()
    assert page.status_code == 200
    assert [row.command for row in page.context["frames"]] == ["ERROR", "SEND", "MESSAGE"]
    for shown in ("payload-1", "secretblue", "from client", "forbidden", "And 3 more headers"):
        assert shown in text
    assert HOSTILE not in text
    assert "\u202e" not in text


def test_looking_has_the_connection_recorded(admin: Client, reported: Write, store: redis.Redis) -> None:
    reported()
    admin.get(PATH)
    assert store.zrange(EXAMINED, 0, -1) == [ID.encode()]
    assert 0 < store.ttl(EXAMINED) <= 30


def test_what_a_frame_carries_needs_the_permission_on_its_source(staff: Staff, reported: Write) -> None:
    reported(
        a_frame(1),
        a_frame(2, destination="/exchange/ex/key", subscribed="/queue/rebook"),
        a_frame(3, destination="/queue/rebook", subscribed=None),
        a_frame(4, "record", destination=None, subscribed="topic orders", headers={"id": "AAM"}),
        a_frame(5, "notification", destination=None, subscribed="notifications"),
        a_frame(6, "SEND", is_sent=False, destination="/user/ada/queue/x", subscribed=None),
        a_frame(7, destination="/topic/news/x", subscribed="/topic/**"),
        a_frame(8, "ERROR", destination=None, subscribed=None, headers={"message": "forbidden"}),
        a_frame(9, "SEND", is_sent=False, destination="/exchange/ex/key", subscribed=None),
    )
    client = staff()
    grant(client, "describe", "server", "connections")

    def seen() -> set[int]:
        page = client.get(PATH)
        rows = page.context["frames"]
        assert all(bool(row.lacks) == (not row.body) or row.number == 8 for row in rows)
        assert ("secretblue" in page.content.decode()) == any(row.body and row.number not in (4, 8) for row in rows)
        return {row.number for row in rows if row.body}

    assert seen() == {8}
    text = client.get(PATH).content.decode()
    for lacking in ("view_payload on topic orders", "view_payload on queue rebook", "the rights of an administrator"):
        assert lacking in text
    assert "message-id" in text
    grant(client, "view_payload", "topic", "orders")
    assert seen() == {1, 4, 8}
    grant(client, "read", "queue", "rebook")
    assert seen() == {1, 2, 4, 8}
    grant(client, "view_payload", "exchange", "ex")
    grant(client, "view_payload", "topic", "news/x")
    assert seen() == {1, 2, 4, 7, 8, 9}


def test_it_shows_where_each_subscription_stands(admin: Client, reported: Write) -> None:
    parts = [PartitionPosition(0, 1234, 0), PartitionPosition(7, 5, 40_000)]
    topic = SubscriptionPosition(
        "s", "/topic/orders", "topic", "orders", lag=40_000, token="AAMtoken", partitions=parts, partition_count=90
    )
    rows = [
        topic,
        SubscriptionPosition("q", "/queue/rebook", "queue", "rebook", "client", unacknowledged=7, prefetch=7),
        SubscriptionPosition("b", "/topic/news/*", "broadcast"),
    ]
    reported(positions=rows)
    text = admin.get(PATH).content.decode()
    for shown in ("Behind", "40,000", "next 1,234", "AAMtoken", "88 more", "7 of 7 unacknowledged", "Has all it may"):
        assert shown in text


def test_it_shows_how_the_client_kept_up(admin: Client, reported: Write) -> None:
    reported(samples=[Sample(NOW, 0, 0, 0, 0)], at=NOW)
    assert "Measuring has begun" in admin.get(PATH).content.decode()
    samples = [Sample(NOW + second, second * 3000, second // 20, second * 50, second) for second in range(30)]
    reported(samples=[Sample(NOW - 500, 9_000_000, 0, 0, 0), *samples], at=NOW + 30)
    page = admin.get(PATH)
    drawn = page.context["backpressure"]
    assert (drawn.most_waiting, drawn.most_sent, drawn.most_received, drawn.dropped) == (87_000, 50.0, 1.0, 1)
    assert (len(drawn.seconds), drawn.waiting.y_labels[0], drawn.rates.y_labels[0]) == (30, "128 KiB", "60")
    assert drawn.waiting.lines[0].split()[-1].startswith("595,")
    text = page.content.decode()
    assert text.count('class="drop"') == 1
    assert "1 dropped" in text


def test_a_connection_that_is_over_leaves_its_last_frames(admin: Client, reported: Write) -> None:
    over = msgspec.structs.replace(REPORT, last_error="slow_consumer")
    reported(a_frame(1), is_over=True, connection=over)
    page = admin.get(PATH)
    text = page.content.decode()
    assert page.status_code == 404
    for shown in ("This connection is over", "slow_consumer", "payload-1", "Its last frames"):
        assert shown in text
    assert "data-live" not in text.split("<main", 1)[1]
    ended = admin.post(f"{PATH}disconnect/", follow=True)
    assert "is over already" in ended.content.decode()


def test_one_that_its_process_has_no_room_to_list_is_not_taken_for_over(admin: Client, store: redis.Redis) -> None:
    summary = ProcessReport("first", 4711, time.time(), 1500, [])
    store.set("waystation:connections:of:first", msgspec.json.encode(summary), ex=60)
    first = admin.get(PATH)
    assert first.status_code == 200
    assert "Look again" in first.content.decode()
    assert admin.get(PATH).status_code == 404


def test_the_test_client_needs_the_permission_to_look_and_no_inline_script(staff: Staff) -> None:
    client = staff()
    assert client.get("/admin/connections/client/").status_code == 403
    grant(client, "describe", "server", "connections")
    page = client.get("/admin/connections/client/", {"destination": HOSTILE})
    text = page.content.decode()
    assert "vendor/stompjs/stomp.umd.min.js" in text
    assert "<script>" not in text
    assert "script-src 'self'" in page.headers["Content-Security-Policy"].split("; ")
