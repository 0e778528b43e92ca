"""What feeds share and how they are bounded: reads, memory, batches, turns on the event loop, idle feeds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from brokers import topic_log
from brokers.errors import Unavailable
from brokers.publishing import apublish_many
from brokers.record import NewRecord
from brokers.topic_log import Page
from realtime import feed, feed_pages, feed_ring
from realtime import feeds as feeds_module
from realtime.feeds import At, Earliest, Feeds, Latest, Resume
from realtime.positions import encode, encode_one
from tests.integration.realtime.following import Reader, add, created, following, joined, until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def feeds() -> AsyncIterator[Feeds]:
    async with following() as made:
        yield made


class Counted:
    """Counts the reads of the log and how many are under way at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = self.now = self.most = 0
        self.wanted: list[dict[int, int]] = []
        self._fetch = topic_log.afetch_partitions
        monkeypatch.setattr(topic_log, "afetch_partitions", self._counted)

    async def _counted(self, topic: str, wanted: Mapping[int, tuple[int, int]], *limits: int) -> dict[int, Page]:
        self.reads += 1
        self.now += 1
        self.most = max(self.most, self.now)
        self.wanted.append({number: offset for number, (_, offset) in wanted.items()})
        try:
            return await self._fetch(topic, wanted, *limits)
        finally:
            self.now -= 1


async def test_those_who_come_back_together_need_few_reads(feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    info = await created(2)
    for n in range(20):
        await add(info, *range(100), partition=n % 2)
    counted = Counted(monkeypatch)
    back = [await joined(feeds, info, Resume(encode(info.id, [n, n * 2]))) for n in range(100)]
    await until(lambda: all(len(r.events) == 2000 - 3 * n for n, r in enumerate(back)))
    for n, reader in enumerate(back):
        assert reader.offsets(0) == list(range(n, 1000))
        assert reader.offsets(1) == list(range(n * 2, 1000))
    assert counted.most <= feed_pages.READS_AT_ONCE
    assert counted.reads <= 40, "100 times 2 pages of each of 2 partitions would be 400"
    await until(lambda: not feeds._reader._pages)


async def test_those_who_come_back_soon_need_no_read(feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    info = await created(2)
    live = await joined(feeds, info, Latest())
    for n in range(10):
        await add(info, *range(100), partition=n % 2)
    await until(lambda: len(live.events) == 1000)
    counted = Counted(monkeypatch)
    back = [await joined(feeds, info, Resume(live.events[n].token)) for n in range(100)]
    await until(lambda: all(len(r.events) == 999 - n for n, r in enumerate(back)))
    assert all(r.offsets(1) == live.offsets(1) for r in back)
    # A late hint may still make the feed look beyond its end; nothing that was delivered is read again.
    assert [wanted for wanted in counted.wanted if any(offset < 500 for offset in wanted.values())] == []


async def test_pages_kept_for_sharing_are_bounded(feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_pages, "PAGE_RECORDS", 10)
    monkeypatch.setattr(feed_pages, "KEPT_PAGES", 3)
    info = await created()
    for n in range(20):
        await add(info, *range(10 * n, 10 * n + 10))
    readers = [await joined(feeds, info, At(0, n)) for n in (0, 55, 100, 155)]
    reader = feeds._reader
    sizes = []
    while not all(r.joined is not None and r.joined.caught_up for r in readers):
        sizes.append(len(reader._order))
        assert sum(map(len, reader._pages.values())) == len(reader._order)
        await asyncio.sleep(0)
    assert max(sizes) == 3
    assert [r.values()[0] for r in readers] == ["0", "55", "100", "155"]
    assert all(r.offsets() == list(range(r.offsets()[0], 200)) for r in readers)
    await until(lambda: (reader._bytes, reader._pages) == (0, {}))


async def test_one_who_reads_slowly_while_catching_up_holds_one_batch_and_nobody_up(feeds: Feeds) -> None:
    info = await created()
    for n in range(5):
        await add(info, *range(500 * n, 500 * n + 500))
    slow = Reader()
    slow.open.clear()
    slow.joined = await feeds.join(info, slow, Earliest())
    live = await joined(feeds, info, Latest())
    await add(info, *range(2500, 2510))
    await until(lambda: len(live.events) == 10)
    assert (slow.events, slow.joined.caught_up) == ([], False)
    assert slow.joined.position() == encode(info.id, [0])
    slow.open.set()
    await until(lambda: len(slow.events) == 2510)
    assert slow.values() == [str(n) for n in range(2510)]


async def test_one_whose_connection_ends_while_catching_up_is_forgotten(feeds: Feeds) -> None:
    info = await created()
    await add(info, *range(500))
    slow = Reader()
    slow.open.clear()
    slow.joined = await feeds.join(info, slow, Earliest())
    await until(lambda: feeds.status()[0].catching_up == 1)
    slow.gone = True
    slow.open.set()
    await until(lambda: feeds.status()[0].catching_up == 0)
    assert slow.joined.left
    await until(lambda: feeds._reader._catching_up == 0)


async def test_what_comes_together_is_delivered_together_within_bounds(feeds: Feeds) -> None:
    info = await created()
    live = await joined(feeds, info, Latest())
    await add(info, *range(450))
    await add(info, *["x" * 20_000] * 7, "y" * 100_000, "end")
    await until(lambda: live.values()[-1:] == ["end"])
    late = await joined(feeds, info, Earliest())
    await until(lambda: late.values()[-1:] == ["end"])
    for reader in (live, late):
        for batch in reader.batches:
            values = [len(event.record.value_bytes or b"") for event in batch.events]  # type: ignore[union-attr]
            assert len(values) <= feed.BATCH_RECORDS
            assert sum(values) <= feed.BATCH_BYTES or len(values) == 1
        assert len(reader.batches) <= 9


async def test_records_of_several_partitions_that_come_together_are_one_batch(feeds: Feeds) -> None:
    info = await created(3)
    live = await joined(feeds, info, Latest())
    await apublish_many(info.name, [NewRecord(None, b"x", partition=n % 3) for n in range(12)])
    await until(lambda: len(live.events) == 12)
    assert len(live.batches) == 1
    for number in range(3):
        assert live.offsets(number) == [0, 1, 2, 3]
    for seen, event in enumerate(live.events, 1):
        again = await joined(feeds, info, Resume(event.token))
        await until(lambda: len(again.events) == 12 - seen)  # noqa: B023 - awaited here
        assert again.events == live.events[seen:]


async def test_all_subscribers_alike_share_a_batch(feeds: Feeds) -> None:
    info = await created(2)
    alike = [await joined(feeds, info, Latest()) for _ in range(5)]
    other = await joined(feeds, info, Latest(), partition=0)
    await add(info, "a", "b")
    await until(lambda: all(len(r.events) == 2 for r in [*alike, other]))
    assert len({id(r.batches[0]) for r in alike}) == 1
    assert other.batches[0] is not alike[0].batches[0]


async def test_a_large_fan_out_lets_others_have_their_turn_and_knows_where_each_stands(
    feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "YIELD_EVERY", 10)
    info = await created()
    await add(info, "a")
    crowd = [await joined(feeds, info, Latest()) for _ in range(35)]
    one = await joined(feeds, info, Latest(), key=b"k")
    seen: list[tuple[int, set[str]]] = []

    async def watch() -> None:
        while not all(r.events for r in crowd):
            if any(r.events for r in crowd):
                for reader in [*crowd, one]:
                    assert reader.joined is not None
                    if reader is not one:
                        assert reader.joined.position() == encode(info.id, [1 + len(reader.events)])
                seen.append((sum(len(r.events) for r in crowd), set()))
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    late: list[Reader] = []
    crowd[9].take = lambda batch: late.append(crowd[30]) or Reader.take(crowd[9], batch)  # type: ignore[func-returns-value,method-assign]
    crowd[15].take = lambda batch: crowd[31].joined.leave() or Reader.take(crowd[15], batch)  # type: ignore[union-attr,func-returns-value,method-assign]
    await add(info, "b")
    await until(lambda: len(crowd[34].events) == 1)
    assert [count for count, _ in seen][:3] == [10, 20, 30]
    watching.cancel()
    assert crowd[31].events == []
    await until(lambda: one.joined is not None and one.joined.position() == encode(info.id, [2]))


async def test_one_who_joins_within_a_large_fan_out_gets_each_record_once(
    feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "YIELD_EVERY", 1)
    info = await created()
    crowd = [await joined(feeds, info, Latest()) for _ in range(20)]
    joining: list[Reader] = []
    for n in range(40):
        await add(info, n)
        joining.append(await joined(feeds, info, Earliest() if n % 2 else Latest()))
    await until(lambda: all(r.offsets()[-1:] == [39] for r in [*crowd, *joining[:-1]]))
    for reader in [*crowd, *joining]:
        assert reader.offsets() == list(range(40 - len(reader.events), 40))
    assert all(len(r.events) == 40 for r in [*crowd, *joining[1::2]])


async def test_a_feed_is_dropped_a_minute_after_its_last_subscriber(
    feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = await created()
    reader = await joined(feeds, info, Latest())
    kept = feeds._feeds[info.id]
    assert reader.joined is not None
    reader.joined.leave()
    kept.idle_since -= feeds_module.KEPT_SECONDS - 20
    await feeds._compare()
    assert feeds._feeds[info.id] is kept
    again = await joined(feeds, info, Latest())
    kept.idle_since -= 100
    await feeds._compare()
    assert again.joined is not None
    again.joined.leave()
    kept.idle_since -= feeds_module.KEPT_SECONDS + 1
    await feeds._compare()
    assert (feeds._feeds, feeds._partitions) == ({}, {})
    await kept.closed()
    assert again.errors == []
    later = await joined(feeds, info, Latest())
    await add(info, "a")
    await until(lambda: later.values() == ["a"])


async def test_rings_share_their_memory_among_the_feeds(feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_pages, "RINGS_BYTES", 2 * 100_000)
    infos = [await created(), await created()]
    readers = [await joined(feeds, info, Latest()) for info in infos]
    for info in infos:
        await add(info, *["x" * 10_000] * 30)
    await until(lambda: all(len(r.events) == 30 for r in readers))
    assert all(50_000 < status.ring_bytes <= 100_000 for status in feeds.status())
    assert feeds._reader.ring_bytes() < feed_ring.MAX_BYTES


async def test_while_the_database_is_away_feeds_wait_and_then_go_on(
    feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realtime.feed.RETRY_SECONDS", 0.01)
    monkeypatch.setattr("realtime.feed_joining.RETRY_SECONDS", 0.01)
    info = await created()
    await add(info, "a")
    live = await joined(feeds, info, Latest())
    refused = 0

    async def away(*args: Any) -> Any:
        nonlocal refused
        refused += 1
        raise Unavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(topic_log, "afetch_partitions", away)
        early = await joined(feeds, info, Earliest())
        await add(info, "b")
        await until(lambda: refused > 6)
    await until(lambda: (live.values(), early.values()) == (["b"], ["a", "b"]))
    with monkeypatch.context() as patch:
        patch.setattr(topic_log, "aends_of_topics", away)
        with pytest.raises(Unavailable):
            await joined(feeds, info, Latest())
        await feeds._ends.stop()
    assert (await joined(feeds, info, At(0, 2))).joined.position() == encode_one(info.id, 0, 2)  # type: ignore[union-attr]


async def test_those_who_join_at_once_share_the_look_at_the_logs_end(
    feeds: Feeds, monkeypatch: pytest.MonkeyPatch
) -> None:
    infos = [await created(), await created()]
    looks = 0
    ends = topic_log.aends_of_topics

    async def counted(topic_ids: list[int]) -> Any:
        nonlocal looks
        looks += 1
        return await ends(topic_ids)

    monkeypatch.setattr(topic_log, "aends_of_topics", counted)
    await asyncio.gather(*(joined(feeds, infos[n % 2], Latest()) for n in range(100)))
    assert looks <= 3
    assert [status.live for status in feeds.status()] == [50, 50]


async def test_stopping_ends_all_subscriptions() -> None:
    async with following() as feeds:
        info = await created()
        await add(info, "a")
        live = await joined(feeds, info, Latest())
        slow = Reader()
        slow.open.clear()
        slow.joined = await feeds.join(info, slow, Earliest())
        await feeds.stop()
        assert [type(error) for error in live.errors + slow.errors] == [Unavailable, Unavailable]
        assert feeds.status() == []
