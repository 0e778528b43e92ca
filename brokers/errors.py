"""Every error that Waystation's domain raises, as one small tree.

Each class carries a stable `code`; surfaces translate codes to their own protocol (`rest/problems.py` holds the
HTTP statuses). The message says what was wrong, with which value, and what to do about it. Nothing here imports
anything of ours.
"""

from __future__ import annotations

from typing import Any, ClassVar


def shown(value: object) -> str:
    """The first 64 characters of a rejected value, escaped, for use inside a message."""
    try:
        text = ascii(value)
    except ValueError:  # Python writes no integer of more than some thousand digits
        text = "an integer of thousands of digits"
    return text if len(text) <= 66 else text[:63] + "..."


class BrokerError(Exception):
    """Something was refused or could not be done."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, errors: list[tuple[str, str]] | None = None, **facts: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.errors: list[tuple[str, str]] = errors or []
        """Pairs of a JSON pointer into the request and what is wrong there."""
        self.facts: dict[str, Any] = facts
        """Further members of the answer, such as the bounds of a partition."""


# -- what arrived cannot be read -------------------------------------------------------------------------------


class Malformed(BrokerError):
    """The bytes are not what they claim to be."""

    code = "malformed"


class EmptyBody(Malformed):
    """A body was needed and none came."""

    code = "empty_body"


class MalformedJson(Malformed):
    """The body is not JSON text in UTF-8."""

    code = "malformed_json"


class JsonTooDeep(Malformed):
    """Arrays and objects are nested deeper than 64 levels."""

    code = "json_too_deep"


class JsonNumber(Malformed):
    """A number that JSON does not know (NaN, Infinity) or that no client could read back."""

    code = "json_number"


class DuplicateKey(Malformed):
    """An object names a key twice, so that readers would disagree on its value."""

    code = "json_duplicate_key"


class InvalidUnicode(Malformed):
    """A string holds half of a surrogate pair."""

    code = "invalid_unicode"


class InvalidIdempotencyKey(Malformed):
    """The Idempotency-Key header is empty, too long or not printable ASCII."""

    code = "invalid_idempotency_key"


class InvalidLastEventId(Malformed):
    """The Last-Event-ID was not given out by this stream."""

    code = "invalid_last_event_id"


# -- what arrived can be read and is not allowed ----------------------------------------------------------------


class InvalidValue(BrokerError):
    """A value is outside of what is allowed; `errors` says where."""

    code = "invalid_value"

    def __init__(self, detail: str, *, pointer: str = "", errors: list[tuple[str, str]] | None = None) -> None:
        super().__init__(detail, errors=errors if errors is not None else [(pointer, detail)])


class InvalidType(InvalidValue):
    """A value has another type than the field."""

    code = "invalid_type"


class UnknownField(InvalidValue):
    """A field that does not exist."""

    code = "unknown_field"


class InvalidName(InvalidValue):
    """A name is not 1 to 249 of [A-Za-z0-9._-]."""

    code = "invalid_name"


class IdempotencyKeyReused(InvalidValue):
    """The same Idempotency-Key came with another body."""

    code = "idempotency_key_reused"


class KeyRequired(InvalidValue):
    """A compacted topic takes no record without a key."""

    code = "key_required"


class Unroutable(InvalidValue):
    """A mandatory message reaches no queue; nothing was stored."""

    code = "unroutable"


class SearchTooBroad(InvalidValue):
    """The search took too long: narrow it by time, source or consumer group."""

    code = "search_too_broad"


class TooLarge(BrokerError):
    """A body, a record or a batch is over its limit."""

    code = "too_large"


class RecordTooLarge(TooLarge):
    """A record is over its topic's `max_record_bytes`."""

    code = "record_too_large"


class BatchTooLarge(TooLarge):
    """More than 1000 records in one request."""

    code = "batch_too_large"


class UnsupportedMediaType(BrokerError):
    """The body's media type, charset or encoding is not understood here."""

    code = "unsupported_media_type"


# -- who may ----------------------------------------------------------------------------------------------------


class Unauthenticated(BrokerError):
    """No token came with the request."""

    code = "unauthenticated"


class InvalidToken(Unauthenticated):
    """The token is malformed, unknown, expired or revoked."""

    code = "invalid_token"


class AccessDenied(BrokerError):
    """No grant allows this to the caller; says nothing about whether the resource exists."""

    code = "forbidden"


class OriginNotAllowed(AccessDenied):
    """The request was made by a page of an origin that may not connect."""

    code = "origin_not_allowed"


class TooManyStreams(BrokerError):
    """The user has as many live connections open as one may have."""

    code = "too_many_connections"


# -- what is not there, or not in that state --------------------------------------------------------------------


class NotFound(BrokerError):
    """There is no such thing."""

    code = "not_found"


class TopicNotFound(NotFound):
    """No topic of that name."""

    code = "topic_not_found"


class PartitionNotFound(NotFound):
    """The topic has no partition of that number."""

    code = "partition_not_found"


class GroupNotFound(NotFound):
    """No consumer group of that name."""

    code = "group_not_found"


class UnknownMember(NotFound):
    """The member never joined, left, or its session ended: join again."""

    code = "unknown_member"


class TokenNotFound(NotFound):
    """No token of that id."""

    code = "token_not_found"


class DeadLetterNotFound(NotFound):
    """No dead letter of that id."""

    code = "dead_letter_not_found"


class FailureGroupNotFound(NotFound):
    """No failures of that fingerprint."""

    code = "failure_group_not_found"


class ReplayNotFound(NotFound):
    """No replay of that id."""

    code = "replay_not_found"


class ExchangeNotFound(NotFound):
    """No exchange of that name."""

    code = "exchange_not_found"


class QueueNotFound(NotFound):
    """No queue of that name."""

    code = "queue_not_found"


class BindingNotFound(NotFound):
    """No binding of that id."""

    code = "binding_not_found"


class PolicyNotFound(NotFound):
    """No policy of that name."""

    code = "policy_not_found"


class LockNotFound(NotFound):
    """Nobody ever took a lock of that name."""

    code = "lock_not_found"


class TaskNotFound(NotFound):
    """No scheduled task of that name, or one that is declared no more and cannot run."""

    code = "task_not_found"


class RunNotFound(NotFound):
    """The task has no such run, or it was forgotten."""

    code = "run_not_found"


class ProgressNotFound(NotFound):
    """No task of that id reports its progress to the caller."""

    code = "progress_not_found"


class OffsetOutOfRange(BrokerError):
    """The offset lies below the partition's earliest one: retention has removed it."""

    code = "offset_out_of_range"

    def __init__(self, topic: str, partition: int, offset: int, earliest: int, latest: int) -> None:
        super().__init__(
            f"offset {offset} of {topic}/{partition} is gone: kept are those from {earliest} to below {latest}",
            earliest_offset=earliest,
            latest_offset=latest,
        )
        self.earliest_offset = earliest
        self.latest_offset = latest


class Conflict(BrokerError):
    """The state of things does not allow this now."""

    code = "conflict"


class TopicExists(Conflict):
    """A topic of that name is there already."""

    code = "topic_exists"


class PartitionsCannotShrink(Conflict):
    """Partitions can be added and never taken away, since keys would change their place."""

    code = "partitions_cannot_shrink"


class IdempotencyInProgress(Conflict):
    """The first request with this Idempotency-Key is still under way."""

    code = "idempotency_in_progress"
    retryable = True


class StaleGeneration(Conflict):
    """The group has moved on since the member's last poll; nothing was committed."""

    code = "stale_generation"


class GroupActive(Conflict):
    """Offsets of a group that has members and is not paused cannot be reset."""

    code = "group_active"


class DeadLetterReplaying(Conflict):
    """The dead letter is under way in a replay; wait for its outcome, or cancel the replay."""

    code = "dead_letter_replaying"


class RevisionSuperseded(Conflict):
    """The dead letter was edited meanwhile; look at its newest revision."""

    code = "revision_superseded"


class ReplayFinished(Conflict):
    """The replay is over, or not in a state that allows this."""

    code = "replay_finished"


class PreconditionFailed(Conflict):
    """An exchange, queue or policy of that name is there and was declared differently."""

    code = "precondition_failed"


class ResourceInUse(Conflict):
    """An exchange with bindings, or a queue with consumers, was to be deleted only if unused."""

    code = "resource_in_use"


class QueueNotEmpty(Conflict):
    """A queue with messages was to be deleted only if empty."""

    code = "queue_not_empty"


class NoCommittedOffset(Conflict):
    """Nothing is committed for the partition and `auto_offset_reset` is `none`."""

    code = "no_committed_offset"


class ProgressFinished(Conflict):
    """The task has completed or failed already."""

    code = "progress_finished"


# -- what went wrong here ---------------------------------------------------------------------------------------


class Unavailable(BrokerError):
    """PostgreSQL cannot be reached, is overloaded or refused; nothing is known to be wrong with the request."""

    code = "store_unavailable"
    retryable = True


class QueueFull(BrokerError):
    """A queue that refuses what exceeds its length has no room; nothing was stored."""

    code = "queue_full"
    retryable = True


class UnencodableValue(BrokerError, TypeError):
    """A Python value has no JSON form."""

    code = "unencodable_value"
