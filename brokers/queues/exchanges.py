"""Exchanges: declaring and deleting them. Called by REST, console, commands and declarations."""

from __future__ import annotations

from django.db import transaction

from brokers import audit
from brokers.errors import AccessDenied, ExchangeNotFound, ResourceInUse, shown
from brokers.models import Exchange
from brokers.names import validate
from brokers.queues import arguments, topology


def refuse_default(name: str) -> None:
    """Raises `AccessDenied` for the default exchange, which nobody declares, deletes or binds (AMQP's 403)."""
    if name == "":
        raise AccessDenied("operation not permitted on the default exchange")


def declare_exchange(
    name: str,
    *,
    type: str = "direct",  # noqa: A002 - the contract's word
    alternate_exchange: str | None = None,
    actor: audit.Actor = audit.SYSTEM,
) -> bool:
    """Makes an exchange and answers True; one that is there already stays as it is.

    Messages that no binding of it matches go to `alternate_exchange`, if there is one of that name then. Raises
    `InvalidName`, `InvalidValue`, `AccessDenied` for the default exchange, and `PreconditionFailed` when it was
    declared differently. Opens a transaction only to make it.
    """
    refuse_default(name)
    validate("exchange", name)
    arguments.exchange_settings(type, alternate_exchange)
    wanted = {"type": type, "alternate_exchange": alternate_exchange}
    found = Exchange.objects.filter(name=name).values(*wanted).first()
    if found is None:
        with transaction.atomic():
            topology.changed()
            there, created = Exchange.objects.get_or_create(name=name, defaults=wanted)
            if created:
                audit.record(actor, "create", "exchange", name, wanted)
                return True
            found = {field: getattr(there, field) for field in wanted}
    arguments.same_or_refused("exchange", name, found, wanted)
    return False


def delete_exchange(name: str, *, if_unused: bool = False, actor: audit.Actor = audit.SYSTEM) -> None:
    """Deletes an exchange with the bindings from it and to it.

    Raises `ExchangeNotFound`, `AccessDenied` for the default exchange, and with `if_unused` `ResourceInUse` when
    bindings lead away from it. Opens a transaction.
    """
    refuse_default(name)
    with transaction.atomic():
        topology.changed()
        exchange = located(name)
        from_it, to_it = exchange.bindings.count(), exchange.sources.count()
        if if_unused and from_it:
            raise ResourceInUse(f"exchange {name} has {from_it} bindings")
        exchange.delete()
        audit.record(actor, "delete", "exchange", name, {"bindings": from_it + to_it})


def located(name: str) -> Exchange:
    """The row of an exchange. Raises `ExchangeNotFound`."""
    found = Exchange.objects.filter(name=name).first()
    if found is None:
        raise ExchangeNotFound(f"there is no exchange {shown(name)}")
    return found
