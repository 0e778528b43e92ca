"""The console's words for queues: their states, those of consumers, and settings as a person reads them. Pure."""

from __future__ import annotations

from typing import Any, Final

from messaging_site.console import formatting
from messaging_site.console.failure_words import Word

STATES: Final = {
    "active": Word("ok", "ok", "Active"),
    "growing": Word("warn", "warn", "Growing"),
    "idle": Word("mute", "mute", "Idle"),
    "paused": Word("bars", "warn", "Paused"),
    "waiting": Word("clock", "warn", "No consumer"),
}
MEANINGS: Final = {
    "active": "Messages are taken.",
    "growing": "More messages came in the last five minutes than were taken.",
    "idle": "No message waits, and none was taken in the last minute.",
    "paused": "Messages are taken in and none is handed out until it is resumed.",
    "waiting": "Messages wait, and nobody takes any.",
}
FILTERS: Final = (
    ("", "All"),
    ("waiting", "Not empty"),
    ("unconsumed", "No consumers"),
    ("growing", "Growing"),
    ("paused", "Paused"),
)

ACTIVE: Final = Word("ok", "ok", "Active")
STANDING_BY: Final = Word("clock", "info", "Stands by")
LATE: Final = Word("cross", "bad", "Not heard of")

READY: Final = Word("ring", "info", "Ready")
DELAYED: Final = Word("clock", "mute", "Delayed")
HELD: Final = Word("info", "warn", "Unacknowledged")

OVERFLOWS: Final = {
    "drop-head": "the oldest is given up (drop-head)",
    "reject-publish": "publishing is refused (reject-publish)",
}
DEAD_LETTERS: Final = {
    "unrouted": "of all that reach no dead-letter queue",
    "none": "only of what a consumer rejects",
}

_LABELS: Final = {
    "message_ttl_ms": "Messages expire after",
    "expires_ms": "Deleted unused after",
    "max_length": "Longest",
    "overflow": "When it is full",
    "dead_letter_exchange": "Dead-letter exchange",
    "dead_letter_routing_key": "Dead-letter routing key",
    "delivery_limit": "Delivery limit",
}
_NOTHING_SET: Final = {
    "message_ttl_ms": "never",
    "expires_ms": "never",
    "max_length": "no limit",
    "dead_letter_exchange": "none",
    "dead_letter_routing_key": "the message's own",
}


def setting(name: str, value: Any) -> str | None:
    """A setting of a queue or policy in words; None where nothing is set."""
    if value is None:
        return None
    if name in ("message_ttl_ms", "expires_ms"):
        return formatting.duration(value) if value else "at once, unless taken"
    if name == "max_length":
        return f"{value:,} ready message{'' if value == 1 else 's'}"
    if name == "overflow":
        return OVERFLOWS[value]
    if name == "dead_letter_exchange":
        return value or "the default exchange"
    if name == "delivery_limit":
        return "none" if value < 0 else f"{value:,} failed deliver{'y' if value == 1 else 'ies'}"
    return str(value)


def limits(own: Any, policy: Any, effective: Any) -> list[tuple[str, str | None, str | None, str]]:
    """Each setting that a policy may set: its label, as declared, of the policy, and what holds."""
    return [
        (
            label,
            setting(name, getattr(own, name)),
            None if policy is None else setting(name, getattr(policy, name)),
            setting(name, getattr(effective, name)) or _NOTHING_SET[name],
        )
        for name, label in _LABELS.items()
    ]


def summary(settings: Any) -> list[str]:
    """What a policy sets, a few words each."""
    found = [(label, setting(name, getattr(settings, name))) for name, label in _LABELS.items()]
    return [f"{label}: {text}" for label, text in found if text is not None]
