"""Examples of what a replay sends: each dead letter's value before and after the change, laid out to be compared."""

from __future__ import annotations

from dataclasses import dataclass

from brokers.record import JSON, Record
from brokers.selectors.dead_letters import Body
from messaging_site.console import json_text, payload, text_diff
from messaging_site.console.text_diff import Line

_COMPARED = 3
_COMPARED_BYTES = 32 * 1024
"""Longer values are shown by their beginning only."""


@dataclass(frozen=True, slots=True)
class ShownSample:
    """One example. `lines` compare the values where they differ; `preview` is the value's beginning on one line."""

    id: int
    hidden: str
    key: str | None
    preview: str | None
    lines: list[Line]
    is_changed: bool


def shown(number: int, before: Body, after: Body, hidden: str) -> ShownSample:
    """The example of one dead letter; nothing of its contents when `hidden` names a missing permission."""
    is_changed = (before.value, before.encoding) != (after.value, after.encoding)
    if hidden:
        return ShownSample(number, hidden, None, None, [], is_changed)
    record = Record(0, after.key, after.value, after.encoding, after.headers)
    comparison = text_diff.compare(_text(before), _text(after)) if is_changed else None
    lines = comparison.lines if comparison is not None and comparison.differs else []
    return ShownSample(number, "", payload.key_text(record), payload.preview(record), lines, is_changed)


def shortest(samples: list[ShownSample]) -> list[ShownSample]:
    """The examples to be drawn: comparisons take more room, so there are fewer of them."""
    return samples[:_COMPARED] if any(sample.lines for sample in samples) else samples


def _text(body: Body) -> str:
    if body.value is None:
        return ""
    text = body.value[:_COMPARED_BYTES].decode("utf-8", "replace")
    return json_text.formatted(text) if body.encoding == JSON and len(body.value) <= _COMPARED_BYTES else text
