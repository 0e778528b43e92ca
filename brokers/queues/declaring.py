"""Declaring and deleting queues; with what is imported here, all that changes the topology.

Each change takes the topology's row first (`topology.changed`), so that changes come one after another, and tells every
process when it is committed. Called by REST, console, commands and declarations.
"""

from __future__ import annotations

from typing import Any, LiteralString, Unpack

from django.db import transaction

from brokers import audit, wakeup
from brokers.database import sync_cursor
from brokers.errors import QueueNotEmpty, QueueNotFound, ResourceInUse, shown
from brokers.models import Queue
from brokers.names import validate
from brokers.queues import arguments, topology
from brokers.queues.arguments import QueueSettings
from brokers.queues.bindings import bind, unbind
from brokers.queues.exchanges import declare_exchange, delete_exchange
from brokers.queues.policies import delete_policy, put_policy
from brokers.sql import load

__all__ = [
    "bind",
    "declare_exchange",
    "declare_queue",
    "delete_exchange",
    "delete_policy",
    "delete_queue",
    "pause_queue",
    "put_policy",
    "resume_queue",
    "unbind",
]

SQL = load("declaring")


def declare_queue(
    name: str,
    *,
    temporary: bool = False,
    actor: audit.Actor = audit.SYSTEM,
    **settings: Unpack[QueueSettings],
) -> bool:
    """Makes a durable queue and answers True; one that is there already stays as it is, and has been used now.

    Settings are those of the contract, None or missing where nothing is said; times are milliseconds. Raises
    `InvalidName`, `InvalidValue`, `UnknownField`, and `PreconditionFailed` when it was declared differently. Opens a
    transaction only to make it.
    """
    validate("queue", name)
    wanted = {**arguments.queue_settings(settings), "temporary": temporary}
    there = Queue.objects.filter(name=name).first()
    if there is None:
        with transaction.atomic():
            topology.changed()
            there, created = Queue.objects.get_or_create(name=name, defaults=wanted)
            if created:
                audit.record(actor, "create", "queue", name, _said(wanted))
                return True
    arguments.same_or_refused("queue", name, {field: getattr(there, field) for field in wanted}, wanted)
    known = topology.current().queue_by_id(there.id)
    if known is None or known.expires_ms is not None:
        with sync_cursor() as cursor:
            cursor.execute(SQL.used, (there.id,))
    return False


def _said(settings: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in settings.items() if value is not None and value is not False}


def delete_queue(
    name: str, *, if_empty: bool = False, if_unused: bool = False, actor: audit.Actor = audit.SYSTEM
) -> int:
    """Deletes a queue and its bindings at once, for everybody, and answers how many messages went with it.

    The messages are not dead-lettered; housekeeping removes them in steps. Raises `QueueNotFound`; with `if_empty`
    `QueueNotEmpty` while it holds any, ready, delayed or unacknowledged (one whose publishing commits at this very
    moment may be missed); with `if_unused` `ResourceInUse` while it has consumers. Opens a transaction.
    """
    with transaction.atomic():
        topology.changed()
        queue = _located(name)
        if if_unused and _first(SQL.has_consumers, (queue.id,)):
            raise ResourceInUse(f"queue {name} has consumers")
        if if_empty and _first(SQL.has_messages, {"queue": queue.id}):
            raise QueueNotEmpty(f"queue {name} holds messages")
        messages: int = _first(SQL.messages, {"queue": queue.id})
        bindings = queue.bindings.count()
        queue.delete()
        audit.record(actor, "delete", "queue", name, {"messages": messages, "bindings": bindings})
    return messages


def pause_queue(name: str, *, actor: audit.Actor = audit.SYSTEM) -> None:
    """Hands out nothing of a queue any more; publishing goes on. Raises `QueueNotFound`. Opens a transaction."""
    _set_paused(name, True, actor)


def resume_queue(name: str, *, actor: audit.Actor = audit.SYSTEM) -> None:
    """Ends a pause. Raises `QueueNotFound`. Opens a transaction."""
    _set_paused(name, False, actor)


def _set_paused(name: str, paused: bool, actor: audit.Actor) -> None:
    if _located(name).paused is paused:
        return
    with transaction.atomic():
        topology.changed()
        queue = _located(name)
        if queue.paused is not paused:
            queue.paused = paused
            queue.save(update_fields=["paused"])
            audit.record(actor, "pause" if paused else "resume", "queue", name, {})
    if not paused:
        transaction.on_commit(lambda: wakeup.announce_queues([queue.id]))


def _located(name: str) -> Queue:
    found = Queue.objects.filter(name=name).first()
    if found is None:
        raise QueueNotFound(f"there is no queue {shown(name)}")
    return found


def _first(statement: LiteralString, parameters: Any) -> Any:
    with sync_cursor() as cursor:
        row = cursor.execute(statement, parameters).fetchone()
    assert row is not None
    return row[0]
