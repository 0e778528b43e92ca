"""The shapes of replays over REST."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from brokers.replays.request import MAX_CANARY, MAX_IDS, MAX_RATE, MAX_REASON, MIN_RATE
from brokers.rest.failure_schemas import DeadLetterId, Instant, Outcome, Search, SourceKind, State, Text
from brokers.rest.schemas import Name, Request

ReplayState = Literal["planned", "waiting", "canary", "running", "paused", "stopped", "completed", "cancelled"]
Share = Annotated[float, Meta(ge=0, le=1)]


class ReplayFilter(Request, omit_defaults=True):
    """Dead letters as `GET /api/v1/dead-letters` finds them."""

    source_kind: SourceKind | None = None
    source: Text | None = None
    group: Text | None = None
    fingerprint: Text | None = None
    state: State | None = None
    since: Instant | None = None
    until: Instant | None = None
    q: Search | None = None


class ReplaySelection(Request, omit_defaults=True):
    """Which dead letters: ids, or a filter; what fails later is not part of it."""

    ids: Annotated[list[DeadLetterId], Meta(min_length=1, max_length=MAX_IDS)] | UnsetType = UNSET
    filter: ReplayFilter | UnsetType = UNSET


class ReplayTarget(Request, omit_defaults=True):
    """Where to publish anew: a topic, a queue, or an exchange with a routing key."""

    topic: Name | UnsetType = UNSET
    queue: Name | UnsetType = UNSET
    exchange: Annotated[str, Meta(max_length=249)] | UnsetType = UNSET
    routing_key: Annotated[str, Meta(max_length=255)] | UnsetType = UNSET
    """With an exchange only."""


class ReplayEdit(Request, omit_defaults=True):
    """What to change first: key, value and headers of one dead letter, or a merge patch of the values of any number."""

    key: str | UnsetType | None = UNSET
    key_base64: str | UnsetType = UNSET
    value: Raw | UnsetType = UNSET
    """Null makes a tombstone."""
    value_base64: str | UnsetType = UNSET
    headers: dict[str, Any] | UnsetType = UNSET
    """All of them: those that are left out are removed. On a record they are text; what tells a message's deaths stays.
    """
    revision: Annotated[int, Meta(ge=1, le=2**31 - 1)] | UnsetType = UNSET
    """The revision that was edited: refused if there is a newer one."""
    merge_patch: Raw | UnsetType = UNSET
    """RFC 7396, an object; alone."""


class ReplayCanary(Request):
    """The first `count` go alone; the others follow if at least this share of them succeeded."""

    count: Annotated[int, Meta(ge=1, le=MAX_CANARY)] = 10
    min_success: Share = 0.9


class ReplayRequest(Request):
    """What to replay, where to, and how carefully."""

    selection: ReplaySelection
    target: ReplayTarget | None = None
    """Null gives each back to the consumer that failed, and to no other."""
    edit: ReplayEdit | None = None
    rate_per_second: Annotated[float, Meta(ge=MIN_RATE, le=MAX_RATE)] | None = None
    canary: ReplayCanary | None = None
    stop_when_failed_again: Share | None = None
    """Stops when more than this share of the newest 50 outcomes failed again."""
    dry_run: bool = False
    """Only says what would happen."""
    reason: Annotated[str, Meta(max_length=MAX_REASON)] = ""


class Contents(msgspec.Struct):
    """Key, value and headers of a dead letter."""

    headers: dict[str, Any]
    key: str | UnsetType | None = UNSET
    key_base64: str | UnsetType = UNSET
    value: Any | UnsetType = UNSET
    value_base64: str | UnsetType = UNSET


class ReplaySample(msgspec.Struct):
    """One that would be replayed, as it is and as it would arrive; null where the caller may not view payloads."""

    id: int
    before: Contents | None
    after: Contents | None
    payload_hidden: bool | UnsetType = UNSET


class ReplayPlan(msgspec.Struct):
    """What a replay would do now."""

    total: int
    """How many would be replayed."""
    skipped: dict[str, int]
    """How many of the others selected would not be, by why."""
    sample: list[ReplaySample]
    """Up to five."""


class ReplayFilterGiven(msgspec.Struct, omit_defaults=True):
    """The filter as it was given."""

    source_kind: str | UnsetType = UNSET
    source: str | UnsetType = UNSET
    group: str | UnsetType = UNSET
    fingerprint: str | UnsetType = UNSET
    state: str | UnsetType = UNSET
    since: str | UnsetType = UNSET
    until: str | UnsetType = UNSET
    q: str | UnsetType = UNSET


class ReplaySelectionGiven(msgspec.Struct, omit_defaults=True):
    """The selection as it was given."""

    ids: list[int] | UnsetType = UNSET
    filter: ReplayFilterGiven | UnsetType = UNSET


class ReplayTargetGiven(msgspec.Struct, omit_defaults=True):
    """The target as it was given."""

    topic: str | UnsetType = UNSET
    queue: str | UnsetType = UNSET
    exchange: str | UnsetType = UNSET
    routing_key: str | UnsetType = UNSET


class ReplayCanaryGiven(msgspec.Struct):
    """The canary as it was given."""

    count: int
    min_success: float


class Replay(msgspec.Struct):
    """A replay and how far it has come."""

    id: int
    state: ReplayState
    total: int
    """How many are to be replayed, as planned."""
    sent: int
    waiting: int
    """Without an outcome yet, sent or not."""
    succeeded: int
    failed_again: int
    skipped: int
    """Those that were not replayed, at the plan or later."""
    selection: ReplaySelectionGiven
    target: ReplayTargetGiven | None
    rate_per_second: float | None
    canary: ReplayCanaryGiven | None
    stop_when_failed_again: float | None
    stop_cause: str
    """Why it stopped by itself; empty when it did not."""
    reason: str
    created_by: str
    created_at: str
    finished_at: str | None


class ReplayPage(msgspec.Struct):
    """Replays of which the caller may know every consumer, newest first."""

    items: list[Replay]
    next: str | None


class ReplayItem(msgspec.Struct):
    """One dead letter in a replay."""

    id: int
    """The dead letter's."""
    revision: int
    outcome: Outcome
    why: str
    """Why it was skipped, or whether it failed again as before: `same` or `new`."""
    sent_at: str | None
    finished_at: str | None


class ReplayItemPage(msgspec.Struct):
    """Items in the order in which they are sent."""

    items: list[ReplayItem]
    next: str | None


class ReplayPageQuery(msgspec.Struct):
    """Which part of the list."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    after: Annotated[int, Meta(ge=1, le=2**63 - 1)] | None = None
    """The `next` of the page before."""


class ReplayItemQuery(msgspec.Struct):
    """Which items, and which part of the list."""

    outcome: Outcome | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    after: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    """The `next` of the page before."""
