"""Replays at random against the real PostgreSQL: the plan is what happens, and no item is sent twice.

What the model must never see: a dead letter in two lanes, an item handled twice, one handled after its replay was
cancelled without having been sent before, a completed replay with an item under way, or counters that are wrong.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from brokers import audit, dead_letters, topics
from brokers.errors import BrokerError, Conflict, DeadLetterReplaying, ReplayFinished
from brokers.models import ConsumerGroup, DeadLetter, ProcessedMessage, Redelivery, Replay, ReplayItem
from brokers.record import JSON, RAW, Record
from brokers.replays import controls, runner
from brokers.replays.creation import create
from brokers.replays.plans import plan
from brokers.replays.request import Canary, Pace, Target
from brokers.selectors import replays as reads
from brokers.selectors.dead_letter_filter import Consumer, Filter
from tests.integration.brokers.replaying import Stage, check_counters, ids
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)

ME = audit.Actor("ada", "rest")

letters = st.fixed_dictionaries(
    {
        "stage": st.integers(0, 2),
        "partition": st.integers(0, 2),
        "key": st.sampled_from([None, b"a", b"b"]),
        "value": st.sampled_from([b'{"n":1}', b"[1]", None]),
        "encoding": st.sampled_from([JSON, JSON, RAW]),
        "idempotency_key": st.sampled_from([None, "done", "fresh"]),
    }
)
states = st.sampled_from(["open"] * 5 + ["replaying", "replayed", "resolved", "discarded"])
cases = st.lists(st.tuples(letters, states, st.integers(1, 2)), max_size=12)


@given(
    cases=cases,
    gone=st.sampled_from(["nothing", "topic", "group"]),
    patched=st.booleans(),
    published=st.booleans(),
    by_ids=st.booleans(),
)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_plan_is_what_then_happens(
    cases: list[tuple[dict[str, Any], str, int]], gone: str, patched: bool, published: bool, by_ids: bool
) -> None:
    first = Stage()
    stages = [first, Stage(topic=first.topic), Stage()]
    for stage in stages:
        ProcessedMessage.objects.get_or_create(consumer=stage.group, message_key="done")
    made = []
    for fields, state, revision in cases:
        chosen = dict(fields)
        letter = stages[chosen.pop("stage")].letter(**chosen)
        DeadLetter.objects.filter(pk=letter).update(state=state)
        if state == "replayed" and revision == 2:
            DeadLetter.objects.filter(pk=letter).update(revision=2)
        made.append(letter)
    if gone == "topic":
        topics.delete(stages[2].topic)
    elif gone == "group":
        ConsumerGroup.objects.filter(pk=stages[1].group_id).delete()
    consumers = tuple(Consumer("topic", stage.topic, stage.group) for stage in stages)
    selection = ids(*made) if by_ids and made else Filter(consumers=consumers)
    options: dict[str, Any] = {
        "merge_patch": b'{"mended":true}' if patched else None,
        "target": Target(topic=topics.create(unique(), partitions=2).name) if published else None,
    }
    planned = plan(selection, **options)
    assert planned.total + sum(planned.skipped.values()) == len(made)
    replay_id = create(selection, **options, actor=ME)
    replay = reads.get(replay_id)
    assert (replay.total, replay.skips) == (planned.total, planned.skipped)
    before = {letter.pk: (letter.state, letter.revision) for letter in DeadLetter.objects.filter(pk__in=made)}
    runner.advance()
    for stage in stages:
        if stage is not stages[2] or gone != "topic":
            stage.consume()
    runner.advance()
    replay = reads.get(replay_id)
    assert (replay.state, replay.succeeded, replay.failed_again) == ("completed", planned.total, 0)
    assert (replay.skipped, replay.waiting) == (sum(planned.skipped.values()), 0)
    handled = [int(record.headers["x-waystation-replayed-from"]) for stage in stages for record in stage.handled]
    assert len(handled) == len(set(handled)) == (0 if published else planned.total)
    for item in ReplayItem.objects.filter(replay_id=replay_id):
        letter = DeadLetter.objects.get(pk=item.dead_letter_id)
        if item.outcome == "succeeded":
            assert letter.state == "replayed"
            assert item.revision == letter.revision
        else:
            assert (letter.state, letter.revision) == before[letter.pk], "what is skipped stays as it was"
    check_counters(replay_id)


picks = st.integers(0, 999)
MOVING = ("waiting", "canary", "running")
ALLOWED: dict[str, dict[str, set[str]]] = {
    "apply": {"planned": {"waiting"}},
    "pause": {state: {"paused"} for state in MOVING},
    "resume": {"paused": set(MOVING)},
    "cancel": {state: {"cancelled"} for state in ("planned", "paused", *MOVING)},
}
"""What each control makes of a state; any other state stays."""


class ReplayModel(RuleBasedStateMachine):
    """Replays are made and controlled, dead letters are edited and settled, consumers succeed, fail and crash."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Stage()
        self.letters: list[int] = []
        self.replays: list[int] = []
        self.final: dict[int, tuple[str, int]] = {}
        """State and items sent of the replays that were over when last looked at."""

    def pick(self, found: list[int], number: int) -> int | None:
        return found[number % len(found)] if found else None

    @rule(count=st.integers(1, 4), key=st.sampled_from([None, b"a", b"b"]), partition=st.integers(0, 1))
    def fail(self, count: int, key: bytes | None, partition: int) -> None:
        self.letters += self.stage.letters(count, key=key, partition=partition)

    @rule(
        planned=st.booleans(),
        canary=st.sampled_from([None, Canary(2, 0.5), Canary(3, 1.0)]),
        stop=st.sampled_from([None, 0.0]),
        patched=st.booleans(),
    )
    def replay(self, planned: bool, canary: Canary | None, stop: float | None, patched: bool) -> None:
        patch = b'{"n":%d}' % len(self.replays) if patched else None
        pace = Pace(canary=canary, stop_when_failed_again=stop)
        self.replays.append(create(self.stage.all, planned=planned, pace=pace, merge_patch=patch, actor=ME))

    @rule(number=picks, control=st.sampled_from(["apply", "pause", "resume", "cancel"]))
    def control(self, number: int, control: str) -> None:
        replay_id = self.pick(self.replays, number)
        if replay_id is None:
            return
        before = reads.get(replay_id).state
        try:
            after = getattr(controls, control)(replay_id, actor=ME)
        except ReplayFinished:
            after = before
        assert after in ALLOWED[control].get(before, {before})
        assert reads.get(replay_id).state == after

    @rule()
    def end_of_grace(self) -> None:
        Replay.objects.filter(pk__in=self.replays, state="waiting").update(starts_at="2024-01-01 00:00:00+00")

    @rule()
    def advance(self) -> None:
        runner.advance()

    @rule(failing=st.sets(st.integers(1, 40), max_size=12), crash=st.booleans(), skip=st.booleans())
    def consume(self, failing: set[int], crash: bool, skip: bool) -> None:
        def fails(record: Record) -> str | None:
            if crash and record.offset in failing:
                raise ZeroDivisionError
            return "no plane" if record.offset in failing else None

        try:
            self.stage.consume(fails, skips=self.letters[::2] if skip else ())
        except ZeroDivisionError:
            self.stage.handled.pop()  # its transaction never was

    @rule(number=picks, state=st.sampled_from(["open", "resolved", "discarded"]))
    def settle_by_hand(self, number: int, state: str) -> None:
        letter = self.pick(self.letters, number)
        if letter is not None:
            try:
                dead_letters.change_state([letter], state, ME)
            except (DeadLetterReplaying, Conflict):
                assert DeadLetter.objects.get(pk=letter).state in ("replaying", "replayed")

    @rule(number=picks)
    def edit(self, number: int) -> None:
        letter = self.pick(self.letters, number)
        if letter is not None:
            try:
                dead_letters.add_revision(letter, None, b"a", b"{}", JSON, {}, "edit", ME)
            except BrokerError:
                assert DeadLetter.objects.get(pk=letter).state in ("replaying", "replayed")

    @invariant()
    def each_dead_letter_is_under_way_in_one_place(self) -> None:
        found = Redelivery.objects.filter(group_id=self.stage.group_id).values_list("dead_letter_id", flat=True)
        lane = [number for number in found if number is not None]
        assert len(lane) == len(set(lane))
        assert set(lane) == set(
            DeadLetter.objects.filter(pk__in=self.letters, state="replaying").values_list("pk", flat=True)
        )
        waiting = ReplayItem.objects.filter(replay_id__in=self.replays, outcome="waiting", sent_at__isnull=False)
        assert sorted(waiting.values_list("dead_letter_id", flat=True)) == sorted(lane)

    @invariant()
    def no_item_is_handled_twice_or_in_the_wrong_order(self) -> None:
        seen: set[tuple[str, str]] = set()
        last: dict[tuple[str, int, bytes], int] = {}
        for record in self.stage.handled:
            replay_id = record.headers["x-waystation-replay-id"]
            item = (replay_id, record.headers["x-waystation-replayed-from"])
            assert item not in seen
            seen.add(item)
            if record.key_bytes is not None:
                place = (replay_id, record.partition, record.key_bytes)
                assert last.get(place, -1) < record.offset
                last[place] = record.offset

    @invariant()
    def what_is_over_stays_over(self) -> None:
        for replay_id in self.replays:
            replay = reads.get(replay_id)
            if replay_id in self.final:
                assert (replay.state, replay.sent) == self.final[replay_id]
            if replay.state in ("completed", "cancelled", "stopped"):
                self.final[replay_id] = (replay.state, replay.sent)
            unsent = ReplayItem.objects.filter(replay_id=replay_id, outcome="waiting", sent_at=None).count()
            assert not (replay.state in ("completed", "cancelled", "stopped") and unsent)
            assert not (replay.state == "completed" and replay.waiting)
            assert replay.total + sum(replay.skips.values()) == ReplayItem.objects.filter(replay_id=replay_id).count()

    def teardown(self) -> None:
        """Once consumers succeed and nobody interferes, every replay that may go on ends, with true counters."""
        for replay_id in self.replays:
            if reads.get(replay_id).state == "paused":
                controls.resume(replay_id, actor=ME)
        self.end_of_grace()
        for _ in range(4):
            runner.advance()
            self.stage.consume()
        runner.advance()
        for replay_id in self.replays:
            assert reads.get(replay_id).state in ("planned", "completed", "cancelled", "stopped")
            check_counters(replay_id)
        with connection.cursor() as cursor:
            cursor.execute("delete from brokers_replay_item")
            cursor.execute("delete from brokers_replay")


def test_replays_keep_their_promises_whatever_happens() -> None:
    run_state_machine_as_test(
        ReplayModel,
        settings=settings(
            max_examples=25,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
