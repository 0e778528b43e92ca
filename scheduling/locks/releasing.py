"""Releasing a lock by force, whoever holds it: for operators, when its holder is gone for good.

Called by REST, the console and the `locks` command.
"""

from __future__ import annotations

from datetime import UTC
from typing import Any

from django.db import transaction

from brokers import audit
from brokers.audit import Actor
from brokers.database import sync_cursor
from brokers.errors import shown
from scheduling.locks.errors import LockChanged, LockNotFound
from scheduling.locks.store import SQL

HOLDER_LENGTH = 200


def release(name: str, *, actor: Actor, held_by: str | None = None, reason: str = "") -> bool:
    """Frees a lock and records who did it; False when it was free already, and nothing was changed.

    Its holder goes on unaware, and can neither extend nor unlock it, nor pass its fence. With `held_by` only if that
    is still the holder. Its own transaction, or part of the caller's. Raises `LockNotFound`, `LockChanged` and
    `Unavailable`.
    """
    with transaction.atomic(), sync_cursor() as cursor:
        cursor.execute(SQL.not_waiting_for_long)
        row = cursor.execute(SQL.look, (name,)).fetchone()
        if row is None:
            raise LockNotFound(f"there is no lock {shown(name)}")
        locked_by, locked_at, until, is_held = row
        if not is_held:
            return False
        if held_by is not None and locked_by != held_by:
            raise LockChanged(f"the lock {name} is held by {shown(locked_by)} by now; nothing was released")
        cursor.execute(SQL.release, (f"released by {actor.principal[:HOLDER_LENGTH]}", name))
        details: dict[str, Any] = {
            "held_by": locked_by,
            "locked_at": locked_at.replace(tzinfo=UTC).isoformat(),
            "lock_until": until.replace(tzinfo=UTC).isoformat(),
        }
        audit.record(actor, "release", "lock", name, details | ({"reason": reason} if reason else {}))
    return True
