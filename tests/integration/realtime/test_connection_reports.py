"""What a web process reports of its live connections, when, and whom it tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import redis

from brokers import wakeup
from brokers.access import Principal
from realtime import connection_reports
from realtime.connection_reports import Reporter, look
from realtime.connections import Connection
from realtime.wheel import Wheel
from tests.web_process import eventually

pytestmark = pytest.mark.usefixtures("nothing_reported", "_quick")


class Quiet:
    """A transport that takes everything."""

    kind = "websocket"
    wrap = bytes

    def put(self, frame: bytes) -> bool:
        return True

    def buffered(self) -> int:
        return 7

    async def space(self) -> None:
        return None

    def end(self, payloads: Sequence[bytes], code: int, reason: str) -> None:
        return None


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_reports, "_EVERY_SECONDS", 0.03)


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of changes that were announced."""
    told: list[str] = []
    monkeypatch.setattr(wakeup, "announce_change", lambda kind, name: told.append(kind))
    return told


@pytest.fixture
def nothing_reported() -> None:
    """No summary is left of another test, and nobody looks."""
    from django.conf import settings

    with redis.Redis.from_url(settings.REDIS_URL) as client:
        for key in client.scan_iter("waystation:connections:*"):
            client.delete(key)


@asynccontextmanager
async def reporting(connections: dict[str, Connection]) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(Reporter(connections).run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def opened(connections: dict[str, Connection], protocol: str = "stomp") -> Connection:
    made = Connection(protocol, Quiet(), wheel=Wheel(), principal=Principal("ada/board", False, token_id="t"))
    connections[made.id] = made
    return made


async def seen() -> list[connection_reports.ConnectionReport]:
    return list((await asyncio.to_thread(look)).connections())


async def test_nothing_is_written_until_somebody_looks(announced: list[str]) -> None:
    connections: dict[str, Connection] = {}
    one = opened(connections)
    async with reporting(connections):
        await asyncio.sleep(0.15)
        assert announced == []
        assert await seen() == []
        await eventually(lambda: announced != [])
        (report,) = await seen()
    assert (report.id, report.user, report.token_id, report.buffered) == (one.id, "ada", "t", 7)


async def test_a_change_is_announced_and_sameness_is_not(announced: list[str]) -> None:
    connections: dict[str, Connection] = {}
    one = opened(connections)
    await seen()
    async with reporting(connections):
        await eventually(lambda: announced != [])
        await asyncio.sleep(0.15)  # the second report knows the rate, which is a change
        quiet = len(announced)
        await asyncio.sleep(0.2)
        assert len(announced) == quiet
        one.write(b"x", 1)
        await eventually(lambda: len(announced) > quiet)
        await eventually_rate_is_zero()
        quiet = len(announced)
        opened(connections)
        await eventually(lambda: len(announced) > quiet)
        connections.clear()
        quiet = len(announced)
        await eventually(lambda: len(announced) > quiet)


async def eventually_rate_is_zero() -> None:
    async with asyncio.timeout(10):
        while [each.rate for each in await seen()] != [0.0]:
            await asyncio.sleep(0.01)


async def test_it_tells_the_rate_and_when_the_client_was_heard(announced: list[str]) -> None:
    connections: dict[str, Connection] = {}
    one, stream = opened(connections), opened(connections, "sse")
    reporter = Reporter(connections)
    first = {each.id: each for each in reporter.summary().connections}
    assert (first[one.id].rate, first[one.id].silent_s, first[stream.id].silent_s) == (None, 0, None)
    one.write(b"x", 50)
    await asyncio.sleep(0.05)
    second = {each.id: each for each in reporter.summary().connections}
    assert 0 < (second[one.id].rate or 0) <= 1000
    assert second[stream.id].rate == 0


async def test_a_process_that_stops_takes_its_report_back(announced: list[str]) -> None:
    connections: dict[str, Connection] = {}
    opened(connections)
    await seen()
    async with reporting(connections):
        await eventually(lambda: announced != [])
        assert len(await seen()) == 1
    assert await seen() == []


async def test_the_report_of_a_process_that_died_is_gone_after_seconds(
    announced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_reports, "LASTS_SECONDS", 1)
    connections: dict[str, Connection] = {}
    opened(connections)
    await seen()

    async def die(*args: object) -> None:
        raise redis.ConnectionError

    async with reporting(connections):
        await eventually(lambda: announced != [])
        assert len(await seen()) == 1
        monkeypatch.setattr("redis.asyncio.Redis.set", die)
        monkeypatch.setattr("redis.asyncio.Redis.delete", die)
    assert len(await seen()) == 1
    async with asyncio.timeout(5):
        while await seen():
            await asyncio.sleep(0.05)
