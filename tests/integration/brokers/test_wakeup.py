"""Wake-ups over the real Valkey: hints arrive at once, are never needed, and come back after it was away."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import redis
from django.conf import settings

from brokers import wakeup
from brokers.settings import POLL_INTERVAL_SECONDS
from brokers.wakeup import Announcer, Hub, Subscription
from messaging_site import embedded
from messaging_site.embedded import VALKEY_STOP_STEPS, ValkeyServer
from messaging_site.processes import Process, kill, stop

AT_ONCE = 0.5
"""Far less than the time after which a waiter looks by itself."""


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def hub() -> AsyncIterator[Hub]:
    """A hub that listens; what it heard of changes is in `changes`."""
    changes: list[tuple[str, str]] = []
    made = Hub(lambda kind, name: changes.append((kind, name)))
    made.changes = changes  # type: ignore[attr-defined]
    made.start()
    await until(lambda: made.connected)
    yield made
    await made.stop()


async def waited(
    hub: Hub, partitions: list[int], seconds: float = 30.0, since: int | None = None
) -> tuple[bool, float]:
    started = time.monotonic()
    return await hub.wait(partitions, seconds, since), time.monotonic() - started


async def test_an_announcement_wakes_all_who_wait_for_the_partition_and_nobody_else(hub: Hub) -> None:
    mine = [asyncio.create_task(waited(hub, [1_000_001, 1_000_002])) for _ in range(50)]
    others = asyncio.create_task(waited(hub, [1_000_003]))
    await asyncio.sleep(0)
    wakeup.announce_partitions([1_000_002])
    for announced, seconds in await asyncio.gather(*mine):
        assert announced
        assert seconds < AT_ONCE
    announced, seconds = await others
    assert not announced
    assert abs(seconds - POLL_INTERVAL_SECONDS) < 0.3


async def test_a_waiter_looks_by_itself_after_a_second_and_never_later_than_it_said(hub: Hub) -> None:
    assert (await waited(hub, [1_000_010], 0.05))[0] is False
    announced, seconds = await waited(hub, [1_000_010], 30)
    assert not announced
    assert seconds < POLL_INTERVAL_SECONDS + 0.3


async def test_an_announcement_between_the_look_and_the_wait_is_not_missed(hub: Hub) -> None:
    mark = hub.mark()
    wakeup.announce_partitions([1_000_020])
    await until(lambda: hub.mark() > mark)
    assert (await waited(hub, [1_000_020], since=mark))[0] is True
    assert (await waited(hub, [1_000_021], 0.05, since=mark))[0] is False
    assert (await waited(hub, [1_000_020], 0.05, since=hub.mark()))[0] is False


async def test_a_queue_is_waited_for_by_its_hint_and_no_partition_of_that_number_wakes(hub: Hub) -> None:
    mark = hub.mark()
    wakeup.announce_queues([1_000_025])
    await until(lambda: hub.mark() > mark)
    assert await hub.wait_for(["q1000025"], 30, since=mark) is True
    assert await hub.wait([1_000_025], 0.05, since=mark) is False
    waiter = asyncio.create_task(hub.wait_for(["q1000026", "q1000027"], 30))
    await asyncio.sleep(0)
    wakeup.announce_queues([1_000_027])
    assert await waiter is True


async def test_after_very_many_announcements_a_waiter_looks_again_at_once(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = hub.mark()
    hub._hear(" ".join(f"p{n}" for n in range(2000)))
    assert (await waited(hub, [1_000_030], since=mark))[0] is True
    assert len(hub._recent) == 1000


async def test_waiters_leave_nothing_behind(hub: Hub) -> None:
    tasks = [asyncio.create_task(hub.wait([1_000_040, 1_000_041], 30)) for _ in range(20)]
    await asyncio.sleep(0)
    for task in tasks[:10]:
        task.cancel()
    wakeup.announce_partitions([1_000_040])
    await asyncio.gather(*tasks, return_exceptions=True)
    await hub.wait([1_000_040], 0.01)
    assert hub._waiting == {}


async def test_changes_of_topics_and_tokens_are_told(hub: Hub) -> None:
    wakeup.announce_change("t", "orders")
    wakeup.announce_change("k", "token-1")
    await until(lambda: len(hub.changes) == 2)  # type: ignore[attr-defined]
    assert set(hub.changes) == {("t", "orders"), ("k", "token-1")}  # type: ignore[attr-defined]


async def test_stopping_wakes_all_waiters() -> None:
    hub = Hub(lambda kind, name: None)
    hub.start()
    await until(lambda: hub.connected)
    waiter = asyncio.create_task(waited(hub, [1_000_050]))
    await asyncio.sleep(0)
    await hub.stop()
    assert (await waiter)[1] < AT_ONCE


@pytest.mark.parametrize(
    "message", [b"", b"p", b"px", b"p-1", b"p99999999999999999999", b"\xff\xfe", b" p1  p2 ", b"q"]
)
async def test_what_nobody_of_ours_has_sent_does_no_harm(hub: Hub, message: bytes) -> None:
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.publish(wakeup.CHANNEL, message)
        await asyncio.sleep(0.05)
        client.publish(wakeup.CHANNEL, b"p1000060")
    mark = hub.mark() - 1
    await until(lambda: "p1000060" in hub._recent)
    assert hub.connected
    assert (await waited(hub, [1_000_060], since=mark))[0] is True


def test_announcing_from_many_threads_loses_no_hint() -> None:
    heard: set[str] = set()
    client = redis.Redis.from_url(settings.REDIS_URL, decode_responses=True)
    channel = client.pubsub(ignore_subscribe_messages=True)  # type: ignore[no-untyped-call]
    channel.subscribe(wakeup.CHANNEL)
    channel.get_message(timeout=5)

    def announce(first: int) -> None:
        for n in range(first, first + 200):
            wakeup.announce_partitions([n])

    threads = [threading.Thread(target=announce, args=(2_000_000 + 200 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wanted = {f"p{n}" for n in range(2_000_000, 2_000_800)}
    deadline = time.monotonic() + 10
    while not wanted <= heard and time.monotonic() < deadline:
        message = channel.get_message(timeout=1)
        if message:
            heard.update(message["data"].split(" "))
    channel.close()
    client.close()
    assert wanted <= heard


def test_a_synchronous_consumer_is_woken_too() -> None:
    with Subscription() as subscription:
        assert subscription.wait([3_000_000], 0.01) is False
        wakeup.announce_partitions([3_000_000])
        started = time.monotonic()
        assert subscription.wait([3_000_000], 30) is True
        assert time.monotonic() - started < AT_ONCE
        with redis.Redis.from_url(settings.REDIS_URL) as client:
            client.publish(wakeup.CHANNEL, b"\xff\xfe")
        assert subscription.wait([3_000_001], 0.05) is False


# -- while Valkey is away ----------------------------------------------------------------------------------------------


class OwnValkey:
    """A Valkey of one test, to be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.server: ValkeyServer = embedded.valkey(directory)
        self.url = self.server.url
        self.process: Process | None = None

    def start(self) -> None:
        self.process = self.server.launch()
        self.server.wait_until_ready(self.process)

    def kill(self) -> None:
        if self.process is not None:
            kill(self.process)
            self.process = None


@pytest.fixture
def own_valkey(monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnValkey]:
    directory = Path(tempfile.mkdtemp(prefix="waystation-valkey-"))
    valkey = OwnValkey(directory)
    valkey.start()
    monkeypatch.setattr(settings, "REDIS_URL", valkey.url)
    monkeypatch.setattr(wakeup, "_RETRY_SECONDS", 0.1)
    yield valkey
    if valkey.process is not None:
        stop(valkey.process, VALKEY_STOP_STEPS)
    sockets = embedded.socket_directory(directory)
    if sockets.parent != directory:
        shutil.rmtree(sockets, ignore_errors=True)
    shutil.rmtree(directory)


async def test_after_valkey_was_killed_waiters_poll_and_after_its_return_are_woken(own_valkey: OwnValkey) -> None:
    announcer, hub = Announcer(), Hub(lambda kind, name: None)
    hub.start()
    await until(lambda: hub.connected)
    own_valkey.kill()
    await until(lambda: not hub.connected)
    started = time.monotonic()
    for n in range(1000):
        announcer.announce([f"p{n}"])
    assert time.monotonic() - started < 0.2, "announcing never blocks"
    announced, seconds = await waited(hub, [5], 30)
    assert not announced
    assert seconds < POLL_INTERVAL_SECONDS + 0.5
    own_valkey.start()
    await until(lambda: hub.connected)
    async with asyncio.timeout(10):
        while True:
            announcer.announce(["p7"])
            announced, seconds = await waited(hub, [7], 0.5)
            if announced:
                break
    await hub.stop()


async def test_the_hub_starts_while_valkey_is_away(own_valkey: OwnValkey) -> None:
    own_valkey.kill()
    hub = Hub(lambda kind, name: None)
    hub.start()
    assert (await waited(hub, [5], 0.2))[0] is False
    own_valkey.start()
    await until(lambda: hub.connected)
    await hub.stop()


def test_a_synchronous_consumer_waits_its_time_out_and_comes_back(own_valkey: OwnValkey) -> None:
    with Subscription() as subscription:
        assert subscription.wait([1], 0.05) is False
        own_valkey.kill()
        started = time.monotonic()
        assert subscription.wait([1], 0.3) is False
        assert subscription.wait([1], 0.3) is False
        assert 0.5 < time.monotonic() - started < 1.2
        own_valkey.start()
        assert subscription.wait([1], 0.3) is False
        announcer = Announcer()
        announcer.announce(["p1"])
        assert subscription.wait([1], 30) is True


def test_hints_that_gather_while_valkey_is_away_are_bounded(
    own_valkey: OwnValkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_valkey.kill()
    monkeypatch.setattr(wakeup, "_RETRY_SECONDS", 30.0)
    announcer = Announcer()
    for n in range(30_000):
        announcer.announce([f"p{n}"])
    assert len(announcer._gathered) <= 10_000


def test_a_forked_process_announces_too(own_valkey: OwnValkey) -> None:
    announcer = Announcer()
    with Subscription() as subscription:
        subscription.wait([1], 0.05)
        announcer.announce(["p1"])
        assert subscription.wait([1], 10) is True
        child = os.fork()
        if child == 0:  # pragma: no cover - in the child
            with contextlib.suppress(BaseException):
                announcer.announce(["p2"])
                time.sleep(0.5)
            os._exit(0)
        assert subscription.wait([2], 10) is True
        os.waitpid(child, 0)
