"""Taking a message from its holder by force: an operator's remedy for a consumer that hangs. Called by the console."""

from __future__ import annotations

from django.db import transaction

from brokers import audit
from brokers.database import sync_cursor
from brokers.queues import claims, topology
from brokers.queues.claims import Claim
from brokers.sql import load

SQL = load("releasing")


def release(queue: str, row: int, *, actor: audit.Actor) -> int | None:
    """Puts a message that is under a claim back in its place; answers its id, or None when it is under none.

    `row` is the message's own. Its holder's claim is void from then on, and that it was taken away does not count
    towards the delivery limit. Raises `QueueNotFound`. Opens a transaction.
    """
    info = topology.queue(queue)
    with transaction.atomic():
        with sync_cursor() as cursor:
            found = cursor.execute(SQL.held, (info.id, row)).fetchone()
        if found is None:
            return None
        number, token, holder = found
        if not claims.requeue(info, [Claim(row, token)]):
            return None
        audit.record(actor, "requeue", "queue", queue, {"message": number, "holder": holder})
    return int(number)
