"""Bindings: from an exchange to a queue or to another exchange. Called by REST, console, commands and declarations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from django.db import transaction

from brokers import audit
from brokers.errors import BindingNotFound, InvalidValue, QueueNotFound, shown
from brokers.models import Binding, Queue
from brokers.queues import arguments as argument_rules
from brokers.queues import routing, topology
from brokers.queues.exchanges import located, refuse_default


def bind(
    exchange: str,
    *,
    queue: str | None = None,
    to_exchange: str | None = None,
    routing_key: str = "",
    arguments: Mapping[str, Any] | None = None,
    actor: audit.Actor = audit.SYSTEM,
) -> tuple[int, bool]:
    """Binds an exchange to a queue or to another exchange; answers the binding's id, and whether it is new.

    The same binding again is the one that is there. Raises `InvalidValue` for what RabbitMQ refuses (more than two
    words `#`, an unknown `x-match`), `AccessDenied` for the default exchange, `ExchangeNotFound` and `QueueNotFound`.
    Opens a transaction unless the binding is there.
    """
    refuse_default(exchange)
    if to_exchange is not None:
        refuse_default(to_exchange)
    if (queue is None) == (to_exchange is None):
        raise InvalidValue("a binding leads to a queue or to an exchange: give one of queue and to_exchange")
    routing.check_key(routing_key)
    text = argument_rules.binding_arguments(arguments)
    there = Binding.objects.filter(
        exchange__name=exchange,
        queue__name=queue,
        to_exchange__name=to_exchange,
        routing_key=routing_key,
        arguments=text,
    )
    found = there.values_list("id", flat=True).first()
    if found is not None:
        return found, False
    with transaction.atomic():
        topology.changed()
        source = located(exchange)
        routing.check_binding(source.type, routing_key, arguments or {})
        target = None if to_exchange is None else located(to_exchange)
        binding, created = Binding.objects.get_or_create(
            exchange=source,
            queue=None if queue is None else _queue(queue),
            to_exchange=target,
            routing_key=routing_key,
            arguments=text,
        )
        if created:
            audit.record(actor, "bind", "exchange", exchange, _details(queue, to_exchange, routing_key, text))
    return binding.id, created


def unbind(binding_id: int, *, actor: audit.Actor = audit.SYSTEM) -> None:
    """Takes a binding away. Raises `BindingNotFound`. Opens a transaction."""
    with transaction.atomic():
        topology.changed()
        binding = (
            Binding.objects.select_related("exchange", "queue", "to_exchange").filter(id=binding_id).first()
            if abs(binding_id) < 2**63
            else None
        )
        if binding is None:
            raise BindingNotFound(f"there is no binding {shown(binding_id)}")
        queue = None if binding.queue is None else binding.queue.name
        to_exchange = None if binding.to_exchange is None else binding.to_exchange.name
        binding.delete()
        details = _details(queue, to_exchange, binding.routing_key, binding.arguments)
        audit.record(actor, "unbind", "exchange", binding.exchange.name, details)


def _queue(name: str) -> Queue:
    found = Queue.objects.filter(name=name).first()
    if found is None:
        raise QueueNotFound(f"there is no queue {shown(name)}")
    return found


def _details(queue: str | None, to_exchange: str | None, routing_key: str, arguments: str) -> dict[str, Any]:
    to = {"queue": queue} if queue is not None else {"to_exchange": to_exchange}
    return {**to, "routing_key": routing_key, "arguments": json.loads(arguments)}
