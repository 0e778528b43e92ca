"""Reads of alerts for people: what is firing and pending, what was resolved, the rules, and the notifications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from django.db.models import Count, F, Q, QuerySet

from brokers.models import Alert, AlertNotification, AlertRule

MOST_ALERTS: Final = 200
"""Unresolved alerts of one page; the count of all is `firing`."""
MOST_RULES: Final = 200


def firing() -> int:
    """How many alerts are raised and not resolved, of all rules."""
    return Alert.objects.filter(resolved_at__isnull=True, raised_at__isnull=False).count()


def unresolved() -> Sequence[Alert]:
    """Firing alerts, the newest first, then pending ones; with their rules and notifications."""
    found = _with_all(Alert.objects.filter(resolved_at__isnull=True))
    return list(found.order_by(F("raised_at").desc(nulls_last=True), "-id")[:MOST_ALERTS])


def resolved(limit: int) -> Sequence[Alert]:
    """The alerts that were resolved last; with their rules and notifications."""
    found = _with_all(Alert.objects.filter(resolved_at__isnull=False))
    return list(found.order_by("-resolved_at", "-id")[:limit])


def rules() -> Sequence[tuple[AlertRule, int, int]]:
    """Rules by name, each with the number of its firing and of its pending alerts."""
    unresolved_ones = Q(alerts__isnull=False, alerts__resolved_at__isnull=True)
    found = AlertRule.objects.annotate(
        firing_count=Count("alerts", filter=unresolved_ones & Q(alerts__raised_at__isnull=False)),
        pending_count=Count("alerts", filter=unresolved_ones & Q(alerts__raised_at__isnull=True)),
    )
    return [(rule, rule.firing_count, rule.pending_count) for rule in found.order_by("name")[:MOST_RULES]]


def notifications(limit: int) -> Sequence[AlertNotification]:
    """The newest notifications, with their rules and alerts."""
    return list(AlertNotification.objects.select_related("rule", "alert").order_by("-id")[:limit])


def _with_all(found: QuerySet[Alert]) -> QuerySet[Alert]:
    return found.select_related("rule").prefetch_related("notifications")
