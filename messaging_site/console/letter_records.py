"""A dead letter's payload as the record that it was, for the console's payload viewer; and what it is called."""

from __future__ import annotations

from brokers.record import Record
from brokers.selectors.dead_letters import Body, DeadLetter
from messaging_site.console import formatting


def as_record(letter: DeadLetter, body: Body | None = None) -> Record:
    """The current revision's contents, or those given, as a record."""
    contents = letter.body if body is None else body
    return Record(
        letter.timestamp or 0,
        contents.key,
        contents.value,
        contents.encoding,
        contents.headers,
        -1 if letter.offset is None else letter.offset,
        -1 if letter.partition is None else letter.partition,
        letter.source,
    )


def position(letter: DeadLetter) -> str:
    """Where it came from, as people write it: `departures-2 @ 4,118`; a message by its id."""
    if letter.source_kind == "topic" and letter.offset is not None:
        return f"{formatting.shortened(letter.source, 40)}-{letter.partition} @ {letter.offset:,}"
    return letter.message_id or f"{letter.source} {letter.id}"
