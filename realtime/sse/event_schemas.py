"""The events of each stream as the OpenAPI document describes them: an event's fields, and the JSON text of its data.

Descriptions alone: what is sent is made by `event` and the streams, and the protocol tests hold it against these.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

_REF = "#/components/schemas/{name}"


def _json_text(*kinds: str) -> Any:
    """JSON text of one of these components."""
    schema: dict[str, Any] = {"anyOf": [{"$ref": _REF.format(name=kind)} for kind in kinds]}
    return Meta(extra_json_schema={"contentMediaType": "application/json", "contentSchema": schema})


class TopicConnected(msgspec.Struct):
    """The beginning of a topic's stream."""

    topic: str
    partitions: int


class RecordGap(msgspec.Struct):
    """Retention has removed what should have come before the next record of a partition."""

    partition: int
    first_offset: int
    """The first offset that is left."""


class NotificationsConnected(msgspec.Struct):
    """The beginning of a stream of notifications."""

    user: str


class StreamedNotification(msgspec.Struct):
    """Something that the user was told."""

    number: int
    """One more than that of the user's notification before."""
    kind: str
    payload: Any
    created_at: str


class NotificationGap(msgspec.Struct):
    """Older notifications were dropped that this stream has not shown."""

    first_number: int
    """The number of the first that is left."""


class TaskProgress(msgspec.Struct):
    """The whole state of a task."""

    id: str
    title: str
    state: Literal["running", "completed", "failed"]
    current: int
    total: int | None
    message: str
    result: Any
    """What it was completed with."""
    error: str | None
    """What it failed with."""
    started_at: str
    updated_at: str


class StreamError(msgspec.Struct):
    """Why the stream ends."""

    code: str
    """As in problem documents."""
    detail: str


class TopicEvent(msgspec.Struct):
    """An event of a topic's stream; `retry` comes once, before the first."""

    event: Literal["connected", "record", "gap", "error"]
    data: Annotated[str, _json_text("TopicConnected", "FetchedRecord", "RecordGap", "StreamError")]
    id: str | UnsetType = UNSET
    """A position token."""


class NotificationEvent(msgspec.Struct):
    """An event of a stream of notifications; `retry` comes once, before the first."""

    event: Literal["connected", "notification", "gap", "error"]
    data: Annotated[str, _json_text("NotificationsConnected", "StreamedNotification", "NotificationGap", "StreamError")]
    id: str | UnsetType = UNSET


class ProgressEvent(msgspec.Struct):
    """An event of a task's stream; `retry` comes once, before the first."""

    event: Literal["progress", "completed", "failed", "error"]
    data: Annotated[str, _json_text("TaskProgress", "StreamError")]
    id: str | UnsetType = UNSET
    """The number of the state."""


DATA = (
    TopicConnected,
    RecordGap,
    NotificationsConnected,
    StreamedNotification,
    NotificationGap,
    TaskProgress,
    StreamError,
)
"""What the data of events is, beside records."""
