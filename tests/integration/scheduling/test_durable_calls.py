"""Durable calls: written with the caller's transaction, done once, tried again, and given up to dead letters."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import sync_to_async
from django.db import connections, transaction

from brokers import FixedBackOff, database, topics
from brokers.errors import InvalidValue
from brokers.models import DeadLetter, DeadLetterAttempt, DeadLetterRevision, FailureGroup, Replay
from brokers.queues.declaring import declare_queue
from brokers.record import JSON
from brokers.replays import runner
from brokers.replays.request import Edit, Target
from scheduling import DurableCall, background, current_call, runs
from scheduling.beat import sweeping, unheard
from scheduling.durable import calls, declared
from scheduling.durable import errors as refused
from scheduling.errors import RunTimedOut
from scheduling.worker import performing, work
from tests.integration.scheduling.calling import Rings, Works, outcome_of, rolled_back, state_of
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def rings(monkeypatch: pytest.MonkeyPatch) -> Rings:
    found = Rings()
    for module in (calls, sweeping):
        monkeypatch.setattr(module, "doorbell", found)
    return found


@pytest.fixture
def works(monkeypatch: pytest.MonkeyPatch, rings: Rings) -> Iterator[Works]:
    monkeypatch.setattr(declared, "_declared", {})
    found = Works(rings)
    yield found
    found.close()


done: list[object] = []


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    done.clear()


def add(one: int, other: int = 0) -> int:
    done.append((one, other))
    return one + other


def refuse(order: int) -> None:
    done.append(order)
    raise LookupError(f"there is no order {order}")


# -- calling --------------------------------------------------------------------------------------------------------


def test_a_call_answers_its_result_to_whoever_knows_its_id(works: Works, rings: Rings) -> None:
    call = background(durable=True, name="add")(add)(2, other=3)
    assert rings.rung == [call.id]
    assert (call.state(), call.attempt()) == ("ready", 0)
    assert works.perform(call.id) == "succeeded"
    again: DurableCall[int] = DurableCall(call.id)
    assert (again, again.result(0), again.attempt(), again.error()) == (call, 5, 1, "")


def test_a_call_is_part_of_its_callers_transaction(works: Works, rings: Rings) -> None:
    function = background(durable=True, name="add")(add)
    with rolled_back():
        lost = function(1)
    with pytest.raises(refused.CallNotFound):
        lost.result(5)
    with transaction.atomic():
        call = function(1)
        with pytest.raises(refused.CallNotCommitted):
            call.result(5)
        assert works.claim(call.id) is None
        assert rings.rung == []
    assert rings.rung == [call.id]
    with pytest.raises(TimeoutError) as waited:
        call.result(0.01)
    assert isinstance(waited.value, refused.CallNotEnded)


def test_whoever_waits_is_told_of_the_end(works: Works) -> None:
    call = background(durable=True, name="add")(add)(1)

    def wait() -> int:
        try:
            return call.result(20)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        works.perform(call.id)
        assert waiting.result(20) == 1


async def test_asynchronous_code_calls_and_waits(works: Works) -> None:
    async def double(number: int) -> int:
        await asyncio.sleep(0)
        return 2 * number

    call = await background(durable=True, name="double")(double).asubmit(4)
    waiting = asyncio.create_task(call.aresult(20))
    assert await sync_to_async(works.perform)(call.id) == "succeeded"
    assert await waiting == 8
    await database.close()
    await sync_to_async(connections.close_all)()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((object(),), "'one' of add holds a object"),
        (({"when": [{1}]},), "'one' of add holds a set"),
        ((float("nan"),), "'one' of add holds nan"),
        (({1: 2},), "the key 1"),
        (("a\0",), "holds NUL"),
        (("\ud800",), "surrogate"),
        ((10**200,), "digits"),
        ((1, 2, 3), "too many positional arguments"),
        ((["x" * 300_000],), "300,0"),
    ],
)
def test_what_json_cannot_hold_is_refused_with_the_arguments_name(
    works: Works, arguments: tuple[object, ...], said: str
) -> None:
    function = background(durable=True, name="add")(add)
    with pytest.raises((refused.InvalidArguments, refused.ArgumentsTooLarge), match=said):
        function(*arguments)  # type: ignore[arg-type]
    assert works.rows("select count(*) from scheduling_run") == [(0,)]


def test_arguments_arrive_as_they_were_given(works: Works) -> None:
    given: list[object] = [None, True, -1, 10**30, 1.5, 0.1, "ä\\u0000\n", [], {"b": {"a": [1, "2"]}}]
    call = background(durable=True, name="note")(lambda *values, **named: done.append((values, named)))(*given, x={})
    assert works.perform(call.id) == "succeeded"
    assert done == [(tuple(given), {"x": {}})]


def test_a_result_that_cannot_be_kept_says_so_and_is_no_failure(works: Works) -> None:
    call = background(durable=True, name="odd")(lambda: {1, 2})()
    assert works.perform(call.id) == "succeeded"
    with pytest.raises(refused.ResultNotKept, match="answered a set"):
        call.result(0)
    nul = background(durable=True, name="nul")(lambda: "\0")()
    assert works.perform(nul.id) == "succeeded"
    with pytest.raises(refused.ResultNotKept, match="NUL"):
        nul.result(0)


def test_a_function_knows_its_call_and_calls_say_who_made_them(works: Works) -> None:
    inner = background(durable=True, name="inner")(lambda: None)

    def outer() -> list[int]:
        found = current_call()
        assert found is not None
        assert not found.is_lost()
        return [found.id, found.attempt, inner().id]

    call = background(durable=True, name="outer")(outer)()
    works.perform(call.id)
    number, attempt, made = call.result(0)
    assert (number, attempt) == (call.id, 1)
    assert calls.get(made).called_by == f"outer {call.id}"
    assert current_call() is None


def test_a_call_whose_ring_was_lost_is_rung_for_again_unless_workers_are_far_behind(
    monkeypatch: pytest.MonkeyPatch, works: Works, rings: Rings
) -> None:
    call = background(durable=True, name="add")(add)(1)
    rings.rung.clear()
    sweeping.sweep(works.own)
    assert rings.rung == [], "it was told of a moment ago"
    works.rows("update scheduling_run set rung_at = rung_at - interval '11 s'")
    monkeypatch.setattr(unheard, "count", lambda: sweeping.MAX_UNHEARD)
    sweeping.sweep(works.own)
    assert rings.rung == []
    monkeypatch.setattr(unheard, "count", lambda: sweeping.MAX_UNHEARD - 1)
    sweeping.sweep(works.own)
    assert rings.rung == [call.id]


# -- failing --------------------------------------------------------------------------------------------------------


def test_a_call_is_tried_again_and_then_a_dead_letter_with_all_its_attempts(works: Works) -> None:
    function = background(durable=True, name="orders.ship", retry=FixedBackOff(interval_ms=60_000, max_retries=2))(
        refuse
    )
    call = function(7)
    works.performer.perform(call.id)
    works.performer.perform(call.id)
    assert (call.state(), call.attempt(), done) == ("ready", 1, [7]), "its back-off is not over"
    assert "there is no order 7" in call.error()
    assert [works.perform(call.id) for _ in range(2)] == ["ready", "dead"]
    with pytest.raises(refused.CallFailed, match="there is no order 7"):
        call.result(0)

    letter = DeadLetter.objects.get()
    assert (letter.source_kind, letter.source, letter.reason, letter.state) == (
        "task",
        "orders.ship",
        "attempts_exhausted",
        "open",
    )
    assert (letter.exception_class, letter.attempts) == ("builtins.LookupError", 3)
    group = FailureGroup.objects.get(pk=letter.failure_group_id)
    assert (group.handler, group.frame) == (f"{__name__}.refuse", f"{__name__}:refuse")
    revision = DeadLetterRevision.objects.get(dead_letter=letter)
    assert json.loads(bytes(revision.value or b"")) == {"args": [7], "kwargs": {}}
    tries = DeadLetterAttempt.objects.filter(dead_letter=letter).order_by("number")
    assert [(each.number, each.delay_ms) for each in tries] == [(1, 60_000), (2, 60_000), (3, None)]
    assert all("there is no order 7" in each.stacktrace and each.frames and each.ended_at for each in tries)
    assert call.info().dead_letter_id == letter.pk
    assert works.rows("select count(*) from scheduling_runattempt") == [(0,)]


def test_what_is_not_retryable_is_given_up_at_once(works: Works) -> None:
    call = background(durable=True, name="ship", not_retryable=(LookupError,))(refuse)(7)
    assert works.perform(call.id) == "dead"
    assert DeadLetter.objects.get().reason == "exception"


def test_a_call_that_takes_too_long_has_failed(works: Works) -> None:
    once = FixedBackOff(interval_ms=0, max_retries=1)
    call = background(durable=True, name="slow", retry=once, timeout="PT0.05S")(lambda: threading.Event().wait(20))()
    assert [works.perform(call.id) for _ in range(2)] == ["ready", "dead"]
    assert DeadLetter.objects.get().exception_class == f"{RunTimedOut.__module__}.RunTimedOut"


def test_a_call_that_ignores_its_timeout_has_failed_before_its_process_is_killed(works: Works) -> None:
    call = background(durable=True, name="deaf", timeout="PT1S")(add)(1)
    attempt = works.claim(call.id)
    assert attempt is not None
    performing._end_ignoring(work.find(attempt, lambda: False), works.own)
    assert call.state() == "ready"
    assert "ignored its timeout" in call.error()


def test_a_call_of_an_unknown_function_waits_for_a_deployment_and_is_then_given_up(works: Works) -> None:
    call = background(durable=True, name="newer.function")(add)(1)
    deployed = declared._declared.pop("newer.function")
    assert works.perform(call.id) == "ready"
    assert "no durable function 'newer.function'" in call.error()
    declared._declared["newer.function"] = deployed
    assert works.perform(call.id) == "succeeded"
    other = background(durable=True, name="gone.function")(add)(1)
    declared._declared.clear()
    assert [works.perform(other.id) for _ in range(11)] == [*["ready"] * 10, "dead"]
    assert DeadLetter.objects.get().source == "gone.function"


def test_only_the_newest_attempts_of_many_are_kept(monkeypatch: pytest.MonkeyPatch, works: Works) -> None:
    monkeypatch.setattr(runs, "KEPT_ATTEMPTS", 3)
    call = background(durable=True, name="ship", retry=FixedBackOff(interval_ms=0))(refuse)(7)
    for _ in range(6):
        works.perform(call.id)
    assert works.rows("select number from scheduling_runattempt order by number") == [(4,), (5,), (6,)]
    assert call.attempt() == 6


# -- lost workers ---------------------------------------------------------------------------------------------------


def test_a_call_whose_worker_was_lost_is_rung_for_again_at_once(works: Works, rings: Rings) -> None:
    call = background(durable=True, name="add")(add)(1)
    assert works.claim(call.id) is not None
    rings.rung.clear()
    works.lose(call.id)
    assert (call.state(), rings.rung, call.info().losses) == ("ready", [call.id], 1)
    works.performer.perform(call.id)
    assert (call.state(), call.attempt(), done) == ("succeeded", 2, [(1, 0)])


def test_the_result_of_an_attempt_that_lost_its_lease_is_dropped(works: Works) -> None:
    def sleep_too_long() -> str:
        done.append(1)
        if len(done) == 1:
            works.lose(call.id)
            works.perform(call.id)
            return "late"
        return "in time"

    call = background(durable=True, name="sleeper")(sleep_too_long)()
    works.performer.perform(call.id)
    assert (call.result(0), call.attempt()) == ("in time", 2)


def test_a_failure_of_an_attempt_that_lost_its_lease_gives_nothing_up(works: Works) -> None:
    def fail_too_late() -> None:
        done.append(1)
        if len(done) == 1:
            works.lose(call.id)
            raise LookupError

    call = background(durable=True, name="sleeper", retry=FixedBackOff(max_retries=0))(fail_too_late)()
    works.performer.perform(call.id)
    assert call.state() == "ready"
    assert not DeadLetter.objects.exists()


def test_a_call_that_kills_its_workers_is_given_up(works: Works) -> None:
    call = background(durable=True, name="poison")(add)(1)
    for losses in range(1, runs.MAX_LOSSES):
        works.rows("update scheduling_run set next_at = clock_timestamp()")
        assert works.claim(call.id) is not None
        works.lose(call.id)
        assert (call.state(), call.info().losses) == ("ready", losses)
    assert works.rows("select next_at > clock_timestamp() + interval '5 s' from scheduling_run") == [(True,)]
    works.rows("update scheduling_run set next_at = clock_timestamp()")
    assert works.claim(call.id) is not None
    works.lose(call.id)
    assert (call.state(), call.info().losses) == ("dead", runs.MAX_LOSSES)
    letter = DeadLetter.objects.get()
    assert (letter.reason, letter.attempts) == ("worker_lost", 3)
    assert list(DeadLetterAttempt.objects.filter(dead_letter=letter).values_list("ended_at", flat=True)) == [None] * 3


# -- replays --------------------------------------------------------------------------------------------------------


def given_up(works: Works, order: int = 7, name: str = "ship") -> int:
    """A dead letter of a call that may not be tried again."""
    call = background(durable=True, name=name, not_retryable=(LookupError,))(refuse)(order)
    assert works.perform(call.id) == "dead"
    letter = call.info().dead_letter_id
    assert letter is not None
    return letter


def test_a_dead_letter_of_a_call_is_edited_and_replayed(works: Works, rings: Rings) -> None:
    letter = given_up(works)
    declared._declared.clear()
    background(durable=True, name="ship")(add)
    edit = Edit(value=b'{"args": [40], "kwargs": {"other": 2}}', encoding=JSON)
    replay = works.replay(letter, edit=edit)
    assert state_of(letter) == "replaying"
    call: DurableCall[int] = DurableCall(works.again(letter))
    assert rings.rung[-1] == call.id
    assert calls.get(call.id).called_by == f"replay {replay} of ada"
    assert works.perform(call.id) == "succeeded"
    assert (call.result(0), state_of(letter), outcome_of(letter)) == (42, "replayed", ("succeeded", ""))
    runner.advance()
    assert Replay.objects.get(pk=replay).state == "completed"


def test_a_replayed_call_that_fails_again_opens_the_same_dead_letter(works: Works) -> None:
    letter = given_up(works)
    works.replay(letter)
    assert works.perform(works.again(letter)) == "dead"
    assert (state_of(letter), outcome_of(letter)) == ("open", ("failed_again", "same"))
    assert DeadLetter.objects.get().attempts == 2
    assert list(DeadLetterAttempt.objects.order_by("number").values_list("number", flat=True)) == [1, 2]


def test_a_replayed_call_that_was_lost_leaves_its_outcome_to_the_next_attempt(works: Works) -> None:
    letter = given_up(works)
    works.replay(letter)
    call = works.again(letter)
    stopped = works.claim(call)
    assert stopped is not None
    works.lose(call)
    assert works.perform(call) == "dead"
    assert not runs.finish(works.own, stopped, runs.SUCCEEDED)
    assert (state_of(letter), outcome_of(letter)) == ("open", ("failed_again", "same"))


def test_an_edit_of_a_call_must_hold_arguments(works: Works) -> None:
    letter = given_up(works)
    for value in (b"7", b'{"args": [7]}', b'{"args": {}, "kwargs": {}}', b'{"args": [], "kwargs": {}, "x": 1}'):
        with pytest.raises(InvalidValue, match="args"):
            works.replay(letter, edit=Edit(value=value))
    with pytest.raises(InvalidValue, match="no key"):
        works.replay(letter, edit=Edit(key=b"k"))
    with pytest.raises(InvalidValue, match="no headers"):
        works.replay(letter, edit=Edit(headers={"a": "b"}))
    assert state_of(letter) == "open"


def test_a_merge_patch_changes_arguments_and_is_skipped_where_none_are_left(works: Works) -> None:
    letter = given_up(works)
    works.replay(letter, merge_patch=b'{"args": 1}')
    assert (state_of(letter), outcome_of(letter)) == ("open", ("skipped", "invalid_arguments"))
    works.replay(letter, merge_patch=b'{"args": [8]}')
    assert works.perform(works.again(letter)) == "dead"
    assert done == [7, 8]


def test_a_call_may_be_replayed_to_a_topic_and_a_queue(works: Works) -> None:
    topic, queue = topics.create(unique(), partitions=1).name, unique("queue")
    declare_queue(queue)
    for target in (Target(topic=topic), Target(queue=queue)):
        letter = given_up(works)
        works.replay(letter, target=target)
        assert (state_of(letter), outcome_of(letter)) == ("replayed", ("succeeded", ""))
    assert works.rows("select count(*) from brokers_log_batch") == [(1,)]
    assert works.rows("select convert_from(body, 'utf8')::jsonb from brokers_message") == [
        ({"args": [7], "kwargs": {}},)
    ]


# -- looking --------------------------------------------------------------------------------------------------------


def test_calls_are_listed_latest_first_by_function_and_state(works: Works) -> None:
    function = background(durable=True, name="add")(add)
    first, second = function(1), function(2)
    other = background(durable=True, name="ship", not_retryable=(LookupError,))(refuse)(3)
    works.perform(first.id)
    works.perform(other.id)
    assert [each.id for each in calls.page()] == [other.id, second.id, first.id]
    assert [each.id for each in calls.page(function="add")] == [second.id, first.id]
    assert [each.id for each in calls.page(function="add", before=second.id)] == [first.id]
    assert [each.id for each in calls.page(state="dead")] == [other.id]
    assert calls.page(function="add", state="succeeded")[0].result == 1
    with pytest.raises(InvalidValue):
        calls.page(state="lost")


def test_ended_calls_are_forgotten_with_their_attempts(works: Works) -> None:
    function = background(durable=True, name="ship", retry=FixedBackOff(interval_ms=0, max_retries=1))(refuse)
    dead, waiting = function(1), function(2)
    works.perform(waiting.id)
    works.perform(dead.id)
    works.perform(dead.id)
    works.rows("update scheduling_run set ended_at = ended_at - interval '31 days'")
    assert runs.purge(works.own, sweeping.KEPT_DAYS) == 1
    assert works.rows("select run_id from scheduling_runattempt") == [(waiting.id,)]
    with pytest.raises(refused.CallNotFound):
        dead.state()
