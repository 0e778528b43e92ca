"""Consumer groups against the real PostgreSQL: membership, positions, fencing."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from brokers import groups, publish_many, topic_log, topics
from brokers.errors import (
    InvalidName,
    InvalidValue,
    NoCommittedOffset,
    OffsetOutOfRange,
    StaleGeneration,
    TopicNotFound,
    UnknownMember,
)
from brokers.groups import GroupOffset, Subscription
from brokers.models import GroupMember
from brokers.selectors import groups as reads

pytestmark = pytest.mark.django_db(transaction=True)

GROUP = "billing"


@pytest.fixture
def topic() -> str:
    """Three partitions of ten records each, stored as batches of six and four."""
    topics.create("orders", partitions=3)
    fill("orders", 6)
    fill("orders", 4)
    return "orders"


def fill(topic: str, count: int = 10, partitions: tuple[int, ...] = (0, 1, 2)) -> None:
    publish_many(topic, [{"value": n, "partition": p} for p in partitions for n in range(count)])


def join(*names: str, reset: str = "earliest", session_ms: int = 45_000, interval_ms: int = 300_000) -> str:
    return groups.join(GROUP, Subscription(names, reset, session_ms, interval_ms)).member_id


def assigned(polled: groups.Polled | groups.Joined) -> list[int]:
    return [place.partition for place in polled.assignment]


def offsets(polled: groups.Polled) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for record in polled.records:
        found.setdefault(record.partition, []).append(record.offset)
    return found


def poll(member: str, max_records: int = 100) -> groups.Polled:
    return groups.poll(GROUP, member, max_records=max_records)


def commit(member: str, topic: str, partition: int, offset: int, generation: int | None = None) -> None:
    groups.commit(GROUP, member, [GroupOffset(topic, partition, offset)], generation=generation)


def committed(topic: str) -> dict[int, int | None]:
    return {p.partition: p.committed_offset for p in reads.get(GROUP).partitions if p.topic == topic}


def let_time_pass(member: str, *, heartbeat_ms: int = 0, poll_ms: int = 0) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "update brokers_group_member set heartbeat_at = heartbeat_at - %s * interval '1 ms',"
            " polled_at = polled_at - %s * interval '1 ms' where member_id = %s",
            [heartbeat_ms, poll_ms, member],
        )


# -- membership ---------------------------------------------------------------------------------------------------


def test_the_first_member_owns_everything_at_once(topic: str) -> None:
    joined = groups.join(GROUP, Subscription((topic,)))
    assert (joined.generation, assigned(joined)) == (1, [0, 1, 2])
    assert reads.get(GROUP).state == "stable"


def test_a_partition_moves_when_its_owner_polls_and_what_it_left_uncommitted_is_read_again(topic: str) -> None:
    first = join(topic)
    assert len(poll(first).records) == 30
    second = join(topic)
    assert (assigned(poll(second)), reads.get(GROUP).state) == ([], "rebalancing")
    kept = poll(first)
    assert (kept.generation, assigned(kept), kept.records) == (2, [0, 1], [])
    assert reads.get(GROUP).state == "stable"
    taken = poll(second)
    assert (assigned(taken), offsets(taken)) == ([2], {2: list(range(10))})


def test_members_beyond_the_partitions_are_idle(topic: str) -> None:
    members = [join(topic) for _ in range(4)]
    for member in members * 2:
        polled = [poll(member) for member in members]
    assert sorted(len(answer.assignment) for answer in polled) == [0, 1, 1, 1]
    assert sorted(partition for answer in polled for partition in assigned(answer)) == [0, 1, 2]


def test_leaving_gives_everything_back_at_once(topic: str) -> None:
    first, second = join(topic), join(topic)
    poll(first)
    poll(second)
    groups.leave(GROUP, first)
    assert assigned(poll(second)) == [0, 1, 2]
    groups.leave(GROUP, second)
    found = reads.get(GROUP)
    assert (found.state, found.members, found.partitions) == ("empty", [], [])


def test_who_left_or_never_joined_is_unknown(topic: str) -> None:
    member = join(topic)
    groups.leave(GROUP, member)
    for unknown in (member, "m-" + "0" * 32, "nobody", "\0", ""):
        with pytest.raises(UnknownMember):
            poll(unknown)
        with pytest.raises(UnknownMember):
            groups.leave(GROUP, unknown)
    with pytest.raises(UnknownMember):
        commit("m-" + "0" * 32, topic, 0, 1)
    with pytest.raises(UnknownMember):
        groups.poll("another", join(topic))


def test_members_may_read_different_topics(topic: str) -> None:
    topics.create("invoices", partitions=2)
    both, one = join(topic, "invoices"), join("invoices")
    poll(both)
    places = {(place.topic, place.partition) for place in poll(both).assignment}
    assert places == {(topic, 0), (topic, 1), (topic, 2)}
    assert {place.topic for place in poll(one).assignment} == {"invoices"}
    assert len(poll(one).assignment) == 2


def test_a_membership_that_makes_no_sense_is_refused(topic: str) -> None:
    with pytest.raises(TopicNotFound):
        join(topic, "nothing")
    with pytest.raises(InvalidName):
        groups.join("a/b", Subscription((topic,)))
    with pytest.raises(InvalidValue) as refused:
        join(reset="never", session_ms=99, interval_ms=0)
    assert [pointer for pointer, _ in refused.value.errors] == [
        "/topics",
        "/auto_offset_reset",
        "/session_timeout_ms",
        "/max_poll_interval_ms",
    ]
    assert not GroupMember.objects.exists()


@pytest.mark.parametrize(("heartbeat_ms", "poll_ms", "reason"), [(5001, 0, "session"), (0, 9001, "poll_interval")])
def test_a_silent_member_is_expired_by_anyone(topic: str, heartbeat_ms: int, poll_ms: int, reason: str) -> None:
    silent, other = join(topic, session_ms=5000, interval_ms=9000), join(topic)
    poll(silent)
    let_time_pass(silent, heartbeat_ms=heartbeat_ms, poll_ms=poll_ms)
    assert assigned(poll(other)) == [0, 1, 2]
    assert GroupMember.objects.get(member_id=silent).end_reason == reason
    with pytest.raises(UnknownMember):
        poll(silent)
    with pytest.raises(StaleGeneration):
        commit(silent, topic, 0, 1)


def test_a_late_member_finds_itself_expired(topic: str) -> None:
    member = join(topic, session_ms=1000)
    let_time_pass(member, heartbeat_ms=1001)
    with pytest.raises(UnknownMember):
        poll(member)
    assert reads.get(GROUP).state == "empty"


def test_housekeeping_and_looking_expire_sessions_too(topic: str) -> None:
    first, second = join(topic), join(topic)
    let_time_pass(first, heartbeat_ms=45_001)
    assert groups.expire_sessions() == 1
    assert groups.expire_sessions() == 0
    let_time_pass(second, heartbeat_ms=45_001)
    groups.settle_overdue(GROUP)
    assert reads.get(GROUP).members == []


def test_a_heartbeat_keeps_the_session_but_is_no_progress(topic: str) -> None:
    member = join(topic, session_ms=5000, interval_ms=9000)
    let_time_pass(member, heartbeat_ms=4000, poll_ms=8000)
    beat = poll(member, 0)
    assert (beat.records, assigned(beat)) == ([], [0, 1, 2])
    let_time_pass(member, heartbeat_ms=4000)
    assert poll(member, 0).generation == 1
    let_time_pass(member, poll_ms=2000)
    with pytest.raises(UnknownMember):
        poll(member, 0)


def test_ended_members_are_forgotten_after_a_day(topic: str) -> None:
    member = join(topic)
    groups.leave(GROUP, member)
    assert groups.forget_ended_members() == 0
    with connection.cursor() as cursor:
        cursor.execute("update brokers_group_member set ended_at = ended_at - interval '25 hours'")
    assert groups.forget_ended_members() == 1
    with pytest.raises(UnknownMember):
        commit(member, topic, 0, 1)


# -- positions ----------------------------------------------------------------------------------------------------


def test_polls_go_on_where_the_last_one_ended_and_take_partitions_in_turn(topic: str) -> None:
    member = join(topic)
    polled = [offsets(poll(member, 4)) for _ in range(9)]
    assert [next(iter(found)) for found in polled[:3]] == [0, 1, 2]
    for partition in range(3):
        assert [n for found in polled for n in found.get(partition, [])] == list(range(10))
    assert poll(member).records == []


def test_a_poll_fills_up_from_the_next_partition(topic: str) -> None:
    assert offsets(poll(join(topic), 15)) == {0: list(range(10)), 1: list(range(5))}


def test_whoever_lost_an_answer_reads_it_again_from_where_it_was(topic: str) -> None:
    member = join(topic)
    poll(member)
    again = groups.poll(GROUP, member, start=[GroupOffset(topic, 1, 4)])
    assert offsets(again) == {1: [4, 5, 6, 7, 8, 9]}
    assert poll(member).records == []
    for start in ([("orders", 1, 11)], [("other", 1, 1)], [("orders", 1, 1), ("orders", 1, 2)], [("orders", 1, -1)]):
        with pytest.raises(InvalidValue):
            groups.poll(GROUP, member, start=[GroupOffset(*place) for place in start])


def test_a_place_to_start_in_a_partition_of_another_is_passed_over(topic: str) -> None:
    first, second = join(topic), join(topic)
    poll(first)
    given = groups.poll(GROUP, second, start=[GroupOffset(topic, 0, 5)])
    assert offsets(given) == {2: list(range(10))}
    assert offsets(poll(first)) == {}


def test_a_new_member_begins_at_the_committed_offset(topic: str) -> None:
    first = join(topic)
    poll(first)
    commit(first, topic, 1, 7)
    groups.leave(GROUP, first)
    assert offsets(poll(join(topic))) == {0: list(range(10)), 1: [7, 8, 9], 2: list(range(10))}


def test_latest_begins_at_the_end_and_no_later_owner_skips_what_came_since(topic: str) -> None:
    first = join(topic, reset="latest")
    assert poll(first).records == []
    fill(topic, 1)
    assert offsets(poll(first)) == {0: [10], 1: [10], 2: [10]}
    second = join(topic, reset="latest")
    poll(first)
    assert offsets(poll(second)) == {2: [10]}


def test_none_says_that_nothing_is_committed(topic: str) -> None:
    member = join(topic, reset="none")
    with pytest.raises(NoCommittedOffset):
        poll(member)
    groups.commit(GROUP, member, [GroupOffset(topic, number, 8) for number in range(3)])
    assert offsets(poll(member)) == {0: [8, 9], 1: [8, 9], 2: [8, 9]}


@pytest.mark.parametrize("reset", ["earliest", "latest", "none"])
def test_below_the_earliest_offset_the_reset_policy_decides(topic: str, reset: str) -> None:
    member = join(topic, reset=reset)
    groups.commit(GROUP, member, [GroupOffset(topic, number, 2) for number in range(3)])
    with connection.cursor() as cursor:
        cursor.execute("update brokers_partition set earliest_offset = 6")
    if reset == "none":
        with pytest.raises(OffsetOutOfRange) as gone:
            poll(member)
        assert (gone.value.earliest_offset, gone.value.latest_offset) == (6, 10)
    else:
        assert offsets(poll(member)) == ({} if reset == "latest" else {p: [6, 7, 8, 9] for p in range(3)})


def test_the_bytes_of_one_poll_are_bounded() -> None:
    topics.create("large", partitions=1)
    for _ in range(4):
        publish_many("large", [{"value": "x" * 700_000}])
    member = join("large")
    assert [len(poll(member).records) for _ in range(5)] == [1, 1, 1, 1, 0]


def test_added_partitions_are_noticed_and_read_from_their_beginning(topic: str) -> None:
    member = join(topic, reset="latest")
    poll(member)
    topics.alter(topic, partitions=4)
    fill(topic, 2, (3,))
    polled = poll(member)
    assert (polled.generation, assigned(polled), offsets(polled)) == (2, [0, 1, 2, 3], {3: [0, 1]})


def test_a_deleted_topic_leaves_the_assignment_and_returns_as_a_new_one(topic: str) -> None:
    member = join(topic)
    poll(member)
    commit(member, topic, 0, 10)
    topics.delete(topic)
    polled = poll(member)
    assert (polled.assignment, polled.records) == ([], [])
    with pytest.raises(StaleGeneration):
        commit(member, topic, 0, 10)
    topics.create(topic, partitions=1)
    fill(topic, 3, (0,))
    assert offsets(poll(member)) == {0: [0, 1, 2]}
    assert groups.forget_ended_members() == 1


def test_a_compacted_partition_is_read_over_its_gaps() -> None:
    topics.create("table", partitions=1)
    fill("table", 50, (0,))
    with connection.cursor() as cursor:
        cursor.execute("select id from brokers_partition")
        partition_id = cursor.fetchone()[0]
        cursor.execute(
            "update brokers_log_batch set offset_span = 40, codec = 2, payload = %s where partition_id = %s",
            [b"\x92\x90\x90", partition_id],
        )
        cursor.execute("update brokers_log_batch set base_offset = 0")
    fill("table", 1, (0,))
    assert offsets(poll(join("table"))) == {0: [40]}


# -- fencing ------------------------------------------------------------------------------------------------------


def test_a_commit_is_the_next_offset_to_read_and_may_go_back(topic: str) -> None:
    member = join(topic)
    poll(member)
    for offset in (10, 3, 0):
        commit(member, topic, 0, offset)
        assert committed(topic) == {0: offset, 1: None, 2: None}
    found = {p.partition: p.lag for p in reads.get(GROUP).partitions}
    assert found == {0: 10, 1: None, 2: None}


def test_after_the_group_moved_on_nothing_is_committed_until_the_next_poll(topic: str) -> None:
    first = join(topic)
    poll(first)
    join(topic)
    for generation in (None, 1, 3):
        with pytest.raises(StaleGeneration):
            commit(first, topic, 0, 5, generation)
    assert committed(topic) == {0: None, 1: None, 2: None}
    poll(first, 0)
    commit(first, topic, 0, 5)
    with pytest.raises(StaleGeneration):
        commit(first, topic, 0, 6, 1)
    assert committed(topic)[0] == 5


def test_a_commit_is_all_or_nothing(topic: str) -> None:
    first, _ = join(topic), join(topic)
    poll(first)
    mine, other = GroupOffset(topic, 0, 5), GroupOffset(topic, 2, 5)
    with pytest.raises(StaleGeneration):
        groups.commit(GROUP, first, [mine, other])
    with pytest.raises(InvalidValue) as beyond:
        groups.commit(GROUP, first, [mine, GroupOffset(topic, 1, 11)])
    assert beyond.value.errors[0][0] == "/offsets/1/offset"
    with pytest.raises(StaleGeneration):
        groups.commit(GROUP, first, [mine, GroupOffset("nothing", 0, 1)])
    for senseless in ([], [mine, mine], [GroupOffset(topic, 0, -1)]):
        with pytest.raises(InvalidValue):
            groups.commit(GROUP, first, senseless)
    assert committed(topic) == {0: None, 1: None, 2: None}


def test_a_zombie_commits_nothing_whatever_generation_it_names(topic: str) -> None:
    zombie = join(topic)
    assert len(poll(zombie).records) == 30
    let_time_pass(zombie, heartbeat_ms=45_001)
    heir = join(topic)
    assert len(poll(heir).records) == 30
    generation = reads.get(GROUP).generation
    for named in (None, *range(generation + 2)):
        with pytest.raises(StaleGeneration):
            commit(zombie, topic, 0, 10, named)
    assert committed(topic) == {0: None, 1: None, 2: None}
    commit(heir, topic, 0, 10)


def test_a_member_cannot_commit_what_it_does_not_own(topic: str) -> None:
    first, second = join(topic), join(topic)
    poll(second)
    with pytest.raises(StaleGeneration):
        commit(second, topic, 2, 1, 2)
    poll(first)
    commit(second, topic, 2, 1)
    with pytest.raises(StaleGeneration):
        commit(first, topic, 2, 2)


def test_a_commit_is_part_of_the_callers_transaction(topic: str) -> None:
    member = join(topic)
    poll(member)
    with pytest.raises(RuntimeError, match="handler"), transaction.atomic():
        commit(member, topic, 0, 10)
        raise RuntimeError("handler")
    assert committed(topic)[0] is None
    with transaction.atomic():
        commit(member, topic, 0, 10)
        publish_many(topic, [{"value": "effect", "partition": 2}])
    assert committed(topic)[0] == 10
    assert topic_log.fetch(topic, 2, 10).records[0].value == "effect"
