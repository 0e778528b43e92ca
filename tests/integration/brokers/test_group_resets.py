"""Resets and pauses of consumer groups: where offsets end up, what is refused, what is audited."""

from __future__ import annotations

import pytest
from django.db import connection

from brokers import groups, publish_many, topics
from brokers.audit import Actor
from brokers.errors import (
    GroupActive,
    GroupNotFound,
    InvalidName,
    InvalidValue,
    PartitionNotFound,
    StaleGeneration,
    TopicNotFound,
)
from brokers.groups import GroupOffset, ResetTo, Subscription
from brokers.models import AuditEntry, ConsumerGroup
from brokers.selectors import groups as reads

pytestmark = pytest.mark.django_db(transaction=True)

GROUP, TOPIC = "billing", "orders"


@pytest.fixture(autouse=True)
def _topic() -> None:
    """Two partitions: 0 to 9, of which 0 to 3 are past their time, and nothing at all."""
    topics.create(TOPIC, partitions=2)
    records = [{"value": n, "partition": 0, "timestamp": 1000 + n} for n in range(10)]
    publish_many(TOPIC, records[:4])
    publish_many(TOPIC, records[4:])


def raise_earliest() -> None:
    with connection.cursor() as cursor:
        cursor.execute("update brokers_partition set earliest_offset = 4 where number = 0")


def reset(to: ResetTo, *, apply: bool = True, partitions: list[int] | None = None) -> list[groups.Reset]:
    return groups.reset(GROUP, TOPIC, to, partitions=partitions, dry_run=not apply)


def commit(offset: int) -> None:
    member = groups.join(GROUP, Subscription((TOPIC,))).member_id
    groups.commit(GROUP, member, [GroupOffset(TOPIC, 0, offset)])
    groups.leave(GROUP, member)


@pytest.mark.parametrize(
    ("to", "after"),
    [
        (ResetTo("earliest"), [4, 0]),
        (ResetTo("latest"), [10, 0]),
        (ResetTo("offset", 6), [6, 0]),
        (ResetTo("offset", 1), [4, 0]),
        (ResetTo("offset", 2**63 - 1), [10, 0]),
        (ResetTo("timestamp", 1007), [7, 0]),
        (ResetTo("timestamp", 1), [4, 0]),
        (ResetTo("timestamp", 2000), [10, 0]),
    ],
)
def test_offsets_end_up_within_the_partition(to: ResetTo, after: list[int]) -> None:
    raise_earliest()
    assert reset(to) == [(0, None, after[0]), (1, None, after[1])]
    found = reads.get(GROUP)
    assert [p.committed_offset for p in found.partitions] == after
    assert found.state == "empty"


@pytest.mark.parametrize(("shift", "after"), [(-2, 5), (2, 9), (-100, 4), (100, 10), (0, 7), (-(2**63), 4)])
def test_a_shift_goes_from_what_is_committed(shift: int, after: int) -> None:
    raise_earliest()
    commit(7)
    assert reset(ResetTo("shift", shift), partitions=[0]) == [(0, 7, after)]
    with pytest.raises(InvalidValue) as refused:
        reset(ResetTo("shift", shift))
    assert refused.value.errors[0][0] == "/to/shift"
    assert [p.committed_offset for p in reads.get(GROUP).partitions] == [after]


def test_a_dry_run_answers_the_same_and_changes_nothing() -> None:
    assert reset(ResetTo("latest"), apply=False) == [(0, None, 10), (1, None, 0)]
    assert not ConsumerGroup.objects.exists()
    commit(3)
    generation = reads.get(GROUP).generation
    assert reset(ResetTo("latest"), apply=False, partitions=[0]) == [(0, 3, 10)]
    found = reads.get(GROUP)
    assert ([p.committed_offset for p in found.partitions], found.generation) == ([3], generation)
    assert not AuditEntry.objects.filter(resource_type="group").exists()


def test_a_group_with_members_must_be_paused() -> None:
    member = groups.join(GROUP, Subscription((TOPIC,))).member_id
    for apply in (False, True):
        with pytest.raises(GroupActive):
            reset(ResetTo("latest"), apply=apply)
    groups.poll(GROUP, member)
    groups.pause(GROUP)
    reset(ResetTo("offset", 8), partitions=[0])
    with pytest.raises(StaleGeneration):
        groups.commit(GROUP, member, [GroupOffset(TOPIC, 0, 10)])
    groups.resume(GROUP)
    polled = groups.poll(GROUP, member)
    assert [record.offset for record in polled.records] == [8, 9]
    groups.commit(GROUP, member, [GroupOffset(TOPIC, 0, 10)])


def test_an_expired_member_does_not_hold_a_reset_up() -> None:
    groups.join(GROUP, Subscription((TOPIC,), session_timeout_ms=100))
    with connection.cursor() as cursor:
        cursor.execute("update brokers_group_member set heartbeat_at = heartbeat_at - interval '1 s'")
    assert reset(ResetTo("latest"))[0] == (0, None, 10)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(TopicNotFound):
        groups.reset(GROUP, "nothing", ResetTo("latest"))
    with pytest.raises(PartitionNotFound):
        reset(ResetTo("latest"), partitions=[0, 2])
    with pytest.raises(InvalidValue):
        reset(ResetTo("latest"), partitions=[])
    with pytest.raises(InvalidName):
        groups.reset("..", TOPIC, ResetTo("latest"))
    for change in (groups.pause, groups.resume):
        with pytest.raises(GroupNotFound):
            change(GROUP)


def test_changes_are_audited_once_each() -> None:
    ada = Actor("ada", "console")
    groups.reset(GROUP, TOPIC, ResetTo("offset", 4), partitions=[0], dry_run=False, actor=ada)
    for change in (groups.pause, groups.pause, groups.resume, groups.resume):
        change(GROUP, actor=ada)
    entries = AuditEntry.objects.filter(resource_type="group").order_by("id")
    assert [(entry.principal, entry.operation, entry.resource) for entry in entries] == [
        ("ada", "reset", GROUP),
        ("ada", "pause", GROUP),
        ("ada", "resume", GROUP),
    ]
    assert entries[0].details == {"topic": TOPIC, "to": {"offset": 4}, "partitions": {"0": [None, 4]}}


def test_members_of_a_paused_group_keep_their_partitions_and_get_no_records() -> None:
    member = groups.join(GROUP, Subscription((TOPIC,))).member_id
    groups.pause(GROUP)
    polled = groups.poll(GROUP, member)
    assert (len(polled.assignment), polled.records) == (2, [])
    assert reads.get(GROUP).paused
    groups.resume(GROUP)
    assert len(groups.poll(GROUP, member).records) == 10
