"""The Topics screens: the list and its pages, creating, changing and deleting, each with its audit entry."""

from __future__ import annotations

import time

import pytest
from django.test import Client

from brokers import topics
from brokers.models import AuditEntry, Topic
from tests.integration.console.conftest import PASSWORD

NEW = {
    "name": "departures",
    "partitions": "6",
    "retention_ms": "7 days",
    "retention_bytes": "",
    "max_record_bytes": "1 MiB",
    "cleanup_policy": "delete",
    "partitioner": "crc32",
}


def test_a_topic_is_created_with_what_was_typed(admin: Client) -> None:
    response = admin.post("/admin/new-topic/", NEW | {"retention_ms": "12 h", "retention_bytes": "10 GiB"})
    assert (response.status_code, response["Location"]) == (302, "/admin/topics/departures/")
    topic = Topic.objects.get()
    assert (topic.retention_ms, topic.retention_bytes, topic.partitions.count()) == (
        43_200_000,
        10 * 2**30,
        6,
    )
    entry = AuditEntry.objects.get()
    assert (entry.principal, entry.surface, entry.operation, entry.resource) == (
        "admin",
        "console",
        "create",
        "departures",
    )


def test_an_empty_retention_keeps_for_ever(admin: Client) -> None:
    admin.post("/admin/new-topic/", NEW | {"retention_ms": ""})
    assert Topic.objects.get().retention_ms is None
    assert "for ever" in admin.get("/admin/topics/").content.decode()


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("name", "", "required"),
        ("name", "a b", "a b"),
        ("name", "..", ".."),
        ("name", "x" * 250, "249"),
        ("partitions", "0", "1"),
        ("partitions", "1001", "1000"),
        ("partitions", "six", "whole number"),
        ("retention_ms", "soon", "number and a unit"),
        ("max_record_bytes", "9 MiB", "8388608"),
        ("cleanup_policy", "burn", "valid choice"),
        ("partitioner", "md5", "valid choice"),
    ],
)
def test_a_faulty_field_is_explained_and_nothing_created(field: str, text: str, says: str, admin: Client) -> None:
    response = admin.post("/admin/new-topic/", NEW | {field: text})
    page = response.content.decode()
    assert response.status_code == 422
    assert f'id="id_{field}_error"' in page
    error = page.partition(f'id="id_{field}_error">')[2].partition("</p>")[0]
    assert says in error
    assert not Topic.objects.exists()


def test_a_name_that_is_taken_is_refused(admin: Client, orders: str) -> None:
    response = admin.post("/admin/new-topic/", NEW | {"name": orders})
    assert response.status_code == 422
    assert "already" in response.content.decode()


def test_the_list_is_narrowed_by_the_beginning_of_the_name(admin: Client) -> None:
    for name in ("alpha", "alpha_1", "beta"):
        topics.create(name)
    page = admin.get("/admin/topics/?q=alpha_").content.decode()
    assert "/admin/topics/alpha_1/" in page
    assert "/admin/topics/alpha/" not in page
    none = admin.get("/admin/topics/?q=gamma").content.decode()
    assert "No topic matches" in none
    assert "Clear filter" in none


@pytest.mark.parametrize(
    "query", ["q=%25", "q=_", "q=%5C", "q=%00", "q=" + "x" * 10_240, "after=%00", "q=<script>", "q=%E2%80%AE"]
)
def test_any_filter_is_taken_literally(query: str, admin: Client, orders: str) -> None:
    response = admin.get(f"/admin/topics/?{query}")
    assert response.status_code == 200
    assert "/admin/topics/orders/" not in response.content.decode()


def test_pages_lead_through_all_topics(admin: Client) -> None:
    names = [f"topic-{number:03}" for number in range(120)]
    for name in names:
        topics.create(name, partitions=1)
    seen: list[str] = []
    path = "/admin/topics/"
    for _ in range(3):
        page = admin.get(path).content.decode()
        seen += [name for name in names if f'href="/admin/topics/{name}/"' in page]
        path = f"/admin/topics/?after={seen[-1]}"
    assert seen == names
    assert 'rel="next"' not in page


def test_settings_are_changed_and_the_change_recorded(admin: Client, orders: str) -> None:
    form = {
        "partitions": "4",
        "retention_ms": "1 day",
        "retention_bytes": "",
        "max_record_bytes": "512 KiB",
        "cleanup_policy": "compact",
    }
    response = admin.post("/admin/topics/orders/settings/", form)
    assert response.status_code == 302
    topic = Topic.objects.get()
    assert (topic.partitions.count(), topic.retention_ms, topic.max_record_bytes) == (4, 86_400_000, 2**19)
    assert AuditEntry.objects.get(operation="alter").details["partitions"] == [2, 4]


def test_the_settings_form_saves_unchanged(admin: Client) -> None:
    topics.create("odd", retention_ms=86_400_001, retention_bytes=1001, max_record_bytes=1_000_001)
    page = admin.get("/admin/topics/odd/settings/").content.decode()
    for text in ("86400001 ms", "1001 B", "1000001 B"):
        assert f'value="{text}"' in page


def test_partitions_cannot_be_taken_away(admin: Client, orders: str) -> None:
    form = {"partitions": "1", "max_record_bytes": "1 MiB", "cleanup_policy": "delete"}
    response = admin.post("/admin/topics/orders/settings/", form)
    assert response.status_code == 422
    assert 'id="id_partitions_error"' in response.content.decode()


def test_partitions_are_listed_with_their_bounds(admin: Client, orders: str) -> None:
    page = admin.get("/admin/topics/orders/partitions/").content.decode()
    assert 'data-label="Next">2</td>' in page
    assert 'data-label="Next">1</td>' in page


def test_deleting_needs_the_typed_name(admin: Client, orders: str) -> None:
    response = admin.post("/admin/topics/orders/delete/", {"confirmation": "order"})
    assert response.status_code == 422
    assert "Nothing was deleted" in response.content.decode()
    assert admin.post("/admin/topics/orders/delete/", {"confirmation": "orders"}).status_code == 302
    assert not Topic.objects.exists()
    assert AuditEntry.objects.get(operation="delete").principal == "admin"


def test_deleting_long_after_the_login_asks_for_the_password(admin: Client, orders: str) -> None:
    session = admin.session
    session["console_password_given_at"] = int(time.time()) - 901
    session.save()
    refused = admin.post("/admin/topics/orders/delete/", {"confirmation": "orders"})
    assert refused.status_code == 422
    wrong = admin.post("/admin/topics/orders/delete/", {"confirmation": "orders", "password": "guess"})
    assert "not your password" in wrong.content.decode()
    assert Topic.objects.exists()
    admin.post("/admin/topics/orders/delete/", {"confirmation": "orders", "password": PASSWORD})
    assert not Topic.objects.exists()


@pytest.mark.parametrize("page", ["", "partitions/", "settings/", "delete/", "publish/", "records/0/0/"])
def test_a_topic_that_is_not_there(page: str, admin: Client) -> None:
    response = admin.get(f"/admin/topics/absent/{page}")
    assert response.status_code == 404
    assert "There is no topic" in response.content.decode()
