"""Looks at every alert rule: what is at its threshold becomes pending, then is raised once, and resolved once.

Each rule is one short transaction that locks the rule's row, so that however many processes look, one at a time does;
a rule that fails says so in its row and stops no other. Notifications are rows written in the same transaction, which
`notifications` sends. Called by housekeeping.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import django.db
from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now

from brokers.alerts.figures import figures
from brokers.database import sync_cursor
from brokers.errors import BrokerError, Unavailable
from brokers.models import Alert, AlertRule
from brokers.sql import load

SQL = load("alerts")
log = logging.getLogger("waystation.alerts")

TIME_LIMIT_MS = 5000
"""How long one statement of an evaluation may take."""
KEPT_DAYS = 90
"""How long alerts are kept after they were resolved."""
_FORGOTTEN_AT_ONCE = 5000


def evaluate(keep_going: Callable[[], bool] = lambda: True) -> int:
    """Evaluates all rules; says how many alerts were raised or resolved. A transaction for each rule.

    Rules that are switched off have what they raised resolved. Raises `Unavailable` when the connection is lost.
    """
    unresolved = Alert.objects.filter(rule=OuterRef("pk"), resolved_at__isnull=True)
    changes = 0
    for number in AlertRule.objects.filter(Q(enabled=True) | Exists(unresolved)).order_by("id").values_list("id"):
        if not keep_going():
            break
        try:
            changes += _evaluate(number[0])
        except (BrokerError, django.db.DatabaseError) as error:
            if connection.connection is None or connection.connection.closed:
                raise Unavailable(f"the connection was lost: {error}") from error
            log.warning("alert rule failed", extra={"rule": number[0], "error": str(error)})
            AlertRule.objects.filter(pk=number[0]).update(error=str(error)[:500], evaluated_at=Now())
    return changes


def channels(rule: AlertRule) -> list[str]:
    """Where a rule's notifications go: of `log`, `email` and `webhook`."""
    wanted = {"log": rule.to_log, "email": bool(rule.emails.strip()), "webhook": bool(rule.webhook_url)}
    return [channel for channel, is_wanted in wanted.items() if is_wanted]


def _evaluate(number: int) -> int:
    with transaction.atomic():
        rule = AlertRule.objects.select_for_update(skip_locked=True, no_key=True).filter(pk=number).first()
        if rule is None:  # deleted, being changed, or another process is at it
            return 0
        with sync_cursor() as cursor:
            cursor.execute(SQL.limit_time, (str(TIME_LIMIT_MS),))
            watched = [row[0] for row in cursor.execute(SQL.unresolved, (rule.id,)).fetchall()]
        found = figures(rule, watched) if rule.enabled else {}
        changes = _apply(rule, watched, found)
        AlertRule.objects.filter(pk=rule.pk).update(
            evaluated_at=Now(), highest=max(found.values(), default=None), error=""
        )
    return changes


def _apply(rule: AlertRule, watched: list[str], found: dict[str, float]) -> int:
    over = {scope: value for scope, value in found.items() if value >= rule.threshold and value > 0}
    changes = 0
    with sync_cursor() as cursor:
        about = {"rule": rule.id, "over": list(over), "channels": channels(rule)}
        if over:
            cursor.execute(SQL.begin, (rule.id, list(over), list(over.values())))
            row = cursor.execute(SQL.raise_lasting, about | {"for_seconds": rule.for_seconds}).fetchone()
            changes += row[0] if row else 0
        if not over.keys() >= set(watched):
            below = {scope: value for scope, value in found.items() if scope in watched}
            figures_now = {"below": list(below), "values": list(below.values())}
            row = cursor.execute(SQL.resolve, about | figures_now).fetchone()
            changes += row[0] if row else 0
            cursor.execute(SQL.forget_pending, (rule.id, list(over)))
    return changes


def purge() -> int:
    """Forgets alerts, with their notifications, 90 days after they were resolved, a bounded number; says how many."""
    with sync_cursor() as cursor:
        cursor.execute(SQL.forget_notifications, {"days": KEPT_DAYS, "many": _FORGOTTEN_AT_ONCE})
        return cursor.execute(SQL.forget_alerts, (KEPT_DAYS, _FORGOTTEN_AT_ONCE)).rowcount
