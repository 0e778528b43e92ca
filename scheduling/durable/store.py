"""The rows of durable calls, on Django's connection: part of the caller's transaction if there is one.

What workers and beats do with any run is in `scheduling.runs`. Called by the other modules of this package.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from brokers.database import sync_cursor
from brokers.dead_letter_origins import Try
from brokers.sql import parse
from scheduling.runs import clipped

SQL: Final = parse(Path(__file__).parent.parent / "sql" / "background.sql")


@dataclass(frozen=True, slots=True)
class CallInfo:
    """A call of a durable function, as its row says."""

    id: int
    function: str
    state: str
    """`ready`, `running`, `succeeded` or `dead`."""
    called_at: datetime
    next_at: datetime
    """When it may be tried, or tried again."""
    started_at: datetime | None
    """Of the first attempt."""
    ended_at: datetime | None
    attempts: int
    losses: int
    """Attempts whose worker was lost."""
    error: str
    """The last attempt's; of one that succeeded why its result was not kept."""
    result: Any
    process: str
    """Host and process id of the worker of the last attempt."""
    called_by: str
    dead_letter_id: int | None
    arguments: tuple[list[Any], dict[str, Any]]


class Again(NamedTuple):
    """A call that a replay makes anew."""

    function: str
    arguments: str
    who: str
    dead_letter_id: int
    item_id: int
    revision: int


class Locked(NamedTuple):
    """The run of an attempt, locked by the caller's transaction."""

    id: int
    function: str
    arguments: tuple[list[Any], dict[str, Any]]
    attempts: int
    losses: int
    began_at: datetime
    started_at: datetime
    process: str
    dead_letter_id: int | None
    replay_item_id: int | None
    revision: int | None
    now: datetime


def submit(function: str, arguments: str, who: str) -> int:
    """A call, `arguments` as JSON text; answers its id. Ring for it after the commit."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.submit, {"function": function, "arguments": arguments, "who": who}).fetchone()
    assert row is not None
    return int(row[0])


def submit_again(calls: Sequence[Again]) -> list[int]:
    """Calls of a replay; answers their ids. Ring for them after the commit."""
    parameters = {
        "functions": [call.function for call in calls],
        "arguments": [call.arguments for call in calls],
        "who": [call.who for call in calls],
        "letters": [call.dead_letter_id for call in calls],
        "items": [call.item_id for call in calls],
        "revisions": [call.revision for call in calls],
    }
    with sync_cursor() as cursor:
        return [row[0] for row in cursor.execute(SQL.submit_again, parameters)]


def lock(run: int, token: uuid.UUID, *, has_lapsed: bool = False) -> Locked | None:
    """Locks the run of an attempt; None when the attempt has lost it, or, with `has_lapsed`, has not."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.lock_attempt, {"id": run, "token": token, "lapsed": has_lapsed}).fetchone()
    return None if row is None else Locked._make([*row[:2], _arguments(row[2]), *row[3:]])


def take_attempts(run: int) -> list[Try]:
    """Takes the attempts that were kept of a run, for its dead letter."""
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.take_attempts, (run,)).fetchall()
    return [Try._make([*row[:6], json.loads(row[6]), *row[7:]]) for row in rows]


def give_up(run: int, dead_letter: int, error: str, exception_class: str, *, is_lost: bool) -> None:
    """Ends a run that the caller has locked as that dead letter."""
    parameters = {
        "id": run,
        "letter": dead_letter,
        "error": clipped(error),
        "class": exception_class,
        "failures": int(not is_lost),
        "losses": int(is_lost),
    }
    with sync_cursor() as cursor:
        cursor.execute(SQL.give_up, parameters)


def succeed(run: int, result: object, error: str) -> None:
    """Ends a run that the caller has locked."""
    stored = None if result is None else json.dumps(result)
    with sync_cursor() as cursor:
        cursor.execute(SQL.succeed, {"id": run, "result": stored, "error": clipped(error)})


def get(call: int) -> CallInfo | None:
    """One call; None when there is none."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.call, (call,)).fetchone()
    return None if row is None else info(row)


def page(function: str | None, state: str | None, before: int, limit: int) -> list[CallInfo]:
    """Calls, latest first, with ids below `before`."""
    parameters = {"function": function, "state": state, "before": before, "limit": limit}
    with sync_cursor() as cursor:
        return [info(row) for row in cursor.execute(SQL.calls, parameters)]


def info(row: Sequence[Any]) -> CallInfo:
    """A row of `SQL.call`, from any connection."""
    result = None if row[10] is None else json.loads(row[10])
    return CallInfo(*[*row[:10], result, *row[11:14], _arguments(row[14])])


def _arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    args, kwargs = json.loads(text)
    return args, kwargs
