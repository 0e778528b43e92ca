"""Who sees and changes what in the console: every route declares its operation, and it is enforced."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib import admin as django_admin
from django.test import Client
from django.urls import URLPattern

from brokers.access import OPERATIONS, RESOURCE_TYPES
from brokers.models import Topic
from messaging_site.console.permissions import Declared

Staff = Callable[..., Client]

OWN_ROUTES = {
    "preferences",
    "topics",
    "topic-create",
    "topic",
    "record",
    "record-value",
    "topic-partitions",
    "topic-settings",
    "topic-delete",
    "topic-publish",
    "topic-groups",
    "groups",
    "group",
    "group-pause",
    "group-resume",
    "group-reset",
    "group-reset-undo",
    "dead-letters",
    "dead-letter-list",
    "dead-letters-change",
    "dead-letter",
    "dead-letter-value",
    "dead-letter-edit",
    "dead-letter-change",
    "dead-letter-step",
    "replays",
    "replay-plan",
    "replay",
    "replay-control",
    "replay-failed",
    "alerts",
    "alert-test",
    "exchanges",
    "exchange-create",
    "exchange",
    "exchange-unbind",
    "exchange-routes",
    "exchange-publish",
    "exchange-delete",
    "queues",
    "queue-create",
    "queue",
    "message",
    "message-body",
    "queue-unacknowledged",
    "queue-release",
    "queue-consumers",
    "queue-bindings",
    "queue-policy",
    "queue-settings",
    "queue-publish",
    "queue-pause",
    "queue-resume",
    "queue-move",
    "queue-purge",
    "queue-delete",
    "policies",
    "policy-create",
    "policy",
    "policy-delete",
    "connections",
    "connection",
    "connection-disconnect",
    "connection-client",
    "token-disconnect",
    "tasks",
    "task",
    "task-run",
    "task-run-now",
    "task-pause",
    "task-resume",
    "task-skip",
    "executors",
    "locks",
    "lock-release",
}
DJANGO_ROUTES = {
    "index",
    "login",
    "logout",
    "password_change",
    "password_change_done",
    "autocomplete",
    "jsi18n",
    "view_on_site",
    "app_list",
}


def test_every_route_of_ours_declares_an_operation() -> None:
    named = {
        pattern.name: pattern.callback
        for pattern in django_admin.site.get_urls()
        if isinstance(pattern, URLPattern) and pattern.name not in {*DJANGO_ROUTES, None}
    }
    assert set(named) == OWN_ROUTES
    for callback in named.values():
        declared: Declared = callback.declared  # type: ignore[attr-defined]
        assert declared.operation is None or (
            declared.operation in OPERATIONS and declared.resource_type in RESOURCE_TYPES
        )


PAGES = {
    "/admin/topics/orders/": "read",
    "/admin/topics/orders/records/0/0/": "read",
    "/admin/topics/orders/records/0/0/value": "view_payload",
    "/admin/topics/orders/partitions/": "describe",
    "/admin/topics/orders/settings/": "describe",
    "/admin/topics/orders/delete/": "delete",
    "/admin/topics/orders/publish/": "write",
}


@pytest.mark.parametrize("path", PAGES)
def test_a_stranger_is_sent_to_the_login(path: str, orders: str) -> None:
    response = Client().get(path)
    assert response.status_code == 302
    assert response["Location"].startswith("/admin/login/?next=")


@pytest.mark.parametrize(("path", "operation"), PAGES.items())
def test_a_page_needs_its_operation(path: str, operation: str, orders: str, staff: Staff) -> None:
    client = staff(f"{operation}:orders")
    assert client.get(path).status_code == 200


@pytest.mark.parametrize(("path", "operation"), PAGES.items())
def test_a_page_is_refused_with_every_other_topic_granted(path: str, operation: str, orders: str, staff: Staff) -> None:
    response = staff(f"{operation}:order", f"{operation}:orders-2*").get(path)
    assert response.status_code == 403
    assert "Not permitted" in response.content.decode()


def test_a_refusal_does_not_tell_whether_the_topic_exists(orders: str, staff: Staff) -> None:
    client = staff()
    there, absent = (client.get(f"/admin/topics/{name}/partitions/") for name in ("orders", "absent"))
    assert there.status_code == absent.status_code == 403
    assert there.content.decode().count("orders") == absent.content.decode().count("absent")


def test_lists_show_only_what_may_be_described(orders: str, staff: Staff) -> None:
    Topic.objects.create(name="payroll", max_record_bytes=1000)
    client = staff("describe:ord*")
    for path in ("/admin/", "/admin/topics/", "/admin/topics/?q=pay"):
        page = client.get(path).content.decode()
        assert "payroll" not in page
    assert "/admin/topics/orders/" in client.get("/admin/topics/").content.decode()


def test_values_stay_hidden_without_view_payload(orders: str, staff: Staff) -> None:
    client = staff("read:orders")
    for path in (
        "/admin/topics/orders/",
        "/admin/topics/orders/?open=0:0",
        "/admin/topics/orders/records/0/0/",
    ):
        page = client.get(path).content.decode()
        assert "&quot;n&quot;" not in page
    assert "view_payload on topic orders" in client.get("/admin/topics/orders/records/0/0/").content.decode()
    assert client.get("/admin/topics/orders/records/0/0/value").status_code == 403


def test_changes_are_refused_without_their_operation(orders: str, staff: Staff) -> None:
    client = staff("describe:orders", "read:orders", "view_payload:orders")
    settings = {"partitions": "9", "max_record_bytes": "1 MiB", "cleanup_policy": "delete"}
    assert client.post("/admin/topics/orders/settings/", settings).status_code == 403
    assert client.post("/admin/topics/orders/delete/", {"confirmation": "orders"}).status_code == 403
    assert client.post("/admin/topics/orders/publish/", {"kind": "json", "payload": "1"}).status_code == 403
    assert Topic.objects.get(name="orders").partitions.count() == 2


def test_creating_needs_create_on_that_name(staff: Staff) -> None:
    client = staff("create:team.*")
    form = {
        "partitions": "1",
        "max_record_bytes": "1 MiB",
        "cleanup_policy": "delete",
        "partitioner": "crc32",
    }
    refused = client.post("/admin/new-topic/", form | {"name": "other"})
    assert refused.status_code == 422
    assert "is not granted" in refused.content.decode()
    assert client.post("/admin/new-topic/", form | {"name": "team.a"}).status_code == 302
    assert list(Topic.objects.values_list("name", flat=True)) == ["team.a"]


def test_users_who_are_no_staff_get_no_page(transactional_db: None) -> None:
    from django.contrib.auth.models import User

    client = Client()
    client.force_login(User.objects.create_user("plain"))
    assert client.get("/admin/topics/").status_code == 302
