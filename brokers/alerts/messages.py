"""What a notification says, for each channel: text for people, JSON for programs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

_MEASURED = {
    "depth": "open dead letters",
    "growth": "new dead letters in a minute",
    "oldest_age": "seconds since the oldest open dead letter failed",
    "group_lag": "records not committed",
    "queue_depth": "ready messages",
    "queue_age": "seconds since the oldest ready message was published",
}


@dataclass(frozen=True, slots=True)
class Notification:
    """One notification on its way, with all that its message needs. Only a test has no scope."""

    id: int
    event: str
    channel: str
    attempts: int
    """This one included."""
    value: float | None
    created_at: datetime
    rule: str
    metric: str
    severity: str
    threshold: float
    for_seconds: int
    emails: str
    webhook_url: str
    webhook_secret: str
    runbook_url: str
    scope: str | None
    began_at: datetime | None
    raised_at: datetime | None
    resolved_at: datetime | None

    def __repr__(self) -> str:
        return f"Notification({self.id}, {self.event!r}, {self.channel!r})"  # never the secret

    def recipients(self) -> list[str]:
        """The addresses that an e-mail goes to."""
        return [part.strip() for part in self.emails.split(",") if part.strip()]


def subject(notification: Notification) -> str:
    """One line: `[critical] raised: too many failures, topic orders`."""
    scope = f", {notification.scope}" if notification.scope else ""
    return " ".join(f"[{notification.severity}] {notification.event}: {notification.rule}{scope}".split())


def text(notification: Notification) -> str:
    """The body of an e-mail."""
    measured = _MEASURED.get(notification.metric, notification.metric)
    lines = [f"Rule: {notification.rule}", f"Raised at {notification.threshold:g} {measured}"]
    if notification.for_seconds:
        lines[-1] += f" for {notification.for_seconds} s"
    if notification.event == "test":
        lines.insert(0, "This is a test of the rule's channels; nothing is wrong.\n")
    else:
        lines += [f"About: {notification.scope}", f"Figure: {notification.value or 0:g} {measured}"]
        for title, moment in (
            ("Began", notification.began_at),
            ("Raised", notification.raised_at),
            ("Resolved", notification.resolved_at if notification.event == "resolved" else None),
        ):
            if moment is not None:
                lines.append(f"{title}: {moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
    if notification.runbook_url:
        lines.append(f"Runbook: {notification.runbook_url}")
    return "\n".join(lines) + "\n"


def body(notification: Notification) -> bytes:
    """The JSON of a webhook call; the same for each attempt but for `attempt`."""
    told: dict[str, Any] = {
        "id": str(notification.id),
        "event": notification.event,
        "attempt": notification.attempts,
        "rule": notification.rule,
        "severity": notification.severity,
        "metric": notification.metric,
        "threshold": notification.threshold,
        "for_seconds": notification.for_seconds,
        "scope": notification.scope,
        "value": notification.value,
        "began_at": _instant(notification.began_at),
        "raised_at": _instant(notification.raised_at),
        "resolved_at": _instant(notification.resolved_at if notification.event == "resolved" else None),
        "runbook_url": notification.runbook_url or None,
    }
    return msgspec.json.encode(told)


def _instant(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
