"""The forms of a reset: what to reset, where to, and why."""

from __future__ import annotations

import re
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError

from brokers.groups import ResetTo
from brokers.settings import MAX_PARTITIONS, MAX_TIMESTAMP_MS
from messaging_site.console.fields import Form, InstantField

_PLACES: Final = (
    ("earliest", "The earliest record"),
    ("latest", "The end, past the newest record"),
    ("timestamp", "The first record of a time"),
    ("offset", "An offset"),
    ("shift", "Forward or back by a number"),
)
_LARGEST: Final = 2**63 - 1
_RANGE = re.compile(r"([0-9]{1,9})(?:\s*-\s*([0-9]{1,9}))?", re.ASCII)


class PartitionsField(forms.CharField):
    """Numbers of partitions, `0, 2-5`; cleans to a list in order, or None when left empty."""

    def clean(self, value: Any) -> Any:
        """Raises ValidationError for what is no such list."""
        text = super().clean(value)
        if not text:
            return None
        numbers: set[int] = set()
        for part in text.split(","):
            match = _RANGE.fullmatch(part.strip())
            if match is None:
                raise ValidationError("Give numbers and ranges with commas between them, for example 0, 2-5.")
            first, last = int(match[1]), int(match[2] or match[1])
            if last < first or last >= MAX_PARTITIONS:
                raise ValidationError(f"Partitions are 0 to {MAX_PARTITIONS - 1}, the lower number first.")
            numbers.update(range(first, last + 1))
        return sorted(numbers)


class ResetForm(Form):
    """What to reset and where to; lives in the page's address."""

    topic = forms.ChoiceField()
    partitions = PartitionsField(
        required=False, max_length=400, help_text="Empty: all. Else numbers and ranges, for example 0, 2-5."
    )
    to = forms.ChoiceField(label="Go on from", choices=_PLACES)
    time = InstantField(label="Time (UTC)")
    offset = forms.IntegerField(min_value=0, max_value=_LARGEST, required=False)
    shift = forms.IntegerField(
        label="Records",
        min_value=-_LARGEST,
        max_value=_LARGEST,
        required=False,
        help_text="Negative: back, to read again. Positive: forward, to skip.",
    )

    def __init__(self, topics: list[str], data: Any = None) -> None:
        super().__init__(data)
        chosen = self.fields["topic"]
        assert isinstance(chosen, forms.ChoiceField)
        chosen.choices = [(topic, topic) for topic in topics]

    def clean(self) -> dict[str, Any]:
        """Asks for the time, offset or number where they are needed."""
        cleaned = super().clean() or {}
        place = cleaned.get("to")
        for name, wanted in (("time", "timestamp"), ("offset", "offset"), ("shift", "shift")):
            if place == wanted and cleaned.get(name) is None and name not in self.errors:
                self.add_error(name, "Give a date and time." if name == "time" else "Give a number.")
        if (cleaned.get("time") or 0) > MAX_TIMESTAMP_MS:
            self.add_error("time", "Give a time before the year 10000.")
        return cleaned

    def place(self) -> ResetTo:
        """Where the reset leads."""
        place = self.cleaned_data["to"]
        amount = {"timestamp": "time", "offset": "offset", "shift": "shift"}.get(place)
        return ResetTo(place, self.cleaned_data[amount] if amount else 0)

    def call(self) -> dict[str, Any]:
        """The body of the same request over REST, as a dry run."""
        place, amount = self.place()
        to: Any = place if place in ("earliest", "latest") else {place: amount}
        body: dict[str, Any] = {"topic": self.cleaned_data["topic"], "to": to, "dry_run": True}
        if self.cleaned_data["partitions"] is not None:
            body["partitions"] = self.cleaned_data["partitions"]
        return body


class ReasonForm(Form):
    """Why offsets are reset; the audit record keeps it."""

    reason = forms.CharField(
        max_length=500,
        help_text="Kept in the audit record.",
        widget=forms.TextInput(attrs={"spellcheck": "true"}),
        error_messages={"required": "Say why. Nothing was set."},
    )
