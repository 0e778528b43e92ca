"""Broadcasts while Valkey is cut off, killed and started again, or takes too little; and from processes that end."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import redis
import redis.asyncio
from django.conf import settings

from brokers.errors import BrokerError
from messaging_site.embedded import VALKEY_SOCKET, ValkeyServer
from messaging_site.processes import Process
from realtime import announcing
from realtime.announcing import Announcer
from realtime.broadcasts import Broadcasts
from realtime.subscribers import Batch, BroadcastEvent


class Own:
    """A Valkey of the test's own."""

    def __init__(self, directory: Path) -> None:
        url = f"unix://{quote(str(directory / VALKEY_SOCKET))}"
        self.server = ValkeyServer(sockets=directory, url=url, log=directory / "log")
        self.process: Process | None = None

    def start(self) -> None:
        self.process = self.server.launch()
        self.server.wait_until_ready(self.process)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        (self.server.sockets / VALKEY_SOCKET).unlink(missing_ok=True)


@pytest.fixture
def valkey(monkeypatch: pytest.MonkeyPatch) -> Iterator[Own]:
    with tempfile.TemporaryDirectory(prefix="valkey-") as directory:
        own = Own(Path(directory))
        own.start()
        monkeypatch.setattr(settings, "REDIS_URL", own.server.url)
        yield own
        own.kill()


@pytest.fixture
async def live(valkey: Own) -> AsyncIterator[Broadcasts]:
    made = Broadcasts()
    made.start()
    await until(lambda: made.connected)
    yield made
    await made.stop()


class Listener:
    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def take(self, batch: Batch) -> None:
        self.bodies.extend(event.body for event in batch.events if isinstance(event, BroadcastEvent))

    async def take_waiting(self, batch: Batch) -> bool:
        raise AssertionError

    def stop(self, error: BrokerError) -> None:
        raise AssertionError


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.005)


async def test_after_a_restart_of_valkey_broadcasts_come_again(
    valkey: Own, live: Broadcasts, caplog: pytest.LogCaptureFixture
) -> None:
    announcer, listener, everything = Announcer(), Listener(), Listener()
    await live.subscribe("/topic/chat", listener)
    await live.subscribe("/topic/*", everything)
    announcer.announce("/topic/chat", b"before", "text/plain", {})
    await until(lambda: listener.bodies == [b"before"])
    caplog.clear()
    with caplog.at_level(logging.INFO, "waystation.broadcasts"):
        valkey.kill()
        await until(lambda: not live.connected)
        for number in range(3):
            announcer.announce("/topic/chat", b"lost %d" % number, "text/plain", {})
            assert await asyncio.to_thread(announcer.flush, 10)
        joined = Listener()
        await live.subscribe("/topic/chat", joined)  # nothing to wait for: it is subscribed when Valkey is back
        assert announcer.lost == 3
        valkey.start()
        await until(lambda: live.connected and live._confirmed.issuperset(range(announcing.CHANNELS)))
        announcer.announce("/topic/chat", b"after", "text/plain", {})
        await until(lambda: listener.bodies[-1] == everything.bodies[-1] == b"after" and joined.bodies == [b"after"])
    assert listener.bodies == [b"before", b"after"]
    told = [record.message for record in caplog.records if record.name == "waystation.broadcasts"]
    assert sorted(told) == [
        "broadcasts are received again",
        "redis is away, broadcasts are lost",
        "redis is away, broadcasts are not received",
    ]


async def test_a_cut_connection_of_the_publisher_loses_nothing(valkey: Own, live: Broadcasts) -> None:
    announcer, listener = Announcer(), Listener()
    await live.subscribe("/topic/chat", listener)
    async with redis.asyncio.Redis.from_url(valkey.server.url) as client:
        for number in range(50):
            announcer.announce("/topic/chat", b"%d" % number, "text/plain", {})
            await until(lambda: len(listener.bodies) > number)  # noqa: B023 - awaited here
            await client.client_kill_filter(_type="normal", skipme=True)
    assert listener.bodies == [b"%d" % number for number in range(50)]
    assert announcer.lost == 0


async def test_what_does_not_fit_is_lost_and_said_once(
    valkey: Own, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(announcing, "MAX_GATHERED", 10)
    announcer = Announcer()
    announcer.announce("/topic/x", b"", "", {})
    assert await asyncio.to_thread(announcer.flush, 10)
    announcer._changed.acquire()  # as if the thread could not send
    for _ in range(25):
        announcer.announce("/topic/x", b"", "", {})
    announcer._changed.release()
    assert announcer.lost == 15
    assert caplog.text.count("more come than redis takes") == 1
    assert await asyncio.to_thread(announcer.flush, 10)
    announcer.announce("/topic/x", b"", "", {})
    assert announcer.lost == 15


async def test_whoever_can_wait_for_room_loses_nothing(
    valkey: Own, live: Broadcasts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(announcing, "MAX_GATHERED", 10)
    announcer, listener = Announcer(), Listener()
    await live.subscribe("/topic/chat", listener)
    for number in range(500):
        await announcer.room()
        announcer.announce("/topic/chat", b"%d" % number, "text/plain", {})
    await until(lambda: len(listener.bodies) == 500)
    assert listener.bodies == [b"%d" % number for number in range(500)]
    with announcer._changed:  # as if the thread could not send
        while not announcer.crowded():
            announcer.announce("/topic/chat", b"", "text/plain", {})
        waiting = asyncio.create_task(announcer.room())
        await asyncio.sleep(0)
        assert not waiting.done()
    async with asyncio.timeout(10):
        await waiting
    assert announcer.lost == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12 warns of threads
async def test_a_forked_process_sends_its_own_and_nothing_of_its_parents(valkey: Own, live: Broadcasts) -> None:
    announcer, listener = Announcer(), Listener()
    await live.subscribe("/topic/chat", listener)
    announcer.announce("/topic/chat", b"parent", "text/plain", {})
    assert await asyncio.to_thread(announcer.flush, 10)
    child = os.fork()
    if child == 0:
        announcer.announce("/topic/chat", b"child", "text/plain", {})
        os._exit(0 if announcer.flush(10) else 1)
    assert os.waitstatus_to_exitcode((await asyncio.to_thread(os.waitpid, child, 0))[1]) == 0
    await until(lambda: listener.bodies == [b"parent", b"child"])


async def test_a_command_that_broadcasts_and_ends_is_heard(valkey: Own, live: Broadcasts) -> None:
    listener = Listener()
    await live.subscribe("/queue/replies", listener, user="anna")
    script = (
        "from django.conf import settings; import sys;"
        "settings.configure(REDIS_URL=sys.argv[1]);"
        "from realtime.announcing import announce, user_destination;"
        "[announce(user_destination('anna', '/queue/replies'), b'%d' % n, '', {}) for n in range(100)]"
    )
    command = [sys.executable, "-c", script, valkey.server.url]
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=30)
    await until(lambda: listener.bodies == [b"%d" % number for number in range(100)])
