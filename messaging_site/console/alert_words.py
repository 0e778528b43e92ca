"""The console's words for alerts: figures with their units, what a rule covers and waits for, states. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

from brokers.alerts.figures import OF_QUEUES
from brokers.models import Alert, AlertNotification, AlertRule
from messaging_site.console import formatting
from messaging_site.console.failure_words import Word

CHANNELS: Final = {"log": "Log", "email": "E-mail", "webhook": "Webhook"}
STALE: Final = timedelta(seconds=60)
"""A rule that was looked at so long ago is looked at by nobody."""


def figure(metric: str, value: float) -> str:
    """A figure in the unit of its metric: 1,204 open, 12 /min, 3 h 5 min, 9,000 records, 40 ready."""
    if metric in ("oldest_age", "queue_age"):
        return formatting.duration(int(value) * 1000)
    whole = formatting.number(round(value)) if value == round(value) else f"{value:,g}"
    return whole + {"depth": " open", "growth": " /min", "group_lag": " records", "queue_depth": " ready"}.get(
        metric, ""
    )


def condition(rule: AlertRule) -> str:
    """What a rule waits for: 100 open or more for 1 min."""
    text = f"{figure(rule.metric, rule.threshold)} or more"
    return f"{text} for {formatting.duration(rule.for_seconds * 1000)}" if rule.for_seconds else text


def covers(rule: AlertRule) -> str:
    """Which sources and consumer groups a rule looks at."""
    if rule.metric in OF_QUEUES:
        return rule.source or "every queue"
    source = rule.source or "every source"
    if rule.group_name:
        return f"{source}, group {rule.group_name}"
    return f"{source}, every group" if rule.metric == "group_lag" else source


def rule_state(rule: AlertRule, firing: int, pending: int, now: datetime) -> Word:
    """What a rule is at: a rule that nobody evaluates says so rather than that all is quiet."""
    if not rule.enabled:
        return Word("mute", "mute", "Off")
    if rule.error:
        return Word("cross", "bad", "Cannot be evaluated")
    if rule.evaluated_at is None:
        return Word("clock", "mute", "Not looked at yet")
    if now - rule.evaluated_at > STALE:
        return Word("clock", "warn", "Not looked at")
    if firing:
        return Word("alert", "bad" if rule.severity == "critical" else "warn", f"{firing} firing")
    return Word("clock", "info", f"{pending} pending") if pending else Word("ok", "ok", "Quiet")


def alert_state(alert: Alert) -> Word:
    """What an alert is at."""
    if alert.resolved_at is not None:
        return Word("ok", "ok", "Resolved")
    if alert.raised_at is None:
        return Word("clock", "info", "Pending")
    is_critical = alert.rule.severity == "critical"
    return Word("alert", "bad", "Firing, critical") if is_critical else Word("alert", "warn", "Firing")


def notification_state(note: AlertNotification) -> Word:
    """How far a notification has come."""
    if note.delivered_at is not None:
        return Word("check", "ok", "Delivered")
    if note.given_up_at is not None:
        return Word("cross", "bad", "Given up")
    if note.attempts:
        return Word("clock", "warn", f"Tried {note.attempts} time{'' if note.attempts == 1 else 's'}")
    return Word("clock", "info", "Waiting")


def told(notes: list[AlertNotification]) -> list[Word]:
    """Each channel of an alert with its newest notification's state."""
    newest = {note.channel: note for note in sorted(notes, key=lambda note: note.pk)}
    words = ((channel, notification_state(newest[channel])) for channel in CHANNELS if channel in newest)
    return [Word(word.icon, word.tone, CHANNELS[channel]) for channel, word in words]


def web_host(url: str) -> str:
    """The host of an address, whose path may be a secret."""
    return urlsplit(url).hostname or ""


def channels(rule: AlertRule) -> list[str]:
    """Where a rule's notifications go: log, 2 addresses, hooks.example.org."""
    addresses = len([part for part in rule.emails.split(",") if part.strip()])
    found = ["log"] if rule.to_log else []
    if addresses:
        found.append(f"{addresses} address{'' if addresses == 1 else 'es'}")
    return [*found, web_host(rule.webhook_url)] if rule.webhook_url else found
