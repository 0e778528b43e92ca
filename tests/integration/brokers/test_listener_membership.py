"""Listeners as members of their group: slots, succession, fences, and what is read with care after a loss."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction

from brokers import FixedBackOff, deliveries, groups, publish_many, redeliveries, topics
from brokers.consumer import Consumer
from brokers.deliveries import Delivery
from brokers.errors import UnknownMember
from brokers.groups import Subscription
from brokers.models import DeadLetter, DeliveryAttempt, GroupAssignment, GroupMember, Redelivery
from brokers.record import Record
from brokers.selectors import groups as reads
from tests.effects import Effects, effects_table
from tests.listening import caught_up, lag, listener, listening, serving, until
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)

GROUP, TOPIC = "billing", "orders"


@pytest.fixture(autouse=True)
def _topics() -> None:
    topics.create(TOPIC, partitions=3)
    topics.create("one", partitions=1)


@pytest.fixture
def effects() -> Iterator[Effects]:
    with effects_table() as table:
        yield table


def fill(count: int, topic: str = "one", partition: int = 0, start: int = 0) -> None:
    publish_many(topic, [{"value": n, "partition": partition} for n in range(start, start + count)])


def sql(statement: str, *parameters: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)


class Gate:
    """Holds a handler at one record until the test lets it go on."""

    def __init__(self, effects: Effects, value: object = 0) -> None:
        self.effects = effects
        self.value = value
        self.entered, self.go_on = threading.Event(), threading.Event()
        self.calls: list[tuple[object, int]] = []

    def __call__(self, record: Record) -> None:
        self.calls.append((record.value, record.attempt))
        self.effects.write(record)
        if record.value == self.value and not self.go_on.is_set():
            self.entered.set()
            assert self.go_on.wait(30)


# -- slots --------------------------------------------------------------------------------------------------------


def test_workers_take_the_lowest_free_slots() -> None:
    with serving(listener(lambda record: None, TOPIC, group=GROUP)) as first:
        with serving(listener(lambda record: None, TOPIC, group=GROUP)) as second:
            assert (first.slot, second.slot) == (1, 2)
        with serving(listener(lambda record: None, TOPIC, group=GROUP)) as third:
            assert third.slot == 2


def test_a_worker_that_loses_its_slot_takes_one_again_and_goes_on() -> None:
    handled: list[Record] = []
    with listening(handled.append, "one", group=GROUP) as worker:
        members = [member.member_id for member in reads.get(GROUP).members]
        sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'waystation-worker'")
        fill(3)
        caught_up(GROUP)
        until(lambda: _workers() == 1)
        assert worker.slot == 1
        assert [member.member_id for member in reads.get(GROUP).members] == members
    assert len(handled) == 3


def _workers() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select count(*) from pg_stat_activity where application_name = 'waystation-worker'")
        return int(cursor.fetchone()[0])


def test_when_another_has_taken_the_slot_meanwhile_the_worker_joins_anew_under_the_next() -> None:
    handled: list[Record] = []
    with listening(handled.append, "one", group=GROUP) as worker:
        with connection.cursor() as cursor:
            cursor.execute("select pg_advisory_unlock_all()")
            sql("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'waystation-worker'")
            cursor.execute("select pg_advisory_lock(%s, 1)", [0x57415954])
        try:
            until(lambda: worker.slot == 2)
            fill(3)
            caught_up(GROUP)
            live = GroupMember.objects.get(ended_at=None)
            assert str(live.instance_id).endswith("#2.1")
        finally:
            sql("select pg_advisory_unlock_all()")
    assert len(handled) == 3


# -- succession ---------------------------------------------------------------------------------------------------


def test_a_static_member_that_joins_again_takes_over_at_once_and_disturbs_nobody() -> None:
    static = Subscription((TOPIC,), instance_id="handler#1.1")
    first = groups.join(GROUP, static)
    other = groups.join(GROUP, Subscription((TOPIC,)))
    groups.poll(GROUP, first.member_id)
    groups.poll(GROUP, other.member_id)
    generation = reads.get(GROUP).generation
    before = {member.member_id: member.assignment for member in reads.get(GROUP).members}
    second = groups.join(GROUP, static)
    after = reads.get(GROUP)
    assert after.generation == generation
    assert {member.member_id: member.assignment for member in after.members} == {
        other.member_id: before[other.member_id],
        second.member_id: before[first.member_id],
    }
    assert GroupMember.objects.get(member_id=first.member_id).end_reason == "replaced"
    with pytest.raises(UnknownMember):
        groups.poll(GROUP, first.member_id)
    owner = GroupMember.objects.get(member_id=second.member_id)
    assert {row.careful for row in GroupAssignment.objects.filter(owner=owner)} == {True}
    assert {row.careful for row in GroupAssignment.objects.exclude(owner=owner)} == {False}


def test_a_static_member_with_other_topics_brings_a_new_division() -> None:
    groups.join(GROUP, Subscription(("one",), instance_id="handler#1.1"))
    second = groups.join(GROUP, Subscription((TOPIC,), instance_id="handler#1.1"))
    assert second.generation == 2
    assert len(second.assignment) == 3


def test_an_instance_id_is_free_after_its_session_and_in_other_groups() -> None:
    static = Subscription((TOPIC,), instance_id="handler#1.1")
    first = groups.join(GROUP, static)
    groups.join("another", static)
    groups.leave(GROUP, first.member_id)
    assert len(groups.join(GROUP, static).assignment) == 3
    assert not GroupAssignment.objects.filter(careful=True).exists()


# -- fences -------------------------------------------------------------------------------------------------------


def test_a_rebalance_among_others_does_not_undo_what_is_under_way(effects: Effects) -> None:
    fill(2, TOPIC, 0)
    gate = Gate(effects)
    with listening(gate, TOPIC, group=GROUP) as worker:
        gate.entered.wait(20)
        with Consumer(GROUP, TOPIC), Consumer(GROUP, TOPIC):
            gate.go_on.set()
            until(lambda: effects.names() == ["0", "1"])
            until(lambda: len(worker.members[0].partitions) == 1)
    assert gate.calls == [(0, 1), (1, 1)]


def test_a_partition_is_let_go_between_two_transactions(effects: Effects) -> None:
    fill(2, TOPIC, 2)
    gate = Gate(effects)
    with listening(gate, TOPIC, group=GROUP):
        gate.entered.wait(20)
        with Consumer(GROUP, TOPIC) as consumer:
            assert consumer.poll() == []
            assert consumer.assignment == []
            gate.go_on.set()
            until(lambda: not consumer.poll(wait_ms=100) and len(consumer.assignment) == 1)
    assert gate.calls == [(0, 1), (1, 1)]
    assert effects.names() == ["0", "1"]


def test_a_reset_undoes_what_is_under_way(effects: Effects) -> None:
    fill(4)
    gate = Gate(effects, value=2)
    with listening(gate, "one", group=GROUP):
        gate.entered.wait(20)
        groups.pause(GROUP)
        groups.reset(GROUP, "one", groups.ResetTo("offset", 3), dry_run=False)
        gate.go_on.set()
        groups.resume(GROUP)
        caught_up(GROUP)
    assert effects.names() == ["3"]


@pytest.mark.parametrize("what", ["heartbeat_at", "polled_at"])
def test_one_whose_session_ends_in_its_handler_commits_nothing_and_keeps_no_lock(effects: Effects, what: str) -> None:
    fill(2)
    gate = Gate(effects)
    with listening(gate, "one", group=GROUP):
        gate.entered.wait(20)
        member = GroupMember.objects.get(ended_at=None)

        def is_over() -> bool:  # the worker's own heartbeat may come in between
            sql(f"update brokers_group_member set {what} = '2000-01-01' where ended_at is null and id = %s", member.id)
            return groups.expire_sessions() > 0

        until(is_over)
        with transaction.atomic():  # the stopped transaction is gone, and its locks with it
            sql("lock table test_effect in exclusive mode nowait")
        gate.go_on.set()
        caught_up(GROUP)
    assert effects.names() == ["0", "1"]
    assert GroupMember.objects.filter(end_reason__in=["session", "poll_interval"]).count() == 1
    assert {attempt for _, attempt in gate.calls} == {1}


def test_a_handler_that_takes_longer_than_its_poll_interval_loses_its_partitions_to_others(effects: Effects) -> None:
    fill(2)
    gate = Gate(effects)
    slow = listener(gate, "one", group=GROUP, max_poll_interval_ms=600, session_timeout_ms=600)
    with serving(slow) as worker:
        gate.entered.wait(20)
        assert worker.is_alive()
        until(lambda: groups.expire_sessions() > 0 or GroupMember.objects.filter(end_reason="poll_interval").exists())
        until(lambda: not worker.is_alive(), what="the worker asks to be replaced")
        handled: list[Record] = []
        with listening(handled.append, "one", group=GROUP):
            until(lambda: len(handled) == 2)
            gate.go_on.set()
    assert effects.names() == []
    assert GroupMember.objects.filter(end_reason="poll_interval").count() >= 1


def test_a_record_that_always_takes_too_long_is_given_up_in_the_end(effects: Effects) -> None:
    fill(2)

    def handle(record: Record) -> None:
        effects.write(record)
        if record.value == 0:
            threading.Event().wait(1.0)

    one = listener(handle, "one", group=GROUP, max_poll_interval_ms=300, session_timeout_ms=300, max_worker_losses=2)
    with serving(one):
        until(lambda: groups.expire_sessions() >= 0 and lag(GROUP) == 0)
    assert effects.names() == ["1"]
    (letter,) = DeadLetter.objects.all()
    assert (letter.record_offset, letter.reason, letter.attempts) == (0, "worker_lost", 2)


def test_a_member_stays_alive_while_it_waits_or_works_for_long(effects: Effects) -> None:
    fill(1)
    gate = Gate(effects)
    with listening(gate, "one", group=GROUP, session_timeout_ms=400):
        gate.entered.wait(20)
        deadline = threading.Event()
        deadline.wait(1.2)
        assert groups.expire_sessions() == 0
        gate.go_on.set()
        caught_up(GROUP)
        deadline.wait(1.0)
        assert groups.expire_sessions() == 0
        assert GroupMember.objects.count() == 1


# -- after a loss -------------------------------------------------------------------------------------------------


def lose_the_owner(topic: str = "one") -> None:
    """Somebody owned the partitions, and was lost."""
    groups.join(GROUP, Subscription((topic,), instance_id=unique()))
    sql("update brokers_group_member set heartbeat_at = '2000-01-01'")
    assert groups.expire_sessions() == 1


def delivery(offset: int, handler: str = "any") -> Delivery:
    row = GroupAssignment.objects.get()
    record = Record(0, None, b"0", 1, {}, offset, 0, "one")
    return Delivery(GROUP, row.group_id, handler, row.partition_id, record)


def test_after_a_loss_records_are_handled_one_at_a_time_each_attempt_counted_before_the_call(effects: Effects) -> None:
    fill(9)
    lose_the_owner()
    begun: list[tuple[int, int]] = []

    def handle(record: Record) -> None:
        attempts = list(DeliveryAttempt.objects.filter(ended_at=None))
        begun.extend((attempt.record_offset, attempt.number) for attempt in attempts)
        effects.write(record)

    with listening(handle, "one", group=GROUP, max_poll_records=4):
        caught_up(GROUP)
    assert begun == [(n, 1) for n in range(4)]
    assert effects.names() == [str(n) for n in range(9)]
    assert not DeliveryAttempt.objects.exists()
    assert not GroupAssignment.objects.filter(careful=True).exists()


def test_a_record_with_too_many_lost_workers_is_given_up_without_a_call(effects: Effects) -> None:
    fill(3)
    lose_the_owner()
    for number in (1, 2, 3):
        deliveries.begin(delivery(1), number, "gone")
    with listening(effects.write, "one", group=GROUP):
        caught_up(GROUP)
    assert effects.names() == ["0", "2"]
    (letter,) = DeadLetter.objects.all()
    assert (letter.record_offset, letter.reason, letter.attempts) == (1, "worker_lost", 3)
    assert not DeliveryAttempt.objects.exists()


def test_lost_attempts_do_not_count_as_failed_ones(effects: Effects) -> None:
    fill(1)
    lose_the_owner()
    deliveries.begin(delivery(0), 1, "gone")
    deliveries.begin(delivery(0), 2, "gone")
    attempts: list[int] = []

    def handle(record: Record) -> None:
        attempts.append(record.attempt)
        raise ValueError("no")

    with listening(handle, "one", group=GROUP, retry=FixedBackOff(0, 1)):
        caught_up(GROUP)
    assert attempts == [3, 4]
    (letter,) = DeadLetter.objects.all()
    assert (letter.reason, letter.attempts) == ("attempts_exhausted", 4)


def test_the_lane_is_served_with_care_too(effects: Effects) -> None:
    lose_the_owner()
    one = delivery(7)
    redeliveries.park(one, 0)
    row = Redelivery.objects.get()
    for number in (1, 2, 3):
        sql(
            "insert into brokers_delivery_attempt (group_id, partition_id, record_offset, redelivery_id, number,"
            " started_at, frames) values (%s, %s, 7, %s, %s, now(), '[]')",
            *(one.group_id, one.partition_id, row.id, number),
        )
    with listening(effects.write, "one", group=GROUP):
        until(lambda: DeadLetter.objects.exists())
    assert effects.names() == []
    assert DeadLetter.objects.get().reason == "worker_lost"
    assert not DeliveryAttempt.objects.exists()


def test_a_lost_connection_in_a_careful_call_is_no_lost_worker(effects: Effects) -> None:
    fill(1)
    lose_the_owner()
    attempts: list[int] = []

    def handle(record: Record) -> None:
        attempts.append(record.attempt)
        effects.write(record)
        if len(attempts) < 5:
            sql("select pg_terminate_backend(pg_backend_pid())")

    with listening(handle, "one", group=GROUP):
        caught_up(GROUP)
    assert attempts == [1] * 5
    assert effects.names() == ["0"]
    assert not DeliveryAttempt.objects.exists()


def test_what_nobody_comes_back_to_is_forgotten() -> None:
    fill(2)
    with listening(lambda record: None, "one", group=GROUP):
        caught_up(GROUP)
        deliveries.begin(delivery(0), 1, "gone")
        deliveries.begin(delivery(2), 1, "gone")
        assert deliveries.purge() == 0
        sql("update brokers_delivery_attempt set started_at = now() - interval '2 hours'")
        assert deliveries.purge() == 1
        assert DeliveryAttempt.objects.get().record_offset == 2
