"""The console in a real browser: with a script and without one, by keyboard, narrow, light and dark.

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

from brokers import groups, publishing, topics
from tests.acceptance.chromium import chromium, needs_chromium

PASSWORD = "correct-horse-battery"
HOSTILE = "</pre><script>document.title='taken over'</script><img src=x onerror=\"document.title='taken over'\">\u202e"

pytestmark = [
    pytest.mark.browser,
    needs_chromium,
]

PAGES = (
    "/admin/",
    "/admin/topics/",
    "/admin/topics/?q=zzz",
    "/admin/new-topic/",
    "/admin/topics/departures/",
    "/admin/topics/departures/?open=0:3",
    "/admin/topics/departures/?start=time",
    "/admin/topics/departures/records/0/0/",
    "/admin/topics/departures/records/0/0/?view=hex",
    "/admin/topics/departures/partitions/",
    "/admin/topics/departures/settings/",
    "/admin/topics/departures/delete/",
    "/admin/topics/departures/publish/",
    "/admin/topics/departures/groups/",
    "/admin/groups/",
    "/admin/groups/?q=zzz",
    "/admin/groups/delays/",
    "/admin/groups/delays/reset/",
    "/admin/groups/delays/reset/?topic=departures&to=offset&offset=7",
    "/admin/groups/absent/",
    "/admin/topics/absent/",
    "/admin/alerts/",
    "/admin/brokers/alertrule/add/",
    "/admin/auth/user/",
    "/admin/auth/user/add/",
    "/admin/auth/group/add/",
    "/admin/password_change/",
)


@pytest.fixture
def address(live_server: LiveServer, settings: LazySettings) -> str:
    """A server with an administrator and two topics, one with hostile content. All data is made before the browser
    starts, since its event loop keeps Django's models from being used."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    User.objects.create_superuser("admin", password=PASSWORD)
    topics.create("departures", partitions=2)
    topics.create("a-name." + "of-much-length." * 15, partitions=1)
    publishing.publish("departures", HOSTILE.encode(), key=HOSTILE, headers={HOSTILE: HOSTILE}, partition=0)
    for number in range(40):
        value = {"flight": number, "route": {"legs": [{"from": "EWR", "to": "RDU"}]}, "text": "x" * 400}
        publishing.publish("departures", value, key=f"N{number:05}", partition=number % 2)
    groups.reset("delays", "departures", groups.ResetTo("earliest"), dry_run=False)
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
def open_context(browser: Browser, address: str, faults: list[str]) -> Callable[..., BrowserContext]:
    """Makes browser contexts that note script errors and breaches of the policy."""

    def opened(**options: object) -> BrowserContext:
        context = browser.new_context(base_url=address, **options)  # type: ignore[arg-type]
        context.set_default_timeout(10_000)
        context.on("console", lambda message: _note(faults, message.type, message.text))
        context.on("weberror", lambda error: faults.append(str(error.error)))
        return context

    return opened


def _note(faults: list[str], kind: str, text: str) -> None:
    is_expected = "status of 404" in text or "status of 422" in text
    if (kind == "error" and not is_expected) or "Content Security Policy" in text:
        faults.append(text)


def sign_in(context: BrowserContext) -> Page:
    """A page on the Overview."""
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    return page


Open = Callable[..., BrowserContext]


@pytest.mark.parametrize("scripts", [True, False], ids=["with scripts", "without scripts"])
def test_a_topic_from_its_creation_to_its_end(scripts: bool, open_context: Open, faults: list[str]) -> None:
    page = sign_in(open_context(java_script_enabled=scripts))
    page.get_by_role("link", name="Topics", exact=True).click()
    page.get_by_role("link", name="New topic").click()
    page.get_by_label("Name").fill("bookings")
    page.get_by_label("Partitions").fill("0")
    page.get_by_role("button", name="Create topic").click()
    expect(page.get_by_role("alert")).to_have_text("One field needs another value.")
    page.get_by_label("Partitions").fill("1")
    page.get_by_role("button", name="Create topic").click()
    expect(page.get_by_role("status")).to_contain_text("Topic bookings was created.")
    expect(page.get_by_text("bookings holds no records")).to_be_visible()

    page.get_by_role("link", name="Publish", exact=True).click()
    page.get_by_label("Key", exact=True).fill("K1")
    page.get_by_label("Value", exact=True).fill('{"seat": 12345678901234567890123}')
    page.get_by_label("Headers").fill("source: desk")
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_text("The value is valid. Nothing was published yet.")).to_be_visible()
    page.get_by_role("button", name="Publish record").click()
    page.get_by_role("status").get_by_role("link", name="0").click()
    expect(page.locator(".tree")).to_contain_text('"seat": 12345678901234567890123')
    expect(page.get_by_text("source")).to_be_visible()

    page.get_by_role("link", name="Settings").click()
    page.get_by_label("Keep records for").fill("12 h")
    page.get_by_role("button", name="Save settings").click()
    expect(page.get_by_role("status")).to_have_text("The settings were changed.")
    page.get_by_role("link", name="Delete topic").click()
    page.get_by_label("Type the topic's name").fill("bookings")
    page.get_by_role("button", name="Delete topic with 1 record").click()
    expect(page.get_by_role("status")).to_contain_text("Topic bookings was deleted with 1 record.")
    assert faults == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_no_page_scrolls_sideways_or_breaks_the_policy(
    scheme: str, width: int, open_context: Open, faults: list[str]
) -> None:
    page = sign_in(open_context(color_scheme=scheme, viewport={"width": width, "height": 720}))
    for path in PAGES:
        page.goto(path)
        beyond = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert (path, beyond) == (path, 0)
        expect(page.get_by_role("main")).to_be_visible()
    assert faults == []


def test_hostile_content_stays_text(open_context: Open, faults: list[str]) -> None:
    page = sign_in(open_context())
    for path in (
        "/admin/topics/departures/?start=earliest&open=0:0",
        "/admin/topics/departures/records/0/0/?view=raw",
        "/admin/topics/departures/records/0/0/?view=hex",
        "/admin/topics/departures/publish/?copy=0:0",
    ):
        page.goto(path)
        assert "taken over" not in page.title()
        assert page.locator("main img, main script").count() == 0
    assert faults == []


def test_the_keyboard_leads_through_records(open_context: Open, faults: list[str]) -> None:
    page = sign_in(open_context(viewport={"width": 1440, "height": 900}))
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("g")
    page.keyboard.press("t")
    expect(page.get_by_role("heading", level=1)).to_have_text("Topics")
    page.keyboard.press("/")
    page.keyboard.type("dep")
    expect(page).to_have_url(re.compile(r"\?q=dep$"))
    expect(page.locator("#topics .row-link")).to_have_count(1)
    page.goto("/admin/topics/departures/?start=earliest&partition=1")
    for key in "jjk":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    expect(page.get_by_role("complementary")).to_contain_text("1 @ 0")
    expect(page).to_have_url(re.compile("open=1%3A0"))
    expect(page.locator("#record-1-0")).to_be_focused()
    page.get_by_role("link", name="Raw").click()
    expect(page.get_by_role("complementary").get_by_role("button", name="Copy")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("complementary")).to_have_count(0)
    page.go_back()
    expect(page.get_by_role("complementary")).to_contain_text("1 @ 0")
    assert faults == []


def test_the_overview_refreshes_in_place_and_can_be_paused(open_context: Open, faults: list[str]) -> None:
    page = sign_in(open_context())
    page.get_by_text("Show as table").click()
    with page.expect_response(lambda response: response.request.headers.get("hx-request") == "true"):
        page.evaluate("htmx.trigger('#overview', 'refresh')")
    expect(page.get_by_role("region", name="Records per minute")).to_be_visible()
    page.get_by_role("button", name="Updates every 5 s").click()  # this server has no stream of events
    expect(page.get_by_role("button", name="Paused")).to_have_attribute("aria-pressed", "true")
    page.route("**/admin/", lambda route: route.abort())
    page.get_by_role("button", name="Paused").click()
    expect(page.get_by_role("button", name="Reconnecting, data as of")).to_be_visible()
    assert [fault for fault in faults if "ERR_FAILED" not in fault and "htmx:" not in fault] == []


def test_theme_and_narrow_navigation(open_context: Open, faults: list[str]) -> None:
    page = sign_in(open_context(viewport={"width": 400, "height": 800}))
    page.get_by_role("button", name="admin").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 17, 22)"
    page.get_by_role("button", name="Navigation").click()
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Topics").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Topics")
    page.get_by_role("button", name="admin").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    assert faults == []
