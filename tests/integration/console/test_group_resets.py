"""Resetting offsets in the console: the plan, applying exactly it, plans that no longer hold, and undoing."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import urlencode

import pytest
from django.core import signing
from django.test import Client

from brokers import groups, processed, publishing
from brokers.groups import GroupOffset, ResetTo, Subscription
from brokers.models import AuditEntry, CommittedOffset, ConsumerGroup
from brokers.selectors import group_progress
from messaging_site.console import group_resets

GROUP, RESET = "billing", "/admin/groups/billing/reset/"


@pytest.fixture(autouse=True)
def _committed(orders: str) -> None:
    """A group without members that has read partition 0 of `orders` and nothing of partition 1."""
    member = groups.join(GROUP, Subscription((orders,))).member_id
    groups.commit(GROUP, member, [GroupOffset(orders, 0, 2)])
    groups.leave(GROUP, member)


def asked(**query: Any) -> str:
    return f"{RESET}?{urlencode({'topic': 'orders', 'to': 'earliest'} | query)}"


def plan(client: Client, path: str) -> dict[str, str]:
    """What the plan's form posts."""
    page = client.get(path).content.decode()
    return posted(page)


def posted(page: str) -> dict[str, str]:
    found = re.search(r'name="plan" value="([^"]+)"', page)
    assert found is not None
    return {"plan": html.unescape(found[1]), "reason": "read again after the fix"}


def committed() -> list[int | None]:
    return [part.committed_offset for part in group_progress.get(GROUP).partitions]


def effects(page: str) -> list[str]:
    found = re.findall(r"will re-read \d+|will skip \d+|will begin at \d+|no change", page.partition("<tbody>")[2])
    return [str(text) for text in found]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({}, ["will re-read 2", "will begin at 0"]),
        ({"to": "latest"}, ["no change", "will begin at 1"]),
        ({"to": "offset", "offset": "1"}, ["will re-read 1", "will begin at 1"]),
        ({"to": "timestamp", "time": "1970-01-01T00:00:02"}, ["will re-read 1", "will begin at 0"]),
        ({"to": "shift", "shift": "-1", "partitions": "0"}, ["will re-read 1"]),
        ({"partitions": "1"}, ["will begin at 0"]),
        ({"partitions": " 0 - 1 "}, ["will re-read 2", "will begin at 0"]),
    ],
)
def test_a_plan_says_what_each_partition_would_get(admin: Client, query: dict[str, str], says: list[str]) -> None:
    response = admin.get(asked(**query))
    assert response.status_code == 200
    assert effects(response.content.decode()) == says
    assert committed() == [2]
    assert not AuditEntry.objects.filter(operation="reset").exists()


def test_a_plan_says_what_is_skipped(admin: Client) -> None:
    groups.reset(GROUP, "orders", ResetTo("earliest"), dry_run=False)
    page = admin.get(asked(to="latest")).content.decode()
    assert effects(page) == ["will skip 2", "will skip 1"]
    assert "Will skip 3" in page


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"topic": "payments"}, "topic"),
        ({"to": "sideways"}, "to"),
        ({"to": "offset"}, "offset"),
        ({"to": "offset", "offset": "-1"}, "offset"),
        ({"to": "offset", "offset": str(2**63)}, "offset"),
        ({"to": "timestamp", "time": "never"}, "time"),
        ({"to": "timestamp", "time": "9999-12-31T23:59:59.9999"}, "time"),
        ({"to": "shift"}, "shift"),
        ({"to": "shift", "shift": "-1"}, "shift"),
        ({"partitions": "2"}, "partitions"),
        ({"partitions": "0;1"}, "partitions"),
        ({"partitions": "3-1"}, "partitions"),
        ({"partitions": "0-99999"}, "partitions"),
        ({"partitions": "\0"}, "partitions"),
    ],
)
def test_a_faulty_field_is_explained(admin: Client, query: dict[str, str], field: str) -> None:
    response = admin.get(asked(**query))
    assert response.status_code == 422
    page = response.content.decode()
    assert f'id="id_{field}_error"' in page
    assert 'name="plan"' not in page


def test_a_plan_is_applied_as_it_was_shown(admin: Client) -> None:
    response = admin.post(asked(), plan(admin, asked()))
    assert (response.status_code, response["Location"]) == (302, "/admin/groups/billing/")
    assert committed() == [0, 0]
    entry = AuditEntry.objects.get(operation="reset")
    assert (entry.principal, entry.surface, entry.resource) == ("admin", "console", GROUP)
    assert entry.details == {
        "topic": "orders",
        "to": "earliest",
        "partitions": {"0": [2, 0], "1": [None, 0]},
        "reason": "read again after the fix",
    }


def test_a_plan_to_the_end_is_applied_though_records_were_published_since(admin: Client) -> None:
    shown = plan(admin, asked(to="latest"))
    publishing.publish("orders", {"n": 4}, partition=1)
    assert admin.post(asked(to="latest"), shown).status_code == 302
    assert committed() == [2, 1]


def test_a_plan_needs_a_reason(admin: Client) -> None:
    response = admin.post(asked(), plan(admin, asked()) | {"reason": " "})
    assert response.status_code == 422
    page = response.content.decode()
    assert 'id="id_reason_error"' in page
    assert committed() == [2]
    assert admin.post(asked(), posted(page)).status_code == 302


def test_a_plan_that_no_longer_holds_is_shown_anew_and_not_applied(admin: Client) -> None:
    shown = plan(admin, asked())
    groups.reset(GROUP, "orders", ResetTo("offset", 1), partitions=[0], dry_run=False)
    response = admin.post(asked(), shown)
    page = response.content.decode()
    assert response.status_code == 409
    assert "Offsets have changed since the plan was made" in page
    assert effects(page) == ["will re-read 1", "will begin at 0"]
    assert len(re.findall(r"</svg>\s*Changed</span>", page)) == 1
    assert committed() == [1]
    assert admin.post(asked(), posted(page)).status_code == 302
    assert committed() == [0, 0]


def test_a_plan_whose_records_expired_is_not_applied(admin: Client) -> None:
    from django.db import connection

    shown = plan(admin, asked())
    with connection.cursor() as cursor:
        cursor.execute("update brokers_partition set earliest_offset = 1 where number = 0")
    assert admin.post(asked(), shown).status_code == 409
    assert committed() == [2]


def test_a_plan_ends_after_a_quarter_of_an_hour(admin: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = plan(admin, asked())
    monkeypatch.setattr(group_resets, "PLAN_SECONDS", -1)
    response = admin.post(asked(), shown)
    assert response.status_code == 409
    assert "more than 15 minutes old" in response.content.decode()
    assert committed() == [2]


def test_a_plan_is_applied_by_whom_and_where_it_was_shown_alone(admin: Client) -> None:
    shown = plan(admin, asked())
    forged = signing.dumps({"for": 1, "group": GROUP, "asked": {}, "made": [[0, 2, 1]]}, salt="other")
    for path, fields in (
        (asked(to="latest"), shown),
        (asked(partitions="0"), shown),
        (asked(), shown | {"plan": forged}),
        (asked(), {"reason": "none"}),
    ):
        assert admin.post(path, fields).status_code == 409
    assert committed() == [2]


def test_members_that_read_stop_a_plan_until_the_group_is_paused(admin: Client, orders: str) -> None:
    groups.join(GROUP, Subscription((orders,)))
    page = admin.get(asked()).content.decode()
    assert "Members are reading" in page
    assert 'name="plan"' not in page
    response = admin.post("/admin/groups/billing/pause/", {"next": asked(), "note": "to reset offsets"}, follow=True)
    assert effects(response.content.decode()) == ["will re-read 2", "will begin at 0"]
    assert admin.post(asked(), posted(response.content.decode())).status_code == 302
    assert ConsumerGroup.objects.get().paused
    assert committed() == [0, 0]


def test_members_that_joined_after_the_plan_stop_its_application(admin: Client, orders: str) -> None:
    shown = plan(admin, asked())
    groups.join(GROUP, Subscription((orders,)))
    response = admin.post(asked(), shown)
    assert response.status_code == 409
    assert "Members are reading" in response.content.decode()
    assert committed()[0] == 2


def test_nothing_is_applied_where_nothing_would_change(admin: Client) -> None:
    page = admin.get(asked(to="offset", offset="2", partitions="0")).content.decode()
    assert "Nothing would change" in page
    assert 'name="plan"' not in page


def test_a_plan_says_whether_the_group_knows_what_it_processed(admin: Client) -> None:
    from django.db import transaction

    assert "is not known" in admin.get(asked()).content.decode()
    with transaction.atomic():
        assert processed.process_once("a", GROUP)
    assert "keeps records of what it processed" in admin.get(asked()).content.decode()


# -- undoing ----------------------------------------------------------------------------------------------------------


def entry_of(page: str) -> dict[str, str]:
    found = re.search(r'name="entry" value="(\d+)"', page)
    assert found is not None
    return {"entry": found[1]}


def test_a_reset_is_undone_by_one_click(admin: Client) -> None:
    page = admin.post(asked(), plan(admin, asked()), follow=True).content.decode()
    assert "read again after the fix" in page
    response = admin.post("/admin/groups/billing/reset/undo/", entry_of(page), follow=True)
    page = response.content.decode()
    assert "was undone" in page
    assert committed() == [2]
    assert not CommittedOffset.objects.filter(committed_offset=0).exists()
    assert "Undo reset" not in page
    first, second = AuditEntry.objects.filter(operation="reset").order_by("id")
    assert second.details == {
        "topic": "orders",
        "to": "undo",
        "undo_of": first.pk,
        "partitions": {"0": [0, 2], "1": [0, None]},
    }


def test_a_reset_cannot_be_undone_once_the_group_has_committed(admin: Client, orders: str) -> None:
    page = admin.post(asked(), plan(admin, asked()), follow=True).content.decode()
    member = groups.join(GROUP, Subscription((orders,))).member_id
    groups.commit(GROUP, member, [GroupOffset(orders, 0, 1)])
    assert "Undo reset" not in admin.get("/admin/groups/billing/").content.decode()
    response = admin.post("/admin/groups/billing/reset/undo/", entry_of(page), follow=True)
    assert "cannot be undone any more" in response.content.decode()
    assert committed() == [1, 0]


def test_undoing_waits_until_members_are_paused(admin: Client, orders: str) -> None:
    page = admin.post(asked(), plan(admin, asked()), follow=True).content.decode()
    groups.join(GROUP, Subscription((orders,)))
    assert "Members are reading: pause the group first" in admin.get("/admin/groups/billing/").content.decode()
    refused = admin.post("/admin/groups/billing/reset/undo/", entry_of(page), follow=True)
    assert "Pause it first, then undo" in refused.content.decode()
    assert committed() == [0, 0]
    groups.pause(GROUP)
    admin.post("/admin/groups/billing/reset/undo/", entry_of(page))
    assert committed()[0] == 2


@pytest.mark.parametrize("entry", ["", "0", "-1", "x", "9" * 40, "²"])
def test_an_undo_of_nothing_changes_nothing(entry: str, admin: Client) -> None:
    admin.post(asked(), plan(admin, asked()))
    response = admin.post("/admin/groups/billing/reset/undo/", {"entry": entry}, follow=True)
    assert "cannot be undone any more" in response.content.decode()
    assert committed() == [0, 0]
