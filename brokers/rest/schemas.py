"""The shapes of requests and answers: what goes over the wire, and what the OpenAPI document describes.

No database row is ever an answer by itself.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from brokers.settings import (
    MAX_PARTITIONS,
    MAX_RECORD_BYTES,
    MAX_RECORD_BYTES_LIMIT,
    MAX_RECORDS_PER_REQUEST,
    MAX_TIMESTAMP_MS,
    RETENTION_MS,
)

NAME_SCHEMA: dict[str, Any] = {
    "type": "string",
    "pattern": r"^[A-Za-z0-9._-]{1,249}$",
    "not": {"enum": [".", ".."]},
}
"""JSON schema of a name (see `brokers.names`)."""
NewName = Annotated[
    str, Meta(description="1 to 249 of A-Z a-z 0-9 . _ -, and not . or ..", extra_json_schema=NAME_SCHEMA)
]
"""A name that the handler checks, to answer `invalid_name`."""
Name = Annotated[
    str,
    Meta(
        pattern=NAME_SCHEMA["pattern"],
        description="1 to 249 of A-Z a-z 0-9 . _ -, and not . or ..",
        extra_json_schema={"not": NAME_SCHEMA["not"]},
    ),
]
"""A name of something that is looked up."""
Partition = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Offset = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Timestamp = Annotated[int, Meta(ge=0, le=MAX_TIMESTAMP_MS, description="Unix milliseconds")]
PositiveInteger = Annotated[int, Meta(ge=1, le=2**63 - 1)]


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """A request body: fields that it does not know are refused."""


# -- topics -----------------------------------------------------------------------------------------------------


class TopicDeclaration(Request):
    """A topic to create."""

    name: NewName
    partitions: Annotated[int, Meta(ge=1, le=MAX_PARTITIONS)] = 3
    retention_ms: PositiveInteger | None = RETENTION_MS
    """Milliseconds that records are kept, counted from when they were stored; null for ever."""
    retention_bytes: PositiveInteger | None = None
    """Bytes that each partition keeps; null for no limit."""
    max_record_bytes: Annotated[int, Meta(ge=1, le=MAX_RECORD_BYTES_LIMIT)] = MAX_RECORD_BYTES
    """Key, value and headers of one record together."""
    cleanup_policy: Literal["delete", "compact"] = "delete"
    partitioner: Annotated[
        str, Meta(min_length=1, max_length=200, extra_json_schema={"examples": ["crc32", "murmur2"]})
    ] = "crc32"
    """`crc32` (librdkafka's default), `murmur2` (the Java producer's), or a declared function's dotted name."""


class TopicChange(Request):
    """Settings of a topic to change; what is absent stays."""

    partitions: Annotated[int, Meta(ge=1, le=MAX_PARTITIONS)] | UnsetType = UNSET
    """Can only be raised."""
    retention_ms: PositiveInteger | UnsetType | None = UNSET
    retention_bytes: PositiveInteger | UnsetType | None = UNSET
    max_record_bytes: Annotated[int, Meta(ge=1, le=MAX_RECORD_BYTES_LIMIT)] | UnsetType = UNSET
    cleanup_policy: Literal["delete", "compact"] | UnsetType = UNSET


class Topic(msgspec.Struct):
    """A topic and its settings."""

    name: str
    partitions: int
    retention_ms: int | None
    retention_bytes: int | None
    max_record_bytes: int
    cleanup_policy: Literal["delete", "compact"]
    partitioner: str
    created_at: str


class TopicPage(msgspec.Struct):
    """Topics that the caller may describe, by name."""

    items: list[Topic]
    next: str | None


class PartitionState(msgspec.Struct):
    """One partition; `latest_offset` is the offset that the next record gets."""

    partition: int
    earliest_offset: int
    latest_offset: int
    bytes: int


class PartitionList(msgspec.Struct):
    """All partitions of a topic, by number."""

    items: list[PartitionState]


# -- records ----------------------------------------------------------------------------------------------------


class RecordToPublish(Request, omit_defaults=True, gc=False):
    """One record. `value` or `value_base64` is needed; a null value is a tombstone."""

    value: msgspec.Raw | UnsetType = UNSET
    value_base64: str | None = None
    key: str | None = None
    key_base64: str | None = None
    headers: dict[str, str] | None = None
    partition: Partition | None = None
    timestamp: Timestamp | None = None


class RecordsToPublish(Request, omit_defaults=True):
    """1 to 1000 records, stored all or none."""

    records: list[RecordToPublish]


class StoredAt(msgspec.Struct):
    """Where a record went."""

    partition: int
    offset: int


class Offsets(msgspec.Struct):
    """Positions in the order in which the records were given."""

    offsets: list[StoredAt]


class FetchedRecord(msgspec.Struct, omit_defaults=True):
    """A record as read; bytes come as `value_base64`, a key that is not UTF-8 as `key_base64`."""

    partition: int
    offset: int
    timestamp: int
    headers: dict[str, str]
    key: str | UnsetType | None = UNSET
    key_base64: str | UnsetType = UNSET
    value: Any | UnsetType = UNSET
    value_base64: str | UnsetType = UNSET


class FetchedRecords(msgspec.Struct):
    """Records from one partition in order, and where to go on."""

    records: list[FetchedRecord]
    next_offset: int
    latest_offset: int


REFINEMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "RecordsToPublish": {"records": {"minItems": 1, "maxItems": MAX_RECORDS_PER_REQUEST}},
    "RecordToPublish": {"": {"anyOf": [{"required": ["value"]}, {"required": ["value_base64"]}]}},
    "ResetPlace": {"": {"minProperties": 1, "maxProperties": 1}},
    "DeadLetterChange": {"": {"minProperties": 1}},
    "TaskChange": {"": {"minProperties": 1}},
    "ReplaySelection": {"": {"minProperties": 1, "maxProperties": 1}},
    "ReplayTarget": {"": {"oneOf": [{"required": [name]} for name in ("topic", "queue", "exchange")]}},
    "ReplayEdit": {"": {"minProperties": 1}, "merge_patch": {"type": "object"}},
}
"""What the code demands and the types do not say, for the schema of a type ("") or of one of its fields."""

# -- tokens -----------------------------------------------------------------------------------------------------

Operation = Literal["read", "write", "describe", "create", "alter", "delete", "replay", "view_payload"]
ResourceType = Literal["topic", "group", "exchange", "queue", "schedule", "lock", "token", "user", "server"]


class Grant(Request):
    """Allows or denies an operation on the resources of a type with that name, or that begin with it."""

    operation: Operation
    resource_type: ResourceType
    name: Annotated[str, Meta(max_length=249)]
    match: Literal["literal", "prefix"] = "literal"
    effect: Literal["allow", "deny"] = "allow"


class TokenRequest(Request):
    """A token to issue for the caller."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    grants: Annotated[list[Grant], Meta(max_length=200)] = []
    expires_at: Annotated[str, Meta(extra_json_schema={"format": "date-time"})] | None = None


class Token(msgspec.Struct):
    """A token without its text."""

    id: str
    name: str
    grants: list[Grant]
    created_at: str
    expires_at: str | None
    last_used_at: str | None


class IssuedToken(Token):
    """A new token; its text is shown this once."""

    token: str


class TokenPage(msgspec.Struct):
    """Live tokens, oldest first."""

    items: list[Token]
    next: str | None
