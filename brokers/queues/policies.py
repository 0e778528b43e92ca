"""Policies: settings for all queues whose name matches a pattern. Called by REST, console and commands.

Exactly one policy applies to a queue: of those that match, the one of the highest priority, then the first by name.
The match is made where the topology is read, by PostgreSQL; so a pattern is tried there before it is kept.
"""

from __future__ import annotations

import re
from typing import Final, Unpack

import psycopg
from django.db import DatabaseError, transaction

from brokers import audit
from brokers.database import sqlstate, sync_cursor
from brokers.errors import InvalidValue, PolicyNotFound, Unavailable, shown
from brokers.models import QueuePolicy
from brokers.names import MAX_LENGTH, validate
from brokers.queues import arguments, topology
from brokers.queues.arguments import PolicySettings
from brokers.sql import load

SQL = load("policies")

MAX_PATTERN_LENGTH: Final = 255
MAX_POLICIES: Final = 200
_TRIAL_MS: Final = 1000
"""What a pattern may take for all queues, and for the names that are the worst for it."""
_BACK_REFERENCE: Final = re.compile(r"(?:[^\\]|\\[^1-9])*\\[1-9]", re.DOTALL)
_INVALID_PATTERN: Final = "2201B"
_CANCELLED: Final = "57014"
_TRIED: Final = [(piece * MAX_LENGTH)[:MAX_LENGTH] for piece in ("a", "0", ".", "-", "ab", "a.b-", "aZ0_")]
_TRIED_ENDS: Final = [name[:-1] + end for name in _TRIED for end in ("_", "x")]


def put_policy(
    name: str,
    *,
    pattern: str,
    priority: int = 0,
    actor: audit.Actor = audit.SYSTEM,
    **settings: Unpack[PolicySettings],
) -> bool:
    """Makes a policy, or puts it in place of the one of that name, and answers whether it is new.

    `pattern` is a regular expression of PostgreSQL's without back-references, found anywhere in a queue's name unless
    anchored. Raises `InvalidName`, `InvalidValue` and `UnknownField`. Opens a transaction.
    """
    validate("policy", name)
    values = {**arguments.policy_settings(settings), "pattern": pattern, "priority": priority}
    if isinstance(priority, bool) or not isinstance(priority, int) or not -(2**31) <= priority < 2**31:
        raise InvalidValue(f"a priority is a 32-bit number, not {shown(priority)}", pointer="/priority")
    check_pattern(pattern)
    with transaction.atomic():
        topology.changed()
        there = QueuePolicy.objects.filter(name=name).first()
        if there is None:
            if QueuePolicy.objects.count() >= MAX_POLICIES:
                raise InvalidValue(f"there are {MAX_POLICIES} policies, and that is the most there may be")
            QueuePolicy.objects.create(name=name, **values)
            said = {field: value for field, value in values.items() if value is not None}
            audit.record(actor, "create", "policy", name, said)
            return True
        changes = {
            field: [getattr(there, field), value] for field, value in values.items() if getattr(there, field) != value
        }
        if changes:
            QueuePolicy.objects.filter(id=there.id).update(**values)
            audit.record(actor, "alter", "policy", name, changes)
    return False


def delete_policy(name: str, *, actor: audit.Actor = audit.SYSTEM) -> None:
    """Deletes a policy: the next one that matches applies from then on. Raises `PolicyNotFound`.

    Opens a transaction.
    """
    with transaction.atomic():
        topology.changed()
        deleted, _ = QueuePolicy.objects.filter(name=name).delete()
        if not deleted:
            raise PolicyNotFound(f"there is no policy {shown(name)}")
        audit.record(actor, "delete", "policy", name, {})


def check_pattern(pattern: str) -> None:
    """Raises `InvalidValue` for a pattern that PostgreSQL does not understand or that takes it long.

    Without back-references a match is linear in the name; what a pattern costs otherwise shows when it is compiled, and
    so when it is tried here, within a bounded time.
    """
    if not isinstance(pattern, str) or not 1 <= len(pattern) <= MAX_PATTERN_LENGTH or "\x00" in pattern:
        raise InvalidValue(f"a pattern is text of 1 to {MAX_PATTERN_LENGTH} characters without NUL", pointer="/pattern")
    if _BACK_REFERENCE.match(pattern):
        raise InvalidValue("a pattern cannot have back-references", pointer="/pattern")
    try:
        with transaction.atomic(), sync_cursor() as cursor:
            cursor.execute(SQL.limit_time, (str(_TRIAL_MS),))
            cursor.execute(SQL.try_pattern, ([*_TRIED, *_TRIED_ENDS], pattern))
            transaction.set_rollback(True)  # which takes the time limit back from a transaction around this
    except (DatabaseError, Unavailable) as error:
        raise _refused(pattern, error) from error


def _refused(pattern: str, error: DatabaseError | Unavailable) -> Exception:
    state = _state(error)
    if state == _INVALID_PATTERN:
        why = str(error).partition("\n")[0]
        return InvalidValue(f"{shown(pattern)} is no pattern of PostgreSQL's: {why}", pointer="/pattern")
    if state == _CANCELLED:
        return InvalidValue(f"{shown(pattern)} takes too long to match", pointer="/pattern")
    return error


def _state(error: BaseException | None) -> str | None:
    """The SQLSTATE at the root of an error."""
    while error is not None and not isinstance(error, psycopg.Error):
        error = error.__cause__
    return None if error is None else sqlstate(error)
