"""Live topics that change under their subscribers: retention, compaction, partitions, a topic made again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from django.db import connection

from brokers import compaction, topics
from brokers.errors import Unavailable
from realtime.errors import ProtocolError
from realtime.feeds import At, Earliest, Feeds, Latest, Resume
from realtime.positions import decode, encode, encode_one
from tests.integration.realtime.following import Reader, add, created, following, in_thread, joined, until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def feeds() -> AsyncIterator[Feeds]:
    async with following() as made:
        yield made


async def execute(statement: str, *parameters: Any) -> None:
    def run() -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters)

    await in_thread(run)


async def retain(partition_id: int, offset: int) -> None:
    """Does what retention does: the earliest offset moves, then what lies below it goes."""
    await execute("update brokers_partition set earliest_offset = %s where id = %s", offset, partition_id)
    await execute("delete from brokers_log_batch where partition_id = %s and base_offset < %s", partition_id, offset)


def gaps(reader: Reader) -> list[int | None]:
    return [event.gap for event in reader.events]


async def test_a_resume_behind_retention_is_told_of_the_gap_once(feeds: Feeds) -> None:
    info = await created(2)
    for n in range(10):
        await add(info, n)
    await add(info, "other", partition=1)
    await retain(info.partition_ids[0], 6)
    reader = await joined(feeds, info, Resume(encode(info.id, [2, 0])))
    await until(lambda: len(reader.events) == 5)
    assert reader.offsets(0) == [6, 7, 8, 9]
    assert {event.record.offset: event.gap for event in reader.events if event.record.partition == 0} == {
        6: 6,
        7: None,
        8: None,
        9: None,
    }
    [other] = [event for event in reader.events if event.record.partition == 1]
    assert other.gap is None


async def test_a_gap_with_nothing_left_is_told_with_the_next_record_also_after_a_reconnect(feeds: Feeds) -> None:
    info = await created(2)
    await add(info, *range(5))
    await retain(info.partition_ids[0], 5)
    first = await joined(feeds, info, Resume(encode(info.id, [2, 0])))
    await until(lambda: first.joined is not None and first.joined.caught_up)
    await add(info, "elsewhere", partition=1)
    await until(lambda: len(first.events) == 1)
    assert gaps(first) == [None]
    assert first.joined is not None
    assert first.joined.position() == first.events[0].token
    again = await joined(feeds, info, Resume(first.events[0].token))
    await add(info, "here")
    await until(lambda: len(again.events) == len(first.events) - 1 == 1)
    assert gaps(first) == [None, 5]
    assert gaps(again) == [5]
    assert decode(first.events[1].token).offsets == (6, 1)


async def test_a_live_feed_behind_retention_jumps_and_says_so(feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    info = await created()
    await add(info, "a")
    whole, alone, keyed = [
        await joined(feeds, info, Latest(), **filters) for filters in ({}, {"partition": 0}, {"key": b"k"})
    ]
    feed = feeds._feeds[info.id]
    monkeypatch.setattr(feed, "want", lambda partitions: None)  # it stands still
    await add(info, "b", "c")
    await add(info, "d")
    await retain(info.partition_ids[0], 3)
    monkeypatch.undo()
    await add(info, "e", key=b"k")
    await until(lambda: [len(r.events) for r in (whole, alone, keyed)] == [2, 2, 1])
    assert (whole.values(), gaps(whole)) == (["d", "e"], [3, None])
    assert (alone.values(), gaps(alone)) == (["d", "e"], [3, None])
    assert (keyed.values(), gaps(keyed)) == (["e"], [3])
    late = await joined(feeds, info, At(0, 1))
    await until(lambda: len(late.events) == 2)
    assert gaps(late) == [3, None]


async def test_offsets_that_compaction_removed_are_no_gap(feeds: Feeds) -> None:
    info = await created(1, cleanup_policy="compact")
    live = await joined(feeds, info, Latest())
    for _ in range(3):
        await add(info, *range(20), key=b"k")
    await until(lambda: len(live.events) == 60)
    await execute("update brokers_log_batch set stored_at = 0")
    await in_thread(compaction.compact)
    for start in (Earliest(), At(0, 3), Resume(encode_one(info.id, 0, 30))):
        reader = await joined(feeds, info, start, partition=0)
        await until(lambda: bool(reader.events))  # noqa: B023
        assert set(gaps(reader)) == {None}
        assert reader.offsets()[-1] == 59
        assert reader.joined is not None
        await until(lambda: reader.joined.caught_up)  # type: ignore[union-attr]  # noqa: B023
        assert reader.joined.position() == encode_one(info.id, 0, 60)


async def test_a_partition_added_is_followed_from_its_beginning(feeds: Feeds) -> None:
    info = await created(1)
    latest, earliest = await joined(feeds, info, Latest()), await joined(feeds, info, Earliest())
    await add(info, "a")
    await until(lambda: len(latest.events) == 1)
    await in_thread(lambda: topics.alter(info.name, partitions=3))
    grown = await topics.alookup(info.name)
    await add(grown, "b", "c", partition=2)
    await until(lambda: len(latest.events) == len(earliest.events) == 3)
    assert latest.values() == earliest.values() == ["a", "b", "c"]
    assert decode(latest.events[-1].token).offsets == (1, 0, 2)
    resumed = await joined(feeds, info, Resume(latest.events[0].token))
    await until(lambda: resumed.values() == ["b", "c"])


async def test_a_joiner_may_know_of_a_partition_before_the_feed_does(
    feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = await created(1)
    old = await joined(feeds, info, Latest())
    feed = feeds._feeds[info.id]
    with monkeypatch.context() as patch:
        patch.setattr(feeds._look, "set", lambda: None)
        await in_thread(lambda: topics.alter(info.name, partitions=2))
        grown = await topics.alookup(info.name)
        await add(grown, "before", partition=1)
        assert len(feed.heads) == 1
        new = await joined(feeds, info, Latest())
    await add(grown, "after", partition=1)
    await until(lambda: (old.values(), new.values()) == (["before", "after"], ["after"]))


async def test_a_position_in_a_topic_made_again_answers_with_a_gap(feeds: Feeds) -> None:
    info = await created(2)
    await add(info, *range(5))
    token = encode(info.id, [5, 0])
    await in_thread(lambda: topics.delete(info.name))
    await in_thread(lambda: topics.create(info.name, partitions=2))
    topics.forget(info.name)
    new = await topics.alookup(info.name)
    await add(new, "new", "newer")
    reader = await joined(feeds, new, Resume(token))
    await until(lambda: len(reader.events) == 2)
    assert (reader.values(), gaps(reader)) == (["new", "newer"], [0, None])


async def test_a_log_restored_to_before_what_was_delivered_ends_the_subscriptions(feeds: Feeds) -> None:
    info = await created()
    await add(info, "a")
    await add(info, "b")
    reader = await joined(feeds, info, Earliest())
    await until(lambda: len(reader.events) == 2)
    await execute("delete from brokers_log_batch where partition_id = %s and base_offset = 1", info.partition_ids[0])
    await until(lambda: len(reader.errors) == 1)
    assert isinstance(reader.errors[0], ProtocolError)
    assert reader.errors[0].code == "invalid_offset"
    with pytest.raises(ProtocolError):
        await joined(feeds, info, Resume(reader.events[-1].token))
    assert (await joined(feeds, info, Resume(reader.events[0].token))).errors == []


async def test_a_batch_that_cannot_be_read_ends_those_who_need_it(
    feeds: Feeds, caplog: pytest.LogCaptureFixture
) -> None:
    info = await created()
    await add(info, "a")
    await add(info, "b")
    live = await joined(feeds, info, Latest())
    await execute(
        "update brokers_log_batch set payload = 'damaged' where partition_id = %s and base_offset = 0",
        info.partition_ids[0],
    )
    reader = await joined(feeds, info, Earliest())
    await until(lambda: len(reader.errors) == 1)
    assert isinstance(reader.errors[0], Unavailable)
    assert "could not catch up" in caplog.text
    await add(info, "c")
    await until(lambda: live.values() == ["c"])
    assert feeds.status()[0].catching_up == 0
