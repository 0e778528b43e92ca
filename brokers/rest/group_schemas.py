"""The shapes of consumer groups over the wire, as `schemas` holds those of topics and records."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from brokers.group_members import (
    MAX_POLL_INTERVAL_LIMIT_MS,
    MAX_POLL_INTERVAL_MS,
    MAX_TOPICS,
    MIN_TIMEOUT_MS,
    SESSION_TIMEOUT_LIMIT_MS,
    SESSION_TIMEOUT_MS,
)
from brokers.rest.schemas import FetchedRecord, Name, Offset, Partition, Request, Timestamp
from brokers.settings import MAX_RECORDS_PER_REQUEST, MAX_WAIT_MS

Generation = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Shift = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]


class MembershipRequest(Request):
    """What a new member reads, and how long it may be silent."""

    topics: Annotated[list[Name], Meta(min_length=1, max_length=MAX_TOPICS)]
    auto_offset_reset: Literal["earliest", "latest", "none"] = "earliest"
    """Where to begin when nothing is committed, or retention has removed it; `none` is an error then."""
    session_timeout_ms: Annotated[int, Meta(ge=MIN_TIMEOUT_MS, le=SESSION_TIMEOUT_LIMIT_MS)] = SESSION_TIMEOUT_MS
    """A member not heard of for so long is out."""
    max_poll_interval_ms: Annotated[int, Meta(ge=MIN_TIMEOUT_MS, le=MAX_POLL_INTERVAL_LIMIT_MS)] = MAX_POLL_INTERVAL_MS
    """A member that has not asked for records for so long is out, heartbeats or not."""


class AssignedPartition(msgspec.Struct):
    """A partition that is the member's."""

    topic: str
    partition: int


class Membership(msgspec.Struct):
    """A new member. Who knows `member_id` acts for it."""

    member_id: str
    generation: int
    assignment: list[AssignedPartition]


class PartitionOffset(Request):
    """The next offset to read of a partition."""

    topic: Name
    partition: Partition
    offset: Offset


class PollRequest(Request, rename={"start": "from"}):
    """How much to read; `max_records` 0 is the heartbeat alone."""

    max_records: Annotated[int, Meta(ge=0, le=MAX_RECORDS_PER_REQUEST)] = 100
    wait_ms: Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)] = 0
    """Milliseconds to wait for a record, or for the group to change."""
    start: Annotated[list[PartitionOffset], Meta(max_length=MAX_RECORDS_PER_REQUEST)] = []
    """Where to read on instead of where the last poll ended, for whoever lost its answer."""


class PolledRecord(FetchedRecord, omit_defaults=True, kw_only=True):
    """A record as a fetch gives it, with its topic."""

    topic: str


class PolledRecords(msgspec.Struct):
    """What is the member's now, and its next records; those of a partition are in order."""

    generation: int
    assignment: list[AssignedPartition]
    records: list[PolledRecord]


class CommitRequest(Request):
    """Offsets to commit, all or none."""

    offsets: Annotated[list[PartitionOffset], Meta(min_length=1, max_length=MAX_RECORDS_PER_REQUEST)]
    generation: Generation | None = None
    """The group's generation; that of the member's last poll when absent."""


class CommittedOffsets(msgspec.Struct):
    """What was committed."""

    offsets: list[PartitionOffset]


class GroupMember(msgspec.Struct):
    """A live member and what is its own."""

    member_id: str
    assignment: list[AssignedPartition]


class GroupPartition(msgspec.Struct):
    """How far a group has come with a partition; null where nothing is committed."""

    topic: str
    partition: int
    committed_offset: int | None
    latest_offset: int
    lag: int | None


class Group(msgspec.Struct):
    """A consumer group; `rebalancing` while a partition is still with a member that shall give it up."""

    group: str
    state: Literal["stable", "rebalancing", "empty"]
    paused: bool
    generation: int
    members: list[GroupMember]
    partitions: list[GroupPartition]


class GroupPage(msgspec.Struct):
    """Groups that the caller may describe, by name."""

    items: list[Group]
    next: str | None


class ResetPlace(Request, omit_defaults=True):
    """One of an offset, a timestamp in Unix milliseconds, or a number of records to go on (or back)."""

    offset: Offset | UnsetType = UNSET
    timestamp: Timestamp | UnsetType = UNSET
    shift: Shift | UnsetType = UNSET


class ResetRequest(Request):
    """Where a group shall go on in a topic."""

    topic: Name
    to: Literal["earliest", "latest"] | ResetPlace
    """Offsets beyond the earliest or the latest are brought within them."""
    partitions: Annotated[list[Partition], Meta(min_length=1, max_length=MAX_RECORDS_PER_REQUEST)] | None = None
    """Null for all of them."""
    dry_run: bool = True
    """Only says what would happen."""


class ResetPartition(msgspec.Struct):
    """The committed offset before (null: nothing was committed) and after."""

    partition: int
    before: int | None
    after: int


class ResetResult(msgspec.Struct):
    """What a reset did, or would do."""

    partitions: list[ResetPartition]
