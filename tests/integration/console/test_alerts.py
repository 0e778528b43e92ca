"""The Alerts screen and the form of a rule: what they show, to whom, and that changes are checked and audited."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db.models import F
from django.test import Client

from brokers.alerts.evaluation import evaluate
from brokers.alerts.notifications import send_due
from brokers.models import Alert, AlertNotification, AlertRule, AuditEntry, FailureMinute, Grant
from tests.integration.brokers.failing_sources import fail, failure_group, rule, settle

SECRET = "canary-71bf"
FIELDS = {
    "name": "too many",
    "enabled": "on",
    "metric": "depth",
    "source": "ord*",
    "group_name": "",
    "threshold": "100",
    "for_seconds": "60",
    "severity": "critical",
    "to_log": "on",
    "emails": "a@example.org, b@example.org",
    "webhook_url": "http://hooks:9000/services/T0/xyz?k=1",
    "new_secret": SECRET,
    "runbook_url": "https://example.org/runbook",
}
ADD = "/admin/brokers/alertrule/add/"


def change(made: AlertRule) -> str:
    return f"/admin/brokers/alertrule/{made.pk}/change/"


def staff(*, grants: tuple[str, ...] = (), permissions: tuple[str, ...] = ()) -> Client:
    """A member of staff with grants on the server and Django's permissions on alert rules."""
    user = User.objects.create_user("ada", is_staff=True)
    for operation in grants:
        Grant.objects.create(user=user, operation=operation, resource_type="server", name="", match="literal")
    names = [f"{name}_alertrule" for name in permissions]
    user.user_permissions.set(Permission.objects.filter(codename__in=names))
    client = Client()
    client.force_login(user)
    return client


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


# -- the screen ---------------------------------------------------------------------------------------------------


def test_without_rules_it_says_that_nobody_is_told(admin: Client) -> None:
    text = text_of(admin.get("/admin/alerts/").content.decode())
    assert "Nothing is firing" in text
    assert "There is no rule yet" in text
    assert "Recently resolved" not in text


def test_it_shows_what_is_firing_pending_and_was_resolved(admin: Client, orders: str) -> None:
    rule("depth", threshold=2, severity="critical", runbook_url="https://example.org/runbook")
    rule("oldest_age", threshold=30, for_seconds=600, source="pri*", group_name="bil*")
    fail(orders, 3)
    fail("prices", 5, seconds_ago=65)
    fail("old", 2)
    evaluate()
    settle("old")
    evaluate()
    page = admin.get("/admin/alerts/").content.decode()
    text = text_of(page)
    assert "2 firing , 1 pending" in text
    now, _, rest = text.partition("Rules Alert rules")
    assert re.search(r"topic orders Firing, critical rule \w+ 2 open or more · runbook 3 open Log", now)
    assert re.search(
        r"group billing of topic prices Pending rule \w+ 30 s or more for 10 min \d min[ \ds]* not yet", now
    )
    assert "topic old Resolved" in rest
    assert 'href="/admin/topics/orders/"' in page
    assert 'href="/admin/groups/billing/"' in page
    assert 'href="https://example.org/runbook" rel="noopener noreferrer"' in page
    assert "pri*, group bil*" in text
    assert "Highest now" in text


def test_the_navigation_counts_what_is_firing(admin: Client) -> None:
    rule()
    assert "1 firing" not in admin.get("/admin/topics/").content.decode()
    fail("orders")
    evaluate()
    assert "1 firing" in admin.get("/admin/topics/").content.decode()
    assert "1 firing" not in staff().get("/admin/topics/").content.decode()


def test_each_rule_says_what_it_is_at(admin: Client) -> None:
    rule(threshold=10)
    broken = rule(threshold=10)
    AlertRule.objects.filter(pk=broken.pk).update(metric="nonsense")
    rule(threshold=10, enabled=False)
    evaluate()
    rule(threshold=10)
    stale = rule(threshold=10)
    evaluate()
    AlertRule.objects.filter(pk=stale.pk).update(evaluated_at=F("evaluated_at") - timedelta(minutes=2))
    rule(threshold=10)
    text = text_of(admin.get("/admin/alerts/").content.decode())
    for word in ("Quiet", "Cannot be evaluated", "there is no metric", "Off", "Not looked at", "Not looked at yet"):
        assert word in text


def test_hostile_names_are_shown_and_do_nothing(admin: Client) -> None:
    made = rule(threshold=1)
    AlertRule.objects.filter(pk=made.pk).update(name="<script>alert(1)</script>\u202e", runbook_url="")
    fail("orders")
    evaluate()
    page = admin.get("/admin/alerts/").content.decode()
    assert "<script>alert" not in page
    assert "U+202E" in page


def test_notifications_say_how_they_fare(admin: Client) -> None:
    rule(webhook_url="http://127.0.0.1:1/", to_log=True, emails="a@example.org")
    fail("orders")
    evaluate()
    assert "Waiting" in text_of(admin.get("/admin/alerts/").content.decode())
    send_due()
    text = text_of(admin.get("/admin/alerts/").content.decode())
    assert "Delivered" in text
    assert "Tried 1 time" in text
    AlertNotification.objects.filter(channel="webhook").update(given_up_at=F("created_at"))
    assert "Given up" in text_of(admin.get("/admin/alerts/").content.decode())


def test_of_a_webhook_no_more_than_the_host_is_shown(admin: Client) -> None:
    rule(webhook_url="https://hooks.example.org/services/T0/xyz", webhook_secret=SECRET)
    page = admin.get("/admin/alerts/").content.decode()
    assert "hooks.example.org" in page
    assert "xyz" not in page
    assert SECRET not in page


def test_a_refresh_costs_no_more_with_more_alerts(admin: Client, django_assert_max_num_queries: object) -> None:
    for number in range(3):
        rule(threshold=number + 1)
    for number in range(20):
        fail(f"source{number}", 4)
    evaluate()
    with django_assert_max_num_queries(24):  # type: ignore[operator]
        assert admin.get("/admin/alerts/").status_code == 200


# -- who may ------------------------------------------------------------------------------------------------------


def test_the_screen_needs_describe_on_the_server(transactional_db: None) -> None:
    made = rule()
    refused = staff().get("/admin/alerts/")
    assert refused.status_code == 403
    assert made.name not in refused.content.decode()


def test_a_reader_sees_rules_and_cannot_test_or_change_them(transactional_db: None) -> None:
    made = rule()
    client = staff(grants=("describe",))
    page = client.get("/admin/alerts/").content.decode()
    assert made.name in page
    assert "You lack: alter on server" in page
    assert change(made) not in page
    assert client.post(f"/admin/alerts/{made.pk}/test/").status_code == 403
    assert client.get(change(made)).status_code == 403
    assert client.get(ADD).status_code == 403
    assert not AlertNotification.objects.exists()


def test_who_may_alter_the_server_sends_a_test(transactional_db: None) -> None:
    made = rule()
    client = staff(grants=("alter",))
    response = client.post(f"/admin/alerts/{made.pk}/test/", follow=True)
    assert "A test is on its way (log)" in response.content.decode()
    assert AlertNotification.objects.get().event == "test"
    entry = AuditEntry.objects.get()
    assert (entry.principal, entry.surface, entry.operation, entry.resource) == ("ada", "console", "test", made.name)


def test_a_test_without_a_channel_or_rule_is_explained(admin: Client) -> None:
    response = admin.post(f"/admin/alerts/{rule(to_log=False).pk}/test/", follow=True)
    assert "notifies nobody: nothing was sent" in response.content.decode()
    assert admin.post("/admin/alerts/999/test/").status_code == 404
    assert admin.get("/admin/alerts/999/test/").status_code == 405


def test_rules_are_under_djangos_permissions(transactional_db: None) -> None:
    made = rule()
    client = staff(permissions=("view",))
    assert client.get(change(made)).status_code == 200
    assert client.post(change(made), FIELDS).status_code == 403
    assert client.post(f"/admin/brokers/alertrule/{made.pk}/delete/", {"post": "yes"}).status_code == 403
    assert client.post(ADD, FIELDS).status_code == 403
    assert AlertRule.objects.get().name == made.name


def test_who_may_only_view_a_rule_sees_of_its_webhook_the_host(transactional_db: None) -> None:
    made = rule(webhook_url="https://hooks.example.org/services/T0/xyz", webhook_secret=SECRET)
    page = staff(permissions=("view",)).get(change(made)).content.decode()
    assert "hooks.example.org" in page
    assert "xyz" not in page
    assert SECRET not in page


# -- the form -----------------------------------------------------------------------------------------------------


def test_a_rule_is_made_and_audited_without_its_secrets(admin: Client) -> None:
    response = admin.post(ADD, FIELDS)
    assert response.status_code == 302, response.content.decode()
    made = AlertRule.objects.get()
    assert (made.name, made.source, made.threshold, made.for_seconds) == ("too many", "ord*", 100, 60)
    assert (made.webhook_url, made.webhook_secret) == ("http://hooks:9000/services/T0/xyz?k=1", SECRET)
    entry = AuditEntry.objects.get()
    assert (entry.principal, entry.surface, entry.operation) == ("admin", "console", "create")
    assert (entry.resource_type, entry.resource) == ("alert_rule", "too many")
    assert entry.details["after"]["webhook_url"] == "http://hooks:9000/…"
    assert SECRET not in str(entry.details)
    assert SECRET not in str(list(LogEntry.objects.values()))


def test_a_secret_is_kept_replaced_or_forgotten_and_never_shown(admin: Client) -> None:
    admin.post(ADD, FIELDS)
    made = AlertRule.objects.get()
    page = admin.get(change(made)).content.decode()
    assert SECRET not in page
    assert "One is set and cannot be shown" in page
    admin.post(change(made), FIELDS | {"new_secret": "", "threshold": "7"})
    made.refresh_from_db()
    assert (made.webhook_secret, made.threshold) == (SECRET, 7)
    both = admin.post(change(made), FIELDS | {"new_secret": "x", "forget_secret": "on"})
    assert "not both" in both.content.decode()
    admin.post(change(made), FIELDS | {"new_secret": "another"})
    made.refresh_from_db()
    assert made.webhook_secret == "another"
    admin.post(change(made), FIELDS | {"new_secret": "", "forget_secret": "on"})
    made.refresh_from_db()
    assert made.webhook_secret == ""
    assert "One is set" not in admin.get(change(made)).content.decode()
    told = [entry.details.get("webhook_secret") for entry in AuditEntry.objects.order_by("id")]
    assert told == [None, None, "changed", "removed"]


def test_a_change_is_audited_with_what_was_before(admin: Client) -> None:
    admin.post(ADD, FIELDS)
    made = AlertRule.objects.get()
    changed = FIELDS | {"new_secret": "", "threshold": "5", "webhook_url": "http://hooks:9000/other"}
    changed.pop("enabled")
    assert admin.post(change(made), changed).status_code == 302
    details = AuditEntry.objects.order_by("-id")[0].details
    assert details["before"] == {"threshold": 100.0, "enabled": True}
    assert details["after"] == {"threshold": 5.0, "enabled": False}
    assert details["webhook_url"] == "changed"


@pytest.mark.parametrize(
    ("field", "text", "says"),
    [
        ("name", "", "required"),
        ("metric", "nonsense", "valid choice"),
        ("source", "or*ders", "one * at the end"),
        ("source", "orders**", "one * at the end"),
        ("source", "a b", "one * at the end"),
        ("source", "x" * 250, "249"),
        ("group_name", "%", "one * at the end"),
        ("threshold", "0", "above 0"),
        ("threshold", "-1", "above 0"),
        ("threshold", "nan", "number"),
        ("threshold", "inf", "number"),
        ("for_seconds", "-1", "greater than or equal to 0"),
        ("for_seconds", "9999999999", "less than or equal to"),
        ("emails", "a@example.org, nobody", "is not an e-mail address"),
        ("emails", "a@example.org\r\nBcc: b@example.org", "is not an e-mail address"),
        ("webhook_url", "ftp://hooks/", "http:// or https://"),
        ("webhook_url", "javascript:alert(1)", "http:// or https://"),
        ("webhook_url", "http://user:password@hooks/", "user name"),
        ("webhook_url", "http://hooks:99999/", "http:// or https://"),
        ("webhook_url", "http://hooks/ a", "http:// or https://"),
        ("runbook_url", "javascript:alert(1)", "http:// or https://"),
    ],
)
def test_a_faulty_field_is_explained_and_nothing_saved(field: str, text: str, says: str, admin: Client) -> None:
    response = admin.post(ADD, FIELDS | {field: text})
    assert response.status_code == 200
    errors = "".join(re.findall(r'<ul class="errorlist".*?</ul>', response.content.decode(), re.DOTALL))
    assert says in errors
    assert not AlertRule.objects.exists()
    assert not AuditEntry.objects.exists()


def test_saving_leaves_what_the_evaluation_wrote(admin: Client) -> None:
    made = rule(threshold=1)
    fail("orders", 7)
    evaluate()
    admin.post(change(made), FIELDS | {"name": "renamed"})
    made.refresh_from_db()
    assert (made.name, made.highest) == ("renamed", 7)
    assert made.evaluated_at is not None


def test_the_form_says_how_things_are(admin: Client) -> None:
    assert "Known once the rule is saved" in admin.get(ADD).content.decode()
    made = rule("growth", threshold=5)
    assert "No figure yet" in admin.get(change(made)).content.decode()
    fail("orders", 12)
    evaluate()
    minute = FailureMinute(failure_group_id=failure_group("orders").pk, failures=9)
    minute.minute = Alert.objects.get().began_at.replace(second=0, microsecond=0) - timedelta(hours=3)
    minute.save(force_insert=True)
    text = text_of(admin.get(change(made)).content.decode())
    assert "The highest figure is 12 /min now." in text
    assert "would have been raised 1 time in the last 24 hours" in text


def test_the_list_of_rules_is_in_words(admin: Client) -> None:
    rule("oldest_age", threshold=3600, for_seconds=60, source="ord*")
    text = text_of(admin.get("/admin/brokers/alertrule/").content.decode())
    assert "1 h or more for 1 min" in text
    assert "ord*" in text


@pytest.mark.parametrize("way", ["page", "action"])
def test_deleting_a_rule_takes_what_it_raised_with_it(way: str, admin: Client) -> None:
    made, other = rule(webhook_secret=SECRET), rule()
    fail("orders")
    evaluate()
    if way == "page":
        assert "Alert rules: 1" in text_of(admin.get(f"/admin/brokers/alertrule/{made.pk}/delete/").content.decode())
        response = admin.post(f"/admin/brokers/alertrule/{made.pk}/delete/", {"post": "yes"})
    else:
        chosen = {"action": "delete_selected", "_selected_action": made.pk, "post": "yes"}
        response = admin.post("/admin/brokers/alertrule/", chosen)
    assert response.status_code == 302
    assert list(AlertRule.objects.all()) == [other]
    assert {alert.rule for alert in Alert.objects.all()} == {other}
    assert AlertNotification.objects.count() == 1
    entry = AuditEntry.objects.get()
    assert (entry.operation, entry.resource) == ("delete", made.name)
    assert SECRET not in str(entry.details)
