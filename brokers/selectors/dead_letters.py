"""Reads of dead letters for people and for REST: pages newest first, one with its attempts, what became of it.

A page costs what it holds, whatever the table holds (see `dead_letter_filter`); its bytes are bounded, and its
statements end after three seconds. Who may see what is the surface's to say: pages take it as functions. Payloads and
stack traces are here whole; a surface leaves out what its caller may not view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NamedTuple

from msgspec.json import decode
from psycopg import sql

from brokers.database import sync_cursor
from brokers.dead_letter_headers import arriving
from brokers.errors import DeadLetterNotFound, shown
from brokers.queues import message
from brokers.queues.message import Envelope
from brokers.selectors.dead_letter_bodies import EMPTY, Body, body_of
from brokers.selectors.dead_letter_filter import (
    Consumer,
    Cursor,
    Filter,
    MaySee,
    Place,
    conditions,
    consumers_known,
    consumers_of,
    places,
    read,
    search,
    visible,
    written,
)
from brokers.selectors.dead_letter_filter import count as count_places
from brokers.selectors.dead_letter_history import Attempt, Event, Revision, attempts, history, revisions
from brokers.selectors.failure_groups import FailureGroup, failure_group, failure_groups
from brokers.settings import MAX_FETCH_BYTES
from brokers.sql import load

__all__ = [
    "Attempt",
    "Body",
    "Consumer",
    "DeadLetter",
    "Event",
    "FailureGroup",
    "Filter",
    "InReplay",
    "Revision",
    "attempts",
    "conditions",
    "consumers_of",
    "count",
    "failure_group",
    "failure_groups",
    "get",
    "history",
    "neighbours",
    "owners",
    "page",
    "permitted",
    "revisions",
    "search",
    "selected_consumers",
]

SQL = load("dead_letter_reads")

MAX_COUNT = 10_000
MAX_SEARCHED = 1_000_001
"""Dead letters of a replay, and one more: so many are looked for by text."""
LISTED_REPLAYS = 20
"""Replays of each dead letter of a list, the newest; `get` has up to `MAX_REPLAYS`."""
MAX_REPLAYS = 1000
MAX_ID = 2**63 - 1


class InReplay(NamedTuple):
    """A replay that a dead letter was part of; `why` is `same` or `new` for one that failed again."""

    id: int
    outcome: str
    why: str
    at: datetime


@dataclass(slots=True)
class DeadLetter:
    """A record or message that a consumer gave up, as it is now."""

    id: int
    state: str
    reason: str
    source_kind: str
    source: str
    group: str
    partition: int | None
    offset: int | None
    timestamp: int | None
    exchange: str | None
    routing_key: str | None
    message_id: str | None
    correlation_id: str | None
    priority: int | None
    idempotency_key: str | None
    exception_class: str
    error: str
    """The newest failure's message; in a list one line of it."""
    size: int
    attempts: int
    revision: int
    replay_count: int
    first_failed_at: datetime
    failed_at: datetime
    changed_at: datetime
    note: str
    fingerprint: str
    body: Body = EMPTY
    """The current revision's; of a list with previews, the value's beginning. Headers tell a message's deaths."""
    envelope: Envelope | None = None
    """A message's, as it died, where it was kept."""
    replays: list[InReplay] = field(default_factory=list)
    stacktrace: str | None = None
    """The newest failure's; None in a list."""
    frames: list[dict[str, Any]] = field(default_factory=list)

    @property
    def consumer(self) -> Consumer:
        """Who gave it up."""
        return Consumer(self.source_kind, self.source, self.group)

    @property
    def place(self) -> Place:
        """Where it stands in lists."""
        return self.failed_at, self.id


# -- lists --------------------------------------------------------------------------------------------------------


def page(
    filter: Filter,  # noqa: A002 - the word of every surface
    after: str,
    limit: int,
    may_see: MaySee,
    *,
    may_view: Callable[[str, str], bool] | None = None,
    preview_bytes: int | None = None,
) -> tuple[list[DeadLetter], str | None]:
    """Up to `limit` dead letters, newest failure first, after a cursor ("" for the start); and the next cursor.

    Those of consumers that `may_see` lets through, fewer when their payloads would have more than about eight
    megabytes. `may_view` says of a source's kind and name whether the caller may view its payloads: text is not looked
    for in the keys of others. With `preview_bytes` only that much of each value is read. Raises `InvalidValue` for a
    cursor, `SearchTooBroad`.
    """
    before = read(after) if after else None
    with search() as cursor:
        wanted = _permitted(cursor, filter, may_see, may_view)
        found = places(cursor, wanted, limit + 1, before=before)
        rows = _rows(cursor, [number for _, number in found[:limit]], wanted)
        items: list[DeadLetter] = []
        taken = size = 0
        for _, number in found[:limit]:
            letter = rows.get(number)
            if letter is not None and may_see(*letter.consumer):
                size += letter.size if preview_bytes is None else min(letter.size, preview_bytes)
                if size > MAX_FETCH_BYTES and items:
                    break
                items.append(letter)
            taken += 1
        _fill(cursor, items, preview_bytes)
    following = written(found[taken - 1]) if taken < len(found) and taken else None
    return items, following


def count(filter: Filter, may_see: MaySee, most: int = MAX_COUNT) -> int:  # noqa: A002 - as above
    """How many dead letters there are, counted up to `most`. Raises `SearchTooBroad`."""
    with search() as cursor:
        return count_places(cursor, visible(cursor, filter, may_see), most)


def neighbours(id: int, filter: Filter, may_see: MaySee) -> tuple[int | None, int | None]:  # noqa: A002 - as above
    """Ids of the dead letters before (newer) and after (older) one in the list of the filter, where there are any.

    Raises `DeadLetterNotFound`, `SearchTooBroad`.
    """
    place = get(id).place
    with search() as cursor:
        wanted = visible(cursor, filter, may_see)
        newer = places(cursor, wanted, 1, after=place)
        older = places(cursor, wanted, 1, before=place)
    return (newer[0][1] if newer else None), (older[0][1] if older else None)


def permitted(
    filter: Filter,  # noqa: A002 - as above
    may_see: MaySee,
    may_view: Callable[[str, str], bool],
) -> Filter:
    """The filter for one who may see and view this much. Raises `SearchTooBroad` when its text takes too long to find.

    It names the consumers of now: what others will give up later is not in it.
    """
    with search() as cursor:
        wanted = _permitted(cursor, filter, may_see, may_view)
        if wanted.q:
            count_places(cursor, wanted, MAX_SEARCHED)
        return wanted


def selected_consumers(filter: Filter, may_see: MaySee) -> list[Consumer]:  # noqa: A002 - as above
    """Whose dead letters the filter selects now, of those that the caller may see. Raises `SearchTooBroad`."""
    with search() as cursor:
        return consumers_of(cursor, visible(cursor, filter, may_see))


def _permitted(
    cursor: Cursor,
    filter: Filter,  # noqa: A002 - as above
    may_see: MaySee,
    may_view: Callable[[str, str], bool] | None,
) -> Filter:
    wanted = visible(cursor, filter, may_see)
    if may_view is None or not wanted.q:
        return wanted
    sources = {(consumer.source_kind, consumer.source) for consumer in consumers_known(cursor, wanted)}
    readable = tuple(sorted(source for source in sources if may_view(*source)))
    return wanted if len(readable) == len(sources) else replace(wanted, readable=readable)


def _rows(cursor: Cursor, ids: Sequence[int], wanted: Filter | None = None) -> dict[int, DeadLetter]:
    """Dead letters by id, without bodies; those that left the filter meanwhile are not among them."""
    query = sql.Composed([sql.SQL(SQL.rows)])
    values: list[Any] = [list(ids)]
    if wanted is not None:
        where, more = conditions(wanted)
        if list(where):
            query += sql.SQL(" and ") + where
            values += more
    return {row[0]: DeadLetter(*row) for row in cursor.execute(query, values).fetchall()}


def _fill(cursor: Cursor, letters: Sequence[DeadLetter], preview_bytes: int | None) -> None:
    ids = [letter.id for letter in letters]
    revisions_wanted = [letter.revision for letter in letters]
    bodies = cursor.execute(SQL.bodies, (preview_bytes or MAX_ID, ids, revisions_wanted), binary=True).fetchall()
    by_id = {row[0]: row[1:] for row in bodies}
    replays = _replays(cursor, ids, LISTED_REPLAYS)
    for letter in letters:
        if letter.id in by_id:
            *body, envelope = by_id[letter.id]
            letter.body = body_of(body)
            if envelope is not None:
                letter.envelope = message.decode(bytes(envelope))
                letter.body = letter.body._replace(headers=arriving(body[3], envelope))
        letter.replays = replays.get(letter.id, [])


def _replays(cursor: Cursor, ids: list[int], most: int) -> dict[int, list[InReplay]]:
    found: dict[int, list[InReplay]] = {}
    for number, *row in cursor.execute(SQL.replays, (ids, most)).fetchall():
        found.setdefault(number, []).append(InReplay(*row))
    return found


# -- one ----------------------------------------------------------------------------------------------------------


def owners(ids: Sequence[int]) -> dict[int, Consumer]:
    """Who gave up each of these dead letters; those that are not there are left out."""
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.owners, (list(ids),)).fetchall()
    return {number: Consumer(*names) for number, *names in rows}


def get(id: int) -> DeadLetter:  # noqa: A002 - as above
    """One dead letter with its payload, its newest failure's text and trace, and its replays, oldest first.

    Raises `DeadLetterNotFound`.
    """
    if not 0 < id <= MAX_ID:
        raise DeadLetterNotFound(f"there is no dead letter {shown(id)}")
    with sync_cursor() as cursor:
        letter = _rows(cursor, [id]).get(id)
        if letter is None:
            raise DeadLetterNotFound(f"there is no dead letter {id}")
        _fill(cursor, [letter], None)
        letter.replays = _replays(cursor, [id], MAX_REPLAYS).get(id, [])
        newest = cursor.execute(SQL.newest_failure, (id,)).fetchone()
    letter.stacktrace = ""
    if newest is not None:
        letter.error, letter.stacktrace = newest[:2]
        letter.frames = decode(newest[2])
    return letter
