"""The Locks screens: what they say of a lock, releasing one with a confirmation, and who may."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from django.db import connection
from django.test import Client

from brokers.models import AuditEntry, Grant
from scheduling import scheduler_lock
from scheduling.locks.listing import get
from scheduling.models import Run, ScheduledTask
from tests.integration.console.conftest import PASSWORD

Staff = Callable[..., Client]

HOSTILE = "<script>alert(1)</script>\u202e"


@pytest.fixture(autouse=True)
def no_locks(transactional_db: None) -> Iterator[None]:
    """The table is not Django's, and so is not emptied by it."""
    yield
    with connection.cursor() as cursor:
        cursor.execute("truncate shedlock")


def a_row(name: str, taken: str, until: str, locked_by: str = "app-7:4211:0123456789ab") -> None:
    """A lock by intervals from now, such as `-1 minute`."""
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into shedlock values (%s, timezone('utc', now()) + %s::interval,"
            " timezone('utc', now()) + %s::interval, %s)",
            (name, until, taken, locked_by),
        )


def release_url(name: str) -> str:
    return f"/admin/locks/release/?name={quote(name)}"


def seen(locked_by: str) -> str:
    """What the form says of the holder that it shows."""
    return hashlib.sha256(locked_by.encode()).hexdigest()[:16]


def grant(client: Client, operation: str, name: str, match: str = "literal") -> None:
    user = client.session["_auth_user_id"]
    Grant.objects.create(user_id=user, operation=operation, resource_type="lock", name=name, match=match)


def test_without_a_lock_it_says_how_to_take_one(admin: Client) -> None:
    page = admin.get("/admin/locks/").content.decode()
    assert "No lock was ever taken" in page
    assert "scheduler_lock(" in page


@pytest.mark.parametrize(
    ("taken", "until", "word", "texts"),
    [
        ("-61 seconds", "9 minutes", "Held", ("1 min 1 s", "left", "Release…")),
        ("-99 seconds", "5 seconds", "Expiring", ("left", "Release…")),
        ("-2 minutes", "-1 minute", "Expired", ("ended", "1 min ago")),
        ("-2 minutes", "-60.0001 seconds", "Free", ("free since",)),
    ],
)
def test_a_lock_says_how_it_stands(taken: str, until: str, word: str, texts: tuple[str, ...], admin: Client) -> None:
    a_row("daily-report", taken, until)
    page = admin.get("/admin/locks/").content.decode()
    row = page[page.index("<tbody>") : page.index("</tbody>")]
    for text in ("daily-report", f"{word}</span>", "app-7", "pid 4211", *texts):
        assert text in row
    assert ("Release…" in row) == (word in ("Held", "Expiring"))


def a_task(name: str, lock: str, at_most_ms: int = 600_000, at_least_ms: int = 0) -> None:
    options = {"lock": {"name": lock, "at_most_for_ms": at_most_ms, "at_least_for_ms": at_least_ms}}
    spec = {"period_ms": 1000, "initial_delay_ms": 0}
    ScheduledTask.objects.create(
        name=name,
        source="code",
        kind="fixed_rate",
        spec=spec,
        options=options,
        overlap="skip",
        misfire="skip",
    )


def test_a_lock_names_the_tasks_that_take_it(admin: Client, staff: Staff) -> None:
    a_row("daily-report", "-2 seconds", "598 seconds")
    for name in ("reports.daily", "reports.of/each \u202ehour"):
        a_task(name, "daily-report")
    a_task("other", "other")
    for path in ("/admin/locks/", release_url("daily-report")):
        page = admin.get(path).content.decode()
        assert 'href="/admin/tasks/reports.daily/"' in page
        assert 'href="/admin/tasks/reports.of~2Feach' in page
        assert "/admin/tasks/other/" not in page
        assert "\u202e" not in page
    client = staff()
    grant(client, "describe", "daily-report")
    assert "reports.daily" not in client.get("/admin/locks/").content.decode()


@pytest.mark.parametrize(
    ("taken", "until", "word", "is_renewed"),
    [
        ("-2 seconds", "598 seconds", "Held", False),
        ("-1 hour", "500.0001 seconds", "Held", True),
        ("-1 hour", "50.0001 seconds", "Expiring", True),
        ("-2 seconds", "28 seconds", "Kept", False),
    ],
)
def test_what_its_task_says_tells_how_a_lock_stands(
    taken: str, until: str, word: str, is_renewed: bool, admin: Client
) -> None:
    a_row("daily-report", taken, until)
    a_task("reports.daily", "daily-report", at_least_ms=30_000)
    row = admin.get("/admin/locks/").content.decode()
    row = row[row.index("<tbody>") : row.index("</tbody>")]
    assert f"{word}</span>" in row
    assert ("renewed" in row) == is_renewed


def test_a_lock_that_nobody_knows_the_lease_of_does_not_expire_for_ever(admin: Client) -> None:
    a_row("waystation:beat", "-5 hours", "3.0001 seconds")
    row = admin.get("/admin/locks/").content.decode()
    row = row[row.index("<tbody>") : row.index("</tbody>")]
    assert "Held</span>" in row
    assert "bar lease" not in row


def test_a_holder_is_alive_gone_or_not_known(admin: Client) -> None:
    here, other = socket.gethostname(), "app-7"
    ended = subprocess.Popen(["true"])
    ended.wait()
    a_row("mine", "-1 second", "1 hour", f"{here}:{os.getpid()}:0123456789ab")
    a_row("ended", "-1 second", "1 hour", f"{here}:{ended.pid}:0123456789ab")
    a_row("busy", "-1 second", "1 hour", f"{other}:4211:0123456789ab")
    a_row("silent", "-1 second", "1 hour", f"{other}:4212:0123456789ab")
    a_row("java", "-1 second", "1 hour", "billing-java-5c9f7d")
    for pid, lease in ((4211, timedelta(seconds=9)), (4212, -timedelta(seconds=9))):
        now = datetime.now(UTC)
        Run.objects.create(
            due_at=now, state="running", trigger="call", function="f", process=f"{other}:{pid}", lease_until=now + lease
        )
    rows = {row.lock.name: row.holder.word for row in admin.get("/admin/locks/").context["rows"]}
    assert {name: word and word.text for name, word in rows.items()} == {
        "mine": "Alive",
        "ended": "Gone",
        "busy": "Alive",
        "silent": None,
        "java": None,
    }
    assert "No process of this host has the id" in admin.get(release_url("ended")).content.decode()


def test_what_others_wrote_is_shown_as_text(admin: Client) -> None:
    a_row(HOSTILE, "-1 second", "1 hour", locked_by=HOSTILE)
    for path in ("/admin/locks/", release_url(HOSTILE)):
        page = admin.get(path).content.decode()
        assert "<script>alert" not in page
        assert "\u202e" not in page
        assert "&lt;U+202E&gt;" in page


def test_a_filter_narrows_the_list(admin: Client) -> None:
    a_row("alpha", "-1 second", "1 hour")
    a_row("beta", "-2 hours", "-1 hour")
    for query, found in (
        ("q=al", {"alpha"}),
        ("only=free", {"beta"}),
        ("only=held", {"alpha"}),
        ("", {"alpha", "beta"}),
    ):
        page = admin.get(f"/admin/locks/?{query}").content.decode()
        body = page[page.index("<tbody>") : page.index("</tbody>")]
        assert {name for name in ("alpha", "beta") if name in body} == found
    page = admin.get("/admin/locks/?q=gamma").content.decode()
    assert "No lock matches" in page
    assert "Clear filter" in page


def test_a_long_list_has_pages(admin: Client) -> None:
    for number in range(120):
        a_row(f"lock-{number:03d}", "-1 second", "1 hour")
    url, seen, pages = "/admin/locks/", 0, 0
    while url:
        page = admin.get(url)
        seen, pages = seen + page.content.decode().count("<tr>") - 1, pages + 1
        following = page.context["following"]
        url = f"/admin/locks/?after={following}" if following else ""
    assert (seen, pages) == (120, 3)


def test_a_lock_is_released_by_its_typed_name_and_a_reason(admin: Client) -> None:
    lock = scheduler_lock("nightly: 100 %/all", "PT1H").acquire()
    assert lock is not None
    url = release_url(lock.name)
    page = admin.get(url).content.decode()
    assert f'value="{seen(lock.locked_by)}"' in page
    assert "Two holders may run at once" in page
    form = {"seen": seen(lock.locked_by), "confirmation": lock.name, "reason": "its host is gone"}
    assert admin.post(url, form | {"confirmation": "nightly"}).status_code == 422
    assert admin.post(url, form | {"reason": ""}).status_code == 422
    assert get(lock.name).is_held
    page = admin.post(url, form, follow=True).content.decode()
    assert "was released" in page
    assert not get(lock.name).is_held
    entry = AuditEntry.objects.get(operation="release")
    assert (entry.principal, entry.surface, entry.resource) == ("admin", "console", lock.name)
    assert entry.details["reason"] == "its host is gone"
    assert "It is free" in admin.get(url).content.decode()
    assert "was free already" in admin.post(url, form, follow=True).content.decode()


def test_a_lock_that_changed_hands_meanwhile_is_not_released(admin: Client) -> None:
    lock = scheduler_lock("nightly", "PT1H").acquire()
    assert lock is not None
    form = {"seen": seen("app-7:4211:0123456789ab"), "confirmation": "nightly", "reason": "its host is gone"}
    page = admin.post(release_url("nightly"), form)
    assert page.status_code == 422
    assert "Another holds the lock by now" in page.content.decode()
    assert get("nightly").is_held


def test_a_lock_that_never_was_is_no_such_page(admin: Client) -> None:
    assert admin.get(release_url("never")).status_code == 404
    assert admin.get("/admin/locks/release/").status_code == 404


def test_the_password_is_asked_for_when_it_was_given_long_ago(staff: Staff) -> None:
    lock = scheduler_lock("nightly", "PT1H").acquire()
    assert lock is not None
    client = staff()
    grant(client, "alter", "nightly")
    form = {"seen": seen(lock.locked_by), "confirmation": "nightly", "reason": "why"}
    assert client.post(release_url("nightly"), form).status_code == 422
    assert client.post(release_url("nightly"), form | {"password": PASSWORD}).status_code == 302


def test_only_what_may_be_described_is_listed(staff: Staff) -> None:
    a_row("payroll", "-1 second", "1 hour")
    a_row("reports.daily", "-1 second", "1 hour")
    client = staff()
    assert "No lock was ever taken" in client.get("/admin/locks/").content.decode()
    grant(client, "describe", "reports.", "prefix")
    page = client.get("/admin/locks/").content.decode()
    assert "reports.daily" in page
    assert "payroll" not in page
    assert "You lack: alter on lock reports.daily" in page
    for name in ("reports.daily", "payroll", "never"):
        assert client.get(release_url(name)).status_code == 403
        assert client.post(release_url(name), {"confirmation": name, "reason": "x"}).status_code == 403
    assert get("reports.daily").is_held
