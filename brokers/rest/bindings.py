"""Making, listing, describing and removing bindings over REST.

A binding is told only to whoever may describe both of its ends; to all others it is as if it were not there.
"""

from __future__ import annotations

from brokers import strict_json
from brokers.access import Principal, allowed, authorize
from brokers.errors import AccessDenied, BindingNotFound, ExchangeNotFound, InvalidName, InvalidValue, QueueNotFound
from brokers.instants import rfc3339
from brokers.names import validate
from brokers.queues import bindings as domain
from brokers.rest import queue_schemas as schemas
from brokers.rest.operation import Access, Answer, Call, Operation
from brokers.rest.schemas import Name
from brokers.rest.threads import in_thread
from brokers.rest.topics import PageQuery
from brokers.selectors import exchanges as selector

_READ = Access("read", "exchange", why="on the exchange that is bound from")
_WRITE = Access("write", "queue", why="on the queue (or exchange) that is bound to")
_DESCRIBE = Access("describe", "exchange", why="on the exchange and on the queue (or exchange) bound; else not found")


class BindingsQuery(PageQuery):
    """Which bindings, and which part of their list."""

    exchange: Name | None = None
    """From this exchange."""
    queue: Name | None = None
    """To this queue."""
    to_exchange: Name | None = None
    """To this exchange."""


def shown(found: selector.BindingDetail) -> schemas.Binding:
    """A binding as an answer."""
    return schemas.Binding(
        id=found.id,
        exchange=found.exchange,
        queue=found.queue,
        to_exchange=found.to_exchange,
        routing_key=found.routing_key,
        arguments=found.arguments,
        created_at=rfc3339(found.created_at) or "",
    )


def _destination(queue: str | None, to_exchange: str | None) -> tuple[str, str]:
    return ("queue", queue) if queue is not None else ("exchange", to_exchange or "")


def _sees(principal: Principal, found: selector.BindingDetail) -> bool:
    return allowed(principal, "describe", "exchange", found.exchange) and allowed(
        principal, "describe", *_destination(found.queue, found.to_exchange)
    )


def _seen(principal: Principal, binding_id: int) -> selector.BindingDetail:
    """Raises `AccessDenied` for one who may describe no exchange at all, whatever there is."""
    if not principal.superuser and not any(
        rule.allows("describe") and rule.resource_type == "exchange" for rule in principal.rules
    ):
        raise AccessDenied(f"describe is granted on no exchange to {principal.name}")
    found = selector.binding(binding_id)
    if not _sees(principal, found):
        raise selector.no_binding(binding_id)
    return found


async def post_binding(call: Call) -> Answer:
    """Binds an exchange to a queue or to another exchange; 200 when they are bound so already."""
    body: schemas.BindingDeclaration = call.body
    if (body.queue is None) == (body.to_exchange is None):
        raise InvalidValue("give queue or to_exchange, one of them", pointer="/queue")
    authorize(call.principal, "read", "exchange", body.exchange)
    authorize(call.principal, "write", *_destination(body.queue, body.to_exchange))

    def bind() -> tuple[selector.BindingDetail, bool]:
        binding_id, created = domain.bind(
            body.exchange,
            queue=body.queue,
            to_exchange=body.to_exchange,
            routing_key=body.routing_key,
            arguments=body.arguments,
            actor=call.actor(),
        )
        return selector.binding(binding_id), created

    found, created = await in_thread(bind)
    if not created:
        return Answer(200, shown(found))
    return Answer(201, shown(found), [(b"location", f"/api/v1/bindings/{found.id}".encode())])


async def get_bindings(call: Call) -> Answer:
    """Bindings, oldest first; a page may hold fewer than `limit`."""
    query: BindingsQuery = call.query
    ends = {"exchange": query.exchange, "queue": query.queue, "to_exchange": query.to_exchange}
    for field, name in ends.items():
        if name is not None:
            validate("queue" if field == "queue" else "exchange", name, pointer=f"/{field}")
    after = strict_json.parse_integer(query.after, pointer="/after", minimum=0) if query.after else 0
    found, following = await in_thread(
        selector.bindings,
        **ends,
        after=after,
        limit=query.limit,
        may=lambda binding: _sees(call.principal, binding),
    )
    return Answer(body=schemas.BindingPage(list(map(shown, found)), None if following is None else str(following)))


async def get_binding(call: Call) -> Answer:
    """One binding."""
    return Answer(body=shown(await in_thread(_seen, call.principal, call.integer("binding_id"))))


async def delete_binding(call: Call) -> Answer:
    """Removes a binding."""
    binding_id = call.integer("binding_id")

    def unbind() -> None:
        found = _seen(call.principal, binding_id)
        authorize(call.principal, "read", "exchange", found.exchange)
        authorize(call.principal, "write", *_destination(found.queue, found.to_exchange))
        domain.unbind(binding_id, actor=call.actor())

    await in_thread(unbind)
    return Answer(204)


def operations() -> list[Operation]:
    """Declarations of all operations on bindings."""
    binding = "/api/v1/bindings/{binding_id}"
    return [
        Operation(
            method="POST",
            path="/api/v1/bindings",
            summary="Bind an exchange",
            tag="Bindings",
            access=(_READ, _WRITE),
            handler=post_binding,
            body=schemas.BindingDeclaration,
            answers={200: schemas.Binding, 201: schemas.Binding},
            problems=(ExchangeNotFound, QueueNotFound),
            answer_headers=(("Location", "A new binding's path."),),
        ),
        Operation(
            method="GET",
            path="/api/v1/bindings",
            summary="List bindings",
            tag="Bindings",
            access=(_DESCRIBE,),
            handler=get_bindings,
            query=BindingsQuery,
            answers={200: schemas.BindingPage},
            problems=(InvalidName,),
        ),
        Operation(
            method="GET",
            path=binding,
            summary="Describe a binding",
            tag="Bindings",
            access=(_DESCRIBE,),
            handler=get_binding,
            answers={200: schemas.Binding},
            problems=(BindingNotFound,),
        ),
        Operation(
            method="DELETE",
            path=binding,
            summary="Remove a binding",
            tag="Bindings",
            access=(_READ, _WRITE),
            handler=delete_binding,
            answers={204: None},
            problems=(BindingNotFound,),
        ),
    ]
