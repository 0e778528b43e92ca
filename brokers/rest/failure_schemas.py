"""The shapes of dead letters and failure groups over REST."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from brokers.dead_letter_texts import MAX_NOTE_CHARACTERS
from brokers.rest.schemas import Request

DeadLetterId = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Instant = Annotated[str, Meta(max_length=64, extra_json_schema={"format": "date-time"})]
Text = Annotated[str, Meta(min_length=1, max_length=300)]
Search = Annotated[str, Meta(min_length=1, max_length=200)]
State = Literal["open", "replaying", "replayed", "resolved", "discarded"]
SourceKind = Literal["topic", "queue", "task"]
Reason = Literal[
    "exception", "attempts_exhausted", "worker_lost", "rejected", "expired", "maxlen", "delivery_limit", "undecodable"
]
Outcome = Literal["waiting", "succeeded", "failed_again", "skipped"]


class DeadLetterQuery(msgspec.Struct):
    """Which dead letters, and which part of the list."""

    source_kind: SourceKind | None = None
    source: Text | None = None
    """The topic, queue or task that it came from."""
    group: Text | None = None
    """The consumer group that gave it up."""
    fingerprint: Text | None = None
    state: State | None = None
    since: Instant | None = None
    """Failed (for the last time) at this instant or later."""
    until: Instant | None = None
    """Failed before this instant."""
    q: Search | None = None
    """Text in the key, the message id, the exception's class or its message; taken literally, whatever its case."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    after: str = ""
    """The `next` of the page before."""


class FailureGroupQuery(DeadLetterQuery):
    """Which failure groups: `state` wants a dead letter in it, `since` and `until` look at the newest failure."""

    q: Search | None = None
    """Text in the handler, the exception's class or its message; taken literally, whatever its case."""


class ListedError(msgspec.Struct):
    """What was raised; the class is empty where nothing was. In one line."""

    class_: str = msgspec.field(name="class")
    """Qualified: `builtins.KeyError`, `orders.errors.OutOfStock`."""
    message: str


class RaisedError(ListedError):
    """What was raised last; the class is empty where nothing was."""

    stacktrace: str | None
    """Null where `payload_hidden`."""


class FailedAttempt(msgspec.Struct):
    """A call of the handler; without `ended_at` its worker was lost."""

    number: int
    started_at: str
    ended_at: str | None
    error: str


class ReplayOfDeadLetter(msgspec.Struct):
    """A replay that it was part of, and what became of it there."""

    id: int
    outcome: Outcome
    at: str


class ListedDeadLetter(msgspec.Struct):
    """A dead letter without stack trace and attempts. Without permission to view the payload, key, value and headers
    are null and `payload_hidden` is true.
    """

    id: int
    state: State
    reason: Reason
    source_kind: SourceKind
    source: str
    group: str | None
    """The consumer group that failed; null for a queue or a task."""
    partition: int | None
    offset: int | None
    exchange: str | None
    routing_key: str | None
    message_id: str | None
    headers: dict[str, Any] | None
    """Text on a record; on a message any JSON value, its deaths (`x-death`) among them."""
    exception: ListedError
    fingerprint: str
    first_failed_at: str
    failed_at: str
    revision: int
    """1 as it was given up; each edit makes another."""
    replays: list[ReplayOfDeadLetter]
    """The newest 20, oldest first."""
    note: str
    key: str | UnsetType | None = UNSET
    key_base64: str | UnsetType = UNSET
    """A key that is not UTF-8."""
    value: Any | UnsetType = UNSET
    """A record's value or a message's body, as it was published."""
    value_base64: str | UnsetType = UNSET
    """The same where it was not published as JSON."""
    payload_hidden: bool | UnsetType = UNSET


class DeadLetter(ListedDeadLetter, kw_only=True):
    """A record or message that a consumer gave up. Without permission to view the payload, key, value, headers and
    stack trace are null and `payload_hidden` is true.
    """

    exception: RaisedError
    attempts: list[FailedAttempt]
    """The newest 1000 over all replays, oldest first."""
    replays: list[ReplayOfDeadLetter]
    """The newest 1000, oldest first."""


class DeadLetterPage(msgspec.Struct):
    """Dead letters that the caller may know of, newest failure first; about eight megabytes of them at most."""

    items: list[ListedDeadLetter]
    next: str | None


class StateCounts(msgspec.Struct):
    """Dead letters in each state."""

    open: int
    replaying: int
    replayed: int
    resolved: int
    discarded: int


class FailureGroup(msgspec.Struct):
    """Failures of one fingerprint."""

    fingerprint: str
    count: int
    """Its dead letters, whatever their state."""
    states: StateCounts
    failures: int
    """Dead letters written, and written again after a replay, since the beginning."""
    first_seen: str
    last_seen: str
    exception: ListedError
    """The message of the first, without its numbers and quoted parts."""
    reason: Reason
    source_kind: SourceKind
    source: str
    group: str | None
    handler: str
    sample: int | None
    """The id of one of its dead letters, the newest as a rule."""
    last_24_hours: list[int]
    """Failures of each hour, the one that ends now last."""


class FailureGroupPage(msgspec.Struct):
    """Failure groups that the caller may know of, newest failure first."""

    items: list[FailureGroup]
    next: str | None


class DeadLetterChange(Request):
    """What to change; what is absent stays."""

    state: Literal["resolved", "discarded", "open"] | UnsetType = UNSET
    note: Annotated[str, Meta(max_length=MAX_NOTE_CHARACTERS)] | UnsetType = UNSET
