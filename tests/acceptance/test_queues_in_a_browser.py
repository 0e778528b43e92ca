"""Exchanges and queues in a real browser: from a published message to a purge, by keyboard, without a script, narrow.

No page may break the content security policy, throw in a script, or scroll sideways. Skipped without Chromium.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pytest_django.live_server_helper import LiveServer

from brokers.queues import claims, declaring, sending, topology
from tests.acceptance.chromium import chromium, needs_chromium

PASSWORD = "correct-horse-battery"
HOSTILE = "</pre><script>document.title='taken over'</script><img src=x onerror=\"document.title='taken over'\">\u202e"
LONG = "a-name." + "of-much-length." * 15

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    needs_chromium,
]

Open = Callable[..., BrowserContext]

PAGES = (
    "/admin/",
    "/admin/exchanges/",
    "/admin/exchanges/?q=zzz",
    "/admin/new-exchange/",
    "/admin/exchanges/flights/",
    f"/admin/exchanges/{LONG}/",
    "/admin/exchanges/flights/routes/?routing_key=flight.JFK&headers=a:+1",
    "/admin/exchanges/flights/publish/",
    "/admin/exchanges/flights/delete/",
    "/admin/queues/",
    "/admin/queues/?only=paused",
    "/admin/new-queue/",
    "/admin/queues/rebooking/",
    f"/admin/queues/{LONG}/",
    "/admin/queues/rebooking/unacknowledged/",
    "/admin/queues/rebooking/consumers/",
    "/admin/queues/rebooking/bindings/",
    "/admin/queues/rebooking/policy/",
    "/admin/queues/rebooking/settings/",
    "/admin/queues/rebooking/publish/",
    f"/admin/queues/rebooking/move/?target={LONG}",
    "/admin/queues/rebooking/purge/",
    "/admin/queues/rebooking/delete/",
    "/admin/queues/absent/",
    "/admin/policies/",
    "/admin/policies/short/",
    "/admin/new-policy/",
)


@pytest.fixture
def address(live_server: LiveServer, settings: LazySettings) -> str:
    """A server with an administrator, exchanges and queues. All data is made before the browser starts, since its
    event loop keeps Django's models from being used."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    User.objects.create_superuser("admin", password=PASSWORD)
    for name, kind in (("flights", "topic"), (LONG, "headers")):
        declaring.declare_exchange(name, type=kind)
    for name in ("rebooking", "crew", LONG):
        declaring.declare_queue(name, max_priority=5, dead_letter_exchange=LONG)
        declaring.bind("flights", queue=name, routing_key="flight.#")
        declaring.bind(LONG, queue=name, routing_key=HOSTILE, arguments={HOSTILE: HOSTILE})
    declaring.bind("flights", to_exchange=LONG)
    declaring.put_policy("short", pattern="^crew$", message_ttl_ms=600_000)
    for number in range(20):
        sending.send("flights", "flight.JFK", {"flight": number, "text": "x" * 400}, headers={"seat": number})
    sending.send("", "rebooking", HOSTILE.encode(), headers={HOSTILE: HOSTILE}, message_id=HOSTILE)
    claims.claim(topology.queue("rebooking"), 2, 600_000, HOSTILE)
    return str(live_server.url)


@pytest.fixture
def browser(address: str) -> Iterator[Browser]:
    """Chromium, closed again before the database is emptied."""
    with chromium() as started:
        yield started


@pytest.fixture
def faults() -> list[str]:
    """What pages complained about; each test leaves it empty."""
    return []


@pytest.fixture
def open_context(browser: Browser, address: str, faults: list[str]) -> Open:
    """Makes browser contexts that note script errors and breaches of the policy."""

    def note(kind: str, text: str) -> None:
        is_expected = "status of 404" in text or "status of 422" in text
        if (kind == "error" and not is_expected) or "Content Security Policy" in text:
            faults.append(text)

    def opened(**options: object) -> BrowserContext:
        context = browser.new_context(base_url=address, **options)  # type: ignore[arg-type]
        context.set_default_timeout(20_000)
        context.on("console", lambda message: note(message.type, message.text))
        context.on("weberror", lambda error: faults.append(str(error.error)))
        return context

    return opened


def sign_in(context: BrowserContext) -> Page:
    """A page on the Overview."""
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    return page


def press(page: Page, *keys: str) -> None:
    """Presses keys once the page's scripts have run."""
    page.wait_for_load_state("load")
    for key in keys:
        page.keyboard.press(key)


def test_from_a_route_to_a_message_that_is_moved_and_purged(open_context: Open, faults: list[str]) -> None:
    page = sign_in(open_context(viewport={"width": 1280, "height": 800}))
    press(page, "g", "e")
    expect(page.get_by_role("heading", level=1)).to_have_text("Exchanges")
    page.get_by_role("link", name="flights").click()
    page.get_by_role("link", name="Route tester").click()
    page.get_by_label("Routing key").fill("flight.EWR.UA")
    page.get_by_role("button", name="Find its way").click()
    expect(page.get_by_role("heading", name="It reaches 3 queues")).to_be_visible()
    page.get_by_role("link", name="Publish").click()
    page.get_by_label("Routing key").fill("flight.EWR.UA")
    page.get_by_label("Body", exact=True).fill('{"carrier": "UA"}')
    page.get_by_label("Priority").fill("5")
    page.get_by_role("button", name="Publish message").click()
    expect(page.get_by_role("status").first).to_contain_text("it reached 3 queues")

    press(page, "g", "q")
    page.get_by_label("Show").select_option("waiting")
    page.wait_for_url("**waiting**")
    page.get_by_role("link", name="crew").click()
    expect(page.locator(".row-link")).to_have_count(21)
    press(page, "j", "Enter")
    expect(page.locator(".panel .tree")).to_contain_text('"carrier": "UA"')
    press(page, "Escape")
    expect(page.locator(".panel")).to_have_count(0)

    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Paused")
    page.get_by_role("link", name="Move messages…").click()
    page.get_by_label("To queue").fill("rebooking")
    page.get_by_label("At most").fill("5")
    page.get_by_role("button", name="Plan").click()
    page.get_by_label("Reason").fill("the desk is closed")
    page.get_by_role("button", name="Move 5 messages").click()
    expect(page.get_by_role("status").first).to_contain_text("5 messages were moved to rebooking.")
    page.get_by_role("link", name="Settings").click()
    page.get_by_role("link", name="Purge queue…").click()
    page.get_by_label("Type the queue's name").fill("crew")
    page.get_by_label("Reason").fill("test data")
    page.get_by_role("button", name="Purge 16 messages").click()
    expect(page.get_by_role("status").first).to_contain_text("16 messages were purged from crew.")

    page.goto("/admin/queues/rebooking/unacknowledged/")
    page.get_by_role("button", name=re.compile("Requeue message")).first.click()
    page.get_by_role("button", name="Requeue message", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("is ready again")
    expect(page).not_to_have_title("taken over")
    assert faults == []


def test_without_a_script_bindings_and_policies_can_be_changed(open_context: Open, faults: list[str]) -> None:
    page = sign_in(open_context(java_script_enabled=False))
    page.goto("/admin/exchanges/flights/")
    page.get_by_label("Named").fill("crew")
    page.get_by_label("Routing key").fill("crew.*")
    page.get_by_role("button", name="Bind", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("Bound to queue crew.")
    row = page.get_by_role("row").filter(has_text="crew.*")
    row.get_by_role("button", name="Unbind crew").click()
    page.get_by_role("button", name="Unbind", exact=True).click()
    expect(page.get_by_role("status").first).to_contain_text("was taken away")
    page.goto("/admin/new-policy/")
    page.get_by_label("Name", exact=True).fill("long")
    page.get_by_label("Queues whose name matches").fill("^a-name")
    page.get_by_label("Longest").fill("100")
    page.get_by_role("button", name="Make policy").click()
    expect(page.get_by_role("main")).to_contain_text("Matches 1 queue")
    page.get_by_role("button", name="Delete…").click()
    page.get_by_role("button", name="Delete policy").click()
    expect(page.get_by_role("status").first).to_contain_text("Policy long was deleted.")
    assert faults == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 360), ("dark", 1280)])
def test_no_page_scrolls_sideways_or_breaks_the_policy(
    scheme: str, width: int, open_context: Open, faults: list[str]
) -> None:
    page = sign_in(open_context(color_scheme=scheme, viewport={"width": width, "height": 720}))
    for path in PAGES:
        page.goto(path)
        beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert (path, beyond) == (path, 0)
        expect(page.get_by_role("main")).to_be_visible()
        expect(page).not_to_have_title("taken over")
    page.goto("/admin/queues/rebooking/")
    page.locator(".row-link").last.click()
    expect(page.locator(".panel")).to_contain_text("<script>")
    beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert beyond == 0
    assert faults == []
