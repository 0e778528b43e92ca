"""Declaring, listing, describing and deleting exchanges over REST, and asking where a message would go."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from django.db import transaction
from msgspec import Meta

from brokers.access import allowed, authorize
from brokers.errors import ExchangeNotFound, PreconditionFailed, ResourceInUse
from brokers.instants import rfc3339
from brokers.queues import declaring, message_input, routing, topology
from brokers.queues import exchanges as domain
from brokers.rest import queue_schemas as schemas
from brokers.rest.operation import Access, Answer, Call, Operation
from brokers.rest.threads import in_thread
from brokers.rest.topics import PageQuery
from brokers.selectors import exchanges as selector

Flag = Annotated[Literal["0", "1", "false", "true"], Meta(description="1 or true; 0 or false")]
_DESCRIBE = Access("describe", "exchange", "exchange")
_CREATE = Access("create", "exchange", why="on the exchange; to declare one again as it is, `describe` on it will do")
_WRITE_ALTERNATE = Access("write", "exchange", why="on the alternate exchange, if one is named")
_FILTERED = Access("describe", "exchange", why="the list holds what the caller may describe")


class DeleteExchangeQuery(msgspec.Struct):
    """What to spare."""

    if_empty: Flag = "0"
    """As for queues; an exchange holds nothing, so this spares none."""
    if_unused: Flag = "0"
    """Only if nothing is bound to it."""


def flagged(value: str) -> bool:
    """Whether a flag of a query is set."""
    return value in ("1", "true")


def shown(found: selector.ExchangeDetail) -> schemas.Exchange:
    """An exchange as an answer."""
    return schemas.Exchange(
        name=found.name,
        type=found.type,  # type: ignore[arg-type]  # the database knows no other
        alternate_exchange=found.alternate_exchange,
        bindings=found.bindings,
        created_at=rfc3339(found.created_at) or "",
    )


async def put_exchange(call: Call) -> Answer:
    """Declares an exchange: 201 when it was not there, 200 when it was and is the same."""
    body: schemas.ExchangeDeclaration = call.body
    name = call.path["exchange"]
    if not allowed(call.principal, "create", "exchange", name):
        authorize(call.principal, "describe", "exchange", name)

    def declare() -> bool:
        with transaction.atomic():
            created = declaring.declare_exchange(
                name, type=body.type, alternate_exchange=body.alternate_exchange, actor=call.actor()
            )
            if created:
                authorize(call.principal, "create", "exchange", name)
                if body.alternate_exchange is not None:
                    authorize(call.principal, "write", "exchange", body.alternate_exchange)
        return created

    created = await in_thread(declare)
    answer = shown(await in_thread(selector.get, name))
    if not created:
        return Answer(200, answer)
    return Answer(201, answer, [(b"location", f"/api/v1/exchanges/{name}".encode())])


async def get_exchanges(call: Call) -> Answer:
    """Exchanges by name, those that the caller may describe; the default exchange is none of them."""

    def may(name: str) -> bool:
        return allowed(call.principal, "describe", "exchange", name)

    found, following = await in_thread(selector.page, call.query.after, call.query.limit, may)
    return Answer(body=schemas.ExchangePage(list(map(shown, found)), following))


async def get_exchange(call: Call) -> Answer:
    """One exchange."""
    return Answer(body=shown(await in_thread(selector.get, call.path["exchange"])))


async def delete_exchange(call: Call) -> Answer:
    """Deletes an exchange and all bindings from and to it."""
    unused = flagged(call.query.if_unused)
    await in_thread(domain.delete_exchange, call.path["exchange"], if_unused=unused, actor=call.actor())
    return Answer(204)


async def post_routes(call: Call) -> Answer:
    """Says which queues a message with this routing key and these headers would reach, and by which bindings.

    Nothing is published. Exchanges and queues that the caller may not describe are left out.
    """
    body: schemas.RouteQuestion = call.body
    headers = message_input.checked_headers(body.headers)
    keys = routing.routing_keys(routing.check_key(body.routing_key), headers)
    found = (await topology.afresh()).explain(call.path["exchange"], keys, headers)

    def sees(kind: str, name: str | None) -> bool:
        return name is None or allowed(call.principal, "describe", kind, name)

    steps = [
        schemas.RouteStep(
            exchange=hop.exchange,
            binding_id=hop.binding.id if hop.binding is not None else None,
            queue=hop.queue,
            to_exchange=hop.to_exchange,
            routing_key=hop.binding.routing_key if hop.binding is not None else None,
            arguments=dict(hop.binding.arguments) if hop.binding is not None else None,
            why=hop.why,
        )
        for hop in found.hops
        if sees("exchange", hop.exchange) and sees("exchange", hop.to_exchange) and sees("queue", hop.queue)
    ]
    return Answer(body=schemas.RouteAnswer([queue.name for queue in found.queues if sees("queue", queue.name)], steps))


def operations() -> list[Operation]:
    """Declarations of all operations on exchanges."""
    exchange = "/api/v1/exchanges/{exchange}"
    return [
        Operation(
            method="GET",
            path="/api/v1/exchanges",
            summary="List exchanges",
            tag="Exchanges",
            access=(_FILTERED,),
            handler=get_exchanges,
            query=PageQuery,
            answers={200: schemas.ExchangePage},
        ),
        Operation(
            method="PUT",
            path=exchange,
            summary="Declare an exchange",
            tag="Exchanges",
            access=(_CREATE, _WRITE_ALTERNATE),
            handler=put_exchange,
            body=schemas.ExchangeDeclaration,
            answers={200: schemas.Exchange, 201: schemas.Exchange},
            problems=(PreconditionFailed,),
            answer_headers=(("Location", "A new exchange's path."),),
        ),
        Operation(
            method="GET",
            path=exchange,
            summary="Describe an exchange",
            tag="Exchanges",
            access=(_DESCRIBE,),
            handler=get_exchange,
            answers={200: schemas.Exchange},
            problems=(ExchangeNotFound,),
        ),
        Operation(
            method="DELETE",
            path=exchange,
            summary="Delete an exchange",
            tag="Exchanges",
            access=(Access("delete", "exchange", "exchange"),),
            handler=delete_exchange,
            query=DeleteExchangeQuery,
            answers={204: None},
            problems=(ExchangeNotFound, ResourceInUse),
        ),
        Operation(
            method="POST",
            path=f"{exchange}/routes",
            summary="Ask where a message would go",
            tag="Exchanges",
            access=(_DESCRIBE,),
            handler=post_routes,
            body=schemas.RouteQuestion,
            answers={200: schemas.RouteAnswer},
            problems=(ExchangeNotFound,),
        ),
    ]
