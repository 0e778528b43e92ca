"""The forms of a replay: where it leads, what it changes, how carefully it goes, and why."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.utils.text import capfirst

from brokers.errors import BrokerError, InvalidValue, Malformed
from brokers.names import MAX_LENGTH
from brokers.replays.request import (
    MAX_CANARY,
    MAX_RATE,
    MAX_REASON,
    MAX_ROUTING_KEY,
    MIN_RATE,
    Canary,
    Pace,
    Target,
)
from messaging_site.console.fields import Form

BULK: Final = 100
"""Larger replays begin with a canary and stop by themselves unless told otherwise."""
FIELDS: Final = (
    "to",
    "topic",
    "queue",
    "exchange",
    "routing_key",
    "merge_patch",
    "rate_per_second",
    "canary",
    "count",
    "min_success",
    "stop",
    "reason",
)
_TARGETS = (
    ("consumer", "Only the consumer that failed"),
    ("topic", "A topic, published anew for all its groups"),
    ("queue", "A queue, published anew"),
    ("exchange", "An exchange, published anew"),
)
_NAMED = {"topic": "Name the topic.", "queue": "Name the queue."}


class PlanForm(Form):
    """What to plan. Shares are percentages here and fractions below."""

    to = forms.ChoiceField(label="Goes to", choices=_TARGETS, initial="consumer")
    topic = forms.CharField(required=False, max_length=MAX_LENGTH, widget=forms.TextInput(attrs={"class": "code"}))
    queue = forms.CharField(required=False, max_length=MAX_LENGTH, widget=forms.TextInput(attrs={"class": "code"}))
    exchange = forms.CharField(
        required=False,
        max_length=MAX_LENGTH,
        widget=forms.TextInput(attrs={"class": "code"}),
        help_text="Empty: the default exchange, which leads to the queue that the routing key names.",
    )
    routing_key = forms.CharField(
        required=False,
        strip=False,
        max_length=MAX_ROUTING_KEY,
        widget=forms.TextInput(attrs={"class": "code"}),
    )
    merge_patch = forms.CharField(
        label="Change each value by a merge patch",
        required=False,
        widget=forms.Textarea(
            attrs={"rows": 3, "class": "code", "spellcheck": "false", "placeholder": '{"cancelled": true}'}
        ),
        help_text="A JSON object; its members replace those of the value, null removes one (RFC 7396).",
    )
    rate_per_second = forms.FloatField(
        label="At most per second",
        required=False,
        min_value=MIN_RATE,
        max_value=MAX_RATE,
        help_text="Empty: as fast as the consumer takes them.",
    )
    canary = forms.BooleanField(label="Begin with a canary", required=False)
    count = forms.IntegerField(label="First", required=False, min_value=1, max_value=MAX_CANARY, initial=10)
    min_success = forms.FloatField(
        label="Then at least % must have succeeded", required=False, min_value=0, max_value=100, initial=90
    )
    stop = forms.BooleanField(label="Stop by itself", required=False)
    stop_when_failed_again = forms.FloatField(
        label="When more than % of the last 50 failed again", required=False, min_value=0, max_value=100, initial=20
    )
    reason = forms.CharField(
        max_length=MAX_REASON,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Stands in the audit record and on the replay.",
    )

    def __init__(self, data: Any = None, initial: dict[str, Any] | None = None, *, reason_required: bool) -> None:
        super().__init__(data, initial=initial)
        self.fields["reason"].required = reason_required

    def clean(self) -> dict[str, Any]:
        """Asks for what a choice needs."""
        cleaned = super().clean() or {}
        needed = [(name, cleaned.get("to") == name, text) for name, text in _NAMED.items()]
        needed += [(name, cleaned.get("canary"), "Give a number.") for name in ("count", "min_success")]
        needed += [("stop_when_failed_again", cleaned.get("stop"), "Give a percentage.")]
        for name, is_needed, text in needed:
            if is_needed and cleaned.get(name) in (None, "") and name not in self.errors:
                self.add_error(name, text)
        return cleaned

    def target(self) -> Target | None:
        """Where it leads; None is back to the consumer that failed."""
        cleaned = self.cleaned_data
        match cleaned["to"]:
            case "topic":
                return Target(topic=cleaned["topic"])
            case "queue":
                return Target(queue=cleaned["queue"])
            case "exchange":
                return Target(exchange=cleaned["exchange"], routing_key=cleaned["routing_key"])
        return None

    def patch(self) -> bytes | None:
        """The merge patch as JSON text, if there is one."""
        text = str(self.cleaned_data["merge_patch"]).strip()
        return text.encode("utf-8", "replace") if text else None

    def pace(self) -> Pace:
        """How carefully it goes."""
        cleaned = self.cleaned_data
        canary = Canary(cleaned["count"], cleaned["min_success"] / 100) if cleaned["canary"] else None
        return Pace(
            rate_per_second=cleaned["rate_per_second"],
            canary=canary,
            stop_when_failed_again=cleaned["stop_when_failed_again"] / 100 if cleaned["stop"] else None,
        )

    def blame(self, error: BrokerError) -> None:
        """Shows a refusal of the plan where it belongs."""
        if isinstance(error, Malformed):
            self.add_error("merge_patch", f"{capfirst(error.detail.replace('the body', 'the merge patch', 1))}.")
        elif isinstance(error, InvalidValue):
            self.explain(error)
        else:
            to = self.cleaned_data.get("to")
            self.add_error(to if to in ("topic", "queue", "exchange") else None, f"{capfirst(error.detail)}.")


class RateForm(Form):
    """A new rate for a replay that is under way."""

    rate_per_second = forms.FloatField(label="Rate", required=False, min_value=MIN_RATE, max_value=MAX_RATE)
