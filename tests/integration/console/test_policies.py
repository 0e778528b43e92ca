"""The Policies screens: adding, changing and deleting, with the queues that match."""

from __future__ import annotations

import pytest
from django.test import Client

from brokers.models import AuditEntry, QueuePolicy
from brokers.queues import declaring, topology
from tests.integration.console.failing import HOSTILE, MOST_STATEMENTS, counted_statements, signed_in, text

NEW = {"name": "short", "pattern": "^crew", "priority": "1", "message_ttl_ms": "1 min", "dead_letter_to": ""}


@pytest.fixture
def crew(transactional_db: None) -> str:
    """Two queues that `^crew` matches and one that it does not."""
    for name in ("crew", "crew-night", "rebooking"):
        declaring.declare_queue(name)
    return "crew"


def test_a_policy_is_made_and_holds_at_once(admin: Client, crew: str) -> None:
    response = admin.post("/admin/new-policy/", NEW)
    assert (response.status_code, response["Location"]) == (302, "/admin/policies/short/")
    assert topology.fresh().queues[crew].message_ttl_ms == 60_000
    page = text(admin, "/admin/policies/short/")
    assert "Matches 2 queues" in page
    assert page.count("This one") == 2
    assert (AuditEntry.objects.latest("id").operation, AuditEntry.objects.latest("id").principal) == ("create", "admin")


def test_the_list_shows_those_first_that_win(admin: Client, crew: str) -> None:
    declaring.put_policy("weak", pattern=".", priority=0, max_length=10)
    declaring.put_policy("strong", pattern="^crew$", priority=9, overflow="reject-publish")
    page = text(admin, "/admin/policies/")
    assert page.index("/admin/policies/strong/") < page.index("/admin/policies/weak/")
    assert "Longest: 10 ready messages" in page
    assert "strong" in text(admin, "/admin/policies/weak/")


def test_a_faulty_policy_is_explained_and_not_made(admin: Client, crew: str) -> None:
    for field, value in (
        ("pattern", "("),
        ("pattern", ""),
        ("name", "a b"),
        ("priority", "high"),
        ("message_ttl_ms", "soon"),
        ("max_length", "-1"),
    ):
        response = admin.post("/admin/new-policy/", NEW | {field: value})
        assert (field, response.status_code) == (field, 422)
        assert f'id="id_{field}_error"' in response.content.decode()
    assert not QueuePolicy.objects.exists()


def test_a_policy_that_sets_nothing_is_refused(admin: Client, crew: str) -> None:
    response = admin.post("/admin/new-policy/", NEW | {"message_ttl_ms": ""})
    assert (response.status_code, "sets nothing" in response.content.decode()) == (422, True)


def test_a_name_that_is_taken_is_refused(admin: Client, crew: str) -> None:
    declaring.put_policy("short", pattern=".", max_length=1)
    assert admin.post("/admin/new-policy/", NEW).status_code == 422
    assert QueuePolicy.objects.get().pattern == "."


def test_a_policy_is_changed(admin: Client, crew: str) -> None:
    declaring.put_policy("short", pattern="^crew", message_ttl_ms=0, max_length=5, dead_letter_exchange="")
    page = text(admin, "/admin/policies/short/")
    assert 'value="0 ms"' in page
    form = {"pattern": "^crew$", "priority": "3", "dead_letter_to": "default", "max_length": "7"}
    assert admin.post("/admin/policies/short/", form).status_code == 302
    policy = QueuePolicy.objects.get()
    assert (policy.pattern, policy.priority, policy.message_ttl_ms, policy.max_length) == ("^crew$", 3, None, 7)
    assert policy.dead_letter_exchange == ""
    assert AuditEntry.objects.latest("id").details["max_length"] == [5, 7]


def test_a_policy_is_deleted(admin: Client, crew: str) -> None:
    declaring.put_policy("short", pattern="^crew", max_length=5)
    assert admin.post("/admin/policies/short/delete/").status_code == 302
    assert not QueuePolicy.objects.exists()
    assert topology.fresh().queues[crew].max_length is None


def test_permissions_are_on_the_servers_policies(crew: str) -> None:
    declaring.put_policy("short", pattern="^crew", max_length=5)
    looks = signed_in("describe:server/policies", "describe:queue/crew")
    page = text(looks, "/admin/policies/short/")
    assert "You lack: alter on server policies" in page
    assert 'href="/admin/queues/crew/"' in page
    assert "crew-night" not in page
    form = {"pattern": ".", "priority": "0", "max_length": "1"}
    assert looks.post("/admin/policies/short/", form).status_code == 403
    assert looks.post("/admin/policies/short/delete/").status_code == 403
    assert looks.get("/admin/new-policy/").status_code == 403
    stranger = signed_in("describe:queue/*")
    assert stranger.get("/admin/policies/").status_code == 403
    assert stranger.get("/admin/policies/short/").status_code == 403
    assert QueuePolicy.objects.get().max_length == 5


def test_a_policy_that_is_not_there(admin: Client) -> None:
    for path in ("/admin/policies/absent/", "/admin/policies/a%20b/"):
        text(admin, path, 404)


def test_a_hostile_pattern_stays_inert(admin: Client, crew: str) -> None:
    declaring.put_policy("short", pattern=HOSTILE.replace("(", "").replace(")", "").replace("[", ""), max_length=5)
    for path in ("/admin/policies/", "/admin/policies/short/"):
        assert "<script>document" not in text(admin, path)


def test_a_page_costs_few_statements(admin: Client, crew: str) -> None:
    for number in range(20):
        declaring.put_policy(f"policy-{number}", pattern="c", priority=number, max_length=number + 1)
    for path in ("/admin/policies/", "/admin/policies/policy-3/"):
        admin.get(path)
        with counted_statements() as sent:
            text(admin, path)
        assert len(sent) <= MOST_STATEMENTS, (path, sent)
