"""The statements that feeds read with: several partitions in one, all of a topic's ends, and how they are planned."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from django.db import connection

from brokers import database, topic_log
from brokers.topic_log import Page, PartitionEnds
from tests.integration.realtime.following import add, created, in_thread

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
async def _pool() -> AsyncIterator[None]:
    yield
    await database.close()


def shape(page: Page) -> tuple[list[int], int, int, int]:
    return [record.offset for record in page.records], page.start, page.next_offset, page.latest_offset


async def test_pages_of_several_partitions_come_in_one_read(monkeypatch: pytest.MonkeyPatch) -> None:
    info = await created(4)
    await add(info, *range(10))
    await add(info, *range(5), partition=1)
    await add(info, *range(5), partition=1)
    row = info.partition_ids[1]

    def retain() -> None:
        with connection.cursor() as cursor:
            cursor.execute("update brokers_partition set earliest_offset = 5 where id = %s", [row])

    await in_thread(retain)
    wanted = {n: (info.partition_ids[n], offset) for n, offset in ((3, 0), (0, 7), (1, 2))}
    pages = await topic_log.afetch_partitions(info.name, wanted | {2: (10**9, 0)}, 4, 10**6)
    assert {number: shape(page) for number, page in pages.items()} == {
        0: ([7, 8, 9], 7, 10, 10),
        1: ([5, 6, 7, 8], 5, 9, 10),
        3: ([], 0, 0, 0),
    }
    [page] = (await topic_log.afetch_partitions(info.name, {0: (info.partition_ids[0], 10)}, 4, 10**6)).values()
    assert shape(page) == ([], 10, 10, 10)


async def test_the_ends_of_many_topics_come_in_one_read() -> None:
    first, second = await created(2), await created(1)
    await add(first, "a", "b", partition=1)
    assert await topic_log.aends_of_topics([second.id, first.id, 10**9]) == {
        first.id: [PartitionEnds(first.partition_ids[0], 0, 0), PartitionEnds(first.partition_ids[1], 0, 2)],
        second.id: [PartitionEnds(second.partition_ids[0], 0, 0)],
    }


def test_their_plans_use_indexes_and_sort_no_records() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into brokers_topic (name, max_record_bytes, cleanup_policy, partitioner)"
            " select 't' || n, 1, 'delete', 'crc32' from generate_series(1, 3000) n"
        )
        cursor.execute(
            "insert into brokers_partition (topic_id, number, earliest_offset)"
            " select id, n, 0 from brokers_topic, generate_series(0, 2) n"
        )
        cursor.execute(
            "insert into brokers_log_batch select id, n, 1, 0, 0, 0, 0, 1, ''"
            " from (select id from brokers_partition order by id limit 10) p, generate_series(1, 2000) n"
        )
        cursor.execute("analyze brokers_topic, brokers_partition, brokers_log_batch")
        plans = []
        for statement, parameters in (
            (topic_log.SQL.fetch_partitions, ([1, 2], [5, 7], 500, 262144)),
            (topic_log.SQL.ends_of_topics, ([1, 2],)),
        ):
            cursor.execute(f"explain {statement}", parameters)
            plans.append("\n".join(row[0] for row in cursor.fetchall()))
    fetch, ends = plans
    for index in ("brokers_log_batch_pkey", "brokers_partition_pkey"):
        assert index in fetch, fetch
    assert "Sort" not in fetch, fetch
    assert "brokers_partition_" in ends, ends
    for plan in plans:
        assert "Seq Scan" not in plan, plan
