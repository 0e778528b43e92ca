"""The live departures board of the flights example in a real browser, over each protocol.

Connections are cut and the web process is killed while flights change: each browser receives every change once, and
its board ends equal to the database. No page may break the content security policy or throw in a script. Skipped
without Chromium.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
import pytest
from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, expect

from realtime import positions
from tests.acceptance.chromium import chromium, needs_chromium
from tests.acceptance.embedded_server import WEB, EmbeddedServer, embedded_server, until
from tests.live_client import parse
from tests.server import ADMIN_PASSWORD

SHOWN = 40
BLOCKED = """
    window.WebSocket = class {
      constructor() { setTimeout(() => this.onclose?.({ code: 1006, reason: "", wasClean: false })); }
      close() {}
    };
"""
"""What a page sees where WebSockets do not get through."""
NEWEST = f"""
    select flight, origin, destination, delay_minutes from flights_departure
    order by scheduled_at desc, id limit {SHOWN}
"""
CELLS = "(rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent.trim()))"
LOST = ("WebSocket connection to", "net::ERR_", "the server responded with a status of 401")
"""What the browser itself says of a connection that was cut, or refused."""

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
]

Place = tuple[int, int]
"""Partition and offset."""


class Cable:
    """A TCP relay to the server: what a browser's connections go through, to be cut and mended."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._loop = asyncio.new_event_loop()
        self._ends: set[asyncio.StreamWriter] = set()
        self._is_cut = False
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._relay, "127.0.0.1", 0), self._loop)
        self._server = listening.result(10)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self._is_cut:
                return
            to_server = await asyncio.open_connection("127.0.0.1", self._target)
            self._ends |= {writer, to_server[1]}
            await asyncio.gather(self._pass_on(reader, to_server[1]), self._pass_on(to_server[0], writer))
        except OSError:
            return
        finally:
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        finally:
            self._ends.discard(writer)
            writer.transport.abort()

    def cut(self) -> None:
        """Ends all connections without a word, and those to come."""
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(10)

    async def _cut(self) -> None:
        self._is_cut = True
        for end in self._ends:
            end.transport.abort()

    def mend(self) -> None:
        """Connections get through again."""
        self._is_cut = False

    async def _close(self) -> None:
        await self._cut()
        self._server.close()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    def close(self) -> None:
        """Ends the relay."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@dataclass
class Board:
    """A page, where its stream began, and the places of the changes that came to it."""

    page: Page
    start: positions.Position
    came: Counter[Place] | None
    """None where the browser does not tell: over SockJS."""

    def rows(self) -> list[tuple[str, ...]]:
        """The cells of each row but the times."""
        rows = self.page.locator(".flights tbody tr").evaluate_all(CELLS)
        return [(flight, origin, destination, status) for _, flight, origin, destination, _, status in rows]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """A server with the example, whose web process is killed."""
    with embedded_server() as started:
        yield started


@pytest.fixture
def cable(server: EmbeddedServer) -> Iterator[Cable]:
    """What the browsers connect through."""
    relay = Cable(server.port)
    yield relay
    relay.close()


@pytest.fixture
def faults() -> list[str]:
    """What pages complained about; each test leaves it empty."""
    return []


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium() as started:
        yield started


@pytest.fixture
def context(browser: Browser, cable: Cable, faults: list[str]) -> BrowserContext:
    """A signed-in browser, which notes script errors and breaches of the policy."""

    def note(kind: str, text: str) -> None:
        if (kind == "error" and not any(known in text for known in LOST)) or "Content Security Policy" in text:
            faults.append(text)

    opened = browser.new_context(base_url=cable.url, viewport={"width": 360, "height": 800})
    opened.on("console", lambda message: note(message.type, message.text))
    opened.on("weberror", lambda error: faults.append(str(error.error)))
    page = opened.new_page()
    page.goto("/flights/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(ADMIN_PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Departures from New York")
    page.close()
    return opened


def open_board(context: BrowserContext, protocol: str, how: str, *, blocked: bool = False) -> Board:
    """A page that is live over a protocol, all of whose changes are counted as the browser receives them."""
    page = context.new_page()
    if blocked:
        page.add_init_script(BLOCKED)
    came: Counter[Place] = Counter()

    def frame_came(payload: str | bytes) -> None:
        for frame in parse(payload):
            if frame.command == "MESSAGE":
                came[int(frame.headers["partition"]), int(frame.headers["offset"])] += 1

    def event_came(event: dict[str, Any]) -> None:
        if event["eventName"] == "record":
            record = json.loads(event["data"])
            came[record["partition"], record["offset"]] += 1

    page.on("websocket", lambda socket: socket.on("framereceived", frame_came))
    devtools: CDPSession = context.new_cdp_session(page)
    devtools.on("Network.eventSourceMessageReceived", event_came)
    devtools.send("Network.enable")
    page.goto(f"/flights/?over={protocol}")
    expect(page.locator("[data-state]")).to_have_text("Connected", timeout=15_000)
    expect(page.locator("[data-detail]")).to_contain_text(how)
    start = page.evaluate("JSON.parse(document.getElementById('board').textContent).position")
    return Board(page, positions.decode(start), None if blocked else came)


class Flights:
    """Publishes departures, and knows from the server what boards have to show."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self._number = 0

    def publish(self, count: int) -> None:
        """New departures, each later than those before, and a change of every third."""
        records = []
        for number in range(self._number, self._number + count):
            hour, minute = divmod(number, 60)
            departure = {
                "carrier": "WS",
                "flight": number,
                "origin": ("EWR", "JFK", "LGA")[number % 3],
                "dest": "RDU",
                "tailnum": f"N{number}",
                "dep_time": 1,
                "dep_delay": number % 30 - 5,
                "time_hour": f"2031-05-01T{hour:02}:00:00Z",
                "minute": minute,
            }
            records.append({"key": departure["tailnum"], "value": departure})
            if number % 3 == 0:
                late = departure | {"dep_delay": 90 + number, "cancelled": number % 2 == 0}
                records.append({"key": departure["tailnum"], "value": late})
        self._number += count
        with self.server.client() as client:
            client.post("/api/v1/topics/departures/records", json={"records": records}).raise_for_status()

    def wait_until_handled(self) -> None:
        """Returns when the listener has handled all."""
        with self.server.client() as client:
            until(lambda: self._lag(client) == 0, 20, "the flights are handled")

    def _lag(self, client: httpx.Client) -> int:
        group = client.get("/api/v1/groups/delays").raise_for_status().json()
        return sum(each["latest_offset"] - (each["committed_offset"] or 0) for each in group["partitions"])

    def since(self, start: positions.Position) -> Counter[Place]:
        """Places of all changes of the board from a position on, each once."""
        with self.server.client() as client:
            answer = client.get("/api/v1/topics/departure-board/partitions").raise_for_status().json()
        ends = [partition["latest_offset"] for partition in answer["items"]]
        return Counter(
            (number, offset)
            for number, (first, end) in enumerate(zip(start.offsets, ends, strict=True))
            for offset in range(first, end)
        )

    def rows(self) -> list[tuple[str, ...]]:
        """What the database says that boards show."""
        with psycopg.connect(self.server.database_url) as database:
            return [(*texts, status(delay)) for *texts, delay in database.execute(NEWEST).fetchall()]


def status(delay: int | None) -> str:
    """A departure's status in words."""
    if delay is None:
        return "Cancelled"
    if delay < 0:
        return f"{-delay} min early"
    return "On time" if delay < 15 else f"{delay} min late"


def assert_equal(flights: Flights, boards: list[Board]) -> None:
    """Each board has received each change since it was opened once, and shows what the database holds."""
    flights.wait_until_handled()
    for board in boards:
        expected = flights.since(board.start)
        expect(board.page.locator("[data-received]")).to_have_text(f"{expected.total():,}", timeout=20_000)
        assert board.came in (expected, None)
        assert board.rows() == flights.rows()


@contextmanager
def reconnecting(boards: list[Board]) -> Iterator[None]:
    """A block before which every page says that it is cut off, and after which each is live again."""
    for board in boards:
        expect(board.page.locator("[data-state]")).to_have_text("Reconnecting")
    yield
    for board in boards:
        expect(board.page.locator("[data-state]")).to_have_text("Connected", timeout=20_000)


@pytest.mark.slow
def test_boards_miss_no_change_and_see_none_twice_whatever_is_cut_or_killed(
    server: EmbeddedServer, cable: Cable, context: BrowserContext, faults: list[str]
) -> None:
    flights = Flights(server)
    boards = [
        open_board(context, "stomp", "STOMP over WebSocket"),
        open_board(context, "events", "Server-sent events"),
        open_board(context, "stomp", "STOMP over xhr-streaming", blocked=True),
    ]
    expect(boards[0].page.get_by_role("heading", name="No departures yet")).to_be_visible()

    flights.publish(30)
    assert_equal(flights, boards)

    cable.cut()
    with reconnecting(boards):
        flights.publish(30)
        flights.wait_until_handled()
        cable.mend()
    assert_equal(flights, boards)

    flights.publish(30)
    server.kill(WEB)
    server.wait_until_ready()
    assert_equal(flights, boards)
    assert len(boards[0].rows()) == SHOWN

    late = open_board(context, "stomp", "STOMP over WebSocket")
    flights.publish(3)
    assert_equal(flights, [*boards, late])
    late.page.get_by_role("button", name="EventSource").click()
    flights.publish(3)
    expect(late.page.locator("[data-detail]")).to_contain_text("Server-sent events")
    assert_equal(flights, [*boards, late])
    assert boards[0].page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
    assert faults == []


def test_whoever_has_signed_out_meanwhile_is_led_to_the_login(
    server: EmbeddedServer, cable: Cable, context: BrowserContext, faults: list[str]
) -> None:
    boards = [
        open_board(context, "stomp", "STOMP over WebSocket"),
        open_board(context, "events", "Server-sent events"),
    ]
    cable.cut()
    for board in boards:
        expect(board.page.locator("[data-state]")).to_have_text("Reconnecting")
    with psycopg.connect(server.database_url) as database:
        database.execute("delete from django_session")
    cable.mend()
    for board in boards:
        expect(board.page.get_by_role("button", name="Sign in")).to_be_visible(timeout=15_000)
        assert "next=/flights/" in board.page.url
    assert faults == []
