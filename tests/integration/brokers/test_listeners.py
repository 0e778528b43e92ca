"""Listeners: who is given what, in which transaction, and what ends it."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import partial

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.db import connection, connections, transaction
from prometheus_client import Counter as Counter_

from brokers import (
    FixedBackOff,
    apublish,
    groups,
    idempotent,
    metrics,
    process_once,
    publish,
    publish_many,
    topic_log,
    topics,
)
from brokers.consumer import Consumer
from brokers.models import ProcessedMessage
from brokers.record import Record
from brokers.selectors import groups as reads
from tests.effects import Effects, effects_table
from tests.listening import caught_up, lag, listener, listening, serving, until
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)

GROUP, TOPIC = "billing", "orders"


@pytest.fixture(autouse=True)
def _topic() -> None:
    topics.create(TOPIC, partitions=3)
    topics.create("one", partitions=1)


@pytest.fixture
def effects() -> Iterator[Effects]:
    with effects_table() as table:
        yield table


def fill(count: int, topic: str = TOPIC, start: int = 0) -> None:
    publish_many(topic, [{"value": n, "key": f"k{n % 7}"} for n in range(start, start + count)])


def values(topic: str) -> list[object]:
    info = topics.lookup(topic)
    return [r.value for n in range(len(info.partition_ids)) for r in topic_log.read(info, n, 0, 1000).records]


def committed(group: str = GROUP) -> dict[tuple[str, int], int | None]:
    return {(place.topic, place.partition): place.committed_offset for place in reads.get(group).partitions}


# -- who gets what ------------------------------------------------------------------------------------------------


def test_each_record_is_handled_once_and_those_of_a_partition_in_order() -> None:
    fill(300)
    handled: list[Record] = []
    with listening(handled.append, TOPIC, group=GROUP, max_poll_records=40):
        fill(50, start=300)
        caught_up(GROUP)
    assert sorted(record.value for record in handled) == list(range(350))
    for number in range(3):
        offsets = [record.offset for record in handled if record.partition == number]
        assert offsets == list(range(len(offsets)))
    assert {record.attempt for record in handled} == {1}


def test_members_divide_the_partitions_and_keep_the_order_of_each() -> None:
    fill(300)
    everything = [(TOPIC, number) for number in range(3)]
    by_thread: dict[str, list[Record]] = defaultdict(list)
    with listening(
        lambda record: by_thread[threading.current_thread().name].append(record), TOPIC, group=GROUP, concurrency=3
    ) as worker:
        until(lambda: sorted(place for member in worker.members for place in member.partitions) == everything)
        fill(300)
        caught_up(GROUP)
    assert len(by_thread) == 3
    handled = [record for records in by_thread.values() for record in records]
    assert len({(record.partition, record.offset) for record in handled}) == len(handled) == 600
    for records in by_thread.values():
        for number in range(3):
            offsets = [record.offset for record in records if record.partition == number]
            assert offsets == sorted(offsets)


def test_partitions_take_turns() -> None:
    publish_many(TOPIC, [{"value": n, "partition": n % 3} for n in range(300)])
    order: list[int] = []
    with listening(lambda record: order.append(record.partition), TOPIC, group=GROUP, max_poll_records=10):
        caught_up(GROUP)
    assert {Counter(order[start : start + 30])[number] for start in range(0, 300, 30) for number in range(3)} == {10}


def test_groups_do_not_know_of_each_other() -> None:
    fill(20)
    mine: list[Record] = []
    other: list[Record] = []
    with serving(listener(mine.append, TOPIC, group="a"), listener(other.append, [TOPIC, "one"], group="b")):
        publish("one", "last")
        caught_up("a")
        caught_up("b")
    assert (len(mine), len(other)) == (20, 21)


def test_a_listener_that_comes_back_goes_on_where_it_was() -> None:
    fill(30)
    first: list[Record] = []
    with listening(first.append, TOPIC, group=GROUP):
        caught_up(GROUP)
    fill(10, start=30)
    second: list[Record] = []
    with listening(second.append, TOPIC, group=GROUP):
        caught_up(GROUP)
    assert sorted(record.value for record in second) == list(range(30, 40))


def test_latest_begins_behind_what_is_there_and_misses_nothing_afterwards() -> None:
    fill(10, "one")
    handled: list[Record] = []
    with listening(handled.append, "one", group=GROUP, auto_offset_reset="latest"):
        fill(5, "one", start=10)
        until(lambda: len(handled) == 5)
    fill(5, "one", start=15)  # nobody listens now, and the group began at 10
    with listening(handled.append, "one", group=GROUP, auto_offset_reset="latest"):
        until(lambda: len(handled) == 10)
    assert [record.value for record in handled] == list(range(10, 20))


def test_none_waits_until_somebody_says_where_to_begin() -> None:
    fill(10, "one")
    handled: list[Record] = []
    with listening(handled.append, "one", group=GROUP, auto_offset_reset="none"):
        groups.pause(GROUP)
        groups.reset(GROUP, "one", groups.ResetTo("offset", 4), dry_run=False)
        groups.resume(GROUP)
        until(lambda: len(handled) == 6)
    assert [record.offset for record in handled] == list(range(4, 10))


def test_a_topic_that_comes_later_is_read_then() -> None:
    handled: list[Record] = []
    with serving(listener(handled.append, "later", group=GROUP), joined=False):
        topics.create("later", partitions=1)
        publish("later", 1)
        until(lambda: len(handled) == 1)


def test_new_partitions_are_read() -> None:
    handled: list[Record] = []
    with listening(handled.append, "one", group=GROUP):
        topics.alter("one", partitions=2)
        publish("one", "new", partition=1)
        until(lambda: len(handled) == 1)
    assert handled[0].partition == 1


def test_listeners_and_members_over_rest_divide_a_group() -> None:
    fill(100)
    handled: list[Record] = []
    polled: list[Record] = []
    with listening(handled.append, TOPIC, group=GROUP) as worker, Consumer(GROUP, TOPIC) as consumer:
        until(lambda: len(worker.members[0].partitions) == 2)
        fill(100, start=100)

        def poll() -> bool:
            polled.extend(consumer.poll(wait_ms=100))
            consumer.commit()
            return lag(GROUP) == 0

        until(poll)
    places = [(record.partition, record.offset) for record in handled + polled]
    assert len(places) == len(set(places)) == 200
    assert {record.partition for record in polled} - {record.partition for record in handled[-10:]}


# -- one transaction ----------------------------------------------------------------------------------------------


def test_effects_publishes_and_offset_are_one_transaction(effects: Effects) -> None:
    fill(10, "one")
    seen: list[tuple[int, list[object], object]] = []

    def handle(record: Record) -> None:
        effects.write(record)
        publish(TOPIC, record.value, partition=0)
        if record.value == 9:
            thread = threading.Thread(target=partial(look, seen))
            thread.start()
            thread.join()

    def look(into: list[tuple[int, list[object], object]]) -> None:
        into.append((len(effects.names()), values(TOPIC), committed()["one", 0]))
        connections.close_all()

    with listening(handle, "one", group=GROUP):
        caught_up(GROUP)
    assert seen == [(0, [], None)]  # before the last record's transaction was committed
    assert effects.names() == [str(n) for n in range(10)]
    assert values(TOPIC) == list(range(10))


def test_with_ack_mode_record_each_is_a_transaction(effects: Effects) -> None:
    fill(3, "one")
    committed_before: list[object] = []

    def handle(record: Record) -> None:
        committed_before.append(committed()["one", 0])
        effects.write(record)

    with listening(handle, "one", group=GROUP, ack_mode="record"):
        caught_up(GROUP)
    assert committed_before == [None, 1, 2]


def test_no_transaction_has_more_than_sixty_writing_records(effects: Effects) -> None:
    fill(150, "one")
    transactions: Counter[str] = Counter()

    def handle(record: Record) -> None:
        effects.write(record)
        with connection.cursor() as cursor:
            cursor.execute("select pg_current_xact_id()::text")
            transactions[cursor.fetchone()[0]] += 1

    with listening(handle, "one", group=GROUP, max_poll_records=500):
        caught_up(GROUP)
    assert list(transactions.values()) == [60, 60, 30]
    assert effects.places() == [(0, n) for n in range(150)]


def test_callbacks_run_after_the_commit_and_one_that_fails_stops_nobody(effects: Effects) -> None:
    fill(4, "one")
    ran: list[tuple[object, int]] = []

    def callback(value: object) -> None:
        ran.append((value, len(effects.names())))
        if value == 1:
            raise ValueError("not now")

    def handle(record: Record) -> None:
        effects.write(record)
        transaction.on_commit(partial(callback, record.value))

    with listening(handle, "one", group=GROUP):
        caught_up(GROUP)
    assert ran == [(n, 4) for n in range(4)]
    assert effects.names() == ["0", "1", "2", "3"]


def test_callbacks_of_a_handler_without_queries_run_too() -> None:
    fill(2, "one")
    ran: list[object] = []
    with listening(lambda r: transaction.on_commit(partial(ran.append, r.value)), "one", group=GROUP):
        caught_up(GROUP)
    assert ran == [0, 1]


def test_nested_transactions_belong_to_the_record() -> None:
    fill(6, "one")

    def handle(record: Record) -> None:
        with transaction.atomic():
            Group.objects.create(name=f"kept {record.value}")
        try:
            with transaction.atomic():
                Group.objects.create(name="the same")
        except Exception:
            Group.objects.create(name=f"again {record.value}")

    with listening(handle, "one", group=GROUP):
        caught_up(GROUP)
    names = set(Group.objects.values_list("name", flat=True))
    assert names == {f"kept {n}" for n in range(6)} | {"the same"} | {f"again {n}" for n in range(1, 6)}


@pytest.mark.parametrize("savepoint", ["lazy", "eager"])
def test_every_kind_of_query_is_the_records_own(effects: Effects, savepoint: str) -> None:
    fill(6, "one")

    def handle(record: Record) -> None:
        kind = record.value % 3
        if kind == 0:
            Group.objects.bulk_create([Group(name=f"{record.value}-{n}-{record.attempt}") for n in range(3)])
        elif kind == 1:
            list(Group.objects.iterator(chunk_size=2))
            effects.write(record)
        else:
            with connection.cursor() as cursor:
                cursor.executemany(
                    "insert into test_effect (name, partition, record_offset) values (%s, 0, 0)", [["a"], ["b"]]
                )
        if record.attempt == 1:
            raise ValueError(record.value)

    with listening(handle, "one", group=GROUP, savepoint=savepoint):
        caught_up(GROUP)
    assert Counter(effects.names()) == {"a": 2, "b": 2, "1": 1, "4": 1}
    assert sorted(Group.objects.values_list("name", flat=True)) == [f"{v}-{n}-2" for v in (0, 3) for n in range(3)]


# -- forms of handlers --------------------------------------------------------------------------------------------


def test_an_asynchronous_handler_works_in_the_transaction(effects: Effects) -> None:
    fill(5, "one")

    async def handle(record: Record) -> None:
        await Group.objects.acreate(name=f"{record.value}-{record.attempt}")
        await sync_to_async(effects.write)(record)
        await apublish(TOPIC, record.value, partition=0)
        if record.value == 3 and record.attempt == 1:
            raise ValueError("once")

    with listening(handle, "one", group=GROUP):
        caught_up(GROUP)
    assert sorted(Group.objects.values_list("name", flat=True)) == ["0-1", "1-1", "2-1", "3-2", "4-1"]
    assert effects.names() == ["0", "1", "2", "3", "4"]
    assert values(TOPIC) == [0, 1, 2, 3, 4]


def test_a_batch_handler_gets_lists_of_one_partition(effects: Effects) -> None:
    fill(100)
    sizes: list[int] = []

    def handle(records: list[Record]) -> None:
        assert len({record.partition for record in records}) == 1
        sizes.append(len(records))
        for record in records:
            effects.write(record)

    with listening(handle, TOPIC, group=GROUP, batch=True, max_poll_records=20):
        caught_up(GROUP)
    assert max(sizes) == 20
    assert sorted(effects.names()) == sorted(str(n) for n in range(100))


def test_an_idempotent_handler_handles_each_key_once(effects: Effects) -> None:
    @idempotent(key=lambda record: record.value["id"])
    def handle(record: Record) -> None:
        effects.write(record, record.value["id"])

    publish_many("one", [{"value": {"id": name}} for name in "abcab"])
    with listening(handle, "one", group=GROUP):
        caught_up(GROUP)
        publish_many("one", [{"value": {"id": name}} for name in "cde"])
        caught_up(GROUP)
    assert effects.names() == list("abcde")
    assert ProcessedMessage.objects.filter(consumer=GROUP).count() == 5


def test_process_once_knows_the_group(effects: Effects) -> None:
    def handle(record: Record) -> None:
        if process_once(record.value):
            effects.write(record)

    publish_many("one", [{"value": name} for name in "abab"])
    with listening(handle, "one", group=GROUP):
        caught_up(GROUP)
    assert effects.names() == ["a", "b"]
    assert set(ProcessedMessage.objects.values_list("consumer", flat=True)) == {GROUP}


# -- pause, reset, end --------------------------------------------------------------------------------------------


def test_a_paused_group_gets_nothing_until_it_is_resumed() -> None:
    handled: list[Record] = []
    with listening(handled.append, TOPIC, group=GROUP) as worker:
        fill(5)
        caught_up(GROUP)
        groups.pause(GROUP)
        until(lambda: all(member.is_paused for member in worker.members))
        fill(5, start=5)
        assert len(worker.members[0].partitions) == 3
        assert len(handled) == 5
        groups.resume(GROUP)
        caught_up(GROUP)
    assert len(handled) == 10


def test_a_reset_takes_effect_at_once() -> None:
    fill(10, "one")
    handled: list[Record] = []
    with listening(handled.append, "one", group=GROUP):
        caught_up(GROUP)
        groups.pause(GROUP)
        groups.reset(GROUP, "one", groups.ResetTo("offset", 6), dry_run=False)
        groups.resume(GROUP)
        until(lambda: len(handled) == 14)
    assert [record.offset for record in handled] == [*range(10), *range(6, 10)]


def test_a_worker_that_stops_finishes_the_record_under_way_and_leaves(effects: Effects) -> None:
    fill(50, "one")
    entered, go_on = threading.Event(), threading.Event()

    def handle(record: Record) -> None:
        effects.write(record)
        if record.value == 3:
            entered.set()
            go_on.wait(20)

    with listening(handle, "one", group=GROUP) as worker:
        entered.wait(20)
        worker.stop()
        go_on.set()
    assert effects.names() == ["0", "1", "2", "3"]
    assert committed() == {("one", 0): 4}
    assert reads.get(GROUP).members == []


def test_a_handler_that_does_not_end_in_time_loses_its_transaction_and_nothing_else(effects: Effects) -> None:
    fill(3, "one")
    entered, go_on = threading.Event(), threading.Event()

    def handle(record: Record) -> None:
        effects.write(record)
        entered.set()
        go_on.wait(20)

    one = listener(handle, "one", group=GROUP)
    with serving(one, drain_seconds=0.1) as worker:
        entered.wait(20)
    assert any(member.is_alive() for member in worker.members)
    go_on.set()
    until(lambda: not any(member.is_alive() for member in worker.members))
    assert effects.names() == ["0"]
    assert committed() == {("one", 0): 1}


# -- the log behind it --------------------------------------------------------------------------------------------


def test_records_that_were_removed_before_they_were_read_are_passed_over() -> None:
    publish_many("one", [{"value": n} for n in range(10)])
    publish_many("one", [{"value": n} for n in range(10, 20)])
    handled: list[Record] = []
    with listening(handled.append, "one", group=GROUP, max_poll_records=1) as worker:
        caught_up(GROUP)
        groups.pause(GROUP)
        until(lambda: all(member.is_paused for member in worker.members))
        groups.reset(GROUP, "one", groups.ResetTo("offset", 0), dry_run=False)
        with connection.cursor() as cursor:
            cursor.execute("update brokers_partition set earliest_offset = 10 where topic_id = %s", [_id("one")])
        groups.resume(GROUP)
        caught_up(GROUP)
    assert [record.offset for record in handled] == [*range(20), *range(10, 20)]


def _id(topic: str) -> int:
    return topics.lookup(topic).id


def test_a_topic_that_is_deleted_and_made_anew_is_read_from_its_beginning() -> None:
    handled: list[Record] = []
    fill(3, "one")
    with listening(handled.append, ["one", TOPIC], group=GROUP):
        caught_up(GROUP)
        topics.delete("one")
        topics.create("one", partitions=2)
        publish("one", "new", partition=1)
        until(lambda: len(handled) == 4)
        publish(TOPIC, "other")
        until(lambda: len(handled) == 5)
    assert [(record.value, record.offset) for record in handled[3:]] == [("new", 0), ("other", 0)]


def test_a_member_with_many_partitions_reads_them_all() -> None:
    topics.create("wide", partitions=40)
    publish_many("wide", [{"value": n, "partition": n % 40} for n in range(1000)])
    handled: list[Record] = []
    with listening(handled.append, "wide", group=GROUP, max_poll_records=7):
        caught_up(GROUP)
    places = [(record.partition, record.offset) for record in handled]
    assert len(places) == len(set(places)) == 1000
    for number in range(40):
        assert [offset for partition, offset in places if partition == number] == list(range(25))


def test_a_waiting_listener_wakes_for_a_record() -> None:
    handled: list[float] = []
    with listening(lambda record: handled.append(time.monotonic()), "one", group=GROUP) as worker:
        until(worker.hears, what="the worker hears hints")
        waited = []
        for _ in range(10):
            began = time.monotonic()
            publish("one", 1)
            until(lambda: bool(handled))
            waited.append(handled.pop() - began)
    assert sorted(waited)[5] < 0.5


# -- what is told -------------------------------------------------------------------------------------------------


def test_what_happens_is_counted_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "waystation.listeners")
    fill(3, "one")

    def handle(record: Record) -> None:
        if record.value == 1:
            raise ValueError(f"attempt {record.attempt}")

    name = unique("handler")
    with listening(handle, "one", group=GROUP, retry=FixedBackOff(5, 1), name=name):
        caught_up(GROUP)

    def count(counter: Counter_) -> float:
        return float(counter.labels(name)._value.get())

    assert count(metrics.records_handled) == 2
    assert count(metrics.handler_failures) == 2
    assert count(metrics.dead_letters) == 1
    told = {entry.message: vars(entry) for entry in caplog.records if getattr(entry, "handler", "") == name}
    assert told["member joined"]["instance"] == f"{name}#1.1"
    assert told["partitions assigned"]["partitions"] == ["one/0"]
    assert (told["record failed"]["attempt"], told["record failed"]["next_in_ms"]) == (1, 5)
    assert (told["record given up"]["offset"], told["record given up"]["reason"]) == (1, "attempts_exhausted")
    assert told["record given up"]["error"] == "attempt 2"


def test_asynchronous_publishing_from_a_synchronous_handler_is_part_of_its_transaction() -> None:
    fill(2, "one")

    def handle(record: Record) -> None:
        async_to_sync(apublish)(TOPIC, record.value, partition=0)
        if record.attempt == 1:
            raise ValueError(record.value)

    with listening(handle, "one", group=GROUP):
        caught_up(GROUP)
    assert values(TOPIC) == [0, 1]
