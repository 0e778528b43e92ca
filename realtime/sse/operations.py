"""What the streams are to the OpenAPI document, and the one operation among them that is served as REST's are."""

from __future__ import annotations

from typing import Final

import msgspec

from brokers import errors
from brokers.rest.operation import Access, Answer, Call, Handler, Operation
from realtime.sse import event_schemas, tickets
from realtime.sse.event_schemas import NotificationEvent, ProgressEvent, TopicEvent
from realtime.sse.notification_stream import NotificationStreamQuery
from realtime.sse.progress_stream import ProgressStreamQuery
from realtime.sse.topic_stream import TopicStreamQuery

EVENT_STREAM: Final = "text/event-stream"
_TAG: Final = "Streams"
_LAST_EVENT_ID: Final = ("Last-Event-ID", "The id of the last event seen; the stream goes on right after it.")
_PROBLEMS: Final = (errors.InvalidLastEventId, errors.OriginNotAllowed, errors.TooManyStreams)


class TicketAnswer(msgspec.Struct):
    """A ticket for one stream of its owner."""

    ticket: str
    """For `?ticket=` in the stream's address; good for one use."""
    expires_in: int
    """Seconds in which it has to be used."""


async def post_ticket(call: Call) -> Answer:
    """Makes a ticket, by which a browser's `EventSource`, which cannot send a token, opens a stream.

    It opens one stream within 30 seconds; the stream's answer sets a cookie for its path, so that the browser connects
    again by itself. What the token may read, the stream may; it ends when the token is revoked.
    """
    return Answer(body=TicketAnswer(await tickets.create(call.principal), tickets.TICKET_SECONDS))


async def get_topic_stream(call: Call) -> Answer:
    """Records as they are published: first an event `connected`, then `record` events.

    Their data is a record as the topic's records are read, their id a position token: `Last-Event-ID` goes on after it
    without a gap or a duplicate, also after a restart. Where retention has removed what should have come, an event
    `gap` gives the first offset left. Comments come every 15 seconds.
    """
    raise NotImplementedError


async def get_notifications_stream(call: Call) -> Answer:
    """The caller's own notifications: first an event `connected`, then `notification` events.

    The newest thousand of each user are kept; an event `gap` gives the first number left where older ones are missed.
    """
    raise NotImplementedError


async def get_progress_stream(call: Call) -> Answer:
    """How far one of the caller's own tasks has come: `progress` events until `completed` or `failed`.

    Each is the whole state. Who has seen the last one and connects again is answered 204.
    """
    raise NotImplementedError


def operations() -> list[Operation]:
    """Their declarations."""
    return [
        Operation(
            method="POST",
            path="/api/v1/tickets",
            summary="Make a ticket for a stream",
            tag=_TAG,
            access=(Access("read", "topic", why="on what the stream shows, asked when it is opened"),),
            handler=post_ticket,
            answers={200: TicketAnswer},
        ),
        _stream(
            "/api/v1/topics/{topic}/stream",
            "Follow a topic",
            get_topic_stream,
            TopicStreamQuery,
            TopicEvent,
            Access("read", "topic", "topic"),
            errors.TopicNotFound,
            errors.PartitionNotFound,
        ),
        _stream(
            "/api/notifications/stream",
            "Follow one's notifications",
            get_notifications_stream,
            NotificationStreamQuery,
            NotificationEvent,
            Access("read", "user", why="on nothing but oneself, which every token has"),
        ),
        _stream(
            "/api/progress/{task_id}/stream",
            "Follow a task",
            get_progress_stream,
            ProgressStreamQuery,
            ProgressEvent,
            Access("read", "user", why="on nothing but oneself, which every token has"),
            errors.ProgressNotFound,
            over=True,
        ),
    ]


def _stream(
    path: str,
    summary: str,
    handler: Handler,
    query: type[msgspec.Struct],
    events: type[msgspec.Struct],
    access: Access,
    *problems: type[errors.BrokerError],
    over: bool = False,
) -> Operation:
    return Operation(
        method="GET",
        path=path,
        summary=summary,
        tag=_TAG,
        access=(access,),
        handler=handler,
        query=query,
        answers={200: events, 204: None} if over else {200: events},
        answer_type=EVENT_STREAM,
        mentioned=event_schemas.DATA,
        headers=(_LAST_EVENT_ID,),
        problems=(*_PROBLEMS, *problems),
    )
