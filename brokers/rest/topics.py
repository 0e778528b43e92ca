"""Creating, changing, deleting and describing topics over REST."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta

from brokers import topic_log, topics
from brokers.access import allowed, authorize
from brokers.errors import InvalidName, PartitionsCannotShrink, TopicExists, TopicNotFound
from brokers.instants import rfc3339
from brokers.names import validate
from brokers.rest import schemas
from brokers.rest.operation import Access, Answer, Call, Operation
from brokers.rest.threads import in_thread
from brokers.selectors import topics as selector


class PageQuery(msgspec.Struct):
    """Which part of a list."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    after: str = ""
    """The `next` of the page before."""


def shown(topic: Any, partitions: int) -> schemas.Topic:
    """A topic as an answer."""
    return schemas.Topic(
        name=topic.name,
        partitions=partitions,
        retention_ms=topic.retention_ms,
        retention_bytes=topic.retention_bytes,
        max_record_bytes=topic.max_record_bytes,
        cleanup_policy=topic.cleanup_policy,
        partitioner=topic.partitioner,
        created_at=rfc3339(topic.created_at) or "",
    )


async def post_topic(call: Call) -> Answer:
    """Creates a topic."""
    body: schemas.TopicDeclaration = call.body
    validate("topic", body.name, pointer="/name")
    authorize(call.principal, "create", "topic", body.name)
    topic = await in_thread(
        topics.create,
        body.name,
        partitions=body.partitions,
        retention_ms=body.retention_ms,
        retention_bytes=body.retention_bytes,
        max_record_bytes=body.max_record_bytes,
        cleanup_policy=body.cleanup_policy,
        partitioner=body.partitioner,
        actor=call.actor(),
    )
    location = f"/api/v1/topics/{topic.name}".encode()
    return Answer(201, shown(topic, body.partitions), [(b"location", location)])


async def get_topics(call: Call) -> Answer:
    """Topics by name, those that the caller may describe."""

    def may(name: str) -> bool:
        return allowed(call.principal, "describe", "topic", name)

    rows, following = await in_thread(selector.settings_page, call.query.after, call.query.limit, may)
    return Answer(body=schemas.TopicPage([shown(row, count) for row, count in rows], following))


async def get_topic(call: Call) -> Answer:
    """One topic and its settings."""
    row, count = await in_thread(selector.settings_of, call.path["topic"])
    return Answer(body=shown(row, count))


async def patch_topic(call: Call) -> Answer:
    """Changes what is given; partitions can only be raised."""
    body: schemas.TopicChange = call.body
    changes = {name: value for name, value in msgspec.structs.asdict(body).items() if value is not UNSET}
    await in_thread(topics.alter, call.path["topic"], actor=call.actor(), **changes)
    return await get_topic(call)


async def delete_topic(call: Call) -> Answer:
    """Deletes a topic and all of its records."""
    await in_thread(topics.delete, call.path["topic"], actor=call.actor())
    return Answer(204)


async def get_partitions(call: Call) -> Answer:
    """The partitions with their bounds; `latest_offset` is the offset that the next record gets."""
    info = await topics.alookup(call.path["topic"])
    rows = await in_thread(topic_log.bounds_of_topic, info.id)
    return Answer(body=schemas.PartitionList([schemas.PartitionState(*row) for row in rows]))


_BY_BODY = Access("create", "topic", why="on the topic named in the body")
_FILTERED = Access("describe", "topic", why="the list holds what the caller may describe")


def operations() -> list[Operation]:
    """Declarations of all operations on topics."""
    return [
        Operation(
            method="POST",
            path="/api/v1/topics",
            summary="Create a topic",
            tag="Topics",
            access=(_BY_BODY,),
            handler=post_topic,
            body=schemas.TopicDeclaration,
            answers={201: schemas.Topic},
            problems=(TopicExists, InvalidName),
            answer_headers=(("Location", "The new topic's path."),),
        ),
        Operation(
            method="GET",
            path="/api/v1/topics",
            summary="List topics",
            tag="Topics",
            access=(_FILTERED,),
            handler=get_topics,
            query=PageQuery,
            answers={200: schemas.TopicPage},
        ),
        Operation(
            method="GET",
            path="/api/v1/topics/{topic}",
            summary="Describe a topic",
            tag="Topics",
            access=(Access("describe", "topic", "topic"),),
            handler=get_topic,
            answers={200: schemas.Topic},
            problems=(TopicNotFound,),
        ),
        Operation(
            method="PATCH",
            path="/api/v1/topics/{topic}",
            summary="Change a topic",
            tag="Topics",
            access=(Access("alter", "topic", "topic"),),
            handler=patch_topic,
            body=schemas.TopicChange,
            answers={200: schemas.Topic},
            problems=(TopicNotFound, PartitionsCannotShrink),
        ),
        Operation(
            method="DELETE",
            path="/api/v1/topics/{topic}",
            summary="Delete a topic",
            tag="Topics",
            access=(Access("delete", "topic", "topic"),),
            handler=delete_topic,
            answers={204: None},
            problems=(TopicNotFound,),
        ),
        Operation(
            method="GET",
            path="/api/v1/topics/{topic}/partitions",
            summary="List a topic's partitions",
            tag="Topics",
            access=(Access("describe", "topic", "topic"),),
            handler=get_partitions,
            answers={200: schemas.PartitionList},
            problems=(TopicNotFound,),
        ),
    ]
