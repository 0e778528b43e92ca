"""Listeners whose handlers fail: what is undone, what is kept, when the record comes again, and when it is given up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.db import connection, connections, transaction

from brokers import BatchListenerFailed, FixedBackOff, idempotent, publish, publish_many, topic_log, topics
from brokers.models import DeadLetter, DeadLetterAttempt, DeliveryAttempt, ProcessedMessage, Redelivery
from brokers.record import Record
from tests.effects import Effects, effects_table
from tests.listening import caught_up, listening, until

pytestmark = pytest.mark.django_db(transaction=True)

GROUP, TOPIC = "billing", "orders"
TWICE = FixedBackOff(interval_ms=0, max_retries=2)


class Refused(Exception):
    """Will never be accepted."""


@pytest.fixture(autouse=True)
def _topics() -> None:
    topics.create(TOPIC, partitions=1)
    topics.create("copies", partitions=1)
    topics.create("two", partitions=2)


@pytest.fixture
def effects() -> Iterator[Effects]:
    with effects_table() as table:
        yield table


def fill(*values: object, topic: str = TOPIC, partition: int = 0) -> None:
    publish_many(topic, [{"value": value, "partition": partition} for value in values])


def values(topic: str) -> list[object]:
    return [record.value for record in topic_log.read(topics.lookup(topic), 0, 0, 1000).records]


def dead() -> list[tuple[int | None, str, str, int]]:
    return [
        (letter.record_offset, letter.reason, letter.exception_class, letter.attempts)
        for letter in DeadLetter.objects.order_by("id")
    ]


def is_quiet() -> bool:
    return not DeliveryAttempt.objects.exists() and not Redelivery.objects.exists()


# -- retries in order ---------------------------------------------------------------------------------------------


def test_what_a_failed_record_did_is_undone_and_what_came_before_it_is_kept(effects: Effects) -> None:
    fill(*range(6))
    calls: list[tuple[object, int]] = []
    called_back: list[object] = []

    def handle(record: Record) -> None:
        calls.append((record.value, record.attempt))
        effects.write(record)
        publish("copies", record.value)
        transaction.on_commit(partial(called_back.append, record.value))
        if record.value == 3 and record.attempt < 3:
            raise ValueError("not yet")

    with listening(handle, TOPIC, group=GROUP, retry=TWICE):
        caught_up(GROUP)
    assert calls == [(0, 1), (1, 1), (2, 1), (3, 1), (3, 2), (3, 3), (4, 1), (5, 1)]
    assert effects.names() == [str(n) for n in range(6)]
    assert values("copies") == called_back == list(range(6))
    assert dead() == []
    assert is_quiet()


def test_a_record_that_made_no_query_does_not_undo_the_one_before_it(effects: Effects) -> None:
    fill("writes", "fails", "writes too")

    def handle(record: Record) -> None:
        if record.value == "fails":
            raise Refused
        effects.write(record)

    with listening(handle, TOPIC, group=GROUP, not_retryable=Refused):
        caught_up(GROUP)
    assert effects.names() == ["writes", "writes too"]
    assert dead() == [(1, "exception", f"{__name__}.Refused", 1)]


def test_attempts_are_kept_with_their_times_and_errors(effects: Effects) -> None:
    fill("bad")

    def handle(record: Record) -> None:
        raise ValueError(f"attempt {record.attempt}")

    with listening(handle, TOPIC, group=GROUP, retry=FixedBackOff(60, 2)):
        caught_up(GROUP)
    assert dead() == [(0, "attempts_exhausted", "builtins.ValueError", 3)]
    tries = list(DeadLetterAttempt.objects.order_by("number"))
    assert [(each.number, each.error, each.delay_ms) for each in tries] == [
        (1, "attempt 1", 60),
        (2, "attempt 2", 60),
        (3, "attempt 3", None),
    ]
    assert all(each.ended_at and each.started_at <= each.ended_at for each in tries)
    for before, after in pairwise(tries):
        assert before.ended_at is not None
        assert (after.started_at - before.ended_at).total_seconds() >= 0.05
    assert "raise ValueError" in tries[0].stacktrace
    assert is_quiet()


def test_a_record_that_waits_holds_back_its_partition_and_no_other(effects: Effects) -> None:
    fill("bad", "behind", topic="two", partition=0)
    fill(*range(5), topic="two", partition=1)

    def handle(record: Record) -> None:
        if record.value == "bad":
            raise ValueError("not today")
        effects.write(record)

    with listening(handle, "two", group=GROUP, retry=FixedBackOff(600_000, 3)):
        until(lambda: len(effects.names()) == 5)
        until(lambda: DeliveryAttempt.objects.count() == 1)
    assert effects.names() == [str(n) for n in range(5)]


def test_the_next_owner_goes_on_with_the_back_off_and_the_count(effects: Effects) -> None:
    fill("bad", "behind")
    calls: list[tuple[int, float]] = []

    def handle(record: Record) -> None:
        if record.value == "bad":
            calls.append((record.attempt, time.monotonic()))
            raise ValueError("no")
        effects.write(record)

    with listening(handle, TOPIC, group=GROUP, retry=FixedBackOff(1500, 1)):
        until(lambda: DeliveryAttempt.objects.count() == 1)
    with listening(handle, TOPIC, group=GROUP, retry=FixedBackOff(1500, 1)):
        caught_up(GROUP)
    assert [attempt for attempt, _ in calls] == [1, 2]
    assert calls[1][1] - calls[0][1] > 1.4
    assert dead() == [(0, "attempts_exhausted", "builtins.ValueError", 2)]
    assert effects.names() == ["behind"]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_what_is_no_exception_is_a_failure_too(effects: Effects, kind: type[BaseException]) -> None:
    fill(1, 2)

    def handle(record: Record) -> None:
        effects.write(record)
        if record.value == 1:
            raise kind

    with listening(handle, TOPIC, group=GROUP, retry=FixedBackOff(0, 1)):
        caught_up(GROUP)
    assert effects.names() == ["2"]
    assert [(reason, attempts) for _, reason, _, attempts in dead()] == [("attempts_exhausted", 2)]


def test_a_handler_of_which_nothing_has_run_has_failed() -> None:
    fill(1)

    async def never(record: Record) -> None:
        raise AssertionError

    with listening(lambda record: never(record), TOPIC, group=GROUP, retry=FixedBackOff(0, 0)):
        caught_up(GROUP)
    assert [found[2] for found in dead()] == ["brokers.listeners.work.NotAwaited"]


# -- giving up ----------------------------------------------------------------------------------------------------


def test_a_given_up_record_goes_to_its_dead_letter_topic_once_and_listeners_read_that(effects: Effects) -> None:
    publish_many(TOPIC, [{"value": n, "key": "k", "headers": {"own": "1"}} for n in range(4)])

    def handle(record: Record) -> None:
        effects.write(record)
        if record.value in (0, 2):
            raise Refused(record.value)

    handled: list[Record] = []
    with listening(handle, TOPIC, group=GROUP, not_retryable=(Refused,)):
        caught_up(GROUP)
    with listening(handled.append, f"{TOPIC}.DLT", group="dlt"):
        caught_up("dlt")
    assert effects.names() == ["1", "3"]
    assert [(record.value, record.key, record.headers["kafka_dlt-original-offset"]) for record in handled] == [
        (0, "k", "0"),
        (2, "k", "2"),
    ]
    assert handled[0].headers["own"] == "1"
    assert handled[0].headers["kafka_dlt-exception-fqcn"] == f"{__name__}.Refused"
    assert len(dead()) == 2


def test_a_listener_on_a_dead_letter_topic_may_fail_itself() -> None:
    fill("x")

    def fail(record: Record) -> None:
        raise Refused

    with listening(fail, TOPIC, group=GROUP, not_retryable=Refused):
        caught_up(GROUP)
    with listening(fail, f"{TOPIC}.DLT", group="dlt", not_retryable=Refused):
        caught_up("dlt")
    assert values(f"{TOPIC}.DLT.DLT") == ["x"]


def test_a_dead_letter_topic_that_is_deleted_is_made_anew() -> None:
    fill(1)

    def fail(record: Record) -> None:
        raise Refused

    with listening(fail, TOPIC, group=GROUP, not_retryable=Refused):
        caught_up(GROUP)
        topics.delete(f"{TOPIC}.DLT")
        fill(2)
        caught_up(GROUP)
    assert values(f"{TOPIC}.DLT") == [2]
    assert len(dead()) == 2


def test_a_value_that_cannot_be_read_is_given_up_without_a_call(effects: Effects) -> None:
    fill("before", {"x": 1}, "after")
    with connection.cursor() as cursor:
        cursor.execute(
            "update brokers_log_batch"
            " set payload = overlay(payload placing '?'::bytea from position('{'::bytea in payload))"
        )
    with listening(effects.write, TOPIC, group=GROUP):
        caught_up(GROUP)
    assert effects.names() == ["before", "after"]
    assert [(offset, reason) for offset, reason, _, _ in dead()] == [(1, "undecodable")]


def test_a_change_of_the_exception_begins_the_back_off_anew() -> None:
    fill("x")
    kinds: list[type[Exception]] = [ValueError, ValueError, KeyError, KeyError, KeyError]

    def handle(record: Record) -> None:
        raise kinds[record.attempt - 1]

    with listening(handle, TOPIC, group=GROUP, retry=TWICE):
        caught_up(GROUP)
    assert dead() == [(0, "attempts_exhausted", "builtins.KeyError", 5)]


# -- without blocking ---------------------------------------------------------------------------------------------


def test_without_blocking_the_partition_goes_on_and_the_record_comes_again(effects: Effects) -> None:
    fill("bad", "behind", "far behind")
    attempts: list[int] = []

    def handle(record: Record) -> None:
        effects.write(record)
        if record.value == "bad":
            attempts.append(record.attempt)
            if record.attempt < 3:
                raise ValueError("not yet")

    with listening(handle, TOPIC, group=GROUP, retry=FixedBackOff(100, 5), blocking=False):
        until(lambda: len(effects.names()) == 3)
    assert effects.names() == ["behind", "far behind", "bad"]
    assert attempts == [1, 2, 3]
    assert dead() == []
    assert is_quiet()


def test_without_blocking_a_record_is_given_up_with_all_its_attempts() -> None:
    fill("bad")

    def handle(record: Record) -> None:
        raise ValueError(f"attempt {record.attempt}")

    with listening(handle, TOPIC, group=GROUP, retry=FixedBackOff(20, 2), blocking=False):
        until(lambda: DeadLetter.objects.exists())
    assert dead() == [(0, "attempts_exhausted", "builtins.ValueError", 3)]
    assert [each.error for each in DeadLetterAttempt.objects.order_by("number")] == [
        "attempt 1",
        "attempt 2",
        "attempt 3",
    ]
    assert is_quiet()


def test_in_the_lane_those_of_a_key_keep_their_order(effects: Effects) -> None:
    publish_many(TOPIC, [{"value": f"{key}{n}", "key": key} for n in range(3) for key in "ab"])
    seen: dict[object, int] = defaultdict(int)

    def handle(record: Record) -> None:
        seen[record.value] += 1
        if seen[record.value] == 1 or (record.value == "a0" and seen["a0"] < 5):
            raise ValueError("parked")
        effects.write(record)

    with listening(handle, TOPIC, group=GROUP, retry=FixedBackOff(30, 9), blocking=False):
        until(lambda: len(effects.names()) == 6)
    for key in "ab":
        assert [name for name in effects.names() if name.startswith(key)] == [f"{key}{n}" for n in range(3)]
    assert is_quiet()


# -- batches ------------------------------------------------------------------------------------------------------


def test_a_batch_handler_names_the_record_that_failed(effects: Effects) -> None:
    fill(*range(6))
    calls: list[list[object]] = []

    def handle(records: list[Record]) -> None:
        calls.append([record.value for record in records])
        for index, record in enumerate(records):
            effects.write(record)
            if record.value == 3:
                try:
                    raise Refused("three")
                except Refused as error:
                    raise BatchListenerFailed(index) from error

    with listening(handle, TOPIC, group=GROUP, batch=True, not_retryable=Refused):
        caught_up(GROUP)
    assert calls == [[0, 1, 2, 3, 4, 5], [0, 1, 2], [4, 5]]
    assert effects.names() == ["0", "1", "2", "4", "5"]
    assert dead() == [(3, "exception", f"{__name__}.Refused", 1)]


def test_the_named_record_alone_is_retried(effects: Effects) -> None:
    fill(*range(4))
    calls: list[list[object]] = []

    def handle(records: list[Record]) -> None:
        calls.append([record.value for record in records])
        for record in records:
            if record.value == 1 and record.attempt < 3:
                raise BatchListenerFailed(record, ValueError("early"))
            effects.write(record)

    with listening(handle, TOPIC, group=GROUP, batch=True, retry=TWICE):
        caught_up(GROUP)
    assert calls == [[0, 1, 2, 3], [0], [1], [1], [2, 3]]
    assert effects.names() == ["0", "1", "2", "3"]
    assert is_quiet()


def test_any_other_exception_retries_the_whole_batch_and_gives_up_each_record(effects: Effects) -> None:
    fill(*range(3))
    calls: list[list[tuple[object, int]]] = []

    def handle(records: list[Record]) -> None:
        calls.append([(record.value, record.attempt) for record in records])
        effects.write(records[0])
        raise ValueError("all of them")

    with listening(handle, TOPIC, group=GROUP, batch=True, retry=FixedBackOff(0, 1)):
        caught_up(GROUP)
        fill(*range(3, 5))
        caught_up(GROUP)
    assert calls[:2] == [[(n, 1) for n in range(3)], [(n, 2) for n in range(3)]]
    assert dead() == [(n, "attempts_exhausted", "builtins.ValueError", 2) for n in range(5)]
    assert effects.names() == []
    assert is_quiet()


def test_an_index_that_is_none_of_the_batch_is_a_failure_of_all() -> None:
    fill(1, 2)

    def handle(records: list[Record]) -> None:
        raise BatchListenerFailed(7)

    with listening(handle, TOPIC, group=GROUP, batch=True, retry=FixedBackOff(0, 0)):
        caught_up(GROUP)
    assert [offset for offset, *_ in dead()] == [0, 1]


# -- idempotent handlers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [False, True])
def test_a_key_counts_as_processed_only_with_its_effects(effects: Effects, batch: bool) -> None:
    fill("a", "b", "a", "c", "b", "d")

    def one(record: Record) -> None:
        effects.write(record)
        if record.value == "b" and record.attempt == 1:
            raise ValueError("later")
        if record.value == "c":
            raise Refused

    def many(records: list[Record]) -> None:
        for index, record in enumerate(records):
            try:
                one(record)
            except Exception as error:
                raise BatchListenerFailed(index) from error

    handle = idempotent(key=lambda record: record.value)(many if batch else one)
    with listening(handle, TOPIC, group=GROUP, batch=batch, retry=TWICE, not_retryable=Refused):
        caught_up(GROUP)
    assert effects.names() == ["a", "b", "d"]
    assert sorted(ProcessedMessage.objects.values_list("message_key", flat=True)) == ["a", "b", "d"]
    assert [(letter.record_offset, letter.idempotency_key) for letter in DeadLetter.objects.all()] == [(3, "c")]


def test_a_key_that_cannot_be_made_is_the_records_failure(effects: Effects) -> None:
    fill({"id": "a"}, {}, {"id": "b"})
    handle = idempotent(key=lambda record: record.value["id"])(effects.write)
    with listening(handle, TOPIC, group=GROUP, retry=FixedBackOff(0, 0)):
        caught_up(GROUP)
    assert effects.places() == [(0, 0), (0, 2)]
    assert dead() == [(1, "attempts_exhausted", "builtins.KeyError", 1)]


# -- handlers that break things -----------------------------------------------------------------------------------


def swallow_an_error() -> None:
    try:
        Group.objects.create(name="twice")
        Group.objects.create(name="twice")
    except Exception:
        return


def close_the_connection() -> None:
    connection.close()


def leave_a_block_open() -> None:
    transaction.atomic().__enter__()


def ask_for_a_rollback() -> None:
    transaction.set_rollback(True)


def commit_by_hand() -> None:
    with connection.cursor() as cursor:
        cursor.execute("commit")


def raise_in_an_open_block() -> None:
    transaction.atomic().__enter__()
    raise ValueError("and it stays open")


def abort_past_django() -> None:
    with pytest.raises(Exception, match="nothing_like_it"):
        connection.connection.execute("select nothing_like_it()")


@pytest.mark.parametrize(
    "harm",
    [
        swallow_an_error,
        close_the_connection,
        leave_a_block_open,
        ask_for_a_rollback,
        raise_in_an_open_block,
        abort_past_django,
    ],
)
def test_a_handler_that_breaks_the_transaction_fails_alone(effects: Effects, harm: Callable[[], None]) -> None:
    fill("before", "bad", "after")

    def handle(record: Record) -> None:
        effects.write(record)
        if record.value == "bad":
            harm()

    with listening(handle, TOPIC, group=GROUP, retry=FixedBackOff(0, 1)):
        caught_up(GROUP)
    assert effects.names() == ["before", "after"]
    (found,) = dead()
    expected = (
        "builtins.ValueError" if harm is raise_in_an_open_block else "brokers.listeners.work.HandlerBrokeTransaction"
    )
    assert found == (1, "attempts_exhausted", expected, 2)
    assert is_quiet()


def test_a_handler_that_ends_the_transaction_by_hand_is_noticed(effects: Effects) -> None:
    fill("bad", "after")

    def handle(record: Record) -> None:
        effects.write(record)
        if record.value == "bad":
            commit_by_hand()

    with listening(handle, TOPIC, group=GROUP, retry=FixedBackOff(0, 0)):
        caught_up(GROUP)
    assert [found[2] for found in dead()] == ["brokers.listeners.work.HandlerBrokeTransaction"]
    assert effects.names().count("after") == 1


def test_what_a_handler_leaves_in_its_session_is_gone_for_the_next(effects: Effects) -> None:
    fill("leaves")
    found: list[tuple[str, int]] = []

    def handle(record: Record) -> None:
        with connection.cursor() as cursor:
            if record.value == "leaves":
                cursor.execute("select pg_advisory_lock(77)")
                cursor.execute("set search_path to pg_temp")
            else:
                cursor.execute(
                    "select current_setting('search_path'),"
                    " (select count(*) from pg_locks"
                    " where locktype = 'advisory' and objid = 77 and pid = pg_backend_pid())"
                )
                found.append(cursor.fetchone())

    with listening(handle, TOPIC, group=GROUP):
        caught_up(GROUP)
        fill("looks")
        caught_up(GROUP)
    assert found == [('"$user", public', 0)]


def test_a_constraint_that_fails_at_the_commit_is_the_records_own_failure(effects: Effects) -> None:
    fill("before", "bad", "after")

    def handle(record: Record) -> None:
        effects.write(record)
        if record.value == "bad":
            User.groups.through.objects.create(user_id=123_456, group_id=123_456)

    with listening(handle, TOPIC, group=GROUP, retry=FixedBackOff(0, 0)):
        caught_up(GROUP)
    assert effects.names() == ["before", "after"]
    assert dead() == [(1, "attempts_exhausted", "django.db.utils.IntegrityError", 1)]


# -- faults of the database ---------------------------------------------------------------------------------------


def test_a_lost_connection_counts_for_nothing(effects: Effects) -> None:
    fill("a", "b")
    attempts: list[int] = []

    def handle(record: Record) -> None:
        attempts.append(record.attempt)
        effects.write(record)
        if record.value == "b" and len(attempts) < 8:
            with connection.cursor() as cursor:
                cursor.execute("select pg_terminate_backend(pg_backend_pid())")

    with listening(handle, TOPIC, group=GROUP, retry=FixedBackOff(0, 0)):
        caught_up(GROUP)
    assert effects.names() == ["a", "b"]
    assert set(attempts) == {1}
    assert dead() == []
    assert is_quiet()


def test_a_deadlock_lets_the_transaction_begin_anew(effects: Effects) -> None:
    Group.objects.bulk_create([Group(name="x"), Group(name="y")])
    fill("a", "b")
    attempts: list[int] = []
    has_x, has_y = threading.Event(), threading.Event()

    def other() -> None:
        with transaction.atomic():
            Group.objects.filter(name="y").update(name="y")
            has_y.set()
            assert has_x.wait(20)
            Group.objects.filter(name="x").update(name="x")
        connections.close_all()

    def handle(record: Record) -> None:
        attempts.append(record.attempt)
        effects.write(record)
        if record.value == "b":
            with connection.cursor() as cursor:
                cursor.execute("set local deadlock_timeout = '50ms'")
            Group.objects.filter(name="x").update(name="x")
            has_x.set()
            assert has_y.wait(20)
            Group.objects.filter(name="y").update(name="y")

    thread = threading.Thread(target=other)
    thread.start()
    with listening(handle, TOPIC, group=GROUP, retry=FixedBackOff(0, 0)):
        caught_up(GROUP)
    thread.join()
    assert effects.names() == ["a", "b"]
    assert set(attempts) == {1}
    assert dead() == []


def test_a_conflict_that_does_not_end_is_a_failure_in_the_end(effects: Effects) -> None:
    fill("a", "b")
    calls: list[Any] = []

    def handle(record: Record) -> None:
        effects.write(record)
        if record.value == "b":
            calls.append(record.attempt)
            with connection.cursor() as cursor:
                cursor.execute("set local statement_timeout = '10ms'")
                cursor.execute("select pg_sleep(5)")

    with listening(handle, TOPIC, group=GROUP, retry=FixedBackOff(0, 1)):
        caught_up(GROUP)
    assert effects.names() == ["a"]
    assert calls == [1, 1, 1, 1, 2, 2, 2, 2]
    assert [(reason, attempts) for _, reason, _, attempts in dead()] == [("attempts_exhausted", 2)]
