"""The Locks screens in a real browser: releasing one, narrow and wide, in both themes. Skipped without Chromium.

No page may break the content security policy, throw in a script, or scroll sideways.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connection
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pytest_django.live_server_helper import LiveServer

from tests.acceptance.chromium import chromium, needs_chromium

PASSWORD = "correct-horse-battery"
LONG = "nightly:" + "of-much-length." * 3 + "<b>\u202ex"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.timeout(180),
    needs_chromium,
]

LOCKS = (
    ("daily-report", "-3 minutes", "27 minutes", "app-2.internal:4211:0123456789ab"),
    ("waystation:beat", "-14 seconds", "1 second", "app-1.internal:871:ba9876543210"),
    ("invoices.export", "-40 minutes", "-10 minutes", "app-1.internal:902:aaaaaaaaaaaa"),
    ("rates-rollup", "-12 seconds", "-10.9993 seconds", "billing-java-5c9f7d"),
    (LONG, "-1 hour", "23 hours", LONG),
)


@pytest.fixture
def address(live_server: LiveServer, settings: LazySettings) -> Iterator[str]:
    """A server with an administrator and locks. All data is made before the browser starts."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    User.objects.create_superuser("admin", password=PASSWORD)
    with connection.cursor() as cursor:
        for name, taken, until, holder in LOCKS:
            cursor.execute(
                "insert into shedlock values (%s, timezone('utc', now()) + %s::interval,"
                " timezone('utc', now()) + %s::interval, %s)",
                (name, until, taken, holder),
            )
    yield str(live_server.url)
    with connection.cursor() as cursor:
        cursor.execute("truncate shedlock")


@pytest.fixture
def browser(address: str) -> Iterator[Browser]:
    """Chromium, closed again before the database is emptied."""
    with chromium() as started:
        yield started


def sign_in(context: BrowserContext) -> Page:
    """A page on the Overview."""
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
    return page


def test_a_lock_is_released_and_no_page_is_too_wide(browser: Browser, address: str) -> None:
    faults: list[str] = []
    context = browser.new_context(base_url=address, viewport={"width": 1280, "height": 800})
    context.set_default_timeout(20_000)
    context.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    context.on("weberror", lambda error: faults.append(str(error.error)))
    page = sign_in(context)
    pages = ("/admin/locks/", "/admin/locks/?only=held", f"/admin/locks/release/?name={quote(LONG)}")
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for width in (1280, 400):
            page.set_viewport_size({"width": width, "height": 900})
            for path in pages:
                page.goto(path)
                assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), (path, width)
    page.goto("/admin/locks/")
    page.get_by_role("link", name="Release daily-report").click()
    page.get_by_label("Type the lock's name").fill("daily-report")
    page.get_by_label("Reason").fill("its host is gone")
    page.get_by_role("button", name="Release lock").click()
    expect(page.get_by_role("status").first).to_contain_text("The lock daily-report was released")
    expect(page.get_by_role("link", name="Release daily-report")).to_have_count(0)
    # the stream of changes is served by the whole server, not by this one
    assert [text for text in faults if "events" not in text and "404" not in text] == []
