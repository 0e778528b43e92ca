"""What the console reads of groups: states, lag in records and in time, retries, lanes and open dead letters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from brokers import groups, publish_many, topics
from brokers.errors import GroupNotFound
from brokers.groups import GroupOffset, ResetTo, Subscription
from brokers.models import DeliveryAttempt, FailureChange, FailureGroup, Redelivery
from brokers.selectors import group_progress as progress

pytestmark = pytest.mark.django_db(transaction=True)

GROUP, TOPIC = "billing", "orders"


def everyone(name: str) -> bool:
    return True


def sql(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


def age(milliseconds: int) -> None:
    """Lets everything that is stored, committed and joined be so much older."""
    sql("update brokers_log_batch set stored_at = stored_at - %s", milliseconds)
    for table, column in (("brokers_committed_offset", "committed_at"), ("brokers_group_member", "joined_at")):
        sql(f"update {table} set {column} = {column} - %s * interval '1 ms'", milliseconds)


@pytest.fixture(autouse=True)
def _topic() -> None:
    """Two partitions, the first with offsets 0 to 3 and 4 to 9 in two batches."""
    topics.create(TOPIC, partitions=2)
    records = [{"value": n, "partition": 0, "timestamp": 1000 + n} for n in range(10)]
    publish_many(TOPIC, records[:4])
    publish_many(TOPIC, records[4:])


@pytest.fixture
def member() -> str:
    return groups.join(GROUP, Subscription((TOPIC,))).member_id


def commit(member: str, offset: int) -> None:
    groups.poll(GROUP, member)
    groups.commit(GROUP, member, [GroupOffset(TOPIC, 0, offset)])


def test_lag_counts_from_what_is_committed(member: str) -> None:
    commit(member, 3)
    found = progress.get(GROUP)
    assert (found.state, found.lag, found.behind, found.topics) == ("active", 7, 1, [TOPIC])
    assert [part.lag for part in found.partitions] == [7, 0]


def test_lag_counts_from_where_the_group_began_before_its_first_commit(member: str) -> None:
    assert progress.get(GROUP).lag is None
    groups.poll(GROUP, member)
    found = progress.get(GROUP).partitions[0]
    assert (found.committed_offset, found.position, found.lag) == (None, 0, 10)


@pytest.mark.parametrize(("committed", "waits"), [(0, 9_000_000), (3, 9_000_000), (4, 5_000), (9, 5_000), (10, None)])
def test_lag_in_time_is_the_age_of_the_oldest_unread_record(committed: int, waits: int | None) -> None:
    groups.reset(GROUP, TOPIC, ResetTo("offset", committed), dry_run=False)
    sql("update brokers_log_batch set stored_at = stored_at - case when base_offset = 0 then 9000000 else 5000 end")
    found = progress.get(GROUP).waiting_ms
    assert (found is None) == (waits is None)
    assert found is None or waits is None or waits <= found < waits + 60_000


def test_records_that_retention_took_unread_are_counted_apart() -> None:
    groups.reset(GROUP, TOPIC, ResetTo("offset", 1), partitions=[0], dry_run=False)
    sql("delete from brokers_log_batch where base_offset = 0")
    sql("update brokers_partition set earliest_offset = 4 where number = 0")
    found = progress.get(GROUP).partitions[0]
    assert (found.lag, found.expired) == (9, 3)
    assert found.waiting_ms is not None


def test_a_group_without_members_is_idle_and_a_paused_one_paused(member: str) -> None:
    groups.pause(GROUP)
    assert progress.get(GROUP).state == "paused"
    groups.resume(GROUP)
    groups.leave(GROUP, member)
    assert progress.get(GROUP).state == "idle"


def test_a_member_whose_session_is_over_does_not_keep_a_group_active(member: str) -> None:
    sql("update brokers_group_member set heartbeat_at = heartbeat_at - interval '1 hour'")
    found = progress.get(GROUP)
    assert (found.state, found.members[0].state, found.members[0].overdue) == ("idle", "lost", "session")


def test_a_group_rebalances_until_the_old_owner_has_let_go(member: str) -> None:
    groups.poll(GROUP, member)
    second = groups.join(GROUP, Subscription((TOPIC,))).member_id
    assert progress.get(GROUP).state == "rebalancing"
    for _ in range(2):
        groups.poll(GROUP, member)
        groups.poll(GROUP, second)
    assert progress.get(GROUP).state == "active"


def test_a_group_stalls_when_a_record_waits_and_nothing_is_committed(member: str) -> None:
    commit(member, 3)
    age(59_000)
    assert progress.get(GROUP).state == "active"
    age(2_000)
    assert progress.get(GROUP).state == "stalled"
    commit(member, 4)
    assert progress.get(GROUP).state == "active"


def test_a_group_that_has_read_everything_does_not_stall(member: str) -> None:
    commit(member, 10)
    age(10_000_000)
    assert progress.get(GROUP).state == "active"


def test_a_member_that_has_just_joined_is_given_time(member: str) -> None:
    commit(member, 3)
    age(10_000_000)
    groups.leave(GROUP, member)
    groups.join(GROUP, Subscription((TOPIC,)))
    assert progress.get(GROUP).state == "active"


def test_open_dead_letters_are_counted_with_what_is_not_folded_yet(member: str) -> None:
    for number, opened in enumerate((5, 2)):
        made = FailureGroup.objects.create(
            fingerprint=str(number), version=1, source_kind="topic", source=TOPIC, group_name=GROUP, open_count=opened
        )
    FailureChange.objects.create(failure_group_id=made.pk, state="open", change=3)
    FailureChange.objects.create(failure_group_id=made.pk, state="replaying", change=9)
    assert progress.get(GROUP).dead_letters == 10


def test_waiting_redeliveries_are_counted_for_the_group_and_each_partition(member: str) -> None:
    group = progress.get(GROUP)
    second = group.partitions[1]
    for seconds in (90, 30):
        Redelivery.objects.create(group_id=group.id, partition_id=second.partition_id, **parked(seconds))
    assert progress.get(GROUP).redeliveries == 2
    found = progress.going_on(group.id, group.partitions)
    assert list(found) == [second.partition_id]
    retry, lane = found[second.partition_id]
    assert retry is None
    assert lane is not None
    assert lane.waiting == 2
    assert 0 < lane.due_ms <= 30_000


def parked(seconds: int) -> dict[str, Any]:
    return {
        "topic": TOPIC,
        "partition": 1,
        "record_offset": 1,
        "record_timestamp": 0,
        "due_at": _in(seconds),
        "cause": "retry",
        "encoding": 0,
        "headers": b"{}",
    }


def test_the_newest_attempt_at_the_record_where_a_partition_stands(member: str) -> None:
    commit(member, 3)
    group = progress.get(GROUP)
    assert progress.going_on(group.id, group.partitions) == {}
    first = group.partitions[0].partition_id
    for offset, number, redelivery in ((2, 9, 0), (3, 1, 0), (3, 2, 0), (3, 7, 55)):
        DeliveryAttempt.objects.create(
            group_id=group.id,
            partition_id=first,
            record_offset=offset,
            redelivery_id=redelivery,
            number=number,
            started_at=_in(-2),
            ended_at=_in(-1),
            exception_class="builtins.ValueError",
            delay_ms=31_000,
        )
    found, lane = progress.going_on(group.id, group.partitions)[first]
    assert lane is None
    assert found is not None
    assert (found.record_offset, found.number, found.is_running) == (3, 2, False)
    assert found.due_ms is not None
    assert 0 < found.due_ms <= 30_000


def _in(seconds: int) -> Any:
    with connection.cursor() as cursor:
        cursor.execute("select clock_timestamp() + %s * interval '1 s'", [seconds])
        row = cursor.fetchone()
    assert row is not None
    return row[0]


def test_a_group_that_is_not_there() -> None:
    with pytest.raises(GroupNotFound):
        progress.get("nobody")


def make(*names: str) -> None:
    for name in names:
        groups.reset(name, TOPIC, ResetTo("earliest"), dry_run=False)


def walk(limit: int, may: Callable[[str], bool] = everyone, prefix: str = "") -> list[str]:
    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        found, after = progress.page(may, prefix, after, limit)
        assert len(found) <= limit
        seen += [group.group for group in found]
    return seen


def test_pages_lead_through_all_groups_that_may_be_seen() -> None:
    names = [f"group-{number:03}" for number in range(25)]
    make(*names)
    for limit in (1, 7, 25, 26):
        assert walk(limit) == names
        assert walk(limit, lambda name: name.endswith("4")) == ["group-004", "group-014", "group-024"]
    assert walk(7, prefix="group-01") == names[10:20]
    assert walk(7, prefix="group_") == []


def test_groups_of_a_topic_are_those_that_read_it(member: str) -> None:
    topics.create("payments", partitions=1)
    groups.reset("both", TOPIC, ResetTo("earliest"), dry_run=False)
    groups.reset("both", "payments", ResetTo("earliest"), dry_run=False)
    groups.reset("other", "payments", ResetTo("earliest"), dry_run=False)
    found, _ = progress.page(everyone, topic=TOPIC)
    assert [(group.group, group.topics) for group in found] == [(GROUP, [TOPIC]), ("both", ["orders", "payments"])]
    assert {part.topic for group in found for part in group.partitions} == {TOPIC}
