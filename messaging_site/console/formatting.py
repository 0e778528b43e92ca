"""How the console writes numbers, sizes, durations, times and text that came from outside.

Pure functions; `messaging_site.templatetags.console` makes them filters. Nothing here knows about requests.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

_PLAIN = re.compile(r"[^\x20-\x7e\n\t]")
_BLANK_LETTERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"})

_DAY_SECONDS = 86_400


def number(value: int) -> str:
    """A whole number with thousands separators: 41,220."""
    return f"{value:,}"


def compact(value: int) -> str:
    """A whole number for a tile: exact below a million, then 1.2 M."""
    for limit, unit in ((10**12, "tn"), (10**9, "bn"), (10**6, "M")):
        if value >= limit:
            return f"{value / limit:.1f} {unit}"
    return number(value)


def size(value: int) -> str:
    """Bytes in binary units with at most one decimal: 214 B, 1.4 MiB."""
    amount = float(value)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:,.1f} TiB"


def rate(value: float) -> str:
    """Something per second, without its unit: 0, 0.3, 842."""
    if value == 0:
        return "0"
    if value < 0.1:
        return "< 0.1"
    return f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def duration(milliseconds: int) -> str:
    """A span in its two largest units: 7 days, 1 day 12 h, 3 min 12 s, 1.24 s, 40 ms."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.2f}".rstrip("0").rstrip(".") + " s"
    minutes, seconds = divmod(milliseconds // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{days:,} day" + ("s" if days != 1 else "")] if days else []
    parts += [f"{amount} {unit}" for amount, unit in ((hours, "h"), (minutes, "min"), (seconds, "s")) if amount]
    return " ".join(parts[:2])


def ago(moment: datetime, now: datetime | None = None) -> str:
    """How long ago, for lists: just now, 4 min ago, 3 h ago, 12 days ago; the date beyond a month."""
    elapsed = (now or datetime.now(UTC)) - moment
    seconds = int(elapsed.total_seconds())
    if elapsed < timedelta(0) or elapsed > timedelta(days=31):
        return f"{moment.astimezone(UTC):%Y-%m-%d}"
    if seconds < 5:
        return "just now"
    for span, unit in ((_DAY_SECONDS, "day"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= span:
            amount = seconds // span
            plural = "s" if unit == "day" and amount != 1 else ""
            return f"{amount} {unit}{plural} ago"
    return "just now"


def moment(milliseconds: int) -> datetime | None:
    """The instant of Unix milliseconds in UTC; None outside the years 1 to 9999."""
    try:
        return datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def instant(value: datetime) -> str:
    """An instant to the millisecond in UTC: 2013-01-01 21:00:00.000."""
    value = value.astimezone(UTC)
    return f"{value:%Y-%m-%d %H:%M:%S}.{value.microsecond // 1000:03d}"


def is_invisible(character: str) -> bool:
    """Whether a character leaves no trace on the screen or moves what stands around it."""
    if character in " \n\t":
        return False
    if character in _BLANK_LETTERS or "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef":
        return True
    return unicodedata.category(character) in _INVISIBLE_CATEGORIES


def segments(text: str) -> Iterator[tuple[str, bool]]:
    """Cuts a text in pieces (piece, whether it is a mark): what is invisible becomes marks like <U+202E>."""
    begin = 0
    for match in _PLAIN.finditer(text):
        character = match.group()
        if not is_invisible(character):
            continue
        if match.start() > begin:
            yield text[begin : match.start()], False
        yield f"<U+{ord(character):04X}>", True
        begin = match.end()
    if begin < len(text):
        yield text[begin:], False


def visible(text: str) -> str:
    """The text in one line with marks for what cannot be seen, as plain text."""
    return "".join(piece for piece, _ in segments(text)).replace("\n", " ").replace("\t", " ")


def shortened(text: str, limit: int) -> str:
    """At most `limit` characters, the middle replaced by an ellipsis."""
    if len(text) <= limit:
        return text
    head = (limit - 1) * 2 // 3
    return f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"
