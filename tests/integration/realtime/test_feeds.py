"""Feeds against the real log: where subscriptions begin, what they get, how they resume."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from brokers import topics
from brokers.errors import PartitionNotFound, TopicNotFound
from realtime.errors import ProtocolError
from realtime.feeds import At, Earliest, Feeds, Latest, Resume
from realtime.positions import decode, encode, encode_one
from tests.integration.realtime.following import add, created, following, in_thread, joined, until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def feeds() -> AsyncIterator[Feeds]:
    async with following() as made:
        yield made


async def test_latest_gets_what_is_published_after_the_join_and_nothing_before(feeds: Feeds) -> None:
    info = await created()
    await add(info, "old")
    reader = await joined(feeds, info, Latest())
    await add(info, "new", "newer")
    await until(lambda: len(reader.events) == 2)
    assert reader.values() == ["new", "newer"]
    assert decode(reader.events[-1].token).offsets == (3,)


async def test_earliest_gets_all_that_is_kept_then_what_comes(feeds: Feeds) -> None:
    info = await created(2)
    await add(info, *range(450))
    await add(info, "b", partition=1)
    reader = await joined(feeds, info, Earliest())
    await until(lambda: len(reader.events) == 451)
    await add(info, "c", partition=1)
    await until(lambda: len(reader.events) == 452)
    assert reader.offsets(0) == list(range(450))
    assert reader.offsets(1) == [0, 1]
    assert decode(reader.events[-1].token).offsets == (450, 2)


async def test_a_resumed_subscription_goes_on_right_after_any_of_its_records(feeds: Feeds) -> None:
    info = await created(3)
    for n in range(30):
        await add(info, f"{n}", partition=n % 3)
    reader = await joined(feeds, info, Earliest())
    await until(lambda: len(reader.events) == 30)
    for cut in (0, 7, 29):
        again = await joined(feeds, info, Resume(reader.events[cut].token))
        rest = len(reader.events) - cut - 1
        await until(lambda: len(again.events) >= rest)  # noqa: B023
        assert sorted(again.values() + reader.values()[: cut + 1]) == sorted(reader.values())


async def test_an_offset_begins_one_partition_there(feeds: Feeds) -> None:
    info = await created(2)
    await add(info, *range(10), partition=1)
    await add(info, "other")
    reader = await joined(feeds, info, At(1, 7))
    await until(lambda: len(reader.events) == 3)
    assert reader.values() == ["7", "8", "9"]
    assert reader.events[0].token == encode_one(info.id, 1, 8)
    assert reader.joined is not None
    assert reader.joined.position() == encode_one(info.id, 1, 10)


async def test_what_lies_beyond_the_log_is_refused(feeds: Feeds) -> None:
    info = await created(2)
    await add(info, "a")
    for start in (
        At(0, 2),
        At(0, -1),
        Resume(encode(info.id, [2, 0])),
        Resume(encode(info.id, [0, 0, 0])),
        Resume(encode_one(info.id, 0, 0)),
        Resume("nonsense"),
    ):
        with pytest.raises(ProtocolError) as caught:
            await joined(feeds, info, start)
        assert caught.value.code == "invalid_offset"
    with pytest.raises(PartitionNotFound):
        await joined(feeds, info, Latest(), partition=2)


async def test_filters_choose_a_partition_and_a_key(feeds: Feeds) -> None:
    info = await created(2)
    plain, first, keyed, both = [
        await joined(feeds, info, Latest(), **filters)
        for filters in ({}, {"partition": 0}, {"key": b"k"}, {"partition": 0, "key": b"k"})
    ]
    await add(info, "a")
    await add(info, "b", key=b"k")
    await add(info, "c", partition=1, key=b"k")
    await add(info, "end")
    await add(info, "end", key=b"k")
    await until(lambda: [len(r.events) for r in (plain, first, keyed, both)] == [5, 4, 3, 2])
    assert sorted(plain.values()) == ["a", "b", "c", "end", "end"]
    assert first.values() == ["a", "b", "end", "end"]
    assert sorted(keyed.values()) == ["b", "c", "end"]
    assert both.values() == ["b", "end"]


async def test_one_who_left_gets_nothing_more(feeds: Feeds) -> None:
    info = await created()
    stays, leaves = await joined(feeds, info, Latest()), await joined(feeds, info, Latest())
    assert leaves.joined is not None
    leaves.joined.leave()
    await add(info, "a")
    await until(lambda: stays.values() == ["a"])
    assert leaves.values() == []
    [status] = feeds.status()
    assert (status.live, status.catching_up, status.ring_records) == (1, 0, 1)


async def test_a_deleted_topic_ends_its_subscriptions(feeds: Feeds) -> None:
    info = await created()
    reader = await joined(feeds, info, Latest())
    await in_thread(lambda: topics.delete(info.name))
    await until(lambda: len(reader.errors) == 1)
    assert isinstance(reader.errors[0], TopicNotFound)
    with pytest.raises(TopicNotFound):
        await joined(feeds, info, Latest())
