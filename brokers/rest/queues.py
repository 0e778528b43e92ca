"""Declaring, listing, describing, pausing, emptying, moving and deleting queues over REST."""

from __future__ import annotations

from typing import Any

import msgspec
from django.db import transaction
from msgspec import UNSET

from brokers.access import allowed, authorize
from brokers.errors import PreconditionFailed, QueueFull, QueueNotEmpty, QueueNotFound, ResourceInUse
from brokers.instants import rfc3339
from brokers.queues import declaring, lengths, moving
from brokers.rest import queue_schemas as schemas
from brokers.rest.exchanges import Flag, flagged
from brokers.rest.operation import Access, Answer, Call, Operation
from brokers.rest.threads import in_thread
from brokers.rest.topics import PageQuery
from brokers.selectors import queues as selector

_DESCRIBE = Access("describe", "queue", "queue")
_ALTER = Access("alter", "queue", "queue")
_DELETE = Access("delete", "queue", "queue")
_CREATE = Access("create", "queue", why="on the queue; to declare one again as it is, `describe` on it will do")
_WRITE_DEAD = Access("write", "exchange", why="on the dead-letter exchange, if one is named")
_FILTERED = Access("describe", "queue", why="the list holds what the caller may describe")
_WRITE_TARGET = Access("write", "queue", why="on the queue that the messages go to")


class DeleteQueueQuery(msgspec.Struct):
    """What to spare."""

    if_empty: Flag = "0"
    """Only if it holds no message."""
    if_unused: Flag = "0"
    """Only if nobody consumes it."""


def given(body: schemas.SharedSettings) -> dict[str, Any]:
    """The settings that a declaration names."""
    return {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}


def shown(found: selector.QueueDetail) -> schemas.Queue:
    """A queue as an answer."""
    declared, effective = found.declared, found.effective
    return schemas.Queue(
        name=found.name,
        message_ttl_ms=declared.message_ttl_ms,
        expires_ms=declared.expires_ms,
        max_length=declared.max_length,
        overflow=declared.overflow or "drop-head",  # type: ignore[arg-type]  # the database knows no other
        max_priority=declared.max_priority,
        dead_letter_exchange=declared.dead_letter_exchange,
        dead_letter_routing_key=declared.dead_letter_routing_key,
        delivery_limit=20 if declared.delivery_limit is None else declared.delivery_limit,
        single_active_consumer=declared.single_active_consumer,
        dead_letters=declared.dead_letters,  # type: ignore[arg-type]  # nor here
        policy=found.policy,
        effective=schemas.EffectiveSettings(
            **{name: getattr(effective, name) for name in schemas.EffectiveSettings.__struct_fields__}
        ),
        paused=found.paused,
        temporary=found.temporary,
        created_at=rfc3339(found.created_at) or "",
        messages=found.messages,
        ready=found.ready,
        unacknowledged=found.unacknowledged,
        delayed=found.delayed,
        consumers=found.consumers,
        oldest_ready_at=rfc3339(found.oldest_ready_at),
    )


async def put_queue(call: Call) -> Answer:
    """Declares a queue: 201 when it was not there, 200 when it was and is the same."""
    body: schemas.QueueDeclaration = call.body
    name = call.path["queue"]
    if not allowed(call.principal, "create", "queue", name):
        authorize(call.principal, "describe", "queue", name)

    def declare() -> bool:
        with transaction.atomic():
            created = declaring.declare_queue(name, actor=call.actor(), **given(body))
            if created:
                authorize(call.principal, "create", "queue", name)
                if isinstance(body.dead_letter_exchange, str):  # "" too: it leads into any queue
                    authorize(call.principal, "write", "exchange", body.dead_letter_exchange)
        return created

    created = await in_thread(declare)
    answer = shown(await in_thread(selector.get, name))
    if not created:
        return Answer(200, answer)
    return Answer(201, answer, [(b"location", f"/api/v1/queues/{name}".encode())])


async def get_queues(call: Call) -> Answer:
    """Queues by name, those that the caller may describe; a page may hold fewer than `limit`."""

    def may(name: str) -> bool:
        return allowed(call.principal, "describe", "queue", name)

    found, following = await in_thread(selector.page, call.query.after, call.query.limit, may)
    return Answer(body=schemas.QueuePage(list(map(shown, found)), following))


async def get_queue(call: Call) -> Answer:
    """One queue: its settings, what holds together with its policy, and what waits in it."""
    return Answer(body=shown(await in_thread(selector.get, call.path["queue"])))


async def delete_queue(call: Call) -> Answer:
    """Deletes a queue with its bindings and messages, which are not dead-lettered."""
    await in_thread(
        declaring.delete_queue,
        call.path["queue"],
        if_empty=flagged(call.query.if_empty),
        if_unused=flagged(call.query.if_unused),
        actor=call.actor(),
    )
    return Answer(204)


async def post_queue_pause(call: Call) -> Answer:
    """Hands out no messages until it is resumed; publishing goes on."""
    await in_thread(declaring.pause_queue, call.path["queue"], actor=call.actor())
    return await get_queue(call)


async def post_queue_resume(call: Call) -> Answer:
    """Hands out messages again."""
    await in_thread(declaring.resume_queue, call.path["queue"], actor=call.actor())
    return await get_queue(call)


async def delete_messages(call: Call) -> Answer:
    """Purges: removes the messages that nobody has claimed. They are not dead-lettered."""
    await in_thread(lengths.purge, call.path["queue"], actor=call.actor())
    return Answer(204)


async def post_moves(call: Call) -> Answer:
    """Moves ready messages to another queue, oldest first."""
    body: schemas.MoveRequest = call.body
    authorize(call.principal, "write", "queue", body.to)
    moved = await in_thread(moving.move, call.path["queue"], body.to, limit=body.limit, actor=call.actor())
    return Answer(body=schemas.Moved(moved))


def operations() -> list[Operation]:
    """Declarations of all operations on queues as a whole."""
    queue = "/api/v1/queues/{queue}"
    return [
        Operation(
            method="GET",
            path="/api/v1/queues",
            summary="List queues",
            tag="Queues",
            access=(_FILTERED,),
            handler=get_queues,
            query=PageQuery,
            answers={200: schemas.QueuePage},
        ),
        Operation(
            method="PUT",
            path=queue,
            summary="Declare a queue",
            tag="Queues",
            access=(_CREATE, _WRITE_DEAD),
            handler=put_queue,
            body=schemas.QueueDeclaration,
            answers={200: schemas.Queue, 201: schemas.Queue},
            problems=(PreconditionFailed,),
            answer_headers=(("Location", "A new queue's path."),),
        ),
        Operation(
            method="GET",
            path=queue,
            summary="Describe a queue",
            tag="Queues",
            access=(_DESCRIBE,),
            handler=get_queue,
            answers={200: schemas.Queue},
            problems=(QueueNotFound,),
        ),
        Operation(
            method="DELETE",
            path=queue,
            summary="Delete a queue",
            tag="Queues",
            access=(_DELETE,),
            handler=delete_queue,
            query=DeleteQueueQuery,
            answers={204: None},
            problems=(QueueNotFound, QueueNotEmpty, ResourceInUse),
        ),
        Operation(
            method="POST",
            path=f"{queue}/pause",
            summary="Pause a queue",
            tag="Queues",
            access=(_ALTER,),
            handler=post_queue_pause,
            answers={200: schemas.Queue},
            problems=(QueueNotFound,),
        ),
        Operation(
            method="POST",
            path=f"{queue}/resume",
            summary="Resume a queue",
            tag="Queues",
            access=(_ALTER,),
            handler=post_queue_resume,
            answers={200: schemas.Queue},
            problems=(QueueNotFound,),
        ),
        Operation(
            method="DELETE",
            path=f"{queue}/messages",
            summary="Purge a queue",
            tag="Queues",
            access=(_DELETE,),
            handler=delete_messages,
            answers={204: None},
            problems=(QueueNotFound,),
        ),
        Operation(
            method="POST",
            path=f"{queue}/moves",
            summary="Move messages to another queue",
            tag="Queues",
            access=(Access("read", "queue", "queue"), _DELETE, _WRITE_TARGET),
            handler=post_moves,
            body=schemas.MoveRequest,
            answers={200: schemas.Moved},
            problems=(QueueNotFound, QueueFull),
        ),
    ]
