"""No gap and no duplicate while hints are lost, late, repeated and out of order and subscribers are cut at random.

Two processes' feeds over one log; each deliberate bug must be found by the same run, so that it is known to look.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from brokers import database, topics
from brokers.publishing import apublish_many
from brokers.record import NewRecord
from brokers.topics import TopicInfo
from brokers.wakeup import Hub
from realtime import feed_ring
from realtime.feed import Feed
from realtime.feed_joining import Joined
from realtime.feed_ring import Ring
from realtime.feeds import Feeds, Latest, Resume
from realtime.positions import encode
from realtime.subscribers import Batch, RecordEvent
from tests.integration.realtime.following import created, in_thread, until

pytestmark = pytest.mark.django_db(transaction=True)


class FaultyHub(Hub):
    """Hears of partitions through `publish`, which loses, delays and repeats; with outages, as of a killed Redis."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(lambda kind, name: None)
        self.connected = True
        self.away = False
        self._chance = chance
        self._loop = asyncio.get_running_loop()

    def publish(self, partition_id: int) -> None:
        """Sends a hint, or does not."""
        for _ in range(2 if self._chance.random() < 0.15 else 1):
            if not self.away and self._chance.random() >= 0.3:
                late = self._chance.uniform(0, 0.05) if self._chance.random() < 0.2 else 0
                self._loop.call_later(late, self._tell, f"p{partition_id}")

    async def fail(self, seconds: float) -> None:
        """Is away for a while, and comes back as if nothing had been missed."""
        self.away, self.connected = True, False
        await asyncio.sleep(seconds)
        self.away, self.connected = False, True


class Client:
    """A client with a slow and breaking connection, which checks each record when it comes."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.number = number
        self.token: str | None = None
        self.next: dict[int, int] = {}
        self.joined: Joined | None = None
        self.received = 0
        self._life = 0

    async def connect(self) -> None:
        """Resumes on either process."""
        self._life += 1
        life = self._life
        start = Latest() if self.token is None else Resume(self.token)
        feeds = self.world.chance.choice(self.world.feeds)
        connection = Connection(self, life)
        joined = await feeds.join(self.world.info, connection, start)
        if not self.is_on(life):  # cut meanwhile, and on the way back elsewhere
            joined.leave()
            return
        self.joined = joined
        if self.token is None:
            self.token = self.joined.position()
            self.next = dict(enumerate(self.world.start))

    def cut(self) -> None:
        """What is on its way is lost; only what came counts."""
        self._life += 1
        if self.joined is not None:
            self.joined.leave()
            self.joined = None

    def is_on(self, life: int) -> bool:
        """Whether this connection is still the client's."""
        return life == self._life

    def receive(self, life: int, event: RecordEvent) -> None:
        """One message."""
        if not self.is_on(life):
            return
        partition, offset = event.record.partition, event.record.offset
        wanted = self.next.get(partition, 0)
        if offset != wanted:
            self.world.wrong.append(f"client {self.number}: {partition}@{offset} came for {wanted}")
        self.next[partition] = offset + 1
        self.token = event.token
        self.received += 1


class Connection:
    """Delivers some messages at a time, so that a cut finds others on their way; ends when too many wait."""

    def __init__(self, client: Client, life: int) -> None:
        self._client = client
        self._life = life
        self._sent: deque[RecordEvent] = deque()
        self._moving = False
        self._room = asyncio.Event()
        self._room.set()

    def take(self, batch: Batch) -> None:
        """As `Subscriber.take`."""
        self._sent.extend(event for event in batch.events if isinstance(event, RecordEvent))
        if len(self._sent) > 300 and self._client.is_on(self._life):
            self._client.world.overflowed(self._client)
        elif not self._moving:
            self._move()

    async def take_waiting(self, batch: Batch) -> bool:
        """As `Subscriber.take_waiting`."""
        await self._room.wait()
        self.take(batch)
        return self._client.is_on(self._life)

    def stop(self, error: Exception) -> None:
        """As `Subscriber.stop`."""
        self._client.world.wrong.append(f"client {self._client.number} was ended: {error}")

    def _move(self) -> None:
        self._moving = bool(self._sent)
        if self._moving:
            chance = self._client.world.chance
            for _ in range(min(len(self._sent), chance.randint(1, 20))):
                self._client.receive(self._life, self._sent.popleft())
            asyncio.get_running_loop().call_later(chance.choice((0, 0, 0.002)), self._move)
        if len(self._sent) < 100:
            self._room.set()
        else:
            self._room.clear()


class World:
    """A topic, two processes, some clients."""

    def __init__(self, info: TopicInfo, seed: int, clients: int) -> None:
        self.chance = random.Random(seed)
        self.info = info
        self.start = [0] * len(info.partition_ids)
        self.wrong: list[str] = []
        self.overflows = 0
        self._returning: set[asyncio.Task[None]] = set()
        self.hubs = [FaultyHub(self.chance), FaultyHub(self.chance)]
        self.feeds = [Feeds(hub) for hub in self.hubs]
        self.clients = [Client(self, number) for number in range(clients)]
        self.written = [0] * (len(info.partition_ids) + 1)
        for feeds in self.feeds:
            feeds.start()

    async def write(self, batches: int, pause: float) -> None:
        """Publishes in batches, half way with one partition more."""
        topics.forget(self.info.name)
        for n in range(batches):
            if self.wrong:
                return
            grown = n >= batches // 2
            if n == batches // 2:
                await in_thread(lambda: topics.alter(self.info.name, partitions=len(self.info.partition_ids) + 1))
                self.info = await topics.alookup(self.info.name)
            partition = self.chance.randrange(len(self.written) - (not grown))
            count = self.chance.randint(1, 30)
            await apublish_many(self.info.name, [NewRecord(None, b"x", partition=partition)] * count)
            self.written[partition] += count
            for hub in self.hubs:
                if self.chance.random() >= 0.2:
                    hub.publish(self.info.partition_ids[partition])
            await asyncio.sleep(self.chance.uniform(0, pause))

    async def disturb(self, clients: list[Client], cuts: int) -> None:
        """Cuts some clients again and again, and takes Redis away."""
        outages = [asyncio.create_task(hub.fail(0.3)) for hub in self.hubs]
        for _ in range(cuts):
            if self.wrong:
                break
            client = self.chance.choice(clients)
            client.cut()
            if self.chance.random() < 0.5:
                await asyncio.sleep(self.chance.uniform(0, 0.005))
            await client.connect()
        await asyncio.gather(*outages)

    def overflowed(self, client: Client) -> None:
        """A connection was ended as too slow; its client comes back."""
        client.cut()
        self.overflows += 1
        self._returning.add(task := asyncio.create_task(client.connect()))
        task.add_done_callback(self._returning.discard)

    def complete(self) -> bool:
        """Whether every client has all that was written, or something is wrong."""
        ends = dict(enumerate(self.written))
        return bool(self.wrong) or all({n: client.next.get(n, 0) for n in ends} == ends for client in self.clients)

    async def close(self) -> None:
        """Ends all."""
        for client in self.clients:
            client.cut()
        for feeds in self.feeds:
            await feeds.stop()
        await database.close()


async def busy(seed: int, patience: float) -> World:
    """Many cuts while records flow."""
    world = World(await created(6), seed, 40)
    try:
        for client in world.clients:
            await client.connect()
        await asyncio.gather(world.write(250, 0.004), *(world.disturb(world.clients[n::2], 250) for n in (0, 1)))
        await finished(world, patience)
    finally:
        await world.close()
    return world


async def quiet(seed: int, patience: float) -> World:
    """Few clients, which nobody disturbs: here only the poll finds what no hint told of."""
    world = World(await created(3), seed, 4)
    try:
        for client in world.clients:
            await client.connect()
        await world.write(40, 0.004)
        await finished(world, patience)
    finally:
        await world.close()
    return world


async def finished(world: World, patience: float) -> None:
    """Notes as wrong what does not come in this time."""
    try:
        await until(world.complete, patience)
    except TimeoutError:
        world.wrong.append("not all came")


@pytest.fixture(params=[500, 30])
def ring(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring that most who come back find themselves in, and one that they do not."""
    monkeypatch.setattr(feed_ring, "MAX_RECORDS", request.param)


@pytest.mark.usefixtures("ring")
@pytest.mark.parametrize("seed", [1, 2])
async def test_hundreds_of_cuts_under_faults_leave_no_gap_and_no_duplicate(seed: int) -> None:
    world = await busy(seed, 20)
    assert world.wrong == []
    assert sum(world.written) > 2500
    assert sum(client.received for client in world.clients) == 40 * sum(world.written)


async def test_what_no_hint_tells_of_is_found_by_the_poll() -> None:
    assert (await quiet(3, 20)).wrong == []


Plant = Callable[[pytest.MonkeyPatch], None]


def feeds_token_for_joiners(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Joined, "_token", lambda self, offsets, gaps: encode(self._feed.topic_id, self._feed.heads))


def live_a_turn_later(patch: pytest.MonkeyPatch) -> None:
    enter = Feed.enter
    patch.setattr(Feed, "enter", lambda self, joined: asyncio.get_running_loop().call_later(0.001, enter, self, joined))


def token_ahead_clipped(patch: pytest.MonkeyPatch) -> None:
    begin = Joined.begin

    def clipped(self: Joined) -> None:
        heads = self._feed.heads
        self._offsets = {n: min(offset, heads[n]) for n, offset in self._offsets.items()}
        begin(self)

    patch.setattr(Joined, "begin", clipped)


def no_look_for_duplicates_in_the_ring(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Ring, "since", lambda self, offsets: [record for record, _ in self._records])


def ring_trusted_below_its_low(patch: pytest.MonkeyPatch) -> None:
    class Nothing(list[int]):
        def __getitem__(self, n: Any) -> Any:
            return 0

    patch.setattr(Ring, "__init__", _with_low(Ring.__init__, Nothing))
    patch.setattr(feed_ring, "MAX_RECORDS", 30)


def _with_low(init: Any, kind: type[list[int]]) -> Any:
    def made(self: Ring, low: list[int]) -> None:
        init(self, kind(low))

    return made


def added_partition_from_its_end(patch: pytest.MonkeyPatch) -> None:
    def opened(self: Feed, ends: Any) -> None:
        known = len(self.heads)
        original(self, ends)
        for number in range(known, len(self.heads)):
            self.heads[number] = ends[number].latest_offset

    original = Feed.open
    patch.setattr(Feed, "open", opened)


def hint_not_looked_at_twice(patch: pytest.MonkeyPatch) -> None:
    """A feed that takes a failed or early look for an answer: what was wanted meanwhile is forgotten."""
    advance: Any = Feed._advance

    async def forgetful(self: Feed, pages: Any) -> None:
        await advance(self, pages)
        self._wanted.clear()
        self.want = lambda partitions: None  # type: ignore[method-assign]

    patch.setattr(Feed, "_advance", forgetful)


def no_poll(patch: pytest.MonkeyPatch) -> None:
    async def never(self: Feeds) -> None:
        """Nothing is compared."""

    patch.setattr(Feeds, "_compare", never)


@pytest.mark.parametrize(
    ("plant", "run"),
    [
        (feeds_token_for_joiners, busy),
        (live_a_turn_later, busy),
        (token_ahead_clipped, busy),
        (no_look_for_duplicates_in_the_ring, busy),
        (ring_trusted_below_its_low, busy),
        (added_partition_from_its_end, quiet),
        (hint_not_looked_at_twice, quiet),
        (no_poll, quiet),
    ],
    ids=lambda value: value.__name__,
)
async def test_a_deliberate_bug_is_found(plant: Plant, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for seed in (1, 2, 3):  # one whose moment does not come in a run is met in another
        if (await run(seed, 2.5)).wrong:
            return
    pytest.fail("the bug was not found")
