"""The Scheduled tasks, Executors and Locks screens in a real browser, on a whole server whose tasks run meanwhile.

Pages follow what happens without being loaded again, operators make tasks of their own, and no page breaks the content
security policy, throws in a script, scrolls sideways or has a control without a name. Skipped without Chromium.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.acceptance.chromium import chromium, needs_chromium
from tests.server import ADMIN_PASSWORD, fresh_database, running

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    needs_chromium,
]

BEAT = "/admin/django_celery_beat"
PAGES = (
    "/admin/tasks/",
    "/admin/tasks/?q=zzz",
    "/admin/tasks/remind/",
    "/admin/tasks/remind/run/",
    "/admin/executors/",
    "/admin/locks/",
    "/admin/locks/release/?name=waystation:beat",
    f"{BEAT}/",
    f"{BEAT}/periodictask/",
    f"{BEAT}/periodictask/add/",
    f"{BEAT}/intervalschedule/1/change/",
    f"{BEAT}/crontabschedule/add/",
    f"{BEAT}/clockedschedule/add/",
)
NAMELESS = """() => [...document.querySelectorAll(
    "main :is(input:not([type=hidden]), select, textarea, a, button)")]
  .filter((each) => each.checkVisibility())
  .filter((each) => !(each.labels?.length || each.getAttribute("aria-label") || each.title || each.innerText?.trim()
    || each.value && each.type === "submit" || each.querySelector("img[alt], [title]")))
  .map((each) => each.outerHTML.slice(0, 120))"""


@pytest.fixture
def address() -> Iterator[str]:
    """A server with a beat and a worker."""
    apps = "tests.acceptance.watched"
    with fresh_database() as url, running(url, WAYSTATION_APPS=apps, WAYSTATION_TASK_PROCESSES="1") as server:
        yield server.url


@pytest.fixture
def browser(address: str) -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def faults() -> list[str]:
    """What pages complained about; the test leaves it empty."""
    return []


@pytest.fixture
def page(browser: Browser, address: str, faults: list[str]) -> Page:
    """A page on the Overview, signed in."""
    context: BrowserContext = browser.new_context(base_url=address, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(15_000)
    context.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: faults.append(str(error.error)))
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(ADMIN_PASSWORD)
    page.get_by_label("Password").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    return page


def test_tasks_are_watched_run_paused_and_made(page: Page, faults: list[str]) -> None:
    expect.set_options(timeout=15_000)
    _a_page_follows_its_task(page)
    _a_task_is_run_by_hand(page)
    _a_task_is_paused_and_resumed(page)
    _an_operator_makes_a_task(page)
    _no_page_is_too_wide_or_has_nameless_controls(page)
    assert faults == []


def _a_page_follows_its_task(page: Page) -> None:
    page.get_by_role("link", name="Scheduled tasks").click()
    page.get_by_role("link", name="often", exact=True).click()
    expect(page.get_by_role("button", name="Live")).to_be_visible()
    page.evaluate("window.isSameDocument = true")
    seen = page.locator("table.runs tbody tr").first.get_attribute("id")
    expect(page.locator("table.runs tbody tr").first).not_to_have_id(seen or "")
    assert page.evaluate("window.isSameDocument")


def _a_task_is_run_by_hand(page: Page) -> None:
    page.goto("/admin/tasks/one-time/")
    page.get_by_role("link", name="Run now").click()
    expect(page.get_by_text("No run of it is under way")).to_be_visible()
    page.get_by_role("button", name="Run task now").click()
    expect(page.get_by_role("status").first).to_contain_text("was asked for")
    row = page.locator("table.runs tbody tr", has_text="by hand")
    expect(row).to_contain_text("Succeeded")
    row.get_by_role("link").click()
    expect(page.get_by_text("an operator, admin")).to_be_visible()


def _a_task_is_paused_and_resumed(page: Page) -> None:
    page.goto("/admin/tasks/each-second/")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("textbox", name="Note").fill("while the data are mended")
    page.get_by_role("button", name="Pause task").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Paused")
    expect(page.locator(".page-head")).to_contain_text("while the data are mended")
    page.get_by_role("button", name="Resume").click()
    page.get_by_role("button", name="Resume task").click()
    expect(page.get_by_role("heading", level=1)).not_to_contain_text("Paused")


def _an_operator_makes_a_task(page: Page) -> None:
    page.goto("/admin/tasks/")
    page.get_by_role("link", name="Add a periodic task").click()
    page.get_by_label("Name:", exact=True).fill("remind")
    page.get_by_label("Or its name").fill("demo.remind")
    with page.expect_popup() as popup:
        page.get_by_role("link", name="Add another interval").click()
    popup.value.get_by_label("Number of Periods").fill("1")
    popup.value.get_by_label("Interval Period").select_option("seconds")
    popup.value.get_by_role("button", name="Save").click()
    expect(page.get_by_label("Interval Schedule")).to_contain_text("every second")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("was added successfully")).to_be_visible()
    page.goto("/admin/tasks/")
    row = page.locator("table.tasks tbody tr", has_text="remind")
    expect(row).to_contain_text("Failed")  # no worker knows a task of that name
    row.get_by_role("link", name=re.compile("^remind")).click()
    expect(page.locator("table.runs tbody")).to_contain_text("this worker knows no task 'demo.remind'")
    page.get_by_role("link", name="Edit the periodic task").click()
    expect(page.get_by_label("Name:", exact=True)).to_have_value("remind")


def _no_page_is_too_wide_or_has_nameless_controls(page: Page) -> None:
    for path in PAGES:
        page.set_viewport_size({"width": 1280, "height": 900})
        page.emulate_media(color_scheme="light")
        page.goto(path)
        assert page.evaluate(NAMELESS) == [], path
        for scheme, width in (("light", 1280), ("dark", 400)):
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (path, width)
