"""Dead letters over REST: the list, failure groups, one with its attempts, and changes of state."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from brokers import dead_letters
from brokers.errors import (
    Conflict,
    DeadLetterNotFound,
    DeadLetterReplaying,
    InvalidValue,
    SearchTooBroad,
)
from brokers.instants import rfc3339
from brokers.record import JSON
from brokers.rest import failure_schemas as schemas
from brokers.rest.failure_access import REPLAY, SEE, SEEN, VIEW, Reader
from brokers.rest.instants import instant
from brokers.rest.operation import Answer, Call, Operation
from brokers.rest.threads import in_thread
from brokers.selectors import dead_letters as selector
from brokers.selectors.dead_letters import Consumer, DeadLetter, FailureGroup, Filter, InReplay

_encode = msgspec.json.Encoder().encode


async def get_dead_letters(call: Call) -> Answer:
    """Dead letters, newest failure first: those that the caller may know of, without stack trace and attempts.

    A page may hold fewer than `limit`: it ends at about eight megabytes.
    """
    query: schemas.DeadLetterQuery = call.query
    reader = Reader(call.principal)
    wanted = filter_of(query, "")

    def read() -> bytes:
        found, following = selector.page(wanted, query.after, query.limit, reader.sees, may_view=reader.views)
        return _encode(schemas.DeadLetterPage([_listed(letter, reader) for letter in found], following))

    return Answer(body=await in_thread(read))


async def get_failure_groups(call: Call) -> Answer:
    """Failures by fingerprint, newest failure first: those that the caller may know of. Counts are exact."""
    query: schemas.FailureGroupQuery = call.query
    reader = Reader(call.principal)
    wanted = filter_of(query, "")

    def read() -> bytes:
        found, following = selector.failure_groups(wanted, query.after, query.limit, reader.sees)
        return _encode(schemas.FailureGroupPage(list(map(_group, found)), following))

    return Answer(body=await in_thread(read))


async def get_dead_letter(call: Call) -> Answer:
    """One dead letter with its newest stack trace, its attempts and its replays."""
    number = call.integer("dead_letter_id")
    reader = Reader(call.principal)
    reader.require_some("describe")
    return Answer(body=await in_thread(_detail, number, reader))


async def patch_dead_letter(call: Call) -> Answer:
    """Resolves or discards a dead letter, opens it again, or notes something; audited."""
    body: schemas.DeadLetterChange = call.body
    number = call.integer("dead_letter_id")
    reader = Reader(call.principal)
    reader.require_some("replay")
    if body.state is UNSET and body.note is UNSET:
        raise InvalidValue("give state, note or both")
    state = None if body.state is UNSET else body.state
    note = None if body.note is UNSET else body.note

    def change() -> bytes:
        reader.require_replay([known_owner(number, reader)])
        dead_letters.change_state([number], state, call.actor(), note)
        return _detail(number, reader)

    return Answer(body=await in_thread(change))


# -- what was asked for -------------------------------------------------------------------------------------------


def filter_of(given: Any, pointer: str) -> Filter:
    """The filter of a query or a selection, whose places in the request begin with the pointer."""
    try:
        return Filter(
            source_kind=given.source_kind,
            source=given.source,
            group=given.group,
            fingerprint=given.fingerprint,
            state=given.state,
            since=None if given.since is None else instant(given.since, "/since"),
            until=None if given.until is None else instant(given.until, "/until"),
            q=given.q,
        )
    except InvalidValue as error:
        error.errors = [(f"{pointer}{where}", what) for where, what in error.errors]
        raise


def known_owner(number: int, reader: Reader) -> Consumer:
    """Whose dead letter it is; raises `DeadLetterNotFound` alike for one that is not there and a hidden one."""
    owners = known_owners([number], reader)
    if number not in owners:
        raise DeadLetterNotFound(f"there is no dead letter {number}")
    return owners[number]


def known_owners(numbers: Iterable[int], reader: Reader) -> Mapping[int, Consumer]:
    """Whose dead letters these are, those that the caller may know of."""
    owners = selector.owners([number for number in numbers if number <= selector.MAX_ID])
    return {number: consumer for number, consumer in owners.items() if reader.sees(*consumer)}


# -- answers ------------------------------------------------------------------------------------------------------


def moment(at: datetime) -> str:
    """An instant as answers write it."""
    return rfc3339(at) or ""


def payload(key: bytes | None, value: bytes | None, encoding: int, headers: Mapping[str, Any]) -> dict[str, Any]:
    """Key, value and headers as an answer has them; JSON values are the very bytes that were published."""
    found: dict[str, Any] = {"headers": dict(headers)}
    try:
        found["key"] = None if key is None else key.decode()
    except UnicodeDecodeError:
        found["key_base64"] = base64.b64encode(key or b"").decode()
    if value is None or encoding == JSON:
        found["value"] = None if value is None else Raw(value)
    else:
        found["value_base64"] = base64.b64encode(value).decode()
    return found


def _shared(letter: DeadLetter, visible: bool) -> dict[str, Any]:
    hidden = {"headers": None, "key": None, "value": None, "payload_hidden": True}
    return {
        "id": letter.id,
        "state": letter.state,
        "reason": letter.reason,
        "source_kind": letter.source_kind,
        "source": letter.source,
        "group": letter.group or None,
        "partition": letter.partition,
        "offset": letter.offset,
        "exchange": letter.exchange,
        "routing_key": letter.routing_key,
        "message_id": letter.message_id,
        "fingerprint": letter.fingerprint,
        "first_failed_at": moment(letter.first_failed_at),
        "failed_at": moment(letter.failed_at),
        "revision": letter.revision,
        "replays": list(map(_replay, letter.replays)),
        "note": letter.note,
        **(payload(*letter.body) if visible else hidden),
    }


def _replay(found: InReplay) -> schemas.ReplayOfDeadLetter:
    return schemas.ReplayOfDeadLetter(found.id, found.outcome, moment(found.at))  # type: ignore[arg-type]


def _listed(letter: DeadLetter, reader: Reader) -> schemas.ListedDeadLetter:
    visible = reader.views(letter.source_kind, letter.source)
    error = schemas.ListedError(letter.exception_class, letter.error)
    return schemas.ListedDeadLetter(exception=error, **_shared(letter, visible))


def _detail(number: int, reader: Reader) -> bytes:
    known_owner(number, reader)
    letter = selector.get(number)
    visible = reader.views(letter.source_kind, letter.source)
    error = schemas.RaisedError(letter.exception_class, letter.error, letter.stacktrace if visible else None)
    return _encode(schemas.DeadLetter(exception=error, attempts=_attempts(number), **_shared(letter, visible)))


def _attempts(number: int) -> list[schemas.FailedAttempt]:
    return [
        schemas.FailedAttempt(
            attempt.number,
            moment(attempt.started_at),
            rfc3339(attempt.ended_at),
            f"{attempt.exception_class}: {attempt.error}" if attempt.exception_class else attempt.error,
        )
        for attempt in selector.attempts(number)
    ]


def _group(found: FailureGroup) -> schemas.FailureGroup:
    states = schemas.StateCounts(found.open, found.replaying, found.replayed, found.resolved, found.discarded)
    return schemas.FailureGroup(
        fingerprint=found.fingerprint,
        count=found.count,
        states=states,
        failures=found.failures,
        first_seen=moment(found.first_failed_at),
        last_seen=moment(found.last_failed_at),
        exception=schemas.ListedError(found.exception_class, found.message),
        reason=found.reason,  # type: ignore[arg-type]
        source_kind=found.source_kind,  # type: ignore[arg-type]
        source=found.source,
        group=found.group or None,
        handler=found.handler,
        sample=found.sample_id,
        last_24_hours=found.hours,
    )


def operations() -> list[Operation]:
    """Declarations of all operations on dead letters."""
    return [
        Operation(
            method="GET",
            path="/api/v1/dead-letters",
            summary="List dead letters",
            tag="Dead letters",
            access=(SEEN, VIEW),
            handler=get_dead_letters,
            query=schemas.DeadLetterQuery,
            answers={200: schemas.DeadLetterPage},
            problems=(SearchTooBroad,),
        ),
        Operation(
            method="GET",
            path="/api/v1/dead-letters/groups",
            summary="List failure groups",
            tag="Dead letters",
            access=(SEEN,),
            handler=get_failure_groups,
            query=schemas.FailureGroupQuery,
            answers={200: schemas.FailureGroupPage},
            problems=(SearchTooBroad,),
        ),
        Operation(
            method="GET",
            path="/api/v1/dead-letters/{dead_letter_id}",
            summary="Describe a dead letter",
            tag="Dead letters",
            access=(SEE, VIEW),
            handler=get_dead_letter,
            answers={200: schemas.DeadLetter},
            problems=(DeadLetterNotFound,),
        ),
        Operation(
            method="PATCH",
            path="/api/v1/dead-letters/{dead_letter_id}",
            summary="Resolve, discard or reopen a dead letter",
            tag="Dead letters",
            access=(REPLAY, VIEW),
            handler=patch_dead_letter,
            body=schemas.DeadLetterChange,
            answers={200: schemas.DeadLetter},
            problems=(DeadLetterNotFound, DeadLetterReplaying, Conflict),
        ),
    ]
