"""Queues with messages in them, made to lapse, fall due or expire at once: what the tests of tending begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import connection

from brokers.models import Message as Row
from brokers.queues import claims, lengths, sending, tending, topology
from brokers.queues.declaring import declare_queue
from brokers.queues.message import Message
from brokers.queues.topology import QueueInfo
from tests.server import unique


def queue(name: str | None = None, **settings: Any) -> QueueInfo:
    """A queue, declared now."""
    found = name or unique("queue")
    declare_queue(found, **settings)
    return topology.queue(found)


def put(to: QueueInfo, *bodies: Any, **properties: Any) -> list[int]:
    """Publishes bodies to a queue through the default exchange; their ids."""
    return [sending.send("", to.name, body, **properties).id for body in bodies]


def take(of: QueueInfo, limit: int = 100, lease_ms: int = 60_000, holder: str = "someone") -> list[Message]:
    """Claims messages."""
    return claims.claim(topology.queue(of.name), limit, lease_ms, holder)


def bodies(of: QueueInfo) -> list[Any]:
    """Bodies of all messages of a queue, in the order in which they would be handed out."""
    return [message.body for message in claims.peek(of, limit=1000)]


def pass_time(of: QueueInfo, column: str, rows: Sequence[int] | None = None) -> None:
    """Lets a time of a queue's messages, `lease_until`, `due_at` or `expires_at`, be over."""
    chosen = "" if rows is None else " and id = any(%s)"
    with connection.cursor() as cursor:
        cursor.execute(
            f"update brokers_message set {column} = clock_timestamp() - interval '1 millisecond'"
            f" where queue_id = %s and {column} > clock_timestamp(){chosen}",
            [of.id] if rows is None else [of.id, list(rows)],
        )


def tend() -> None:
    """Does all that is due, however many looks that takes."""
    for _ in range(50):
        tending.forget()
        if not tending.tend():
            return
    raise AssertionError("tending finds no end")


def counted(of: QueueInfo) -> lengths.Figures:
    """The queue's figures by counting its rows."""
    rows = Row.objects.filter(queue_id=of.id)
    leased, due = rows.filter(lease_until__isnull=False).count(), rows.filter(due_at__isnull=False).count()
    return lengths.Figures(rows.count() - leased - due, leased, due)


def figures(of: QueueInfo) -> lengths.Figures:
    """The queue's figures; they are what counting its rows says."""
    found = lengths.figures([of.id])[of.id]
    assert found == counted(of)
    return found
