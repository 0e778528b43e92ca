"""The console keeps itself up to date in a real browser, over its stream of events and without it.

On a whole server, with STOMP clients that come and go. Skipped without Chromium.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, expect
from websockets.exceptions import ConnectionClosed

from tests.acceptance.chromium import chromium, needs_chromium
from tests.live_client import LiveClient, live_client
from tests.server import ADMIN_PASSWORD, Server, unique

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
]

Open = Callable[..., Page]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def signed_in(browser: Browser, server: Server) -> Any:
    """The cookies of the administrator."""
    context = browser.new_context(base_url=server.url)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(ADMIN_PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def faults() -> list[str]:
    """What pages complained about; each test leaves it empty."""
    return []


@pytest.fixture
def open_page(browser: Browser, server: Server, signed_in: Any, faults: list[str]) -> Iterator[Open]:
    """Opens pages of the console, each in a browser of its own."""
    contexts: list[BrowserContext] = []

    def opened(path: str, **options: Any) -> Page:
        context = browser.new_context(base_url=server.url, storage_state=signed_in, **options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        context.on("weberror", lambda error: faults.append(str(error.error)))
        page = context.new_page()
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()


@contextmanager
def stomp_client(server: Server, topic: str) -> Iterator[list[str]]:
    """A client that has subscribed to a topic, in a thread of its own; yields what it was told when it was ended."""
    told: list[str] = []
    ready, stop = threading.Event(), threading.Event()

    async def listen(client: LiveClient) -> None:
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    frame = await client.receive()
                    if frame.command == "RECEIPT":
                        ready.set()
                    elif frame.command == "ERROR":
                        told.append(frame.headers["message"])

    async def connected() -> None:
        async with live_client(server.url, server.admin_token) as client:
            await client.subscribe(f"/topic/{topic}")
            with contextlib.suppress(ConnectionClosed):
                await listen(client)

    thread = threading.Thread(target=lambda: asyncio.run(connected()))
    thread.start()
    try:
        assert ready.wait(10)
        yield told
    finally:
        stop.set()
        thread.join(10)


@pytest.fixture
def topic(api: httpx.Client) -> str:
    """A topic of one partition."""
    name = unique("live")
    assert api.post("/api/v1/topics", json={"name": name, "partitions": 1}).status_code == 201
    return name


def publish(api: httpx.Client, topic: str, value: object) -> None:
    assert api.post(f"/api/v1/topics/{topic}/records", json={"records": [{"value": value}]}).status_code == 200


def state(page: Page) -> Any:
    """The words in the header."""
    return page.locator("[data-live-state]")


def test_a_connection_appears_is_watched_and_ended(
    open_page: Open, server: Server, api: httpx.Client, topic: str, faults: list[str]
) -> None:
    page = open_page("/admin/connections/")
    expect(state(page)).to_have_text("Live")
    row = page.get_by_role("row").filter(has_text=f"/topic/{topic}")
    expect(row).to_have_count(0)
    with stomp_client(server, topic) as told:
        expect(row).to_have_count(1)
        row.get_by_role("link").click()
        expect(page.get_by_role("heading", level=1)).to_contain_text("admin/administrator")
        expect(page.get_by_role("rowheader", name=f"/topic/{topic}")).to_be_visible()
        sent = page.locator(".tile", has=page.get_by_text("Sent", exact=True)).locator(".figure")
        expect(sent).to_have_text("0")
        expect(page.locator("#frames")).to_contain_text("No frame has come or gone")  # it is recorded now
        for number in range(3):
            publish(api, topic, number)
        expect(sent).to_have_text("3")
        expect(page.get_by_role("row").filter(has_text=f"/topic/{topic}").first).to_contain_text("At the end")
        frames = page.locator("#frames tbody tr").filter(has_text="MESSAGE")
        expect(frames).to_have_count(3)
        frames.first.locator("summary").click()
        expect(frames.first.locator("pre")).to_have_text("2")
        expect(page.locator("#backpressure").get_by_role("img")).to_have_count(2)

        watching = open_page(page.url)
        expect(state(watching)).to_have_text("Live")
        page.get_by_role("button", name="Disconnect…").click()
        page.get_by_role("button", name="Disconnect 1 connection").click()
        expect(page.get_by_role("status")).to_contain_text("was told to end")
        expect(row).to_have_count(0)
        expect(watching.get_by_role("heading", name="This connection is over")).to_be_visible()
        expect(watching.locator("#frames tbody tr").first).to_contain_text("ERROR")
    assert told == ["disconnected"]
    assert [fault for fault in faults if "status of 404" not in fault] == []


def test_a_client_in_the_page_subscribes_and_sends(open_page: Open, topic: str, faults: list[str]) -> None:
    page = open_page(f"/admin/connections/client/?destination=/topic/{topic}")
    messages = page.locator("[data-messages] tbody tr")
    page.get_by_role("button", name="Subscribe", exact=True).click()
    expect(page.locator("#client-state")).to_have_text("Connected")
    expect(page.locator("[data-subscriptions] li")).to_have_text(re.compile(f"/topic/{topic} *Unsubscribe"))
    send = page.locator("[data-send]")
    send.get_by_label("Destination").fill(f"/topic/{topic}")
    send.get_by_label("Body").fill('{"gate": "<b>B7</b>"}')
    send.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator("[data-sent]")).to_contain_text("done at")
    expect(messages).to_have_count(1)
    messages.locator("summary").click()
    expect(messages.locator("pre")).to_have_text('{"gate": "<b>B7</b>"}')

    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Watch its connection").click()
    watched = opened.value
    expect(watched.get_by_role("heading", level=1)).to_contain_text("Open")
    expect(watched.get_by_role("rowheader", name=f"/topic/{topic}")).to_be_visible()

    send.get_by_label("Destination").fill("/queue/amq.none/of/that")
    send.get_by_role("button", name="Send", exact=True).click()
    expect(page.locator("[data-problem]")).to_contain_text("invalid_destination")
    expect(page.locator("#client-state")).to_have_text("Ended with an error")
    expect(messages).to_have_count(1)
    assert faults == []


def test_it_works_without_a_script(open_page: Open, server: Server, topic: str, faults: list[str]) -> None:
    page = open_page("/admin/connections/", java_script_enabled=False)
    with stomp_client(server, topic) as told:
        row = page.get_by_role("row").filter(has_text=f"/topic/{topic}")
        for _ in range(50):  # the first look asks the processes to report
            page.goto(f"/admin/connections/?q={topic}")
            if row.count():
                break
            page.wait_for_timeout(100)
        assert state(page).is_hidden()
        row.get_by_role("link").click()
        page.get_by_role("button", name="Disconnect…").click()
        page.get_by_role("button", name="Disconnect 1 connection").click()
        expect(page.get_by_role("status")).to_contain_text("was told to end")
    assert told == ["disconnected"]
    assert faults == []


def test_rows_do_not_move_under_the_pointer(open_page: Open, api: httpx.Client, topic: str, faults: list[str]) -> None:
    page = open_page(f"/admin/topics/{topic}/")
    expect(state(page)).to_have_text("Live")
    rows, waiting = page.locator("#records .row-link"), page.locator("[data-waiting]")
    publish(api, topic, "first")
    expect(rows).to_have_count(1)
    expect(page.locator("#topic-facts")).to_contain_text("1 record in")
    page.locator("#records tbody tr").hover()
    publish(api, topic, "second")
    publish(api, topic, "third")
    expect(waiting).to_have_text("2 new · show")
    expect(rows).to_have_count(1)
    waiting.click()
    expect(rows).to_have_count(3)
    expect(waiting).to_be_hidden()
    page.locator("#records tbody tr").first.hover()
    publish(api, topic, "fourth")
    expect(waiting).to_have_text("1 new · show")
    page.mouse.move(5, 5)
    expect(rows).to_have_count(4)
    expect(waiting).to_be_hidden()
    assert faults == []


def test_a_late_answer_does_not_close_what_was_opened_meanwhile(
    open_page: Open, api: httpx.Client, topic: str, faults: list[str]
) -> None:
    publish(api, topic, "first")
    page = open_page(f"/admin/topics/{topic}/")
    expect(state(page)).to_have_text("Live")
    page.wait_for_timeout(1200)  # what the start of the stream asks for
    held: list[Route] = []
    page.route(lambda url: url.endswith(f"/admin/topics/{topic}/"), lambda route: held.append(route))
    with page.expect_request(lambda request: request.url.endswith(f"/admin/topics/{topic}/")):
        publish(api, topic, "second")
    page.locator("#records .row-link").click()
    panel = page.get_by_role("complementary")
    expect(panel).to_contain_text("0 @ 0")
    with page.expect_response(lambda response: response.url.endswith(f"/admin/topics/{topic}/")):
        held[0].continue_()
    page.wait_for_timeout(300)
    expect(panel).to_contain_text("0 @ 0")
    expect(page.locator("#records")).not_to_have_attribute("data-live", "topics")
    assert faults == []


def test_without_the_stream_it_asks_every_few_seconds_and_says_so(
    open_page: Open, api: httpx.Client, topic: str, faults: list[str]
) -> None:
    page = open_page("/admin/password_change/")
    page.route("**/admin/events*", lambda route: route.abort())
    page.goto(f"/admin/topics/{topic}/")
    expect(state(page)).to_have_text("Updates every 5 s")
    publish(api, topic, "first")
    expect(page.locator("#records .row-link")).to_have_count(1)
    page.unroute("**/admin/events*")
    expect(state(page)).to_have_text("Live")
    publish(api, topic, "second")
    expect(page.locator("#records .row-link")).to_have_count(2, timeout=3000)
    assert [fault for fault in faults if "ERR_FAILED" not in fault] == []


def show(page: Page, is_hidden: bool) -> None:
    """Does what the browser does when another tab is chosen."""
    page.evaluate(
        """hidden => {
            Object.defineProperty(document, "hidden", {value: hidden, configurable: true});
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        is_hidden,
    )


def is_stream(request: Request) -> bool:
    return "/admin/events" in request.url


def test_a_hidden_or_paused_page_asks_for_nothing(
    open_page: Open, api: httpx.Client, topic: str, faults: list[str]
) -> None:
    page = open_page(f"/admin/topics/{topic}/")
    expect(state(page)).to_have_text("Live")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    rows = page.locator("#records .row-link")

    def meanwhile(stop: Callable[[], None], go_on: Callable[[], None]) -> None:
        page.wait_for_timeout(1200)  # what the start of the stream asks for
        before = rows.count()
        with page.expect_event("requestfailed", is_stream):
            stop()
        asked.clear()
        publish(api, topic, "unseen")
        page.wait_for_timeout(1500)
        assert asked == []
        go_on()
        expect(rows).to_have_count(before + 1)
        expect(state(page)).to_have_text("Live")

    meanwhile(lambda: show(page, True), lambda: show(page, False))
    meanwhile(state(page).click, state(page).click)
    assert faults == []


def test_a_page_whose_session_has_ended_says_so(
    open_page: Open, api: httpx.Client, topic: str, faults: list[str]
) -> None:
    page = open_page(f"/admin/topics/{topic}/")
    expect(state(page)).to_have_text("Live")
    page.context.clear_cookies()
    publish(api, topic, "first")
    expect(state(page)).to_have_text("Signed out")
    expect(page.get_by_role("heading", level=1)).to_have_text(topic)
    state(page).click()
    expect(page).to_have_url(re.compile("/admin/login/"))
    assert faults == []
