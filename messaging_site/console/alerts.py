"""The Alerts screen: what is firing, pending and was resolved, the rules, and how their notifications fare.

Rules themselves are edited on Django's own form (`alert_rules`), under its permissions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from brokers.alerts import notifications, reads
from brokers.errors import InvalidValue
from brokers.models import Alert, AlertNotification, AlertRule
from messaging_site.console import alert_words
from messaging_site.console.failure_words import Word
from messaging_site.console.permissions import actor, authorize, may, requires

SHOWN_RESOLVED: Final = 20
SHOWN_NOTIFICATIONS: Final = 20
_SCOPE = re.compile(r"(?:group (?P<group>[A-Za-z0-9._-]+) of )?topic (?P<topic>[A-Za-z0-9._-]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class AlertRow:
    """One alert as a line of a table."""

    alert: Alert
    state: Word
    scope_url: str
    rule_url: str
    figure: str
    threshold: str
    since: datetime
    told: list[Word]


@dataclass(frozen=True, slots=True)
class RuleRow:
    """One rule as a line of a table."""

    rule: AlertRule
    url: str
    state: Word
    covers: str
    condition: str
    highest: str
    channels: list[str]


@dataclass(frozen=True, slots=True)
class NotificationRow:
    """One notification as a line of a table."""

    note: AlertNotification
    state: Word
    channel: str
    settled_at: datetime | None


@require_safe
@requires("describe", "server", per_item=True)
def listing(request: HttpRequest) -> HttpResponse:
    """The page; also the answer to its own refresh."""
    authorize(request, "describe", "server", "")
    now = datetime.now(UTC)
    unresolved = reads.unresolved()
    context = {
        "title": "Alerts",
        "crumbs": [("Govern", None), ("Alerts", None)],
        "firing": reads.firing(),
        "pending": sum(alert.raised_at is None for alert in unresolved),
        "alerts": [_alert_row(request, alert) for alert in unresolved],
        "resolved": [_alert_row(request, alert) for alert in reads.resolved(SHOWN_RESOLVED)],
        "rules": [_rule_row(request, *found, now) for found in reads.rules()],
        "notes": [_notification_row(note) for note in reads.notifications(SHOWN_NOTIFICATIONS)],
        "may_add": request.user.has_perm("brokers.add_alertrule"),
        "may_test": may(request, "alter", "server", ""),
    }
    return render(request, "console/alerts/list.html", context)


@require_POST
@requires("alter", "server", per_item=True)
def send_test(request: HttpRequest, rule: int) -> HttpResponse:
    """Lets a test go to each channel of a rule; how it fares is then on the Alerts screen."""
    authorize(request, "alter", "server", "")
    try:
        channels = notifications.send_test(rule, actor(request))
    except InvalidValue as error:
        messages.warning(request, f"{error.detail[:1].upper()}{error.detail[1:]}: nothing was sent.")
    else:
        names = ", ".join(alert_words.CHANNELS[channel].lower() for channel in channels)
        messages.success(request, f"A test is on its way ({names}). How it fares is below, under Notifications.")
    return HttpResponseRedirect(reverse("admin:alerts"))


def _alert_row(request: HttpRequest, alert: Alert) -> AlertRow:
    return AlertRow(
        alert=alert,
        state=alert_words.alert_state(alert),
        scope_url=_scope_url(alert.scope),
        rule_url=_rule_url(request, alert.rule),
        figure=alert_words.figure(alert.rule.metric, alert.value),
        threshold=alert_words.condition(alert.rule),
        since=alert.resolved_at or alert.raised_at or alert.began_at,
        told=alert_words.told(list(alert.notifications.all())),
    )


def _rule_row(request: HttpRequest, rule: AlertRule, firing: int, pending: int, now: datetime) -> RuleRow:
    return RuleRow(
        rule=rule,
        url=_rule_url(request, rule),
        state=alert_words.rule_state(rule, firing, pending, now),
        covers=alert_words.covers(rule),
        condition=alert_words.condition(rule),
        highest="" if rule.highest is None else alert_words.figure(rule.metric, rule.highest),
        channels=alert_words.channels(rule),
    )


def _notification_row(note: AlertNotification) -> NotificationRow:
    return NotificationRow(
        note=note,
        state=alert_words.notification_state(note),
        channel=alert_words.CHANNELS.get(note.channel, note.channel),
        settled_at=note.delivered_at or note.given_up_at,
    )


def _rule_url(request: HttpRequest, rule: AlertRule) -> str:
    permitted = request.user.has_perms
    if permitted(["brokers.view_alertrule"]) or permitted(["brokers.change_alertrule"]):
        return reverse("admin:brokers_alertrule_change", args=[rule.pk])
    return ""


def _scope_url(scope: str) -> str:
    """The page of what an alert is about."""
    found = _SCOPE.fullmatch(scope)
    if found is None:
        return ""
    return reverse("admin:group", args=[found["group"]]) if found["group"] else reverse("admin:topic", args=[found[2]])
