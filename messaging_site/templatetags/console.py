"""Template tags and filters of the console: formatting, and markup for text that came from outside.

`shown` is the one filter that makes markup from such text; it escapes every piece.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from django import template
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from messaging_site.console import charts, formatting

register = template.Library()

register.filter("number", formatting.number)
register.filter("compact", formatting.compact)
register.filter("size", formatting.size)
register.filter("rate", formatting.rate)
register.filter("duration", formatting.duration)
register.filter("visible", formatting.visible)
register.filter("shortened", formatting.shortened)


@register.filter
def shown(text: str) -> SafeString:
    """Text from outside, escaped, its invisible characters drawn as <U+202E>."""
    return format_html_join("", "{}", ((_piece(piece, mark),) for piece, mark in formatting.segments(text)))


def _piece(piece: str, is_mark: bool) -> SafeString | str:
    return format_html('<span class="invisible">{}</span>', piece) if is_mark else piece


@register.filter
def ago(value: datetime) -> SafeString:
    """How long ago in a <time> whose tooltip is the exact instant."""
    return format_html(
        '<time datetime="{}" title="{} UTC">{}</time>',
        value.isoformat(),
        formatting.instant(value),
        formatting.ago(value),
    )


@register.filter
def visible_json(value: object) -> str:
    """A small JSON value in one line."""
    return formatting.visible(json.dumps(value, ensure_ascii=False))


@register.filter
def span(milliseconds: int) -> str:
    """A span of time that changes while it is looked at: 1.2 s, 34 s, 3 min 12 s."""
    step = 100 if milliseconds < 10_000 else 1000
    return formatting.duration(max(milliseconds // step * step, 0)) if milliseconds >= step else "0 s"


@register.filter
def age(value: datetime) -> str:
    """How long it is since then: 1.2 s, 3 min 12 s, 4 days 2 h."""
    return span(round((datetime.now(UTC) - value).total_seconds() * 1000))


@register.filter
def ago_ms(milliseconds: int) -> str:
    """How long ago Unix milliseconds were; empty for what is not of the last month."""
    value = formatting.moment(milliseconds)
    text = "" if value is None else formatting.ago(value)
    return text if text.endswith(("ago", "now")) else ""


@register.filter
def instant_ms(milliseconds: int) -> str:
    """The exact instant of Unix milliseconds in UTC."""
    value = formatting.moment(milliseconds)
    return str(milliseconds) if value is None else formatting.instant(value)


@register.inclusion_tag("console/partials/spark.html")
def spark(values: Sequence[int], name: str, things: str = "records") -> dict[str, object]:
    """A sparkline of records per minute, or of other things; `name` says of what, for its title."""
    return {"points": charts.spark_points(values), "total": sum(values), "name": name, "things": things}


@register.inclusion_tag("console/partials/status.html")
def status(tone: str, word: str) -> dict[str, object]:
    """A state as shape, word and colour; `tone` is ok, warn, bad, info or mute."""
    return {"tone": tone, "word": word}


@register.inclusion_tag("console/partials/icon.html")
def icon(name: str) -> dict[str, object]:
    """One of the line icons of console/partials/icon.html, hidden from assistive technology."""
    return {"name": name}
