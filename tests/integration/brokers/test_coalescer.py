"""The coalescer against the real PostgreSQL: what arrives together shares an append, and no other's fate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from django.db import connection, connections

from brokers import coalescer, database, partitioner, topic_log, topics
from brokers.coalescer import Coalescer, Pair
from brokers.codec import Row
from brokers.errors import KeyRequired, PartitionNotFound, RecordTooLarge, TopicNotFound, Unavailable
from brokers.outgoing import Outgoing, Positions
from brokers.publishing import apublish_outgoing
from brokers.record import RAW
from brokers.topics import TopicInfo
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)


def records(*values: str, key: bytes | None = None, partition: int | None = None, stamp: int | None = None) -> Outgoing:
    rows: list[Row] = [(stamp or 0, key, value.encode(), RAW, {}) for value in values]
    return Outgoing(rows, None if partition is None else [partition] * len(rows), stamp is not None)


async def in_thread(function: Callable[[], Any]) -> Any:
    def run() -> Any:
        try:
            return function()
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


async def create(partitions: int = 1, **options: Any) -> TopicInfo:
    name = unique()
    await in_thread(lambda: topics.create(name, partitions=partitions, **options))
    return await topics.alookup(name)


@pytest.fixture
async def crowd() -> AsyncIterator[Coalescer]:
    """A coalescer of the test's event loop, whose pool is closed at the end."""
    made = Coalescer()
    yield made
    await made.drain()
    assert made._lanes == {}
    await database.close()


async def values(info: TopicInfo, partition: int = 0) -> list[str]:
    found = (await topic_log.afetch(info.name, partition, 0, limit=100_000, max_bytes=10**9)).records
    return [(record.value_bytes or b"").decode() for record in found]


async def outcomes(*publishes: Any) -> list[Any]:
    return await asyncio.gather(*publishes, return_exceptions=True)


async def test_a_crowd_shares_few_appends_and_each_gets_its_own_positions(
    crowd: Coalescer, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = await create(partitions=3)
    appends = []

    async def counted(topic: TopicInfo, outgoing: Outgoing) -> Positions:
        appends.append(len(outgoing.rows))
        return await apublish_outgoing(topic, outgoing)

    monkeypatch.setattr(coalescer, "apublish_outgoing", counted)
    sent = {f"{n}": records(*[f"{n}/{k}" for k in range(1 + n % 3)], key=b"%d" % n) for n in range(100)}
    answers = await asyncio.gather(*(crowd.publish(info, outgoing) for outgoing in sent.values()))
    stored = {(p, o): value for p in range(3) for o, value in enumerate(await values(info, p))}
    for n, answer in zip(sent, answers, strict=True):
        assert [stored[pair] for pair in answer] == [f"{n}/{k}" for k in range(len(answer))]
    assert sum(appends) == len(stored) == 199
    assert len(appends) <= 3


async def test_requests_are_stored_in_the_order_in_which_they_came(crowd: Coalescer) -> None:
    info = await create()
    await asyncio.gather(*(crowd.publish(info, records(str(n))) for n in range(500)))
    assert await values(info) == [str(n) for n in range(500)]


async def test_requests_with_and_without_partitions_and_timestamps_mix(crowd: Coalescer) -> None:
    info = await create(partitions=2)
    answers = await asyncio.gather(
        crowd.publish(info, records("first")),
        crowd.publish(info, records("a", "b", partition=1)),
        crowd.publish(info, records("c", stamp=1000, partition=0)),
        crowd.publish(info, records("d", key=b"k")),
    )
    assert [pair[0] for pair in answers[1]] == [1, 1]
    [(partition, offset)] = answers[2]
    assert (await topic_log.afetch(info.name, partition, offset)).records[0].timestamp == 1000


async def test_a_request_is_never_divided_between_appends(crowd: Coalescer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescer, "_GATHER_RECORDS", 5)
    info = await create()
    answers = await asyncio.gather(*(crowd.publish(info, records(*["x"] * 3)) for _ in range(20)))
    for answer in answers:
        assert [offset - answer[0][1] for _, offset in answer] == [0, 1, 2]


async def test_a_bad_request_is_refused_alone(crowd: Coalescer) -> None:
    info = await create(partitions=2, max_record_bytes=100)
    good = [crowd.publish(info, records(f"good {n}", partition=0)) for n in range(10)]
    found = await outcomes(
        crowd.publish(info, records("goes first", partition=0)),
        *good[:5],
        crowd.publish(info, records("fine", "x" * 101, partition=0)),
        crowd.publish(info, records("nowhere", partition=2)),
        *good[5:],
    )
    assert [type(answer) for answer in found[6:8]] == [RecordTooLarge, PartitionNotFound]
    assert [answer[0][0] for answer in found[:6] + found[8:]] == [0] * 11
    assert await values(info) == ["goes first", *[f"good {n}" for n in range(10)]]


async def test_a_partitioner_that_raises_harms_no_other_request(
    crowd: Coalescer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place(key: bytes, count: int) -> int:
        return {b"good": 0}[key]

    monkeypatch.setitem(partitioner._BY_NAME, "test.place", place)
    info = await create(partitions=2, partitioner="test.place")
    found = await outcomes(
        *(crowd.publish(info, records("good", key=b"good")) for _ in range(3)),
        crowd.publish(info, records("bad", key=b"bad")),
        *(crowd.publish(info, records("good", key=b"good")) for _ in range(3)),
    )
    assert isinstance(found.pop(3), KeyError)
    assert sorted(found) == [[(0, n)] for n in range(6)]


async def test_a_record_without_a_key_is_refused_alone_in_a_compacted_topic(crowd: Coalescer) -> None:
    info = await create(cleanup_policy="compact")
    found = await outcomes(*(crowd.publish(info, records("v", key=key)) for key in (b"a", b"b", None, b"c")))
    assert [answer if isinstance(answer, list) else type(answer) for answer in found] == [
        [(0, 0)], [(0, 1)], KeyRequired, [(0, 2)],
    ]  # fmt: skip


async def test_topics_do_not_wait_for_each_other(crowd: Coalescer) -> None:
    slow, quick = await create(), await create()
    async with database.acquire() as conn, conn.transaction():
        await conn.execute("select from brokers_partition where id = %s for update", (slow.partition_id(0),))
        waiting = asyncio.create_task(crowd.publish(slow, records("slow")))
        assert await crowd.publish(quick, records("quick")) == [(0, 0)]
        assert not waiting.done()
    assert await waiting == [(0, 0)]


async def test_a_request_that_is_given_up_disturbs_nobody(crowd: Coalescer) -> None:
    info = await create()
    async with database.acquire() as conn, conn.transaction():
        await conn.execute("select from brokers_partition where id = %s for update", (info.partition_id(0),))
        tasks = [asyncio.create_task(crowd.publish(info, records(str(n)))) for n in range(6)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        tasks[3].cancel()
        await asyncio.sleep(0)
    answers = await outcomes(*tasks)
    assert [isinstance(answer, asyncio.CancelledError) for answer in answers] == [
        True,
        False,
        False,
        True,
        False,
        False,
    ]
    await crowd.drain()
    stored = await values(info)
    for n in (1, 2, 4, 5):
        assert stored[answers[n][0][1]] == str(n)


async def test_too_much_that_waits_is_refused_at_once(crowd: Coalescer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coalescer, "MAX_WAITING_RECORDS", 10)
    info = await create()
    found = await outcomes(*(crowd.publish(info, records(*["x"] * 4)) for _ in range(5)))
    assert [isinstance(answer, Unavailable) for answer in found] == [False, False, True, True, True]
    assert len(await crowd.publish(info, records(*["x"] * 10))) == 10


async def test_a_topic_deleted_meanwhile_is_not_found_for_all(crowd: Coalescer) -> None:
    info = await create()
    await in_thread(lambda: topics.delete(info.name))
    found = await outcomes(*(crowd.publish(info, records("x")) for _ in range(5)))
    assert [type(answer) for answer in found] == [TopicNotFound] * 5


async def test_when_the_database_fails_all_are_told_to_try_again_and_can(crowd: Coalescer) -> None:
    info = await create()
    await crowd.publish(info, records("before"))

    def terminate() -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                " where application_name = 'waystation-data' and datname = current_database()"
            )

    await in_thread(terminate)
    found = await outcomes(*(crowd.publish(info, records("x")) for _ in range(20)))
    assert isinstance(found[0], Unavailable)
    assert all(isinstance(answer, Unavailable | list) for answer in found)
    answer: list[Pair] = await crowd.publish(info, records("after"))
    assert (await values(info))[answer[0][1]] == "after"
    assert len(await values(info)) == 2 + sum(isinstance(answer, list) for answer in found)


async def test_what_waits_when_the_loop_ends_is_answered(crowd: Coalescer) -> None:
    """A cancelled append answers those in it and those behind it: no request may hang."""
    info = await create()
    async with database.acquire() as conn, conn.transaction():
        await conn.execute("select from brokers_partition where id = %s for update", (info.partition_id(0),))
        first = asyncio.create_task(crowd.publish(info, records("in flight")))
        for _ in range(50):
            await asyncio.sleep(0.001)
        behind = asyncio.create_task(crowd.publish(info, records("waits")))
        await asyncio.sleep(0)
        running = crowd._lanes[info.id].running
        assert running is not None
        running.cancel()
        found = await asyncio.wait_for(outcomes(first, behind), 5)
    assert [type(answer) for answer in found] == [Unavailable, Unavailable]


async def test_draining_waits_for_what_is_in_flight(crowd: Coalescer) -> None:
    info = await create()
    tasks = [asyncio.create_task(crowd.publish(info, records(str(n)))) for n in range(20)]
    await asyncio.sleep(0)
    await crowd.drain()
    await asyncio.sleep(0)
    assert all(task.done() for task in tasks)
    assert len(await values(info)) == 20
