"""Which dead letters are meant: a filter, its conditions in SQL, and how to read them newest first at a bounded cost.

No index holds every combination of filters. But a failure group has one source and one consumer group, so whatever
names these is a handful of failure groups, and each of those is read in order by its own index, state by state;
PostgreSQL merges the scans and stops at the page's end. The index of all dead letters is on the time in UTC, and only
reads of them all ask for that. Used by the reads of dead letters and by replays' plans.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg
from django.db import transaction
from psycopg import sql

from brokers.database import sync_cursor
from brokers.errors import InvalidValue, SearchTooBroad, shown
from brokers.models.failures import SOURCE_KINDS, STATES
from brokers.sql import load

SQL = load("dead_letter_filter")

SEARCH_MS = 3000
"""How long one statement of a search may take."""
MAX_SCANS = 32
"""Failure groups, or consumer groups, that are read side by side; with more of them the rows in between are passed."""

Cursor = psycopg.Cursor[tuple[Any, ...]]
Place = tuple[datetime, int]
"""Where a dead letter stands in a list: when it failed, and its id."""
Condition = tuple[str, list[Any]]

_FAILED_AT = "d.failed_at"
_IN_UTC = "d.failed_at at time zone 'UTC'"
"""As the index of all dead letters has it."""
_PLACE = struct.Struct(">qq")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Consumer(NamedTuple):
    """Who gave a dead letter up; `group` is empty for a queue or a task."""

    source_kind: str
    source: str
    group: str


MaySee = Callable[[str, str, str], bool]
"""Whether the caller may know of the dead letters of a consumer: source kind, source, group."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters; None leaves that side open. Raises `InvalidValue` for what cannot be meant.

    `since` is inclusive and `until` is not; both look at the newest failure. `q` is literal text, whatever its case,
    in the key, the message id, the exception's class or its message.
    """

    source_kind: str | None = None
    source: str | None = None
    group: str | None = None
    fingerprint: str | None = None
    state: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    q: str | None = None
    ids: tuple[int, ...] | None = None
    consumers: tuple[Consumer, ...] | None = None
    """Nothing of others."""
    readable: tuple[tuple[str, str], ...] | None = None
    """Kinds and names of the sources whose keys `q` may look at; None: of all."""

    def __post_init__(self) -> None:
        for name in ("source_kind", "source", "group", "fingerprint", "state", "q"):
            if "\0" in (getattr(self, name) or ""):
                raise InvalidValue(f"{name} holds a NUL character", pointer=f"/{name}")
        for name, known in (("source_kind", SOURCE_KINDS), ("state", STATES)):
            if getattr(self, name) not in (None, *known):
                raise InvalidValue(
                    f"{name} is one of {', '.join(known)}, not {shown(getattr(self, name))}", pointer=f"/{name}"
                )

    @property
    def names_consumers(self) -> bool:
        """Whether failure groups alone decide a part of it."""
        return any(
            side is not None for side in (self.source_kind, self.source, self.group, self.fingerprint, self.consumers)
        )

    def within_failure_groups(self) -> Filter:
        """What is left to be asked of the dead letters of failure groups that fit."""
        return replace(self, source_kind=None, source=None, group=None, fingerprint=None, consumers=None)


# -- conditions ---------------------------------------------------------------------------------------------------


def conditions(wanted: Filter) -> tuple[sql.Composed, list[Any]]:
    """The filter as conditions over alias `d` of `brokers_dead_letter`, joined by `and`, and their parameters.

    Nothing at all for a filter that lets everything through.
    """
    return _joined(_conditions(wanted, _FAILED_AT if wanted.names_consumers else _IN_UTC))


def _conditions(wanted: Filter, failed_at: str) -> list[Condition]:
    found: list[Condition] = []
    for column, value in (
        ("source_kind", wanted.source_kind),
        ("source", wanted.source),
        ("group_name", wanted.group),
        ("state", wanted.state),
    ):
        if value is not None:
            found.append((f"d.{column} = %s::text", [value]))
    if wanted.fingerprint is not None:
        group = "(select f.id from brokers_failure_group f where f.fingerprint = %s::text)"
        found.append((f"d.failure_group_id = {group}", [wanted.fingerprint]))
    if wanted.consumers is not None:
        named = "d.source_kind || '/' || d.source || '/' || d.group_name"
        found.append((f"{named} = any(%s::text[])", [["/".join(consumer) for consumer in wanted.consumers]]))
    if wanted.since is not None:
        found.append((_compared(failed_at, ">="), [wanted.since]))
    if wanted.until is not None:
        found.append((_compared(failed_at, "<"), [wanted.until]))
    if wanted.ids is not None:
        found.append(("d.id = any(%s::bigint[])", [list(wanted.ids)]))
    if wanted.q:
        found.append(_text(wanted.q, wanted.readable))
    return found


def _compared(failed_at: str, comparison: str) -> str:
    return f"{failed_at} {comparison} {failed_at.replace('d.failed_at', '%s::timestamptz')}"


def _joined(found: Iterable[Condition]) -> tuple[sql.Composed, list[Any]]:
    """The texts are this module's own; what callers gave is in the parameters."""
    given = list(found)
    texts = [sql.SQL(text) for text, _ in given]
    return sql.SQL(" and ").join(texts), [value for _, values in given for value in values]


def like(text: str) -> str:
    """The pattern of LIKE that finds the text anywhere, taken literally."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def _text(text: str, readable: tuple[tuple[str, str], ...] | None) -> Condition:
    """Keys are bytes: they are compared as bytes, each taken for one character, without the case of ASCII letters."""
    pattern = like(text)
    spellings = {text, text.lower(), text.upper()}
    in_key = (
        "exists (select 1 from brokers_dead_letter_revision r where r.dead_letter_id = d.id and r.number = d.revision"
        " and (case when position('\\x00'::bytea in r.key) = 0 then convert_from(r.key, 'LATIN1')"
        " else encode(r.key, 'escape') end) collate \"C\" ilike any(%s::text[]))"
    )
    values: list[Any] = [pattern, pattern, pattern]
    if readable is not None:
        in_key = f"d.source_kind || '/' || d.source = any(%s::text[]) and {in_key}"
        values.append(["/".join(source) for source in readable])
    values.append(sorted(like(spelling.encode().decode("latin-1")) for spelling in spellings))
    columns = " or ".join(f"d.{column} ilike %s::text" for column in ("message_id", "exception_class", "error"))
    return f"({columns} or ({in_key}))", values


# -- newest first, from a place on ---------------------------------------------------------------------------------


def places(
    cursor: Cursor,
    wanted: Filter,
    limit: int,
    *,
    before: Place | None = None,
    after: Place | None = None,
) -> list[Place]:
    """Places of up to `limit` dead letters: the newest, newest first; those next older than `before`; or those next
    newer than `after`, oldest of them first.
    """
    place, comparison, direction = (before, "<", "desc") if after is None else (after, ">", "asc")
    scans, rest, failed_at = _scans(cursor, wanted)
    in_order = f"order by place {direction}, id {direction} limit %s::int"
    beyond: list[Condition] = []
    if place is not None:
        given = failed_at.replace("d.failed_at", "%s::timestamptz")
        beyond.append((f"({failed_at}, d.id) {comparison} ({given}, %s::bigint)", list(place)))
    branches: list[Condition] = []
    for scan in scans:
        where, values = _where([*scan, *beyond, *_conditions(rest, failed_at)])
        branch = f"(select {failed_at} as place, d.id from brokers_dead_letter d{where} {in_order})"  # noqa: S608 - our own texts
        branches.append((branch, [*values, limit]))
    if not branches:
        return []
    text = " union all ".join(branch for branch, _ in branches)
    back = failed_at.replace("d.failed_at", "k.place")
    query = sql.SQL(f"select {back}, k.id from ({text}) k {in_order}")  # noqa: S608 - our own texts
    parameters = [value for _, values in branches for value in values]
    return [(row[0], row[1]) for row in cursor.execute(query, [*parameters, limit], prepare=False).fetchall()]


def count(cursor: Cursor, wanted: Filter, most: int) -> int:
    """How many there are, counted up to `most`."""
    scans, rest, failed_at = _scans(cursor, wanted)
    if not scans:
        return 0
    found = [_where([*scan, *_conditions(rest, failed_at)]) for scan in scans]
    text = " union all ".join(f"select 1 from brokers_dead_letter d{where}" for where, _ in found)  # noqa: S608 - our own texts
    query = sql.SQL(f"select count(*) from ({text} limit %s::int) counted")  # noqa: S608 - our own texts
    parameters = [value for _, values in found for value in values]
    row = cursor.execute(query, [*parameters, most], prepare=False).fetchone()
    assert row is not None
    return int(row[0])


def _where(found: list[Condition]) -> Condition:
    text = " and ".join(condition for condition, _ in found)
    return (f" where {text}" if text else ""), [value for _, values in found for value in values]


def _scans(cursor: Cursor, wanted: Filter) -> tuple[list[list[Condition]], Filter, str]:
    """Beginnings of indexes that together hold all that the filter wants, what is left of the filter, and how the
    time is written in those indexes.
    """
    if wanted.ids is not None:
        return [[]], wanted, _FAILED_AT
    prefixes: list[list[Condition]] = [[]]
    rest = wanted
    if wanted.names_consumers:
        fitting = failure_group_ids(cursor, wanted, MAX_SCANS + 1)
        if len(fitting) <= MAX_SCANS:
            prefixes = [[("d.failure_group_id = %s::bigint", [group])] for group in fitting]
            rest = wanted.within_failure_groups()
        else:
            prefixes = _wider(wanted)
    states = STATES if wanted.state is None else (wanted.state,)
    scans = [[*prefix, ("d.state = %s::text", [state])] for prefix in prefixes for state in states]
    return scans, replace(rest, state=None), _IN_UTC if prefixes == [[]] else _FAILED_AT


def _wider(wanted: Filter) -> list[list[Condition]]:
    """The same for many failure groups: by consumer group or by source, the rows of others in between passed over."""
    if wanted.group is not None:
        return [[("d.group_name = %s::text", [wanted.group])]]
    if wanted.source is not None:
        kinds = SOURCE_KINDS if wanted.source_kind is None else (wanted.source_kind,)
        return [[("d.source_kind = %s::text and d.source = %s::text", [kind, wanted.source])] for kind in kinds]
    named = sorted({consumer.group for consumer in wanted.consumers or ()})
    if 0 < len(named) <= MAX_SCANS:
        return [[("d.group_name = %s::text", [group])] for group in named]
    return [[]]


# -- consumers ----------------------------------------------------------------------------------------------------


def failure_group_ids(cursor: Cursor, wanted: Filter, limit: int | None) -> list[int]:
    """Ids of the failure groups that fit the filter's source, group, fingerprint and consumers, up to `limit`."""
    found = cursor.execute(SQL.failure_groups, sides(wanted) | {"limit": limit})
    return [row[0] for row in found.fetchall()]


def consumers_known(cursor: Cursor, wanted: Filter) -> list[Consumer]:
    """Who has ever given up what fits the filter's source, group, fingerprint and consumers."""
    return [Consumer(*row) for row in cursor.execute(SQL.consumers, sides(wanted)).fetchall()]


def consumers_of(cursor: Cursor, wanted: Filter) -> list[Consumer]:
    """Whose dead letters the filter selects now, all sides of it counted: who replays them must be allowed each."""
    if wanted.ids is not None:
        where, values = conditions(wanted)
        query = sql.SQL("select distinct d.source_kind, d.source, d.group_name from brokers_dead_letter d where ")
        return [Consumer(*row) for row in cursor.execute(query + where, values, prepare=False).fetchall()]
    of_group: Condition = ("d.failure_group_id = f.id", [])
    where, values = _joined([of_group, *_conditions(wanted.within_failure_groups(), _FAILED_AT)])
    query = sql.SQL(
        "select distinct f.source_kind, f.source, f.group_name from brokers_failure_group f"
        " where f.id = any(%s::bigint[]) and exists (select 1 from brokers_dead_letter d where "
    )
    fitting = failure_group_ids(cursor, wanted, None)
    found = cursor.execute(query + where + sql.SQL(")"), [fitting, *values], prepare=False)
    return [Consumer(*row) for row in found.fetchall()]


def visible(cursor: Cursor, wanted: Filter, may_see: MaySee) -> Filter:
    """The filter, restricted to consumers that the caller may see; as it was for one who may see them all."""
    known = consumers_known(cursor, wanted)
    seen = tuple(consumer for consumer in known if may_see(*consumer))
    return wanted if len(seen) == len(known) else replace(wanted, consumers=seen)


def sides(wanted: Filter) -> dict[str, Any]:
    """The sides of a filter that failure groups decide, as parameters; None for an open one."""
    return {
        "kind": wanted.source_kind,
        "source": wanted.source,
        "group": wanted.group,
        "fingerprint": wanted.fingerprint,
        "consumers": None if wanted.consumers is None else ["/".join(consumer) for consumer in wanted.consumers],
    }


# -- cursors ------------------------------------------------------------------------------------------------------


def written(place: Place) -> str:
    """A place as the opaque cursor of a list."""
    micros = (place[0] - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(_PLACE.pack(micros, place[1])).rstrip(b"=").decode()


def read(cursor: str, pointer: str = "/after") -> Place:
    """The place of a cursor; raises `InvalidValue`."""
    try:
        if len(cursor) != 22:
            raise ValueError(cursor)
        micros, number = _PLACE.unpack(base64.b64decode(f"{cursor}==", altchars=b"-_", validate=True))
        place = _EPOCH + timedelta(microseconds=micros), number
        if number < 1 or written(place) != cursor:
            raise ValueError(cursor)
    except (ValueError, binascii.Error, OverflowError, struct.error) as error:
        raise InvalidValue(f"{shown(cursor)} is no cursor of this list", pointer=pointer) from error
    return place


@contextmanager
def search() -> Iterator[Cursor]:
    """A cursor whose statements end after three seconds each, as `SearchTooBroad`; within a transaction of its own or
    the caller's.
    """
    with transaction.atomic(), sync_cursor() as cursor:
        row = cursor.execute(SQL.limit_time, [str(SEARCH_MS)]).fetchone()
        assert row is not None
        try:
            yield cursor
        except psycopg.errors.QueryCanceled as error:
            raise SearchTooBroad("the search took too long: narrow it by time, source or consumer group") from error
        cursor.execute(SQL.set_time, [row[0]])
