"""Many temporary queues at once, each with a binding or none: one change of the topology for all.

Each change has every process read the topology again, and so a thousand clients that come or go together must not make
a thousand of them. Called by live subscriptions to exchanges and for replies.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from django.db import transaction

from brokers import audit
from brokers.errors import BrokerError, ExchangeNotFound, shown
from brokers.models import Binding, Exchange, Queue
from brokers.queues import routing, topology
from brokers.queues.exchanges import refuse_default


class Wanted(NamedTuple):
    """A temporary queue, and what leads to it."""

    name: str
    expires_ms: int
    exchange: str | None = None
    routing_key: str = ""


def declare(wanted: Sequence[Wanted], actor: audit.Actor = audit.SYSTEM) -> Mapping[str, BrokerError]:
    """Makes queues of names that nobody else has, and their bindings; answers why some could not be, by their names.

    They keep no dead letters. Reasons are `ExchangeNotFound`, `AccessDenied` for the default exchange and
    `InvalidValue`. Opens a transaction.
    """
    refused: dict[str, BrokerError] = {}
    with transaction.atomic():
        topology.changed()
        names = {each.exchange for each in wanted if each.exchange is not None}
        exchanges = {found.name: found for found in Exchange.objects.filter(name__in=names)}
        for each in wanted:
            try:
                _check(each, exchanges)
            except BrokerError as error:
                refused[each.name] = error
        made = [each for each in wanted if each.name not in refused]
        queues = Queue.objects.bulk_create(
            Queue(name=each.name, temporary=True, expires_ms=each.expires_ms, dead_letters="none") for each in made
        )
        Binding.objects.bulk_create(
            Binding(exchange=exchanges[each.exchange], queue=queue, routing_key=each.routing_key)
            for each, queue in zip(made, queues, strict=True)
            if each.exchange is not None
        )
        if made:
            audit.record(actor, "create", "queue", made[0].name, {"temporary": True, "queues": len(made)})
    return refused


def delete(names: Collection[str]) -> int:
    """Deletes temporary queues with their bindings and messages; says how many there were. Opens a transaction."""
    with transaction.atomic():
        topology.changed()
        queues = Queue.objects.filter(name__in=list(names), temporary=True)
        count = queues.count()
        queues.delete()
    return count


def _check(wanted: Wanted, exchanges: Mapping[str, Exchange]) -> None:
    if wanted.exchange is None:
        return
    refuse_default(wanted.exchange)
    found = exchanges.get(wanted.exchange)
    if found is None:
        raise ExchangeNotFound(f"there is no exchange {shown(wanted.exchange)}")
    routing.check_binding(found.type, wanted.routing_key, {})
