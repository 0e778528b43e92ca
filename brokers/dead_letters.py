"""Dead letters: writing what a consumer gives up, reopening what fails again, and what operators do with them.

Giving up is part of the consumer's own transaction, so a record is either still to be handled or a dead letter, and
its counters (`failure_counts`) change with it. Called by listeners, REST, console, commands and housekeeping; the
statements are in `sql/dead_letters.sql`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from django.db import transaction

from brokers import (
    audit,
    dead_letter_headers,
    dead_letter_texts,
    dead_letter_topics,
    fingerprint,
    record_input,
    task_calls,
    wakeup,
)
from brokers.database import sync_cursor
from brokers.dead_letter_headers import without_own
from brokers.dead_letter_origins import Origin, Payload, tries_parameters
from brokers.dead_letter_texts import NAME_CHARACTERS
from brokers.deliveries import Delivery
from brokers.errors import (
    Conflict,
    DeadLetterNotFound,
    DeadLetterReplaying,
    InvalidType,
    InvalidValue,
    RecordTooLarge,
    RevisionSuperseded,
    shown,
)
from brokers.failure import Failure
from brokers.record import JSON, RAW
from brokers.settings import MAX_RECORD_BYTES_LIMIT
from brokers.sql import load

__all__ = ["Origin", "Payload", "add", "add_all", "add_revision", "change_state", "give_up", "purge", "reopen"]

SQL = load("dead_letters")

MAX_IDS = 1000
"""Dead letters changed in one call."""
KEPT_DAYS = 90
"""How long a settled dead letter is kept after its last change."""
PURGED_AT_ONCE = 500
"""Dead letters removed in one transaction."""
PURGE_STEPS = 40
"""Transactions of one purge at most; the rest waits for the next one."""

_OPERATIONS = {"open": "reopen", "resolved": "resolve", "discarded": "discard"}
"""What the audit record calls a change to that state."""
_ORIGINS = ("edit", "merge_patch")


# -- giving up --------------------------------------------------------------------------------------------------


def give_up(delivery: Delivery, reason: str, failure: Failure | None) -> int:
    """Makes a dead letter of a record, in the caller's open transaction; answers its id.

    Its attempts become the dead letter's, the record goes to `<topic>.DLT`, and a redelivery leaves its lane. What a
    replay gave back and failed again is open again under the same id, and the replay's item has its outcome. The
    committed offset is the caller's matter. Call `dead_letter_topics.prepare` before the transaction; raises
    `TopicNotFound` when that topic was deleted since.
    """
    record = delivery.record
    redelivery = delivery.redelivery
    origin = Origin(
        source_kind="topic",
        source=record.topic,
        group=delivery.group,
        handler=delivery.handler,
        group_id=delivery.group_id,
        partition_id=delivery.partition_id,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        redelivery_id=delivery.redelivery_id,
        message_id=dead_letter_texts.message_id(record.headers),
        correlation_id=dead_letter_texts.correlation_id(record.headers),
        idempotency_key=delivery.idempotency_key,
        first_failed_at=None if redelivery is None else redelivery.first_failed_at,
    )
    found = None
    if redelivery is not None and redelivery.dead_letter_id is not None:
        letter, item = redelivery.dead_letter_id, redelivery.replay_item_id
        found = reopen(letter, item, redelivery.revision, origin, reason, failure)
    if found is None:
        payload = Payload(record.key_bytes, record.value_bytes, record.encoding, record.headers)
        found = add(origin, payload, reason, failure)
    dead_letter_topics.stage(delivery, reason, failure, found)
    return found


def add(origin: Origin, payload: Payload, reason: str, failure: Failure | None) -> int:
    """Writes a new dead letter of any source in the caller's open transaction; answers its id.

    The attempts at the record or message are moved to it, those at a task are given.
    """
    return add_all([(origin, payload)], reason, failure)[0]


def add_all(given_up: Sequence[tuple[Origin, Payload]], reason: str, failure: Failure | None) -> list[int]:
    """`add` for messages of one queue that fail alike, in one statement; answers their ids in order.

    Of a topic's records it takes one.
    """
    origin = given_up[0][0]
    origins = [each for each, _ in given_up]
    payloads = [payload._replace(headers=without_own(payload.headers)) for _, payload in given_up]
    parameters = _parameters(origin, reason, failure) | {
        "source_kind": origin.source_kind,
        "source": origin.source,
        "group": origin.group,
        "partition": origin.partition,
        "timestamp": origin.timestamp,
        "messages": [each.message_row for each in origins],
        "exchanges": [each.exchange for each in origins],
        "routing_keys": [each.routing_key for each in origins],
        "message_ids": [each.message_id for each in origins],
        "correlation_ids": [each.correlation_id for each in origins],
        "idempotency_keys": [dead_letter_texts.idempotency_key(each.idempotency_key) for each in origins],
        "errors": [_error(each, reason, failure) for each in origins],
        "priorities": [each.priority for each in origins],
        "first_failed": [each.first_failed_at for each in origins],
        "sizes": [payload.size() for payload in payloads],
        "keys": [payload.key or b"" for payload in payloads],
        "no_keys": [payload.key is None for payload in payloads],
        "values": [payload.value or b"" for payload in payloads],
        "no_values": [payload.value is None for payload in payloads],
        "encodings": [payload.encoding for payload in payloads],
        "headers": [msgspec.json.encode(payload.headers) for payload in payloads],
        "envelopes": [each.envelope or b"" for each in origins],
    }
    parameters |= tries_parameters(origins)
    with sync_cursor() as cursor:
        return [number for (number,) in cursor.execute(SQL.add, parameters).fetchall()]


def reopen(
    letter: int, item: int | None, revision: int, origin: Origin, reason: str, failure: Failure | None
) -> int | None:
    """Opens the dead letter again that a replay gave back and that failed anew, in the caller's open transaction.

    The replay's item has its outcome, and the attempts since are the dead letter's. Answers its id; None when it is
    no more.
    """
    parameters = _parameters(origin, reason, failure) | {
        "letter": letter,
        "item": item,
        "revision": revision,
        "message": origin.message_row,
        "envelope": origin.envelope,
        "error": _error(origin, reason, failure),
        "idempotency_key": dead_letter_texts.idempotency_key(origin.idempotency_key),
    }
    parameters |= tries_parameters([origin])
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.reopen, parameters).fetchone()
    if row is None:
        return None
    if item is not None:
        transaction.on_commit(wakeup.announce_replays, robust=True)
    return int(row[0])


def _parameters(origin: Origin, reason: str, failure: Failure | None) -> dict[str, Any]:
    return {
        "failure_group": _failure_group(origin, reason, failure),
        "group_id": origin.group_id,
        "partition_id": origin.partition_id,
        "offset": origin.offset,
        "redelivery": origin.redelivery_id,
        "reason": reason,
        "exception_class": "" if failure is None else failure.exception_class,
    }


def _error(origin: Origin, reason: str, failure: Failure | None) -> str:
    return dead_letter_texts.error(failure, origin.error or reason)


def _failure_group(origin: Origin, reason: str, failure: Failure | None) -> int:
    """The failure group's id; a new one holds up others that fail alike for the first time, until the commit."""
    found = fingerprint.of(origin.source_kind, origin.source, origin.group, origin.handler, failure, reason)
    new = (
        found.digest,
        found.version,
        origin.source_kind,
        origin.source,
        origin.group,
        dead_letter_texts.line(origin.handler, NAME_CHARACTERS),
        "" if failure is None else failure.exception_class,
        found.frame,
        dead_letter_texts.error(None, reason) if failure is None else found.message,
        reason,
    )
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.group, (found.digest,)).fetchone()
        if row is None:
            row = cursor.execute(SQL.add_group, new).fetchone()
        if row is None:
            row = cursor.execute(SQL.group, (found.digest,)).fetchone()
    assert row is not None
    return int(row[0])


# -- what operators do ------------------------------------------------------------------------------------------


def change_state(ids: Sequence[int], state: str | None, actor: audit.Actor, note: str | None = None) -> int:
    """Resolves, discards or opens dead letters again, all or none, and says how many that changed.

    `note` replaces each one's note; with `state` None nothing else changes. Each change is audited. Opens a
    transaction. Raises `InvalidValue`, `DeadLetterNotFound`, `DeadLetterReplaying`, and `Conflict` for one that was
    replayed already.
    """
    wanted = _checked_ids(ids)
    if state is not None and state not in _OPERATIONS:
        raise InvalidValue(
            f"a dead letter can be made open, resolved or discarded, not {shown(state)}", pointer="/state"
        )
    dead_letter_texts.check_note(note)
    with transaction.atomic():
        letters = _lock(wanted)
        if state is not None:
            _check_changeable(letters)
        before = {letter.id: letter.state for letter in letters if state is not None and letter.state != state}
        changed = wanted if note is not None else sorted(before)
        if changed:
            with sync_cursor() as cursor:
                cursor.execute(SQL.change, (state, note, changed))
        noted = {} if note is None else {"note": note}
        if state is not None:
            details = ((str(number), {"state": [was, state]} | noted) for number, was in before.items())
            audit.record_each(actor, _OPERATIONS[state], "dead_letter", details)
        rest = [number for number in changed if number not in before]
        audit.record_each(actor, "note", "dead_letter", ((str(number), noted) for number in rest))
    return len(changed)


class _Locked(NamedTuple):
    id: int
    state: str
    revision: int
    size: int
    source_kind: str


def _lock(ids: list[int]) -> list[_Locked]:
    with sync_cursor() as cursor:
        found = [_Locked(*row) for row in cursor.execute(SQL.lock, (ids,)).fetchall()]
    if len(found) < len(ids):
        missing = sorted(set(ids) - {letter.id for letter in found})
        raise DeadLetterNotFound(f"there is no dead letter {missing[0]}")
    return found


def _checked_ids(ids: Sequence[int]) -> list[int]:
    if any(not isinstance(number, int) or isinstance(number, bool) for number in ids):
        raise InvalidType("ids of dead letters are whole numbers", pointer="/ids")
    if len(ids) > MAX_IDS:
        raise InvalidValue(f"{len(ids)} dead letters are more than {MAX_IDS} in one call", pointer="/ids")
    unknown = next((number for number in ids if not 0 < number < 2**63), None)
    if unknown is not None:
        raise DeadLetterNotFound(f"there is no dead letter {shown(unknown)}")
    return sorted(set(ids))


def _check_changeable(letters: Sequence[_Locked]) -> None:
    for letter in letters:
        if letter.state == "replaying":
            raise DeadLetterReplaying(f"dead letter {letter.id} is under way in a replay; wait for its outcome")
        if letter.state == "replayed":
            raise Conflict(f"dead letter {letter.id} was replayed, and its consumer has handled it: nothing to change")


def add_revision(
    id: int,  # noqa: A002 - the dead letter's, as everywhere
    expected_revision: int | None,
    key: bytes | None,
    value: bytes | None,
    encoding: int,
    headers: Mapping[str, Any],
    origin: str,
    actor: audit.Actor,
) -> int:
    """Edits a dead letter: what it holds now becomes its newest revision, whose number is the answer.

    The ones before are kept and superseded. `origin` is `edit` or `merge_patch`; `expected_revision` is the one that
    was edited, None for whichever is current. Audited, without the payload. Opens a transaction. Raises
    `DeadLetterNotFound`, `DeadLetterReplaying`, `Conflict`, `RevisionSuperseded`, `InvalidValue`, `RecordTooLarge`.
    """
    if encoding not in (RAW, JSON) or origin not in _ORIGINS:
        raise InvalidValue(f"there is no encoding {shown(encoding)} of an edit, or no origin {shown(origin)}")
    record_input.key_bytes(key)
    with transaction.atomic():
        [letter] = _lock(_checked_ids([id]))
        kept = dead_letter_headers.checked(headers, letter.source_kind)
        task_calls.check_edit(letter.source_kind, value, encoding)
        size = Payload(key, value, encoding, kept).size()
        if size > MAX_RECORD_BYTES_LIMIT:
            raise RecordTooLarge(f"the edit has {size} bytes; no record has more than {MAX_RECORD_BYTES_LIMIT}")
        _check_changeable([letter])
        if expected_revision not in (None, letter.revision):
            raise RevisionSuperseded(
                f"revision {expected_revision} of dead letter {id} is superseded: revision {letter.revision} is newest"
            )
        number = letter.revision + 1
        with sync_cursor() as cursor:
            row = (id, number, key, value, encoding, msgspec.json.encode(kept), origin, actor.principal[:200])
            cursor.execute(SQL.add_revision, row)
            cursor.execute(SQL.revise, (number, size, id))
        details = {"revision": [letter.revision, number], "size": [letter.size, size], "origin": origin}
        audit.record(actor, "edit", "dead_letter", str(id), details)
    return number


# -- retention --------------------------------------------------------------------------------------------------


def _always() -> bool:
    return True


def purge(keep_going: Callable[[], bool] = _always, days: int = KEPT_DAYS) -> int:
    """Removes dead letters settled so many days ago, with revisions and attempts; says how many.

    A bounded number, in transactions of its own. Ends early once `keep_going` says no. Open ones are never removed.
    """
    total = 0
    for _ in range(PURGE_STEPS):
        if not keep_going():
            break
        with sync_cursor() as cursor:
            row = cursor.execute(SQL.purge, (days, PURGED_AT_ONCE)).fetchone()
        total += row[0] if row else 0
        if row is None or row[0] < PURGED_AT_ONCE:
            break
    return total
