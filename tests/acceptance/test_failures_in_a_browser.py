"""From a failure to its mended replay in a real browser, over a whole server whose listeners run: the flights example.

Its consumer group `delays` cannot count flights without a departure time, and accepts those that are said to be
cancelled. No page may break the content security policy, throw in a script, or scroll sideways.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.acceptance.chromium import chromium, needs_chromium
from tests.acceptance.embedded_server import until
from tests.server import ADMIN_PASSWORD, Server, fresh_database, running

SECONDS = 20_000
FLIGHT = {
    "carrier": "EV",
    "flight": 4308,
    "tailnum": "N18120",
    "origin": "EWR",
    "dest": "RDU",
    "dep_time": None,
    "dep_delay": None,
}

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    needs_chromium,
]

Open = Callable[..., BrowserContext]


@pytest.fixture(scope="module")
def failing() -> Iterator[Server]:
    """A server with a database of its own, so that nothing but these tests fails in it."""
    with fresh_database() as url, running(url) as server:
        yield server


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium."""
    with chromium() as started:
        yield started


@pytest.fixture
def faults() -> list[str]:
    """What pages complained about; each test leaves it empty."""
    return []


@pytest.fixture
def open_context(browser: Browser, failing: Server, faults: list[str]) -> Iterator[Open]:
    """Makes browser contexts that note script errors and breaches of the policy."""
    made: list[BrowserContext] = []

    def note(kind: str, text: str) -> None:
        is_expected = "status of 404" in text or "status of 422" in text
        if (kind == "error" and not is_expected) or "Content Security Policy" in text:
            faults.append(text)

    def opened(**options: Any) -> BrowserContext:
        context = browser.new_context(base_url=failing.url, **options)
        context.set_default_timeout(SECONDS)
        context.on("console", lambda message: note(message.type, message.text))
        context.on("weberror", lambda error: faults.append(str(error.error)))
        made.append(context)
        return context

    yield opened
    for context in made:
        context.close()


def sign_in(context: BrowserContext) -> Page:
    """A page on the Overview."""
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(ADMIN_PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    return page


def press(page: Page, *keys: str) -> None:
    """Presses keys once the page's scripts have run."""
    page.wait_for_load_state("load")
    for key in keys:
        page.keyboard.press(key)


def publish(server: Server, *flights: int) -> None:
    """Departures that the listener gives up at once."""
    records = [{"key": f"N{number}", "value": FLIGHT | {"flight": number}} for number in flights]
    with server.client() as client:
        client.post("/api/v1/topics/departures/records", json={"records": records}).raise_for_status()


def letters(server: Server, **query: str) -> list[dict[str, Any]]:
    with server.client() as client:
        found: list[dict[str, Any]] = client.get("/api/v1/dead-letters", params=query).json()["items"]
        return found


def failed(server: Server, *flights: int) -> list[int]:
    """Publishes departures and waits until they are open dead letters; their ids, in the order given."""
    publish(server, *flights)
    keys = [f"N{flight}" for flight in flights]

    def found() -> dict[str, int]:
        return {letter["key"]: letter["id"] for letter in letters(server, state="open")}

    until(lambda: set(keys) <= found().keys(), 30, "the flights have not become dead letters")
    ids = found()
    return [ids[key] for key in keys]


def test_a_failure_appears_is_edited_replayed_and_handled(
    failing: Server, open_context: Open, faults: list[str]
) -> None:
    page = sign_in(open_context(viewport={"width": 1280, "height": 800}))
    press(page, "g", "d")
    expect(page.get_by_role("heading", level=1)).to_have_text("Dead letters")
    publish(failing, 1001, 1002, 1003)
    group = page.get_by_role("row").filter(has_text="departures → delays").first
    expect(group).to_contain_text("NoDepartureTime", timeout=SECONDS)
    until(lambda: len(letters(failing, state="open")) == 3, 30, "the flights have not become dead letters")

    group.get_by_role("link", name=re.compile("NoDepartureTime")).click()
    expect(page.locator(".row-link")).to_have_count(3)
    page.get_by_role("row").filter(has_text="N1002").get_by_role("link").click()
    expect(page.locator(".tree")).to_contain_text('"flight": 1002')
    expect(page.locator(".frame.innermost")).to_contain_text("counting.py")

    press(page, "e")
    value = page.get_by_label("Value", exact=True)
    value.fill(value.input_value().replace('"dep_time": null', '"dep_time": null,\n  "cancelled": true'))
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".diff-line.added .new")).to_contain_text('"cancelled": true')
    page.get_by_role("button", name="Save and plan its replay").click()
    expect(page.get_by_text("Replays 1 dead letter to consumer group delays.")).to_be_visible()
    page.get_by_role("button", name="Replay this dead letter").click()
    expect(page.get_by_text("Starts in")).to_be_visible()
    expect(page.get_by_role("heading", name="1 of 1 sent")).to_be_visible(timeout=SECONDS)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Completed", timeout=SECONDS)
    expect(page.locator("#progress").get_by_role("status")).to_contain_text("1 succeeded")
    page.get_by_role("row").filter(has_text="N1002").get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Replayed")
    page.get_by_role("link", name="History").click()
    expect(page.get_by_role("main")).to_contain_text("Revision 2, by hand")
    assert {letter["key"] for letter in letters(failing, state="open")} == {"N1001", "N1003"}
    assert faults == []


def test_a_replay_that_changes_nothing_fails_again_and_is_planned_anew(
    failing: Server, open_context: Open, faults: list[str]
) -> None:
    first, second = failed(failing, 2001, 2002)
    page = sign_in(open_context())
    page.goto(f"/admin/replays/new/?ids={first},{second}")
    page.get_by_label("Reason").fill("perhaps it works now")
    page.get_by_role("button", name="Make the plan").click()
    page.get_by_role("button", name="Replay 2 dead letters").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Completed with failures", timeout=2 * SECONDS)
    expect(page.locator("#results")).to_contain_text("the same failure")
    page.get_by_role("link", name="Replay the failed ones").click()
    page.get_by_label("Change each value by a merge patch").fill('{"cancelled": true}')
    page.get_by_role("button", name="Check").click()
    expect(page.locator(".diff-line.added .new").first).to_contain_text('"cancelled": true')
    page.get_by_label("At most per second").fill("0.01")
    page.get_by_label("Reason").fill("now as cancelled flights")
    page.get_by_role("button", name="Make the plan").click()
    page.get_by_role("button", name="Replay 2 dead letters").click()
    expect(page.get_by_role("heading", name="1 of 2 sent")).to_be_visible(timeout=SECONDS)
    page.get_by_role("button", name="Cancel remaining").click()
    expect(page.get_by_text("Cancel what is left?")).to_be_visible()
    page.get_by_role("button", name="Keep going").click()
    page.get_by_role("button", name="Pause", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Paused")
    page.get_by_role("button", name="Cancel remaining").click()
    page.get_by_role("button", name="Cancel 1 dead letter").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Cancelled")
    assert faults == []


def test_without_a_script_everything_can_be_done(failing: Server, open_context: Open, faults: list[str]) -> None:
    [letter] = failed(failing, 3001)
    page = sign_in(open_context(java_script_enabled=False))
    page.get_by_role("link", name="Dead letters", exact=False).first.click()
    page.get_by_label("delays").check()
    page.get_by_role("button", name="Filter", exact=True).click()
    expect(page).to_have_url(re.compile("group=delays"))
    page.goto("/admin/dead-letters/list/?state=open")
    page.get_by_label(f"Select dead letter {letter}", exact=True).check()
    page.get_by_role("button", name="Discard…").click()
    page.get_by_role("button", name="Discard 1 dead letter").click()
    expect(page.get_by_role("status").first).to_contain_text("1 dead letter was discarded.")
    page.goto(f"/admin/dead-letters/{letter}/")
    page.get_by_role("button", name="Reopen").click()
    page.get_by_role("button", name="Resolve").click()
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("link", name="Edit").click()
    value = page.get_by_label("Value", exact=True)
    value.fill(value.input_value().replace('"dep_time": null', '"dep_time": null,\n  "cancelled": true'))
    page.get_by_role("button", name="Save and plan its replay").click()
    page.get_by_role("button", name="Replay this dead letter").click()
    expect(page.get_by_text("Starts in")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Cancelled")
    expect(page.get_by_role("status").first).to_contain_text("Taken back. Nothing was sent.")
    assert letters(failing, state="open")[0]["id"] is not None
    assert faults == []


def test_rows_are_chosen_by_keyboard_and_all_at_once(failing: Server, open_context: Open, faults: list[str]) -> None:
    failed(failing, 4001, 4002)
    page = sign_in(open_context())
    page.goto("/admin/dead-letters/list/?state=open&q=N400")
    replay = page.get_by_role("button", name="Replay…")
    expect(replay).to_have_attribute("aria-disabled", "true")
    press(page, "j", "x")
    expect(page.get_by_text("1 selected")).to_be_visible()
    page.get_by_label("Select all rows of this page").check()
    expect(page.get_by_text("2 selected")).to_be_visible()
    replay.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Plan a replay")
    expect(page.locator(".numbers .sum")).to_contain_text("2")
    assert faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_scrolls_sideways_or_breaks_the_policy(
    scheme: str, width: int, failing: Server, open_context: Open, faults: list[str]
) -> None:
    [letter] = failed(failing, 5000 + width + len(scheme))
    page = sign_in(open_context(color_scheme=scheme, viewport={"width": width, "height": 720}))
    page.goto(f"/admin/replays/new/?ids={letter}")
    page.get_by_role("button", name="Replay this dead letter").click()
    replay = page.url
    page.get_by_role("button", name="Undo").click()
    tabs = [f"/admin/dead-letters/{letter}/?tab={tab}" for tab in ("headers", "error", "attempts", "history")]
    for path in (
        "/admin/",
        "/admin/dead-letters/",
        "/admin/dead-letters/?source=absent",
        "/admin/dead-letters/list/",
        "/admin/dead-letters/list/?state=nonsense",
        f"/admin/dead-letters/{letter}/",
        *tabs,
        f"/admin/dead-letters/{letter}/?tab=idempotency",
        f"/admin/dead-letters/{letter}/edit/",
        f"/admin/dead-letters/change/?action=discard&ids={letter}",
        f"/admin/replays/new/?ids={letter}",
        "/admin/replays/new/?all=1&state=open",
        "/admin/replays/",
        replay,
        "/admin/dead-letters/999999999/",
    ):
        page.goto(path)
        beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert (path, beyond) == (path, 0)
        expect(page.get_by_role("main")).to_be_visible()
    assert faults == []
