"""Sends what alerts have to say: to the log, by e-mail, to webhooks. An outbox, so that nothing is said twice at once.

A notification is taken under a lease and sent outside of any transaction, several at a time; what does not arrive is
tried again later and later, and given up after `MAX_ATTEMPTS`, about an hour after the first. A process that is killed
while it sends leaves its lease to run out, and so a notification may arrive twice: its id stays the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Final

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction

from brokers import audit
from brokers.alerts import messages, webhook
from brokers.alerts.evaluation import channels
from brokers.alerts.messages import Notification
from brokers.alerts.webhook import Undelivered
from brokers.database import sync_cursor
from brokers.errors import InvalidValue, NotFound
from brokers.models import AlertRule
from brokers.sql import load

SQL = load("alerts")
log = logging.getLogger("waystation.alerts")

MAX_ATTEMPTS: Final = 8
"""Of one notification; a test is tried once."""
FIRST_DELAY_SECONDS: Final = 30.0
"""After the first attempt; doubled after each further one, so that the last is 64 minutes after the first."""
LEASE_SECONDS: Final = 180.0
"""How long a notification is kept from others while it is sent; longer than any e-mail takes to fail."""
AT_ONCE: Final = 8
"""Notifications sent side by side."""
_OF_A_CALL: Final = 200
"""Notifications of one call at most; the rest waits for the next one."""


class AlertRuleNotFound(NotFound):
    """No alert rule of that id."""

    code = "alert_rule_not_found"


def send_test(rule_id: int, actor: audit.Actor) -> list[str]:
    """Lets a test go to each channel of a rule, once; says which channels those are. One transaction, audited.

    Raises `AlertRuleNotFound`, and `InvalidValue` for a rule that has none.
    """
    with transaction.atomic():
        rule = AlertRule.objects.filter(pk=rule_id).first()
        if rule is None:
            raise AlertRuleNotFound(f"there is no alert rule {rule_id}")
        wanted = channels(rule)
        if not wanted:
            raise InvalidValue(f"the rule {rule.name} notifies nobody")
        with sync_cursor() as cursor:
            cursor.execute(SQL.notify_test, (rule.id, wanted))
        audit.record(actor, "test", "alert_rule", rule.name, {"channels": wanted})
    return wanted


def send_due(keep_going: Callable[[], bool] = lambda: True) -> int:
    """Sends the notifications that are due, a bounded number; says how many arrived.

    Takes and settles them in statements of their own, with no transaction open while it sends.
    """
    with sync_cursor() as cursor:
        cursor.execute(SQL.give_up, (MAX_ATTEMPTS,))
    arrived = 0
    for _ in range(_OF_A_CALL // AT_ONCE):
        taken = _take() if keep_going() else []
        if not taken:
            break
        for notification, fault in zip(taken, asyncio.run(_send_all(taken)), strict=True):
            _settle(notification, fault)
            arrived += fault is None
    return arrived


def _take() -> list[Notification]:
    wanted = {"most": MAX_ATTEMPTS, "limit": AT_ONCE, "lease": LEASE_SECONDS}
    with sync_cursor() as cursor:
        return [Notification(*row) for row in cursor.execute(SQL.take, wanted).fetchall()]


async def _send_all(taken: list[Notification]) -> list[BaseException | None]:
    """What went wrong with each: whatever an e-mail backend may raise must not keep the others back."""
    return await asyncio.gather(*map(_send, taken), return_exceptions=True)


def _settle(notification: Notification, fault: BaseException | None) -> None:
    if fault is None:
        with sync_cursor() as cursor:
            cursor.execute(SQL.delivered, (notification.id, notification.attempts))
        return
    is_last = notification.event == "test" or notification.attempts >= MAX_ATTEMPTS
    delay = None if is_last else FIRST_DELAY_SECONDS * 2 ** (notification.attempts - 1)
    error = str(fault) if isinstance(fault, Undelivered) else f"{type(fault).__name__}: {fault}"
    error = " ".join(error.replace("\0", " ").split())[:500]
    facts = {"notification": notification.id, "rule": notification.rule, "channel": notification.channel}
    log.warning("alert notification given up" if is_last else "alert notification failed", extra=facts | {"why": error})
    with sync_cursor() as cursor:
        about = {"id": notification.id, "attempts": notification.attempts}
        cursor.execute(SQL.failed, about | {"error": error, "delay": delay})


# -- channels -----------------------------------------------------------------------------------------------------


async def _send(notification: Notification) -> None:
    await _CHANNELS[notification.channel](notification)


async def _to_log(notification: Notification) -> None:
    level = logging.WARNING if notification.event == "raised" else logging.INFO
    log.log(
        level,
        "alert %s",
        notification.event,
        extra={
            "rule": notification.rule,
            "severity": notification.severity,
            "scope": notification.scope,
            "value": notification.value,
            "threshold": notification.threshold,
            "runbook_url": notification.runbook_url or None,
        },
    )


async def _by_email(notification: Notification) -> None:
    if settings.EMAIL_BACKEND == "django.core.mail.backends.smtp.EmailBackend" and not settings.EMAIL_HOST:
        raise Undelivered("no e-mail server is configured: set EMAIL_URL")
    await asyncio.to_thread(
        send_mail,
        messages.subject(notification),
        messages.text(notification),
        settings.DEFAULT_FROM_EMAIL,
        notification.recipients(),
    )


async def _to_webhook(notification: Notification) -> None:
    body = messages.body(notification)
    told = webhook.headers(notification.webhook_secret, body, notification.id, notification.event)
    await webhook.post(notification.webhook_url, body, told)


_CHANNELS: Final[dict[str, Callable[[Notification], Coroutine[Any, Any, None]]]] = {
    "log": _to_log,
    "email": _by_email,
    "webhook": _to_webhook,
}
