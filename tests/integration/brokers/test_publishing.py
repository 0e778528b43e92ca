"""Publishing from Python against the real PostgreSQL: what the API promises beyond a single record."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import pytest
from django.db import IntegrityError, OperationalError, connection, connections, transaction

from brokers import (
    apublish,
    apublish_many,
    database,
    declarations,
    idempotency,
    metrics,
    partitioner,
    publish,
    publish_many,
    topic_log,
    topics,
)
from brokers.errors import (
    IdempotencyInProgress,
    InvalidValue,
    KeyRequired,
    PartitionNotFound,
    RecordTooLarge,
    TopicNotFound,
    Unavailable,
    UnencodableValue,
)
from brokers.outgoing import Outgoing
from brokers.publishing import apublish_outgoing
from brokers.record import RAW, NewRecord
from tests.server import unique

T = TypeVar("T")
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("nothing_declared")]


def by_length(key: bytes, count: int) -> int:
    """A partitioner of a user's own."""
    return len(key) % count


def out_of_range(key: bytes, count: int) -> int:
    """One with a bug."""
    return count if key == b"bad" else 0


def raising(key: bytes, count: int) -> int:
    """One that fails on a key."""
    return {b"good": 0}[key]


def create(partitions: int = 1, **options: Any) -> str:
    name = unique()
    topics.create(name, partitions=partitions, **options)
    return name


def values(topic: str, partition: int = 0) -> list[Any]:
    return [record.value for record in topic_log.fetch(topic, partition, 0, limit=10_000, max_bytes=10**9).records]


def published() -> float:
    value: float = metrics.records_published._value.get()
    return value


# -- many at once -------------------------------------------------------------------------------------------------


def test_nothing_to_publish_is_answered_with_nothing() -> None:
    topic = create()
    assert publish_many(topic, []) == []
    assert topic_log.bounds(topics.lookup(topic), 0).latest == 0


def test_five_thousand_records_are_one_append() -> None:
    topic = create(partitions=3)
    positions = publish_many(topic, ({"value": n, "key": str(n % 100)} for n in range(5000)))
    assert len(positions) == 5000
    stored = {(p, o): value for p in range(3) for o, value in enumerate(values(topic, p))}
    assert [stored[p.partition, p.offset or 0] for p in positions] == list(range(5000))
    with connection.cursor() as cursor:
        cursor.execute("select max(offset_span), count(distinct xmin::text) from brokers_log_batch")
        assert cursor.fetchone() == (1000, 1)


def test_one_wrong_record_refuses_all() -> None:
    topic = create()
    with pytest.raises(UnencodableValue, match="record 2"):
        publish_many(topic, [{"value": 0}, {"value": 1}, {"value": float("nan")}])
    with pytest.raises(PartitionNotFound):
        publish_many(topic, [{"value": 0}, {"value": 1, "partition": 1}])
    assert values(topic) == []


def test_records_of_all_kinds_in_one_call() -> None:
    topic = create()
    publish_many(
        topic,
        [{"value": None}, NewRecord(b"k", b"\x00"), {"value": memoryview(b"m"), "headers": {"h": "v"}}, {"value": "t"}],
    )
    assert values(topic) == [None, b"\x00", b"m", "t"]


# -- partitioners -------------------------------------------------------------------------------------------------


def test_a_function_of_ones_own_places_keys() -> None:
    declarations.topic("measures", partitions=4, partitioner=by_length)
    assert declarations.reconcile() == ["topic measures created with 4 partitions"]
    assert [publish("measures", 0, key="x" * n).partition for n in range(1, 6)] == [1, 2, 3, 0, 1]
    with transaction.atomic():
        assert publish("measures", 0, key="xx").partition == 2
    assert [p.partition for p in publish_many("measures", [{"value": 0, "key": "abc"}] * 3)] == [3, 3, 3]


def test_a_wrong_answer_of_the_function_refuses_the_records_and_stores_none() -> None:
    declarations.topic("wrong", partitions=2, partitioner=out_of_range)
    declarations.reconcile()
    with pytest.raises(InvalidValue, match=r"out_of_range answered 2 for key b'bad': a topic of 2 partitions"):
        publish_many("wrong", [{"value": 1, "key": "good"}, {"value": 2, "key": "bad"}])
    assert values("wrong") == []
    assert publish("wrong", 3, key="bad", partition=1).partition == 1


def test_an_exception_of_the_function_reaches_the_publisher() -> None:
    declarations.topic("raising", partitions=2, partitioner=raising)
    declarations.reconcile()
    with pytest.raises(KeyError):
        publish("raising", 1, key="bad")
    assert publish("raising", 1, key="good").offset == 0


def test_a_process_that_has_not_loaded_the_function_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    declarations.topic("elsewhere", partitions=2, partitioner=by_length)
    declarations.reconcile()
    monkeypatch.setattr(partitioner, "_BY_NAME", {})
    with pytest.raises(InvalidValue, match="load the app that declares it"):
        publish("elsewhere", 1, key="k")
    assert publish("elsewhere", 1, key="k", partition=0).offset == 0


def test_murmur2_topics_place_keys_as_kafkas_java_producer() -> None:
    topic = create(partitions=5, partitioner="murmur2")
    for key in ("21", "foobar", "a-little-bit-long-string", "abc"):
        assert publish(topic, 1, key=key).partition == partitioner.murmur2_partition(key.encode(), 5)


def test_a_compacted_topic_takes_no_record_without_a_key() -> None:
    topic = create(cleanup_policy="compact")
    for key in (None, "", b""):
        with pytest.raises(KeyRequired):
            publish(topic, 1, key=key)
    with pytest.raises(KeyRequired), transaction.atomic():
        publish(topic, 1)
    assert publish(topic, 1, key="k").offset == 0


# -- transactions -------------------------------------------------------------------------------------------------


def test_records_are_counted_when_they_are_stored() -> None:
    topic = create()
    before = published()
    publish(topic, 1)
    with transaction.atomic():
        publish_many(topic, [{"value": n} for n in range(3)])
        assert published() == before + 1
    assert published() == before + 4
    with pytest.raises(InterruptedError), transaction.atomic():
        publish(topic, 1)
        raise InterruptedError
    assert published() == before + 4


def test_a_savepoint_that_is_rolled_back_takes_its_records_along() -> None:
    topic = create()
    with transaction.atomic():
        with pytest.raises(InterruptedError), transaction.atomic():
            publish(topic, "first of the transaction, and gone")
            raise InterruptedError
        publish(topic, 1)
        with transaction.atomic():
            publish(topic, 2)
        with pytest.raises(InterruptedError), transaction.atomic():
            publish(topic, "gone")
            raise InterruptedError
    assert values(topic) == [1, 2]


def test_transactions_over_the_same_partitions_in_any_order_never_deadlock() -> None:
    topic = create(partitions=4)
    failures: list[BaseException] = []

    def write(order: list[int]) -> None:
        try:
            for n in range(40):
                with transaction.atomic():
                    for number in order:
                        publish(topic, n, partition=number)
                publish_many(topic, [{"value": n, "partition": number} for number in order])
        except BaseException as error:
            failures.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=write, args=(order,)) for order in ([0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert [len(values(topic, number)) for number in range(4)] == [240] * 4


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_above_read_committed_a_commit_fails_when_others_have_appended(level: str) -> None:
    """As a serialization failure would: nothing of it is stored, and it can be tried again."""
    topic = create()

    def elsewhere() -> None:
        publish(topic, "elsewhere")
        connections.close_all()

    def commit() -> None:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute(f"set transaction isolation level {level}")
                cursor.execute("select count(*) from brokers_topic")
            publish(topic, "mine")
            other = threading.Thread(target=elsewhere)
            other.start()
            other.join()

    with pytest.raises((IntegrityError, OperationalError)):
        commit()
    assert values(topic) == ["elsewhere"]
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(f"set transaction isolation level {level}")
        publish(topic, "again")
    assert values(topic) == ["elsewhere", "again"]


def test_constraints_checked_early_give_offsets_early() -> None:
    """As Django's TestCase does at the end of each test."""
    topic = create()
    with transaction.atomic():
        publish(topic, 1)
        connection.check_constraints()
        assert values(topic) == [1]
        publish(topic, 2)
    assert values(topic) == [1, 2]


def test_an_error_elsewhere_in_the_transaction_is_not_hidden() -> None:
    topic = create()
    with pytest.raises(Exception, match="current transaction is aborted"), transaction.atomic():
        with pytest.raises(Exception, match="division by zero"), connection.cursor() as cursor:
            cursor.execute("select 1 / 0")
        publish(topic, 1)
    assert publish(topic, 2).offset == 0


# -- when the database fails --------------------------------------------------------------------------------------


def test_a_lost_connection_is_unavailable_and_the_next_publish_works() -> None:
    topic = create()
    publish(topic, 1)
    _terminate(_own_backend())
    with pytest.raises(Unavailable):
        publish(topic, "lost")
    assert publish(topic, 2).offset == 1
    assert values(topic) == [1, 2]


def test_a_connection_lost_inside_a_transaction_stores_nothing_of_it() -> None:
    topic = create()

    def commit() -> None:
        with transaction.atomic():
            publish(topic, "never")
            _terminate(_own_backend())
            publish(topic, "never")

    with pytest.raises(Unavailable):
        commit()
    assert publish(topic, 1).offset == 0
    assert values(topic) == [1]


def _own_backend() -> int:
    with connection.cursor() as cursor:
        cursor.execute("select pg_backend_pid()")
        pid: int = cursor.fetchone()[0]
        return pid


def _terminate(pid: int) -> None:
    def terminate() -> None:
        with connection.cursor() as cursor:
            cursor.execute("select pg_terminate_backend(%s, 5000)", [pid])
        connections.close_all()

    thread = threading.Thread(target=terminate)
    thread.start()
    thread.join()


@pytest.fixture
async def pooled() -> Any:
    """Closes the pool of the test's event loop."""
    yield
    await database.close()


async def in_thread(function: Callable[..., T], *args: Any, **options: Any) -> T:
    """Runs what uses Django's connection in a thread, and closes the one that it had there."""

    def run() -> T:
        try:
            return function(*args, **options)
        finally:
            connections.close_all()

    return await asyncio.to_thread(run)


async def test_after_a_restart_one_request_fails_and_not_one_for_each_connection(pooled: None) -> None:
    topic = await in_thread(create)
    async with asyncio.TaskGroup() as group:
        for n in range(40):
            group.create_task(apublish(topic, n))
    assert database.pool().get_stats()["pool_size"] > 3
    await in_thread(_terminate_data_connections)
    failed = 0
    for n in range(40):
        try:
            await apublish(topic, n)
        except Unavailable:
            failed += 1
            await asyncio.sleep(0.2)
    assert 1 <= failed <= 2
    assert (await topic_log.abounds(topics.lookup(topic), 0)).latest == 80 - failed


def _terminate_data_connections() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where application_name = 'waystation-data' and datname = current_database()"
        )


async def test_when_all_connections_are_busy_a_publish_is_refused_after_two_seconds(pooled: None) -> None:
    topic = await in_thread(create)
    await apublish(topic, 1)
    entered = asyncio.Semaphore(0)
    leave = asyncio.Event()

    async def hold() -> None:
        while not leave.is_set():
            with contextlib.suppress(Unavailable):  # a busy machine may take seconds to open so many
                async with database.acquire():
                    entered.release()
                    await leave.wait()

    holders = [asyncio.create_task(hold()) for _ in range(database.POOL_SIZE)]
    for _ in holders:
        await entered.acquire()
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await apublish(topic, 2)
    assert 1.9 < time.monotonic() - started < 3
    leave.set()
    await asyncio.gather(*holders)
    assert (await apublish(topic, 3)).offset == 1


async def test_a_topic_that_another_process_deleted_is_not_found(pooled: None) -> None:
    topic = await in_thread(create)
    info = await topics.alookup(topic)
    await in_thread(topics.delete, topic)
    for attempt in (apublish_outgoing(info, one()), topic_log.abounds(info, 0), topic_log.aoffset_at(info, 0, 0)):
        with pytest.raises(TopicNotFound):
            await attempt
    for ask in (topic_log.bounds, topic_log.read, topic_log.offset_at):
        with pytest.raises(TopicNotFound):
            await in_thread(ask, info, 0, *(() if ask is topic_log.bounds else (0,)))


def one(value: bytes = b"v") -> Outgoing:
    return Outgoing([(0, None, value, RAW, {})])


def shown(pairs: Iterable[tuple[int, int]]) -> bytes:
    return repr(list(pairs)).encode()


# -- idempotency --------------------------------------------------------------------------------------------------


async def test_of_many_requests_with_one_key_one_is_stored(pooled: None) -> None:
    topic = await in_thread(create)
    info = await topics.alookup(topic)

    async def once() -> tuple[bytes, bool] | str:
        try:
            return await idempotency.publish_once("me", info, "key", b"body", one(), shown)
        except IdempotencyInProgress:
            return "in progress"

    before = published()
    for _ in range(5):
        answers = await asyncio.gather(*(once() for _ in range(8)))
        stored = {answer[0] for answer in answers if not isinstance(answer, str)}
        assert stored == {b"[(0, 0)]"}
    assert published() == before + 1
    assert (await topic_log.abounds(info, 0)).latest == 1


async def test_a_refused_publish_leaves_its_key_free(pooled: None) -> None:
    topic = await in_thread(create, 1, max_record_bytes=10)
    info = await topics.alookup(topic)
    with pytest.raises(RecordTooLarge):
        await idempotency.publish_once("me", info, "key", b"a", one(bytes(11)), shown)
    assert await idempotency.publish_once("me", info, "key", b"b", one(bytes(10)), shown) == (b"[(0, 0)]", False)


async def test_nothing_to_publish_is_nothing_in_async_code_too(pooled: None) -> None:
    assert await apublish_many("whatever", []) == []
