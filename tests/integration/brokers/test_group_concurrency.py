"""Consumer groups under concurrency: waiting polls, polls side by side, members that come and go under load."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import pytest
from django.db import connection, connections, transaction

from brokers import apublish, database, groups, publish, publish_many, topics
from brokers.consumer import Consumer
from brokers.errors import StaleGeneration, UnknownMember
from brokers.groups import GroupOffset, Subscription
from brokers.record import Record
from brokers.selectors import groups as reads
from brokers.wakeup import Hub

pytestmark = pytest.mark.django_db(transaction=True)

GROUP, TOPIC = "billing", "orders"


@contextmanager
def beside(function: Callable[[], object]) -> Iterator[threading.Thread]:
    """Runs a function in a thread with a database connection of its own; raises here what it raised there."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:  # handed to the test's own thread
            errors.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(60)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def join(**options: int) -> str:
    return groups.join(GROUP, Subscription((TOPIC,), **options)).member_id  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _topic() -> None:
    topics.create(TOPIC, partitions=3)


# -- waiting ------------------------------------------------------------------------------------------------------


def test_a_waiting_poll_wakes_for_a_record() -> None:
    member = join()
    answers: list[list[Record]] = []
    with beside(lambda: answers.append(groups.poll(GROUP, member, wait_ms=20_000).records)):
        time.sleep(0.3)
        began = time.monotonic()
        publish(TOPIC, "now")
    assert [record.value for record in answers[0]] == ["now"]
    assert time.monotonic() - began < 5


def test_a_waiting_poll_ends_when_the_group_changes_and_the_partition_is_handed_over() -> None:
    member = join()
    answers: list[groups.Polled] = []
    with beside(lambda: answers.append(groups.poll(GROUP, member, wait_ms=20_000))):
        time.sleep(0.3)
        began = time.monotonic()
        second = join()
    assert time.monotonic() - began < 5
    assert (answers[0].generation, len(answers[0].assignment)) == (2, 2)
    assert len(groups.poll(GROUP, second).assignment) == 1


def test_one_that_waits_for_a_partition_is_told_when_it_comes() -> None:
    first, second = join(), join()
    answers: list[groups.Polled] = []
    groups.poll(GROUP, second)
    with beside(lambda: answers.append(groups.poll(GROUP, second, wait_ms=20_000))):
        time.sleep(0.3)
        began = time.monotonic()
        groups.poll(GROUP, first)
    assert time.monotonic() - began < 5
    assert [place.partition for place in answers[0].assignment] == [2]


def test_a_waiting_poll_keeps_its_session_whatever_the_timeouts() -> None:
    member = join(session_timeout_ms=300, max_poll_interval_ms=300)
    other = join()
    groups.poll(GROUP, member)
    ended: list[int] = []
    with beside(lambda: groups.poll(GROUP, member, wait_ms=1500)) as thread:
        while thread.is_alive():
            ended.append(groups.expire_sessions())
            time.sleep(0.02)
    assert not any(ended)
    assert groups.poll(GROUP, member, max_records=0).generation == 2
    groups.leave(GROUP, other)


def test_the_asynchronous_form_waits_and_wakes_too() -> None:
    member = join()

    async def main() -> groups.Polled:
        hub = Hub(lambda kind, name: None)
        hub.start()
        try:
            polling = asyncio.create_task(groups.apoll(hub, GROUP, member, wait_ms=20_000))
            await asyncio.sleep(0.3)
            await apublish(TOPIC, "now", partition=1)
            polled = await asyncio.wait_for(polling, 5)
            await groups.acommit(GROUP, member, [GroupOffset(TOPIC, 1, 1)])
            second = await groups.ajoin(GROUP, Subscription((TOPIC,)))
            await groups.aleave(GROUP, second.member_id)
            with pytest.raises(UnknownMember):
                await groups.apoll(hub, GROUP, second.member_id)
            with pytest.raises(StaleGeneration):
                await groups.acommit(GROUP, member, [GroupOffset(TOPIC, 1, 0)])
            topics_seen: list[list[str]] = []
            await groups.apoll(hub, GROUP, member, permit=lambda names: topics_seen.append(list(names)))
            assert topics_seen == [[TOPIC]]
            return polled
        finally:
            await hub.stop()
            await database.close()

    polled = asyncio.run(main())
    assert [(record.partition, record.value) for record in polled.records] == [(1, "now")]
    assert reads.get(GROUP).generation == 3


# -- side by side -------------------------------------------------------------------------------------------------


def test_two_polls_of_one_member_never_give_the_same_record() -> None:
    publish_many(TOPIC, [{"value": n} for n in range(900)])
    member = join()
    given: list[tuple[int, int]] = []

    def drain() -> None:
        while records := groups.poll(GROUP, member, max_records=7).records:
            given.extend((record.partition, record.offset) for record in records)

    with beside(drain), beside(drain), beside(drain):
        drain()
    assert sorted(given) == [(partition, offset) for partition in range(3) for offset in range(300)]


def test_who_wants_to_join_waits_for_a_commit_that_is_under_way() -> None:
    publish_many(TOPIC, [{"value": n, "partition": 2} for n in range(5)])
    member = join()
    groups.poll(GROUP, member)
    joined: list[str] = []
    with ExitStack() as stack, transaction.atomic():
        groups.commit(GROUP, member, [GroupOffset(TOPIC, 2, 5)])
        thread = stack.enter_context(beside(lambda: joined.append(join())))
        thread.join(0.3)
        assert not joined
    assert len(joined) == 1
    groups.poll(GROUP, member)
    assert groups.poll(GROUP, joined[0]).records == []


def test_commits_of_different_members_do_not_wait_for_each_other() -> None:
    first, second = join(), join()
    groups.poll(GROUP, first)
    groups.poll(GROUP, second)
    with transaction.atomic():
        groups.commit(GROUP, first, [GroupOffset(TOPIC, 0, 0)])
        with beside(lambda: groups.commit(GROUP, second, [GroupOffset(TOPIC, 2, 0)])) as thread:
            thread.join(5)
            assert not thread.is_alive()


def test_expiry_passes_over_a_group_that_a_long_transaction_holds() -> None:
    member, ended = join(), []
    groups.poll(GROUP, member)
    other = groups.join("another", Subscription((TOPIC,))).member_id
    with connection.cursor() as cursor:
        cursor.execute("update brokers_group_member set heartbeat_at = heartbeat_at - interval '1 hour'")
    with transaction.atomic():
        groups.commit(GROUP, member, [GroupOffset(TOPIC, 0, 0)])
        with beside(lambda: ended.append(groups.expire_sessions())):
            pass
    assert ended == [1]
    with pytest.raises(UnknownMember):
        groups.poll("another", other)
    assert groups.expire_sessions() == 1


@dataclass
class Ledger:
    """Who committed which stretch of which partition."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    stretches: list[tuple[int, int, int]] = field(default_factory=list)
    refused: int = 0


def test_members_that_come_and_go_under_load_handle_every_record_once() -> None:
    total, members = 6000, 4
    ledger, done = Ledger(), threading.Event()

    def produce() -> None:
        for n in range(total // 30):
            publish_many(TOPIC, [{"value": n} for _ in range(30)])

    def consume(seed: int) -> None:
        chance = random.Random(seed)
        while not done.is_set():
            live_once(chance, ledger, done)

    def disturb() -> None:
        chance = random.Random(99)
        while not done.is_set():
            if chance.random() < 0.3:
                with connection.cursor() as cursor:
                    cursor.execute(
                        "update brokers_group_member set heartbeat_at = heartbeat_at - interval '2 hours' where id ="
                        " (select id from brokers_group_member where ended_at is null order by random() limit 1)"
                    )
            groups.expire_sessions()
            reads.page("", 10, lambda name: True)
            time.sleep(0.05)

    def finished() -> bool:
        return groups_are_through(total)

    threads = [threading.Thread(target=closing(consume), args=(seed,)) for seed in range(members)]
    threads += [threading.Thread(target=closing(disturb)), threading.Thread(target=closing(produce))]
    for thread in threads:
        thread.start()
    try:
        until(finished, 60)
    finally:
        done.set()
        for thread in threads:
            thread.join(30)
    for partition in range(3):
        stretches = sorted((begin, end) for number, begin, end in ledger.stretches if number == partition)
        assert [begin for begin, _ in stretches] == [0, *(end for _, end in stretches[:-1])]
    assert sum(end - begin for _, begin, end in ledger.stretches) == total
    assert ledger.refused, "the members never got in each other's way"


def closing(function: Callable[..., None]) -> Callable[..., None]:
    def run(*args: int) -> None:
        try:
            function(*args)
        finally:
            connections.close_all()

    return run


def groups_are_through(total: int) -> bool:
    found = [group for group in reads.page("", 10, lambda name: True)[0] if group.group == GROUP]
    return bool(found) and sum(p.committed_offset or 0 for p in found[0].partitions) == total


def live_once(chance: random.Random, ledger: Ledger, done: threading.Event) -> None:
    """One member's life: polls and commits until it leaves, or is told that it is none any more."""
    member = join()
    begun: dict[groups.Assigned, int] = {}
    reached: dict[groups.Assigned, int] = {}
    try:
        while not done.is_set():
            polled = groups.poll(GROUP, member, max_records=chance.randint(1, 20), wait_ms=chance.choice([0, 50]))
            claims = {place.partition: place for place in polled.assignment}
            reached = {claim: offset for claim, offset in reached.items() if claim in claims.values()}
            for record in polled.records:
                claim = claims[record.partition]
                if claim in reached:
                    assert record.offset == reached[claim]
                elif claim not in begun:
                    begun[claim] = record.offset
                reached[claim] = record.offset + 1
            if reached and chance.random() < 0.7:
                commit(member, begun, reached, ledger)
            if chance.random() < 0.05:
                groups.leave(GROUP, member)
                return
        groups.leave(GROUP, member)
    except UnknownMember:
        return


def commit(member: str, begun: dict[groups.Assigned, int], reached: dict[groups.Assigned, int], ledger: Ledger) -> None:
    try:
        groups.commit(GROUP, member, [GroupOffset(TOPIC, claim.partition, offset) for claim, offset in reached.items()])
    except StaleGeneration:
        with ledger.lock:
            ledger.refused += 1
        return
    with ledger.lock:
        for claim, offset in reached.items():
            if offset > begun[claim]:
                ledger.stretches.append((claim.partition, begun[claim], offset))
            begun[claim] = offset


# -- the synchronous consumer -------------------------------------------------------------------------------------


def test_consumers_of_one_group_share_a_topic() -> None:
    publish_many(TOPIC, [{"value": n} for n in range(90)])
    values: list[int] = []
    with Consumer(GROUP, TOPIC) as first, Consumer(GROUP, [TOPIC]) as second:
        for consumer in (first, second) * 6:
            values += [record.value for record in consumer.poll(20)]
            consumer.commit()
        assert sorted(len(consumer.assignment) for consumer in (first, second)) == [1, 2]
    assert sorted(values) == list(range(90))
    found = reads.get(GROUP)
    assert (found.state, [p.lag for p in found.partitions]) == ("empty", [0, 0, 0])


def test_a_consumer_commits_what_it_kept_after_it_was_told_to_poll() -> None:
    publish_many(TOPIC, [{"value": n, "partition": p} for p in range(3) for n in range(4)])
    with Consumer(GROUP, TOPIC) as first:
        first.poll()
        with Consumer(GROUP, TOPIC) as second:
            with pytest.raises(StaleGeneration):
                first.commit()
            assert first.poll() == []
            first.commit()
            assert [(record.partition, record.offset) for record in second.poll()] == [(2, n) for n in range(4)]
    assert [p.committed_offset for p in reads.get(GROUP).partitions] == [4, 4]


def test_a_consumer_whose_session_ended_joins_again() -> None:
    publish_many(TOPIC, [{"value": n, "partition": 0} for n in range(4)])
    with Consumer(GROUP, TOPIC) as consumer:
        assert len(consumer.poll()) == 4
        with connection.cursor() as cursor:
            cursor.execute("update brokers_group_member set heartbeat_at = heartbeat_at - interval '1 hour'")
        assert len(consumer.poll()) == 4
        with transaction.atomic():
            consumer.commit()
        consumer.commit()
        consumer.close()
        consumer.close()
    committed = {p.partition: p.committed_offset for p in reads.get(GROUP).partitions}
    assert committed.pop(0) == 4
    assert set(committed.values()) <= {None}, "of those that a lost member owned, nothing is committed"
