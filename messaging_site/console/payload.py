"""What the console shows of a record's key and value: never more than a bounded part, always as text.

Owns the bounds and the three forms (tree, raw text, hex) of the payload viewer. Values come from
anybody who may publish; escaping is the templates' autoescape, and `formatting` marks characters that
cannot be seen.
"""

from __future__ import annotations

from dataclasses import dataclass

from brokers.record import JSON, Record
from messaging_site.console import formatting, json_text

SHOWN_BYTES = 64 * 1024
"""How much of a value is shown as a tree or as text."""
SHOWN_HEX_BYTES = 16 * 1024
"""How much of a value is shown as hex: a line of hex is five times its bytes."""
NUMBERED_LINES = 4000
"""Texts with more lines are shown without line numbers."""
PREVIEW_CHARACTERS = 200

VIEWS = ("tree", "raw", "hex")


@dataclass(frozen=True, slots=True)
class Payload:
    """A record's value, ready to be drawn in one of its views."""

    view: str
    views: tuple[str, ...]
    kind: str
    """What the value is, in words: "JSON", "Text", "Bytes", "Tombstone"."""
    size: int
    hidden_bytes: int
    """How many bytes at the end are not shown."""
    text: str = ""
    lines: tuple[str, ...] = ()
    tree: json_text.Tree | None = None
    hex_rows: tuple[tuple[str, str, str], ...] = ()


def key_text(record: Record) -> str | None:
    """The key as text; bytes that are not UTF-8 as hex with a leading 0x; None without a key."""
    if record.key_bytes is None:
        return None
    try:
        return record.key_bytes.decode()
    except UnicodeDecodeError:
        return f"0x{record.key_bytes.hex()}"


def preview(record: Record) -> str | None:
    """The beginning of the value on one line, for lists; None for a tombstone."""
    value = record.value_bytes
    if value is None:
        return None
    head = value[: PREVIEW_CHARACTERS * 4]
    text, _ = _text_of(head, is_whole=len(head) == len(value))
    if text is None:
        return f"0x{value[:48].hex(' ')}"
    return formatting.visible(text[:PREVIEW_CHARACTERS])


def payload(record: Record, view: str | None) -> Payload:
    """The record's value in `view`, or in the first view that suits it when that is None or does not."""
    value = record.value_bytes
    if value is None:
        return Payload("", (), "Tombstone", 0, 0)
    text, shown = _text_of(value[:SHOWN_BYTES], is_whole=len(value) <= SHOWN_BYTES)
    kind = "JSON" if record.encoding == JSON else "Text" if text is not None else "Bytes"
    views = _views(record, text)
    chosen = view if view in views else views[0]
    if chosen == "hex" or text is None:
        rows = _hex_rows(value[:SHOWN_HEX_BYTES])
        return Payload("hex", views, kind, len(value), max(0, len(value) - SHOWN_HEX_BYTES), hex_rows=rows)
    hidden = len(value) - shown
    if chosen == "tree":
        return Payload("tree", views, kind, len(value), hidden, tree=json_text.tree(text))
    lines = tuple(text.split("\n")) if text.count("\n") < NUMBERED_LINES else ()
    return Payload("raw", views, kind, len(value), hidden, text=text, lines=lines)


def _views(record: Record, text: str | None) -> tuple[str, ...]:
    if text is None:
        return ("hex",)
    is_container = record.encoding == JSON and text.lstrip().startswith(("{", "["))
    return VIEWS if is_container else ("raw", "hex")


def _text_of(head: bytes, *, is_whole: bool) -> tuple[str | None, int]:
    """The text of a value's first bytes and how many of them it took; None when they are not UTF-8."""
    try:
        return head.decode(), len(head)
    except UnicodeDecodeError as error:
        # A cut may fall inside a character: up to three bytes at the end are then left out.
        if is_whole or len(head) - error.start > 3 or error.reason != "unexpected end of data":
            return None, 0
        return head[: error.start].decode(), error.start


def _hex_rows(data: bytes) -> tuple[tuple[str, str, str], ...]:
    rows = []
    for begin in range(0, len(data), 16):
        chunk = data[begin : begin + 16]
        hexadecimal = f"{chunk[:8].hex(' '):<23}  {chunk[8:].hex(' '):<23}"
        letters = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in chunk)
        rows.append((f"{begin:08x}", hexadecimal, letters))
    return tuple(rows)
