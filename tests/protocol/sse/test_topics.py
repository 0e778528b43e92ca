"""Streams of topics, as a client over HTTP sees them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from brokers import publishing, topics
from brokers.models import Grant
from brokers.record import JSON, NewRecord
from realtime.feeds import Feeds
from realtime.positions import decode, encode, encode_one
from realtime.sse import app
from tests.integration.realtime.following import add, created
from tests.protocol.sse.serving import Reader, Streams, execute, in_thread, issued, revoke, streams, until
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def served() -> AsyncIterator[Streams]:
    """A server, and a client who may read every topic."""
    async with streams(await issued("reader", ("read", "topic", ""))) as made:
        yield made


async def retain(partition_id: int, offset: int) -> None:
    """Does what retention does: the earliest offset moves, then what lies below it goes."""
    await execute("update brokers_partition set earliest_offset = %s where id = %s", offset, partition_id)
    await execute("delete from brokers_log_batch where partition_id = %s and base_offset < %s", partition_id, offset)


async def until_id(stream: Reader, expected: str) -> None:
    """Reads until the client's last event id is this."""
    async with asyncio.timeout(10):
        while stream.reader.last_id != expected:
            await stream.read()


# -- records ------------------------------------------------------------------------------------------------------


async def test_it_begins_with_retry_and_connected_then_comes_what_is_published(served: Streams) -> None:
    info = await created(2)
    await add(info, "before")
    async with served.open(f"/api/v1/topics/{info.name}/stream", headers={"accept-encoding": "gzip, br"}) as stream:
        headers = stream.response.headers
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
        assert "content-encoding" not in headers
        connected = await stream.next()
        assert (connected.name, connected.json()) == ("connected", {"topic": info.name, "partitions": 2})
        assert stream.reader.retry == 3000
        assert decode(connected.last_id).offsets == (1, 0)
        made = NewRecord(b"k", b'{"n": [1]}', JSON, {"h": "1"}, partition=1, timestamp=1_600_000_000_000)
        await publishing.apublish_many(info.name, [made])
        record = await stream.next()
        assert (record.name, decode(record.last_id).offsets) == ("record", (1, 1))
        assert record.json() == {
            "partition": 1,
            "offset": 0,
            "timestamp": 1_600_000_000_000,
            "key": "k",
            "value": {"n": [1]},
            "headers": {"h": "1"},
        }


async def test_earliest_begins_with_the_oldest_record(served: Streams) -> None:
    info = await created()
    await add(info, *range(250))
    async with served.open(f"/api/v1/topics/{info.name}/stream?from=earliest") as stream:
        assert [event.json()["offset"] for event in (await stream.take(251))[1:]] == list(range(250))


async def test_a_stream_may_be_of_one_partition_or_one_key(served: Streams) -> None:
    info = await created(2)
    path = f"/api/v1/topics/{info.name}/stream?from=earliest"
    for n in range(6):
        await add(info, n, partition=n % 2, key=b"even" if n % 4 == 0 else None)
    async with served.open(f"{path}&partition=1") as one, served.open(f"{path}&key=even") as keyed:
        assert decode((await one.next()).last_id) == decode(encode_one(info.id, 1, 0))
        found = await one.take(3)
        assert [event.json()["offset"] for event in found] == [0, 1, 2]
        assert found[-1].last_id == encode_one(info.id, 1, 3)
        await keyed.next()
        await add(info, "both", partition=0, key=b"even")
        assert [event.json()["key"] for event in await keyed.take(3)] == ["even"] * 3
    async with served.open(f"{path}&partition=0&key=even") as both:
        assert len(await both.take(4)) == 4


async def test_many_lines_in_a_value_are_one_event(served: Streams) -> None:
    info = await created()
    text = 'x\r\ny\ndata: z\n\nevent: error\r\rid: 7 \u2028 \u0085 "'
    values = [json.dumps({"text": text}, ensure_ascii=False).encode(), b'{\r\n\n  "pretty": 1\n}', b'"\xc2\x85"']
    await publishing.apublish_many(info.name, [NewRecord(None, value, JSON) for value in values])
    async with served.open(f"/api/v1/topics/{info.name}/stream?from=earliest") as stream:
        found = [event.json()["value"] for event in (await stream.take(4))[1:]]
        assert found == [{"text": text}, {"pretty": 1}, "\x85"]


# -- going on -----------------------------------------------------------------------------------------------------


async def test_it_goes_on_right_after_the_last_event_seen(served: Streams) -> None:
    info = await created(3)
    path = f"/api/v1/topics/{info.name}/stream?from=earliest"
    for n in range(9):
        await add(info, n, partition=n % 3)
    async with served.open(path) as stream:
        events = (await stream.take(10))[1:]
    seen = events[3].last_id
    ways: list[tuple[str, dict[str, str]]] = [
        ("", {"Last-Event-ID": seen}),
        (f"&last_event_id={seen}", {}),
        (f"&last_event_id={events[0].last_id}", {"Last-Event-ID": seen}),
        (f"&last_event_id={seen}", {"Last-Event-ID": ""}),
    ]
    for query, headers in ways:
        async with served.open(path + query, headers=headers) as again:
            assert (await again.next()).last_id == seen
            rest = await again.take(5)
        places = sorted((event.json()["partition"], event.json()["offset"]) for event in events[:4] + rest)
        assert places == [(p, n) for p in range(3) for n in range(3)]


async def test_the_id_of_connected_goes_on_from_there(served: Streams) -> None:
    info = await created()
    async with served.open(f"/api/v1/topics/{info.name}/stream") as stream:
        start = (await stream.next()).last_id
    await add(info, "meanwhile")
    async with served.open(f"/api/v1/topics/{info.name}/stream", headers={"Last-Event-ID": start}) as again:
        assert [event.name for event in await again.take(2)] == ["connected", "record"]


async def test_an_id_of_one_partition_needs_that_partition(served: Streams) -> None:
    info = await created(2)
    token = {"Last-Event-ID": encode_one(info.id, 1, 0)}
    path = f"/api/v1/topics/{info.name}/stream"
    async with served.open(f"{path}?partition=1", headers=token):
        pass
    assert (await served.client.get(path, headers=token)).json()["code"] == "invalid_last_event_id"
    assert (await served.client.get(f"{path}?partition=0", headers=token)).status_code == 400


HOSTILE = [
    *(b"x", b"-1", b"0", b"\xff\xfe", "é".encode(), b"AQIAAA AQIAAA", b"../../etc"),
    *(b"A" * length for length in (11_000, 11_001, 60_000)),
]


async def test_what_is_no_id_is_refused_and_an_eventsource_is_told_to_wait(served: Streams) -> None:
    info = await created()
    path = f"/api/v1/topics/{info.name}/stream"
    for hostile in HOSTILE:
        answer = await served.client.get(path, headers={b"Last-Event-ID": hostile})
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_last_event_id")
        async with served.open(path, headers={b"Last-Event-ID": hostile, b"Accept": b"text/event-stream"}) as stream:
            [error] = await stream.rest()
            assert (error.name, error.json()["code"], stream.reader.retry) == ("error", "invalid_last_event_id", 30_000)


async def test_two_last_event_ids_are_refused(served: Streams) -> None:
    info = await created()
    twice = [("Last-Event-ID", encode(info.id, [0])), ("Last-Event-ID", encode(info.id, [0]))]
    answer = await served.client.get(f"/api/v1/topics/{info.name}/stream", headers=twice)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_last_event_id")


async def test_an_id_beyond_the_end_is_refused(served: Streams) -> None:
    info = await created()
    answer = await served.client.get(
        f"/api/v1/topics/{info.name}/stream", headers={"Last-Event-ID": encode(info.id, [7])}
    )
    assert answer.json()["code"] == "invalid_last_event_id"


# -- gaps and silence -----------------------------------------------------------------------------------------------


async def test_what_retention_removed_is_a_gap(served: Streams) -> None:
    info = await created(2)
    for n in range(6):
        await add(info, n)
    await retain(info.partition_ids[0], 4)
    path = f"/api/v1/topics/{info.name}/stream"
    async with served.open(path, headers={"Last-Event-ID": encode(info.id, [1, 0])}) as stream:
        events = await stream.take(4)
        assert [event.name for event in events] == ["connected", "gap", "record", "record"]
        assert events[1].json() == {"partition": 0, "first_offset": 4}


async def test_a_gap_that_nothing_follows_is_told_while_idle(served: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "KEEP_ALIVE_SECONDS", 0.1)
    info = await created(2)
    await add(info, *range(6))
    await retain(info.partition_ids[0], 6)
    path = f"/api/v1/topics/{info.name}/stream"
    async with served.open(path, headers={"Last-Event-ID": encode(info.id, [1, 0])}) as stream:
        await stream.next()
        gap = await stream.next()
        assert (gap.name, gap.json()) == ("gap", {"partition": 0, "first_offset": 6})
        await until_id(stream, encode(info.id, [6, 0]))
        await add(info, "next")
        assert (await stream.next()).name == "record"


async def test_comments_keep_it_alive_and_carry_the_position_past_what_is_filtered(
    served: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "KEEP_ALIVE_SECONDS", 0.1)
    info = await created()
    async with served.open(f"/api/v1/topics/{info.name}/stream?key=wanted") as stream:
        await stream.next()
        await add(info, *range(5), key=b"other")
        await until_id(stream, encode(info.id, [5]))
        assert stream.reader.comments
        assert stream.events == []


# -- who may, and for how long ----------------------------------------------------------------------------------------


async def test_it_takes_read_on_the_topic(served: Streams) -> None:
    info = await created()
    path = f"/api/v1/topics/{info.name}/stream"
    may, may_not = await issued("may", ("read", "topic", info.name)), await issued("not", ("write", "topic", info.name))
    async with served.open(path, headers={"Authorization": f"Bearer {may}"}):
        pass
    for headers, status in (
        ({"Authorization": f"Bearer {may_not}"}, 403),
        ({"Authorization": "Bearer " + "x" * 30}, 401),
        ({"Authorization": "Basic eDp5"}, 401),
        ({"Authorization": ""}, 401),
    ):
        answer = await served.client.get(path, headers=headers)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


PROBLEMS = [
    ("unknown/stream", 404, "topic_not_found"),
    ("a%20b/stream", 422, "invalid_name"),
    ("%00/stream", 422, "invalid_name"),
    ("{topic}/stream?partition=9", 404, "partition_not_found"),
    ("{topic}/stream?partition=-1", 404, "partition_not_found"),
    ("{topic}/stream?partition=x", 422, "invalid_value"),
    ("{topic}/stream?from=yesterday", 422, "invalid_value"),
    ("{topic}/stream?from=latest&from=earliest", 422, "invalid_value"),
    ("{topic}/stream?offset=1", 422, "unknown_field"),
    ("{topic}/stream?last_event_id=%00", 422, "invalid_value"),
    ("{topic}/stream?key=%ff", 422, "invalid_value"),
]


async def test_what_cannot_be_streamed_is_a_problem(served: Streams) -> None:
    info = await created()
    for path, status, code in PROBLEMS:
        answer = await served.client.get(f"/api/v1/topics/{path.format(topic=info.name)}")
        assert (answer.status_code, answer.json()["code"]) == (status, code), path
    assert served.connections() == []


async def test_a_revoked_token_ends_it_at_once(served: Streams) -> None:
    info = await created()
    token = await issued("ann", ("read", "topic", info.name))
    headers = {"Authorization": f"Bearer {token}"}
    async with served.open(f"/api/v1/topics/{info.name}/stream", headers=headers) as stream:
        await stream.next()
        await revoke("ann")
        [error] = await stream.rest(5)
        assert (error.name, error.json()["code"]) == ("error", "token_revoked")
    assert (await served.client.get(f"/api/v1/topics/{info.name}/stream", headers=headers)).status_code == 401


async def test_a_grant_that_is_taken_away_ends_it(served: Streams) -> None:
    info = await created()
    token = await issued("ann", ("read", "topic", info.name))
    headers = {"Authorization": f"Bearer {token}"}
    async with served.open(f"/api/v1/topics/{info.name}/stream", headers=headers) as stream:
        await stream.next()
        await in_thread(lambda: Grant.objects.all().delete())
        served.live.registry._hear("")
        [error] = await stream.rest(5)
        assert error.json()["code"] == "forbidden"


async def test_a_deleted_topic_ends_it(served: Streams) -> None:
    info = await created()
    async with served.open(f"/api/v1/topics/{info.name}/stream") as stream:
        await stream.next()
        await in_thread(topics.delete, info.name)
        [error] = await stream.rest(5)
        assert error.json()["code"] == "topic_not_found"


async def test_a_topic_made_again_begins_with_a_gap(served: Streams) -> None:
    info = await created()
    await add(info, "old")
    await in_thread(topics.delete, info.name)
    await in_thread(lambda: topics.create(info.name, partitions=1))
    again = await topics.alookup(info.name)
    await add(again, "new")
    headers = {"Last-Event-ID": encode(info.id, [1])}
    async with served.open(f"/api/v1/topics/{info.name}/stream", headers=headers) as stream:
        assert [event.name for event in await stream.take(3)] == ["connected", "gap", "record"]


async def test_a_server_that_stops_ends_it_and_lets_nobody_in(served: Streams) -> None:
    info = await created()
    path = f"/api/v1/topics/{info.name}/stream"
    async with served.open(path) as stream:
        await stream.next()
        served.live.drain()
        assert await stream.rest() == []
        assert stream.reader.retry is not None
        assert 1000 <= stream.reader.retry <= 5000
    answer = await served.client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (503, "store_unavailable")
    assert answer.headers["retry-after"] == "1"
    async with served.open(path, headers={"Accept": "text/event-stream"}) as waiting:
        [error] = await waiting.rest()
        assert error.json()["code"] == "store_unavailable"
        assert waiting.reader.retry is not None
        assert 1000 <= waiting.reader.retry <= 5000


async def test_who_goes_away_is_forgotten_at_once(served: Streams) -> None:
    name = unique()
    await in_thread(lambda: topics.create(name, partitions=1))
    async with served.open(f"/api/v1/topics/{name}/stream") as stream:
        await stream.next()
        assert [each.subscriptions for each in served.connections()] == [{"stream": f"topic {name}"}]
    feeds: Feeds = served.live.feeds
    await until(lambda: not served.connections() and feeds.status()[0].live == 0)
