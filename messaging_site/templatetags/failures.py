"""Template tags of the dead letters' and replays' pages: their states, times and sparklines."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from django import template
from django.utils.html import format_html
from django.utils.safestring import SafeString

from messaging_site.console import charts, failure_words, formatting

register = template.Library()

register.filter("why", failure_words.why)
register.filter("short_class", failure_words.short_class)
register.filter("in_words", failure_words.in_words)


@register.inclusion_tag("console/partials/word.html")
def letter_state(state: str, replays: int = 0) -> dict[str, object]:
    """A dead letter's state as shape, word and colour."""
    return {"word": failure_words.letter_state(state, replays)}


@register.inclusion_tag("console/partials/word.html")
def replay_state(state: str, failed_again: int = 0) -> dict[str, object]:
    """A replay's state as shape, word and colour."""
    return {"word": failure_words.replay_state(state, failed_again)}


@register.inclusion_tag("console/partials/word.html")
def outcome(name: str, sent: bool = False) -> dict[str, object]:
    """An item's outcome as shape, word and colour; one that waits and was sent is under way."""
    return {"word": failure_words.OUTCOMES["sent" if name == "waiting" and sent else name]}


@register.inclusion_tag("console/partials/failure_spark.html")
def failure_spark(values: Sequence[int], name: str) -> dict[str, object]:
    """A sparkline of failures over the last day; `name` says of what, for its title."""
    # The chart leaves its last value out, because a minute that runs on would look like a drop.
    return {"points": charts.spark_points([*values, 0]), "total": sum(values), "name": name}


@register.filter
def instant(value: datetime) -> SafeString:
    """The exact instant in a <time>, to the millisecond."""
    return format_html('<time datetime="{}">{}</time>', value.isoformat(), formatting.instant(value))


@register.filter
def clock(value: datetime) -> SafeString:
    """The time of day in a <time> whose tooltip is the exact instant."""
    text = formatting.instant(value)
    return format_html('<time datetime="{}" title="{} UTC">{}</time>', value.isoformat(), text, text[11:])


@register.filter
def until(value: datetime) -> str:
    """How long until then: 9 s, 14 min 3 s; 0 s when it has come."""
    seconds = int((value - datetime.now(value.tzinfo)).total_seconds())
    return formatting.duration(max(0, seconds) * 1000) if seconds > 0 else "0 s"


@register.filter
def due_in(value: datetime) -> str:
    """When that is: in 14 min 3 s; now when it has come."""
    left = until(value)
    return "now" if left == "0 s" else f"in {left}"


@register.filter
def took(milliseconds: float | None) -> str:
    """A duration, or a dash when it is not known."""
    if milliseconds is None:
        return "—"
    return f"{milliseconds:.1f} ms" if milliseconds < 10 else formatting.duration(round(milliseconds))
