"""Ending live connections from outside of the process that holds them; called by the console.

Each end is in the audit record, and is announced once that is committed. The process that holds the connection hears
of it by a hint: while Redis is away nobody hears, and the connection stays. A client may come back at once: what keeps
it away is revoking its token.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from django.db import transaction

from brokers import audit, wakeup
from brokers.database import store_errors
from realtime.connection_reports import ConnectionReport


def disconnect(connection: ConnectionReport, *, actor: audit.Actor) -> None:
    """Ends one connection. In a transaction of the caller's it is told of once that is committed."""
    _end([connection], actor, {})


def disconnect_token(token_id: str, connections: Sequence[ConnectionReport], *, actor: audit.Actor, reason: str) -> int:
    """Ends those of the connections that came with this token, in any process; returns how many there were."""
    ending = [connection for connection in connections if connection.token_id == token_id]
    _end(ending, actor, {"reason": reason, "token": token_id})
    return len(ending)


def _end(connections: Sequence[ConnectionReport], actor: audit.Actor, more: dict[str, str]) -> None:
    with store_errors(), transaction.atomic():
        audit.record_each(
            actor,
            "disconnect",
            "connection",
            [
                (each.id, {"user": each.user, "protocol": each.protocol, "address": each.address} | more)
                for each in connections
            ],
        )
        for each in connections:
            transaction.on_commit(partial(wakeup.announce_disconnect, each.id))
