"""Consumer groups over REST: members, polls, commits, lag, pauses and resets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import UNSET

from brokers import groups
from brokers.access import allowed, authorize
from brokers.errors import (
    Conflict,
    GroupActive,
    GroupNotFound,
    InvalidValue,
    NoCommittedOffset,
    OffsetOutOfRange,
    PartitionNotFound,
    StaleGeneration,
    TopicNotFound,
    UnknownMember,
)
from brokers.record_json import record_json
from brokers.rest import group_schemas as schemas
from brokers.rest.operation import Access, Answer, Call, Operation
from brokers.rest.threads import in_thread
from brokers.rest.topics import PageQuery
from brokers.selectors import groups as selector
from brokers.wakeup import Hub

_encode = msgspec.json.Encoder().encode

_READ = Access("read", "group", "group")
_DESCRIBE = Access("describe", "group", "group")
_ALTER = Access("alter", "group", "group")
_READ_TOPICS = Access("read", "topic", why="on each topic that the member reads")
_DESCRIBE_TOPIC = Access("describe", "topic", why="on the topic named in the body")
_FILTERED = Access("describe", "group", why="the list holds what the caller may describe")


class GroupRoutes:
    """The operations on consumer groups, over the hub that wakes waiting polls."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def post_member(self, call: Call) -> Answer:
        """Makes the caller a member; a group comes to be with its first.

        What others still hold is missing from the assignment until they let go: the next polls say so.
        """
        body: schemas.MembershipRequest = call.body
        _may_read(call, body.topics)
        subscription = groups.Subscription(
            tuple(body.topics), body.auto_offset_reset, body.session_timeout_ms, body.max_poll_interval_ms
        )
        joined = await groups.ajoin(call.path["group"], subscription)
        location = f"/api/v1/groups/{call.path['group']}/members/{joined.member_id}".encode()
        answer = schemas.Membership(joined.member_id, joined.generation, _assignment(joined.assignment))
        return Answer(201, answer, [(b"location", location)])

    async def post_poll(self, call: Call) -> Answer:
        """Reads on, and says that the member lives; answers early when the group changes.

        A partition of `from` that is not the member's any more is passed over. While the group is paused there are
        no records.
        """
        body: schemas.PollRequest = call.body
        polled = await groups.apoll(
            self._hub,
            call.path["group"],
            call.path["member_id"],
            max_records=body.max_records,
            wait_ms=body.wait_ms,
            start=_offsets(body.start),
            permit=lambda topics: _may_read(call, topics),
        )
        return Answer(body=polled_json(polled))

    async def post_commits(self, call: Call) -> Answer:
        """Commits offsets, all or none, and answers once they are on disk."""
        body: schemas.CommitRequest = call.body
        _may_read(call, {offset.topic for offset in body.offsets})
        await groups.acommit(
            call.path["group"], call.path["member_id"], _offsets(body.offsets), generation=body.generation
        )
        return Answer(body=schemas.CommittedOffsets(body.offsets))

    async def delete_member(self, call: Call) -> Answer:
        """Leaves: its partitions go to the other members at once."""
        await groups.aleave(call.path["group"], call.path["member_id"])
        return Answer(204)

    async def get_groups(self, call: Call) -> Answer:
        """Groups by name, those that the caller may describe; a page may hold fewer than `limit`."""

        def may(name: str) -> bool:
            return allowed(call.principal, "describe", "group", name)

        found, following = await in_thread(selector.page, call.query.after, call.query.limit, may)
        return Answer(body=schemas.GroupPage(list(map(_shown, found)), following))

    async def get_group(self, call: Call) -> Answer:
        """One group: its members, what each owns, and how far it has come."""

        def read() -> selector.GroupDetail:
            groups.settle_overdue(call.path["group"])
            return selector.get(call.path["group"])

        return Answer(body=_shown(await in_thread(read)))

    async def post_pause(self, call: Call) -> Answer:
        """Members keep their partitions and get no records."""
        await in_thread(groups.pause, call.path["group"], actor=call.actor())
        return await self.get_group(call)

    async def post_resume(self, call: Call) -> Answer:
        """Members get records again."""
        await in_thread(groups.resume, call.path["group"], actor=call.actor())
        return await self.get_group(call)

    async def post_resets(self, call: Call) -> Answer:
        """Sets committed offsets, or says what that would do; the group must be empty or paused."""
        body: schemas.ResetRequest = call.body
        authorize(call.principal, "describe", "topic", body.topic)
        found = await in_thread(
            groups.reset,
            call.path["group"],
            body.topic,
            _reset_to(body.to),
            partitions=body.partitions,
            dry_run=body.dry_run,
            actor=call.actor(),
        )
        return Answer(body=schemas.ResetResult([schemas.ResetPartition(*made) for made in found]))

    def operations(self) -> list[Operation]:
        """Declarations of all operations on consumer groups."""
        return [*self._member_operations(), *self._group_operations()]

    def _member_operations(self) -> list[Operation]:
        members = "/api/v1/groups/{group}/members"
        return [
            Operation(
                method="POST",
                path=members,
                summary="Join a consumer group",
                tag="Consumer groups",
                access=(_READ, _READ_TOPICS),
                handler=self.post_member,
                body=schemas.MembershipRequest,
                answers={201: schemas.Membership},
                answer_headers=(("Location", "The new member's path."),),
                problems=(TopicNotFound, Conflict),
            ),
            Operation(
                method="POST",
                path=f"{members}/{{member_id}}/poll",
                summary="Poll for records",
                tag="Consumer groups",
                access=(_READ, _READ_TOPICS),
                handler=self.post_poll,
                body=schemas.PollRequest,
                answers={200: schemas.PolledRecords},
                problems=(UnknownMember, NoCommittedOffset, OffsetOutOfRange),
            ),
            Operation(
                method="POST",
                path=f"{members}/{{member_id}}/commits",
                summary="Commit offsets",
                tag="Consumer groups",
                access=(_READ, _READ_TOPICS),
                handler=self.post_commits,
                body=schemas.CommitRequest,
                answers={200: schemas.CommittedOffsets},
                problems=(UnknownMember, StaleGeneration),
            ),
            Operation(
                method="DELETE",
                path=f"{members}/{{member_id}}",
                summary="Leave a consumer group",
                tag="Consumer groups",
                access=(_READ,),
                handler=self.delete_member,
                answers={204: None},
                problems=(UnknownMember,),
            ),
        ]

    def _group_operations(self) -> list[Operation]:
        group = "/api/v1/groups/{group}"
        return [
            Operation(
                method="GET",
                path="/api/v1/groups",
                summary="List consumer groups",
                tag="Consumer groups",
                access=(_FILTERED,),
                handler=self.get_groups,
                query=PageQuery,
                answers={200: schemas.GroupPage},
            ),
            Operation(
                method="GET",
                path=group,
                summary="Describe a consumer group",
                tag="Consumer groups",
                access=(_DESCRIBE,),
                handler=self.get_group,
                answers={200: schemas.Group},
                problems=(GroupNotFound,),
            ),
            Operation(
                method="POST",
                path=f"{group}/pause",
                summary="Pause a consumer group",
                tag="Consumer groups",
                access=(_ALTER,),
                handler=self.post_pause,
                answers={200: schemas.Group},
                problems=(GroupNotFound,),
            ),
            Operation(
                method="POST",
                path=f"{group}/resume",
                summary="Resume a consumer group",
                tag="Consumer groups",
                access=(_ALTER,),
                handler=self.post_resume,
                answers={200: schemas.Group},
                problems=(GroupNotFound,),
            ),
            Operation(
                method="POST",
                path=f"{group}/resets",
                summary="Reset committed offsets",
                tag="Consumer groups",
                access=(_ALTER, _DESCRIBE_TOPIC),
                handler=self.post_resets,
                body=schemas.ResetRequest,
                answers={200: schemas.ResetResult},
                problems=(GroupActive, TopicNotFound, PartitionNotFound),
            ),
        ]


def _may_read(call: Call, topics: Iterable[str]) -> None:
    for topic in topics:
        authorize(call.principal, "read", "topic", topic)


def _offsets(given: Sequence[schemas.PartitionOffset]) -> list[groups.GroupOffset]:
    return [groups.GroupOffset(place.topic, place.partition, place.offset) for place in given]


def _reset_to(to: str | schemas.ResetPlace) -> groups.ResetTo:
    if isinstance(to, str):
        return groups.ResetTo("earliest" if to == "earliest" else "latest")
    given = [name for name in ("offset", "timestamp", "shift") if getattr(to, name) is not UNSET]
    if len(given) != 1:
        raise InvalidValue('to must be "earliest", "latest", or one of offset, timestamp and shift', pointer="/to")
    if to.offset is not UNSET:
        return groups.ResetTo("offset", to.offset)
    if to.timestamp is not UNSET:
        return groups.ResetTo("timestamp", to.timestamp)
    return groups.ResetTo("shift", to.shift if to.shift is not UNSET else 0)


def _assignment(assigned: Iterable[groups.Assigned]) -> list[schemas.AssignedPartition]:
    return [schemas.AssignedPartition(place.topic, place.partition) for place in assigned]


def _shown(found: selector.GroupDetail) -> schemas.Group:
    return schemas.Group(
        group=found.group,
        state=found.state,
        paused=found.paused,
        generation=found.generation,
        members=[
            schemas.GroupMember(member.member_id, [schemas.AssignedPartition(*place) for place in member.assignment])
            for member in found.members
        ],
        partitions=[
            schemas.GroupPartition(p.topic, p.partition, p.committed_offset, p.latest_offset, p.lag)
            for p in found.partitions
        ],
    )


def polled_json(polled: groups.Polled) -> bytes:
    """The answer to a poll; JSON values are the very bytes that were published."""
    topics = {place.topic: b'{"topic":%b,' % _encode(place.topic) for place in polled.assignment}
    return b'{"generation":%d,"assignment":%b,"records":[%b]}' % (
        polled.generation,
        _encode(_assignment(polled.assignment)),
        b",".join(topics[record.topic] + record_json(record)[1:] for record in polled.records),
    )
