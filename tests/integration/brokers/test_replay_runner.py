"""The runner: crashes in the middle, several workers, pace, canary, stop rule, and what people do meanwhile."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import psycopg
import pytest
from django.db import connection, transaction

from brokers import audit, redeliveries
from brokers.database import conninfo, sync_cursor
from brokers.errors import InvalidValue, ReplayFinished, ReplayNotFound, Unavailable
from brokers.models import AuditEntry, Redelivery, Replay, ReplayItem
from brokers.redeliveries import GivenBack
from brokers.replays import controls, pacing, runner, sending
from brokers.replays.creation import create
from brokers.replays.request import Canary, Pace
from brokers.replays.runner import Runner
from brokers.selectors import replays as reads
from tests.integration.brokers.replaying import Stage, check_counters, outcomes, run_until, state, states

pytestmark = pytest.mark.django_db(transaction=True)

ME = audit.Actor("ada", "console")
UNPLEASANT = "no plane"


@pytest.fixture
def stage() -> Stage:
    return Stage()


def until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.02)


def backdate(replay_id: int, seconds: float) -> None:
    """As if the rate's budget had last been spent so long before it was."""
    with connection.cursor() as cursor:
        cursor.execute(
            "update brokers_replay set budget_at = budget_at - %s * interval '1 second' where id = %s",
            [seconds, replay_id],
        )


# -- crashes --------------------------------------------------------------------------------------------------------


def test_a_step_that_fails_sends_nothing_and_the_next_one_sends_each_once(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    letters = stage.letters(10)
    replay_id = create(stage.all, merge_patch=b'{"n":2}', actor=ME)
    real = redeliveries.give_back

    def fails(given: Sequence[GivenBack]) -> None:
        real(given)
        raise Unavailable("the database cannot be used now")

    monkeypatch.setattr(redeliveries, "give_back", fails)
    with caplog.at_level(logging.WARNING, "waystation.replays"):
        assert runner.advance() == 1.0
    assert "a step of a replay failed" in caplog.text
    assert (stage.in_lane(), set(states(letters))) == (0, {"open"})
    assert reads.get(replay_id).sent == 0
    monkeypatch.undo()
    runner.advance()
    assert stage.consume() == 10
    runner.advance()
    assert state(replay_id) == "completed"
    assert {record.value_bytes for record in stage.handled} == {b'{"n":2}'}


def test_a_killed_backend_costs_a_step_and_no_item(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.letters(10)
    replay_id = create(stage.all, actor=ME)
    real = redeliveries.give_back

    def killed(given: Sequence[GivenBack]) -> None:
        real(given)
        with sync_cursor() as cursor:
            row = cursor.execute("select pg_backend_pid()").fetchone()
        with psycopg.connect(conninfo(), autocommit=True) as other:
            other.execute("select pg_terminate_backend(%s)", row)

    monkeypatch.setattr(redeliveries, "give_back", killed)
    runner.advance()
    monkeypatch.undo()
    assert stage.in_lane() == 0
    runner.advance()
    assert stage.consume() == 10
    runner.advance()
    assert state(replay_id) == "completed"
    check_counters(replay_id)


def test_one_replay_that_fails_holds_up_no_other(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Stage()
    stage.letters(1)
    other.letters(1)
    bad, good = create(stage.all, actor=ME), create(other.all, actor=ME)
    real = sending.send

    def fails_for_one(order: sending.Order, position: int, most: int) -> sending.Sent:
        if order.replay_id == bad:
            raise InvalidValue("it cannot be")
        return real(order, position, most)

    monkeypatch.setattr(runner, "send", fails_for_one)
    runner.advance()
    assert (stage.in_lane(), other.in_lane()) == (0, 1)
    other.consume()
    runner.advance()
    assert [state(bad), state(good)] == ["running", "completed"]


def test_a_consumer_that_crashes_leaves_the_item_to_be_handled(stage: Stage) -> None:
    stage.letters(2)
    replay_id = create(stage.all, actor=ME)
    runner.advance()
    for each in range(3):

        def crashes(record: object, each: int = each) -> str | None:
            if each < 2:
                raise ZeroDivisionError
            return None

        if each < 2:
            with pytest.raises(ZeroDivisionError):
                stage.consume(crashes)
    assert {outcome for outcome, _ in outcomes(replay_id).values()} == {"waiting"}
    stage.consume()
    runner.advance()
    assert state(replay_id) == "completed"


# -- several workers ------------------------------------------------------------------------------------------------


def test_many_runners_send_each_item_once_and_in_order(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "CHUNK", 7)
    for number in range(120):
        stage.letter(key=b"%d" % (number % 5))
    replays = [create(stage.all, actor=ME) for _ in range(2)]
    failures: list[BaseException] = []

    def work() -> None:
        try:
            run_until(lambda: not ReplayItem.objects.filter(outcome="waiting", sent_at=None).exists())
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures
    assert stage.consume() == 120
    runner.advance()
    assert {state(number) for number in replays} == {"completed"}
    for key in {record.key_bytes for record in stage.handled}:
        offsets = [record.offset for record in stage.handled if record.key_bytes == key]
        assert offsets == sorted(offsets)
    sent = [reads.get(number).sent for number in replays]
    assert sum(sent) == 120


def test_a_replay_that_another_worker_holds_is_passed_over(stage: Stage) -> None:
    stage.letters(1)
    replay_id = create(stage.all, actor=ME)
    with psycopg.connect(conninfo()) as other:
        other.execute("select 1 from brokers_replay where id = %s for update", [replay_id])
        began = time.monotonic()
        runner.advance()
        assert time.monotonic() - began < 5
        assert stage.in_lane() == 0
    runner.advance()
    assert stage.in_lane() == 1


def test_the_runner_wakes_for_a_new_replay_and_ends_with_its_block(stage: Stage) -> None:
    with Runner() as running:
        stage.letters(3)
        replay_id = create(stage.all, actor=ME)
        until(lambda: stage.in_lane() == 3)
        stage.consume()
        until(lambda: state(replay_id) == "completed")
        assert running.is_alive()
    assert not running.is_alive()


def test_the_runner_outlives_the_loss_of_its_connection(stage: Stage) -> None:
    with Runner() as running:
        stage.letters(1)
        create(stage.all, actor=ME)
        until(lambda: stage.in_lane() == 1)
        with psycopg.connect(conninfo(), autocommit=True) as other:
            other.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
                " and pid not in (pg_backend_pid(), %s)",
                [connection.connection.info.backend_pid],
            )
        stage.letters(1)
        create(stage.all, actor=ME)
        until(lambda: stage.in_lane() == 2)
        assert running.is_alive()


# -- pace -----------------------------------------------------------------------------------------------------------


def test_a_rate_is_kept_by_the_databases_clock_whoever_runs(stage: Stage) -> None:
    stage.letters(10)
    replay_id = create(stage.all, pace=Pace(rate_per_second=0.01), actor=ME)
    for _ in range(3):
        assert runner.advance() == 1.0
        assert stage.in_lane() == 1, "another worker, or one that starts again, knows what was spent"
    backdate(replay_id, 100.5)
    runner.advance()
    assert stage.in_lane() == 2
    backdate(replay_id, 3600)
    runner.advance()
    assert stage.in_lane() == 3, "what was missed is not made up for in one go"


def test_a_rate_can_be_changed_while_it_runs(stage: Stage) -> None:
    stage.letters(30)
    replay_id = create(stage.all, pace=Pace(rate_per_second=0.01), actor=ME)
    runner.advance()
    assert stage.in_lane() == 1
    controls.change_rate(replay_id, None, actor=ME)
    runner.advance()
    assert stage.in_lane() == 30
    controls.change_rate(replay_id, 5.0, actor=ME)
    controls.change_rate(replay_id, 5.0, actor=ME)
    changes = AuditEntry.objects.filter(operation="change_rate").order_by("pk")
    assert [entry.details["rate_per_second"] for entry in changes] == [[0.01, None], [None, 5.0]]
    with pytest.raises(InvalidValue):
        controls.change_rate(replay_id, 0.0, actor=ME)


def test_skipped_items_use_up_no_rate(stage: Stage) -> None:
    first, second = (create(stage.all, actor=ME) for _ in range(2)) if stage.letters(20) else (0, 0)
    Replay.objects.filter(pk=second).update(rate_per_second=0.01)
    runner.step(first)
    stage.letter()
    runner.advance()
    assert {outcome for outcome, _ in outcomes(second).values()} == {"skipped"}


def test_what_is_under_way_is_bounded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "UNDER_WAY", 8)
    monkeypatch.setattr(pacing, "CHUNK", 3)
    stage.letters(20)
    replay_id = create(stage.all, actor=ME)
    assert runner.advance() < 1.0
    assert stage.in_lane() == 8
    stage.consume()
    runner.advance()
    assert (stage.in_lane(), len(stage.handled)) == (8, 8)
    stage.consume()
    runner.advance()
    stage.consume()
    runner.advance()
    assert (state(replay_id), len(stage.handled)) == ("completed", 20)


# -- canary and stop rule -------------------------------------------------------------------------------------------


def test_a_canary_goes_alone_and_the_others_follow_when_it_succeeds(stage: Stage) -> None:
    stage.letters(10)
    replay_id = create(stage.all, pace=Pace(canary=Canary(4, 0.75)), actor=ME)
    runner.advance()
    assert (state(replay_id), stage.in_lane()) == ("canary", 4)
    failed: list[int] = []

    def one_fails(record: object) -> str | None:
        failed.append(1)
        return UNPLEASANT if len(failed) == 1 else None

    stage.consume(one_fails)
    runner.advance()
    assert (state(replay_id), stage.in_lane()) == ("running", 6)
    stage.consume()
    runner.advance()
    assert state(replay_id) == "completed"
    events = [event.operation for event in reads.events(replay_id)]
    assert events == ["complete", "pass_canary", "create"]


def test_a_canary_waits_for_the_last_of_its_outcomes(stage: Stage) -> None:
    stage.letter(key=b"quick", partition=0)
    stage.letter(key=b"slow", partition=1)
    stage.letters(3, partition=2)
    replay_id = create(stage.all, pace=Pace(canary=Canary(2, 0.5)), actor=ME)
    runner.advance()
    slow = Redelivery.objects.get(key=b"slow")
    Redelivery.objects.filter(pk=slow.pk).update(due_at="2999-01-01 00:00:00+00")
    stage.consume()
    runner.advance()
    assert (state(replay_id), reads.get(replay_id).sent) == ("canary", 2)
    Redelivery.objects.filter(pk=slow.pk).update(due_at="2024-01-01 00:00:00+00")
    stage.consume()
    runner.advance()
    assert (state(replay_id), reads.get(replay_id).sent) == ("running", 5)


def test_a_canary_that_fails_stops_the_replay_and_the_rest_stays_open(stage: Stage) -> None:
    letters = stage.letters(6)
    replay_id = create(stage.all, pace=Pace(canary=Canary(3, 0.9)), actor=ME)
    runner.advance()
    stage.consume(lambda record: UNPLEASANT if record.offset == 2 else None)
    runner.advance()
    replay = reads.get(replay_id)
    assert (replay.state, replay.stop_cause) == ("stopped", "of the canary's 3, 2 succeeded")
    assert replay.finished_at is not None
    assert (replay.sent, replay.succeeded, replay.failed_again, replay.skipped) == (3, 2, 1, 3)
    assert states(letters) == ["replayed", "open", "replayed", "open", "open", "open"]
    assert outcomes(replay_id)[letters[5]] == ("skipped", "cancelled")
    check_counters(replay_id)


def test_a_canary_larger_than_the_replay_is_the_replay(stage: Stage) -> None:
    stage.letters(2)
    replay_id = create(stage.all, pace=Pace(canary=Canary(10, 1.0)), actor=ME)
    runner.advance()
    assert stage.consume() == 2
    runner.advance()
    assert state(replay_id) == "completed"


def test_too_many_failures_among_the_newest_outcomes_stop_a_replay(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "UNDER_WAY_CAREFULLY", 12)
    stage.letters(60)
    replay_id = create(stage.all, pace=Pace(stop_when_failed_again=0.2), actor=ME)
    runner.advance()
    assert stage.consume(lambda record: UNPLEASANT if record.offset <= 2 else None) == 12
    runner.advance()
    assert (state(replay_id), stage.in_lane()) == ("running", 12), "two of twelve are allowed"
    stage.consume(lambda record: UNPLEASANT if record.offset <= 16 else None)
    runner.advance()
    replay = reads.get(replay_id)
    assert (replay.state, replay.stop_cause) == ("stopped", "of the last 24, 6 failed again")
    assert (replay.sent, replay.skipped, stage.in_lane()) == (24, 36, 0)
    assert reads.events(replay_id)[0].details["cause"] == replay.stop_cause


# -- what people do -------------------------------------------------------------------------------------------------


def test_a_paused_replay_sends_nothing_and_goes_on_where_it_was(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "UNDER_WAY", 4)
    stage.letters(10)
    replay_id = create(stage.all, actor=ME)
    runner.advance()
    assert controls.pause(replay_id, actor=ME) == "paused"
    assert controls.pause(replay_id, actor=ME) == "paused"
    stage.consume()
    runner.advance()
    assert (state(replay_id), stage.in_lane(), reads.get(replay_id).succeeded) == ("paused", 0, 4)
    assert controls.resume(replay_id, actor=ME) == "running"
    runner.advance()
    assert stage.in_lane() == 4
    events = [(event.operation, event.principal) for event in reads.events(replay_id)]
    assert events == [("resume", "ada"), ("pause", "ada"), ("create", "ada")]


def test_a_canary_is_paused_and_resumed_as_a_canary(stage: Stage) -> None:
    stage.letters(5)
    replay_id = create(stage.all, pace=Pace(canary=Canary(2, 0.5)), actor=ME)
    controls.pause(replay_id, actor=ME)
    assert runner.advance() == 1.0
    assert controls.resume(replay_id, actor=ME) == "canary"
    runner.advance()
    assert stage.in_lane() == 2


def test_a_cancelled_replay_keeps_what_was_sent(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pacing, "UNDER_WAY", 4)
    letters = stage.letters(10)
    replay_id = create(stage.all, actor=ME)
    runner.advance()
    assert controls.cancel(replay_id, actor=ME) == "cancelled"
    replay = reads.get(replay_id)
    assert (replay.sent, replay.skipped, replay.waiting) == (4, 6, 4)
    assert replay.finished_at is not None
    assert states(letters) == ["replaying"] * 4 + ["open"] * 6
    stage.consume()
    runner.advance()
    assert (state(replay_id), reads.get(replay_id).succeeded) == ("cancelled", 4)
    again = create(stage.all, actor=ME)
    assert reads.get(again).total == 6


def test_the_items_of_a_large_replay_are_marked_after_its_cancelling(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controls, "SWEPT_AT_ONCE", 3)
    stage.letters(10)
    replay_id = create(stage.all, actor=ME, pace=Pace(rate_per_second=0.01))
    controls.cancel(replay_id, actor=ME)
    replay = reads.get(replay_id)
    assert (replay.state, replay.skipped, replay.finished_at) == ("cancelled", 3, None)
    runner.advance()
    replay = reads.get(replay_id)
    assert replay.skipped == 10
    assert replay.finished_at is not None
    assert stage.in_lane() == 0


def test_a_plan_waits_until_it_is_applied_and_then_for_its_grace(stage: Stage) -> None:
    stage.letters(2)
    replay_id = create(stage.all, planned=True, actor=ME)
    assert runner.advance() == 1.0
    assert state(replay_id) == "planned"
    stage.letters(1)
    assert controls.apply(replay_id, actor=ME) == "waiting"
    assert controls.apply(replay_id, actor=ME) == "waiting"
    runner.advance()
    assert (state(replay_id), stage.in_lane()) == ("waiting", 0)
    assert reads.get(replay_id).expires_at is None
    Replay.objects.filter(pk=replay_id).update(starts_at="2024-01-01 00:00:00+00")
    runner.advance()
    assert (state(replay_id), stage.in_lane()) == ("running", 2), "what failed after the plan is not in it"


def test_a_plan_that_expired_cannot_be_applied(stage: Stage) -> None:
    stage.letters(1)
    replay_id = create(stage.all, planned=True, actor=ME)
    Replay.objects.filter(pk=replay_id).update(expires_at="2024-01-01 00:00:00+00")
    with pytest.raises(ReplayFinished, match="expired"):
        controls.apply(replay_id, actor=ME)


def test_the_grace_can_be_used_to_take_it_back(stage: Stage) -> None:
    letters = stage.letters(2)
    replay_id = create(stage.all, planned=True, actor=ME)
    controls.apply(replay_id, actor=ME)
    controls.cancel(replay_id, actor=ME)
    runner.advance()
    assert (stage.in_lane(), states(letters)) == (0, ["open"] * 2)


def test_a_finished_replay_allows_nothing(stage: Stage) -> None:
    replay_id = create(stage.all, actor=ME)
    runner.advance()
    assert state(replay_id) == "completed"
    for control in (controls.pause, controls.resume, controls.cancel, controls.apply):
        with pytest.raises(ReplayFinished, match="it is completed"):
            control(replay_id, actor=ME)
        with pytest.raises(ReplayNotFound):
            control(999_999_999, actor=ME)
    with pytest.raises(ReplayFinished):
        controls.change_rate(replay_id, 1.0, actor=ME)


def test_a_cancel_waits_for_the_step_that_is_under_way_and_none_follows(stage: Stage) -> None:
    letters = stage.letters(3)
    replay_id = create(stage.all, actor=ME)
    cancelled = threading.Event()

    def cancel() -> None:
        controls.cancel(replay_id, actor=ME)
        cancelled.set()
        connection.close()

    thread = threading.Thread(target=cancel)
    with transaction.atomic():
        runner.step(replay_id)
        thread.start()
        assert not cancelled.wait(0.2)
    thread.join(10)
    assert states(letters) == ["replaying"] * 3
    assert (state(replay_id), reads.get(replay_id).skipped) == ("cancelled", 0)


def test_an_outcome_that_was_written_stays(stage: Stage) -> None:
    """Settling a redelivery whose item has an outcome already changes nothing of the item."""
    [letter] = stage.letters(1)
    replay_id = create(stage.all, actor=ME)
    runner.advance()
    ReplayItem.objects.filter(dead_letter_id=letter).update(outcome="skipped", why="gone")
    stage.consume()
    assert outcomes(replay_id) == {letter: ("skipped", "gone")}
    assert redeliveries.next_due(stage.group_id, stage.partition_ids) == {}
