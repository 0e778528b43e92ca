"""A dead letter's payload as a record, for the console's payload viewer; what it is called, and how a message died."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from brokers.record import JSON, Record
from brokers.selectors.dead_letters import Body, DeadLetter
from messaging_site.console import formatting


def as_record(letter: DeadLetter, body: Body | None = None) -> Record:
    """The current revision's contents, or those given, as a record."""
    contents = letter.body if body is None else body
    is_null = letter.source_kind == "queue" and contents.value is None
    return Record(
        letter.timestamp or 0,
        contents.key,
        b"null" if is_null else contents.value,
        JSON if is_null else contents.encoding,
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


@dataclass(frozen=True, slots=True)
class DeathRow:
    """One line of a message's history: how often it died in a queue for one reason."""

    count: int
    reason: str
    queue: str
    first_at: datetime
    exchange: str
    routing_keys: str
    expiration: str | None


def deaths(letter: DeadLetter) -> list[DeathRow]:
    """How a message died, newest first, as its `x-death` tells it; nothing of a record."""
    return [
        DeathRow(
            death.count,
            death.reason,
            death.queue,
            datetime.fromtimestamp(death.time, UTC),
            death.exchange,
            ", ".join(death.routing_keys),
            death.original_expiration,
        )
        for death in ([] if letter.envelope is None else letter.envelope.deaths)
    ]
