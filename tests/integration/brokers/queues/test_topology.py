"""What processes remember of the topology: read again when it changed, and never half of a change."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from brokers import database
from brokers.errors import ExchangeNotFound, QueueNotFound
from brokers.models import Topology as Row
from brokers.queues import topology
from brokers.queues.declaring import bind, declare_exchange, declare_queue, delete_queue, put_policy
from brokers.wakeup import Hub
from tests.listening import until

pytestmark = pytest.mark.django_db(transaction=True)


class Statements(database.StatementHook):
    """Counts what is asked of the database."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, execute: Callable[..., Any], *arguments: Any) -> Any:
        return execute(*arguments)

    def before_own_statement(self) -> None:
        self.count += 1


def elsewhere(call: Callable[[], Any]) -> Any:
    """What `call` answers on a connection of its own."""
    answers: list[Any] = []

    def run() -> None:
        try:
            answers.append(call())
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    return answers[0]


def statements(call: Callable[[], Any]) -> int:
    counter = Statements()
    with connection.execute_wrapper(counter):
        call()
    return counter.count


def test_nothing_declared_is_version_zero() -> None:
    empty = topology.current()
    assert (empty.version, dict(empty.queues), dict(empty.exchanges)) == (0, {}, {})
    assert empty.exchange("") is not None
    with pytest.raises(QueueNotFound, match="there is no queue 'q'"):
        topology.queue("q")
    with pytest.raises(ExchangeNotFound, match="there is no exchange 'e'"):
        topology.exchange("e")


def test_all_that_was_declared_comes_back() -> None:
    declare_exchange("e", type="headers", alternate_exchange="other")
    declare_queue(
        "q",
        message_ttl_ms=1,
        expires_ms=2,
        max_length=3,
        overflow="reject-publish",
        max_priority=4,
        dead_letter_exchange="",
        dead_letter_routing_key="ü",
        delivery_limit=-1,
        single_active_consumer=True,
        dead_letters="none",
        temporary=True,
    )
    declare_queue("plain")
    bind("e", queue="q", routing_key='"\\ü', arguments={"a": [None, {"b": '"'}]})
    bind("e", to_exchange="e")
    found = topology.fresh()
    queue = found.queue("q")
    assert queue is not None
    assert queue is found.queue_by_id(queue.id)
    assert (queue.message_ttl_ms, queue.expires_ms, queue.max_length, queue.max_priority) == (1, 2, 3, 4)
    assert (queue.overflow, queue.dead_letter_exchange, queue.dead_letter_routing_key) == ("reject-publish", "", "ü")
    assert (queue.delivery_limit, queue.single_active_consumer, queue.dead_letters) == (-1, True, "none")
    assert (queue.temporary, queue.paused, queue.policy) == (True, False, None)
    plain = found.queue("plain")
    assert plain is not None
    assert (plain.overflow, plain.delivery_limit, plain.dead_letters) == ("drop-head", 20, "unrouted")
    exchange = found.exchange("e")
    assert exchange is not None
    assert (exchange.type, exchange.alternate_exchange) == ("headers", "other")
    hops = found.explain("e", ["k"], {"a": [None, {"b": '"'}]}).hops
    assert [hop.queue for hop in hops if hop.queue] == ["q"]
    assert any(hop.binding is not None and hop.binding.routing_key == '"\\ü' for hop in hops)


def test_it_is_read_once_for_as_long_as_it_is_remembered() -> None:
    declare_queue("q")
    assert statements(lambda: [topology.queue("q") for _ in range(100)]) == 1
    assert statements(topology.current) == 0
    topology.forget()
    assert statements(topology.current) == 1


def test_reading_it_again_unchanged_keeps_what_is_known_of_routes() -> None:
    declare_queue("q")
    known = topology.current()
    topology.forget()
    assert topology.current() is known
    assert topology.fresh() is known
    elsewhere(lambda: declare_queue("other"))
    assert topology.fresh() is not known


def test_an_unknown_queue_is_looked_for_once_before_it_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    topology.current()
    monkeypatch.setattr(topology, "forget", lambda: None)  # as in a process that has not heard of it
    elsewhere(lambda: declare_queue("q"))
    assert topology.queue("q").name == "q"

    def miss() -> None:
        with pytest.raises(QueueNotFound):
            topology.queue("gone")

    assert statements(miss) == 1


def test_a_version_never_comes_again() -> None:
    declare_queue("q")
    first = topology.fresh().version
    Row.objects.all().delete()
    delete_queue("q")
    declare_queue("q")
    assert topology.fresh().version > first + 1


def test_a_transaction_sees_its_own_changes_and_nobody_else_does() -> None:
    declare_queue("before")
    with transaction.atomic():
        declare_queue("mine")
        assert topology.queue("mine").name == "mine"
        assert statements(lambda: [topology.queue("mine") for _ in range(10)]) == 0
        own = topology.current()
        assert elsewhere(topology.fresh).queue("mine") is None
        assert topology.current() is own
        declare_queue("mine-too")
        assert topology.queue("mine-too").name == "mine-too"
    assert elsewhere(topology.current).queue("mine") is not None
    assert statements(lambda: topology.queue("mine-too")) == 0


def test_a_savepoint_that_is_rolled_back_takes_its_changes_along() -> None:
    with transaction.atomic():
        declare_queue("kept")
        assert topology.current().queue("kept") is not None
        with transaction.atomic():
            declare_queue("dropped")
            assert topology.current().queue("dropped") is not None
            transaction.set_rollback(True)
        assert topology.current().queue("dropped") is None
        assert topology.current().queue("kept") is not None
    assert topology.current().queue("kept") is not None
    assert topology.current().queue("dropped") is None


def test_a_transaction_after_one_that_was_rolled_back_sees_the_truth() -> None:
    with transaction.atomic():
        declare_queue("dropped")
        assert topology.current().queue("dropped") is not None
        transaction.set_rollback(True)
    with transaction.atomic():
        assert topology.current().queue("dropped") is None
        assert topology.fresh() is elsewhere(topology.current)


def test_changes_wait_for_each_other() -> None:
    begun, done = threading.Event(), threading.Event()

    def second() -> None:
        try:
            begun.set()
            declare_queue("second")
            done.set()
        finally:
            connections.close_all()

    thread = threading.Thread(target=second)
    with transaction.atomic():
        declare_queue("first")
        thread.start()
        assert begun.wait(10)

        def waits() -> bool:
            with connection.cursor() as cursor:
                cursor.execute("select exists (select from pg_locks where not granted)")
                return bool(cursor.fetchone()[0])

        until(waits)
        assert not done.is_set()
    thread.join(30)
    assert sorted(topology.fresh().queues) == ["first", "second"]


async def test_async_code_reads_it_on_the_pool_and_many_at_once_read_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    await asyncio.to_thread(elsewhere, lambda: (declare_exchange("e"), declare_queue("q")))
    built: list[int] = []
    build = topology._built

    def counting(row: tuple[Any, ...]) -> topology.Topology:
        built.append(row[0])
        return build(row)

    monkeypatch.setattr(topology, "_built", counting)
    topology._remembered = None
    try:
        found = await asyncio.gather(*(topology.aqueue("q") for _ in range(50)))
        assert {queue.name for queue in found} == {"q"}
        assert len(built) == 1
        assert (await topology.aexchange("e")).type == "direct"
        with pytest.raises(QueueNotFound):
            await topology.aqueue("gone")
        with pytest.raises(ExchangeNotFound):
            await topology.aexchange("gone")
        assert await topology.acurrent() is await topology.afresh()
    finally:
        await database.close()


async def test_every_process_hears_of_a_change() -> None:
    heard: list[tuple[str, str]] = []
    hub = Hub(lambda kind, name: heard.append((kind, name)))
    async with asyncio.timeout(30):
        hub.start()
        try:
            while ("x", "") not in heard:
                await asyncio.to_thread(elsewhere, lambda: (put_policy("p", pattern=".", max_length=len(heard) + 1),))
        finally:
            await hub.stop()
            await database.close()


def test_it_is_read_in_one_statement() -> None:
    declare_queue("q")
    topology.forget()
    with CaptureQueriesContext(connection) as captured:
        assert statements(topology.fresh) == 1
    assert len(captured) == 0


def test_a_big_topology_is_read_and_routed_in_a_moment() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "insert into brokers_exchange (name, type) values ('e', 'topic');"
            "insert into brokers_queue (name) select 'q' || n from generate_series(1, 5000) n;"
            "insert into brokers_queue_policy (name, pattern, max_length, priority)"
            " select 'p' || n, '^q' || n || '.*9$', n, n from generate_series(1, 100) n;"
            "insert into brokers_binding (exchange_id, queue_id, routing_key)"
            " select (select id from brokers_exchange), q.id, 'flight.' || q.id || '.*' from brokers_queue q;"
            "select brokers_topology_changed()"
        )

    started = time.process_time()
    found = topology.fresh()
    queue = found.queue("q4999")
    assert queue is not None
    assert [each.name for each in found.route("e", [f"flight.{queue.id}.UA"])] == ["q4999"]
    assert time.process_time() - started < 2
    assert queue.policy == "p49"
