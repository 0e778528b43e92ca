"""The Consumer groups screens: the list, one group, a topic's groups, pausing and resuming, and who may."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from brokers import groups, publishing, topics
from brokers.audit import Actor
from brokers.groups import GroupOffset, ResetTo, Subscription
from brokers.models import AuditEntry, ConsumerGroup, DeliveryAttempt, FailureGroup, Grant, GroupMember
from brokers.selectors import group_progress

GROUP = "billing"
MOST_STATEMENTS = 12
MOST_OF_A_PLAN = 14
"""A plan is a dry run of the write: it ends sessions that are over, and looks once more."""
Staff = Callable[..., Client]


@pytest.fixture
def group_staff(staff: Staff) -> Staff:
    """Makes the client of a member of staff with grants on groups: `operation:name` or `operation:prefix*`."""

    def sign_in(*grants: str) -> Client:
        client = staff()
        for grant in grants:
            operation, _, name = grant.partition(":")
            match = "prefix" if name.endswith("*") else "literal"
            Grant.objects.create(
                user_id=int(client.session["_auth_user_id"]),
                operation=operation,
                resource_type="group",
                name=name.rstrip("*"),
                match=match,
            )
        return client

    return sign_in


@pytest.fixture
def member(orders: str) -> str:
    """The one member of `billing`, which has committed the first of the two records of partition 0."""
    found = groups.join(GROUP, Subscription((orders,))).member_id
    groups.poll(GROUP, found)
    groups.commit(GROUP, found, [GroupOffset(orders, 0, 1)])
    return found


def text(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200
    return response.content.decode()


def cell(page: str, label: str, nth: int = 0) -> str:
    """What the nth cell of that label holds, without markup."""
    cells = re.findall(rf'<td[^>]*data-label="{label}"[^>]*>(.*?)</td>', page, re.DOTALL)
    return re.sub(r"<[^>]+>", "", cells[nth]).strip()


def test_the_list_shows_a_groups_state_and_lag(admin: Client, member: str) -> None:
    page = text(admin, "/admin/groups/")
    assert 'href="/admin/groups/billing/"' in page
    assert "Active" in page
    assert (cell(page, "Members"), cell(page, "Lag"), cell(page, "Dead letters")) == ("1", "2", "0")
    assert cell(page, "Oldest").endswith("s")


def test_the_list_is_narrowed_by_the_beginning_of_the_name(admin: Client, orders: str) -> None:
    for name in ("alpha", "alpha_1", "beta"):
        groups.reset(name, orders, ResetTo("earliest"), dry_run=False)
    page = text(admin, "/admin/groups/?q=alpha_")
    assert "/admin/groups/alpha_1/" in page
    assert "/admin/groups/alpha/" not in page
    none = text(admin, "/admin/groups/?q=gamma")
    assert "No group matches" in none
    assert "Clear filter" in none


@pytest.mark.parametrize(
    "query", ["q=%25", "q=_", "q=%5C", "q=%00", "q=" + "x" * 10_240, "after=%00", "q=<script>", "q=%E2%80%AE"]
)
def test_any_filter_is_taken_literally(query: str, admin: Client, member: str) -> None:
    page = text(admin, f"/admin/groups/?{query}")
    assert "/admin/groups/billing/" not in page
    assert "<script>" not in page.partition("<main")[2]


def test_pages_lead_through_all_groups(admin: Client, orders: str) -> None:
    names = [f"group-{number:03}" for number in range(60)]
    for name in names:
        groups.reset(name, orders, ResetTo("earliest"), dry_run=False)
    first = text(admin, "/admin/groups/")
    following = re.search(r'href="(\?after=[^"]+)" rel="next"', first)
    assert following is not None
    second = text(admin, f"/admin/groups/{following[1]}")
    seen = [name for page in (first, second) for name in names if f'href="/admin/groups/{name}/"' in page]
    assert seen == names
    assert 'rel="next"' not in second


def test_without_a_group_the_page_says_what_one_is(admin: Client) -> None:
    assert "There is no consumer group yet" in text(admin, "/admin/groups/")


def test_one_group_with_its_partitions_and_members(admin: Client, member: str) -> None:
    page = text(admin, "/admin/groups/billing/")
    assert (cell(page, "Committed"), cell(page, "Latest"), cell(page, "Lag")) == ("1", "2", "1")
    assert (cell(page, "Committed", 1), cell(page, "Lag", 1)) == ("—", "1")
    assert cell(page, "Owner") == member[:10]
    assert cell(page, "Partitions") == "orders/0, orders/1"
    assert "/admin/topics/orders/?partition=0&amp;start=offset&amp;offset=1" in page


def test_a_members_id_is_not_shown_whole(admin: Client, member: str) -> None:
    for path in ("/admin/groups/", "/admin/groups/billing/"):
        assert member not in text(admin, path)


def test_partitions_that_are_behind_are_shown_alone(admin: Client, member: str, orders: str) -> None:
    groups.poll(GROUP, member)
    groups.commit(GROUP, member, [GroupOffset(orders, 1, 1)])
    page = text(admin, "/admin/groups/billing/?only=behind")
    assert "partition=0&amp;" in page
    assert "partition=1&amp;" not in page
    assert "No partition matches" in text(admin, "/admin/groups/billing/?topic=other")


def test_a_retry_is_marked_with_its_attempt_and_time(admin: Client, member: str) -> None:
    found = group_progress.get(GROUP)
    with connection.cursor() as cursor:
        cursor.execute("select clock_timestamp()")
        now = cursor.fetchone()[0]
    DeliveryAttempt.objects.create(
        group_id=found.id,
        partition_id=found.partitions[0].partition_id,
        record_offset=1,
        number=3,
        started_at=now,
        ended_at=now,
        delay_ms=3_600_000,
        exception_class="shop.errors.<b>OutOfStock",
    )
    page = text(admin, "/admin/groups/billing/")
    assert "Attempt 3 failed" in page
    assert "&lt;b&gt;OutOfStock" in page
    assert "next in 59 min 59 s" in page or "next in 59 min 58 s" in page


def test_open_dead_letters_are_counted_and_linked(admin: Client, member: str) -> None:
    FailureGroup.objects.create(
        fingerprint="f", version=1, source_kind="topic", source="orders", group_name=GROUP, open_count=521
    )
    assert cell(text(admin, "/admin/groups/"), "Dead letters") == "521"
    assert "/admin/dead-letters/?group=billing" in text(admin, "/admin/groups/billing/")


def test_hostile_texts_are_shown_and_not_run(admin: Client, member: str) -> None:
    hostile = "</td><script>alert(1)</script>\u202e#0.1"
    GroupMember.objects.update(instance_id=hostile)
    groups.pause(GROUP)
    ada = Actor(f"ada {hostile}", "console")
    plan = groups.reset(GROUP, "orders", ResetTo("earliest"))
    groups.apply(GROUP, "orders", ResetTo("earliest"), plan, reason=hostile, actor=ada)
    page = text(admin, "/admin/groups/billing/")
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 3
    assert "\u202e" not in page


def test_the_groups_of_a_topic_are_a_tab_of_it(admin: Client, member: str) -> None:
    topics.create("payments")
    page = text(admin, "/admin/topics/orders/groups/")
    assert 'href="/admin/groups/billing/"' in page
    assert cell(page, "Lag") == "2"
    assert "No consumer group reads payments" in text(admin, "/admin/topics/payments/groups/")


@pytest.mark.parametrize("page", ["", "reset/"])
def test_a_group_that_is_not_there(page: str, admin: Client) -> None:
    response = admin.get(f"/admin/groups/nobody/{page}")
    assert response.status_code == 404
    assert "there is no consumer group" in response.content.decode().lower()


@pytest.mark.parametrize("change", ["pause", "resume"])
def test_pausing_a_group_that_is_not_there(change: str, admin: Client) -> None:
    assert admin.post(f"/admin/groups/nobody/{change}/").status_code == 404
    assert admin.get(f"/admin/groups/nobody/{change}/").status_code == 405


def test_pausing_and_resuming_with_a_note(admin: Client, member: str) -> None:
    response = admin.post("/admin/groups/billing/pause/", {"note": " deploy\0 "}, follow=True)
    page = response.content.decode()
    assert "Group billing is paused." in page
    assert 'popovertarget="resume"' in page
    assert ConsumerGroup.objects.get().paused
    admin.post("/admin/groups/billing/resume/")
    assert not ConsumerGroup.objects.get().paused
    found = AuditEntry.objects.filter(resource_type="group").order_by("id")
    assert [(entry.principal, entry.surface, entry.operation, entry.details) for entry in found] == [
        ("admin", "console", "pause", {"note": "deploy"}),
        ("admin", "console", "resume", {}),
    ]


def test_pausing_leads_back_to_our_own_pages_only(admin: Client, member: str) -> None:
    for target, leads in (("/admin/groups/", "/admin/groups/"), ("https://evil.test/", "/admin/groups/billing/")):
        response = admin.post("/admin/groups/billing/pause/", {"next": target})
        assert response["Location"] == leads


# -- who may --------------------------------------------------------------------------------------------------------


def test_a_viewer_sees_a_group_and_changes_nothing(group_staff: Staff, member: str) -> None:
    client = group_staff("describe:billing")
    page = text(client, "/admin/groups/billing/")
    assert "You lack: alter on group billing" in page
    assert 'popovertarget="pause"' not in page
    assert client.get("/admin/groups/billing/reset/").status_code == 403
    for change in ("pause", "resume", "reset", "reset/undo"):
        assert client.post(f"/admin/groups/billing/{change}/", {"entry": "1"}).status_code == 403
    assert not ConsumerGroup.objects.get().paused


def test_an_operator_pauses_a_group(group_staff: Staff, member: str) -> None:
    client = group_staff("alter:bill*")
    assert 'popovertarget="pause"' in text(client, "/admin/groups/billing/")
    assert client.post("/admin/groups/billing/pause/").status_code == 302
    assert ConsumerGroup.objects.get().paused


def test_lists_show_only_groups_that_may_be_described(group_staff: Staff, staff: Staff, member: str) -> None:
    groups.reset("payroll", "orders", ResetTo("earliest"), dry_run=False)
    client = group_staff("describe:bill*")
    Grant.objects.create(
        user_id=int(client.session["_auth_user_id"]),
        operation="describe",
        resource_type="topic",
        name="orders",
        match="literal",
    )
    for path in ("/admin/groups/", "/admin/groups/?q=pay", "/admin/topics/orders/groups/"):
        assert "payroll" not in text(client, path)
    assert "billing" in text(client, "/admin/topics/orders/groups/")


def test_a_refusal_does_not_tell_whether_the_group_exists(group_staff: Staff, member: str) -> None:
    client = group_staff("describe:bill", "describe:billing-2*")
    there, absent = (client.get(f"/admin/groups/{name}/") for name in ("billing", "missing"))
    assert there.status_code == absent.status_code == 403
    assert there.content.decode().count("billing") == absent.content.decode().count("missing")


# -- how many statements ----------------------------------------------------------------------------------------------


def statements(client: Client, path: str) -> list[str]:
    """All that the page runs: on Django's cursors, and on cursors of our own, which Django does not see."""
    made: list[str] = []
    execute = psycopg.Cursor.execute

    def counting(cursor: Any, query: Any, *args: Any, **kwargs: Any) -> Any:
        if type(cursor) is psycopg.Cursor:
            made.append(str(query))
        return execute(cursor, query, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch, CaptureQueriesContext(connection) as seen:
        patch.setattr(psycopg.Cursor, "execute", counting)
        assert client.get(path).status_code == 200
    return made + [query["sql"] for query in seen]


def test_pages_take_few_statements_however_much_there_is(admin: Client, member: str) -> None:
    topics.create("wide", partitions=120)
    for number in range(55):
        groups.reset(f"group-{number}", "wide", ResetTo("earliest"), dry_run=False)
    publishing.publish("wide", {"n": 1}, partition=7)
    for path in (
        "/admin/groups/",
        "/admin/groups/billing/",
        "/admin/groups/group-1/",
        "/admin/groups/group-1/reset/?topic=wide&to=latest",
        "/admin/topics/wide/groups/",
    ):
        made = statements(admin, path)
        assert len(made) <= (MOST_OF_A_PLAN if "/reset/" in path else MOST_STATEMENTS), (path, made)
