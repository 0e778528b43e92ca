"""Replays end to end: plan, frozen selection, what arrives, outcomes, edits, targets. The consumer is made by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from brokers import audit, dead_letters, publish, topic_log, topics
from brokers.dead_letters import change_state
from brokers.errors import (
    AccessDenied,
    DeadLetterNotFound,
    DeadLetterReplaying,
    ExchangeNotFound,
    InvalidValue,
    MalformedJson,
    QueueNotFound,
    ReplayNotFound,
    RevisionSuperseded,
    TopicNotFound,
)
from brokers.models import (
    AuditEntry,
    ConsumerGroup,
    DeadLetter,
    DeadLetterRevision,
    ProcessedMessage,
    Redelivery,
    Replay,
    ReplayItem,
)
from brokers.record import JSON, RAW
from brokers.redeliveries import purge_orphans
from brokers.replays import plans, runner, sending
from brokers.replays.creation import create
from brokers.replays.plans import plan
from brokers.replays.request import Canary, Edit, Pace, Target
from brokers.replays.retention import purge
from brokers.selectors import replays as reads
from brokers.selectors.dead_letter_filter import Consumer, Filter
from tests.integration.brokers.replaying import Stage, check_counters, ids, outcomes, state, states
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)

ME = audit.Actor("ada (token 1)", "rest")


@pytest.fixture
def stage() -> Stage:
    return Stage()


# -- what is selected -----------------------------------------------------------------------------------------------


def test_a_plan_says_what_would_happen_and_changes_nothing(stage: Stage) -> None:
    letters = stage.letters(7, value=b'{"a": 1.50}')
    change_state(letters[:1], "discarded", ME)
    change_state(letters[1:2], "resolved", ME)
    before = list(DeadLetter.objects.order_by("pk").values())
    made = plan(stage.all, merge_patch=b'{"b":2}')
    assert (made.total, made.skipped) == (5, {"discarded": 1, "resolved": 1})
    assert [sample.id for sample in made.sample] == letters[2:7]
    sample = made.sample[0]
    assert (sample.before.value, sample.after.value) == (b'{"a": 1.50}', b'{"a":1.50,"b":2}')
    assert (sample.source_kind, sample.source, sample.group) == ("topic", stage.topic, stage.group)
    assert made.consumers == [Consumer("topic", stage.topic, stage.group)]
    assert list(DeadLetter.objects.order_by("pk").values()) == before
    assert not Replay.objects.exists()
    assert not ReplayItem.objects.exists()
    assert not DeadLetterRevision.objects.filter(number=2).exists()


def test_each_reason_to_skip_is_counted_and_then_happens(stage: Stage) -> None:
    other_topic, other_group = Stage(), Stage(topic=stage.topic)
    expected = {
        stage.letter(): ("succeeded", ""),
        stage.letter(idempotency_key="done"): ("skipped", "already_processed"),
        stage.letter(idempotency_key="not yet"): ("succeeded", ""),
        stage.letter(value=b"\x00", encoding=RAW): ("skipped", "not_json"),
        stage.letter(value=None, encoding=RAW): ("succeeded", ""),
        other_topic.letter(): ("skipped", "gone"),
        other_group.letter(): ("skipped", "gone"),
        stage.letter(source_kind="queue"): ("skipped", "gone"),
        (resolved := stage.letter()): ("skipped", "resolved"),
        (discarded := stage.letter()): ("skipped", "discarded"),
        (replaying := stage.letter()): ("skipped", "replaying"),
        (replayed := stage.letter()): ("skipped", "already_processed"),
        (edited := stage.letter()): ("skipped", "superseded"),
    }
    ProcessedMessage.objects.create(consumer=stage.group, message_key="done")
    ProcessedMessage.objects.create(consumer="another", message_key="not yet")
    topics.delete(other_topic.topic)
    ConsumerGroup.objects.filter(pk=other_group.group_id).delete()
    change_state([resolved], "resolved", ME)
    change_state([discarded], "discarded", ME)
    DeadLetter.objects.filter(pk=replaying).update(state="replaying")
    DeadLetter.objects.filter(pk=replayed).update(state="replayed")
    DeadLetter.objects.filter(pk=edited).update(state="replayed", revision=2)
    selection = ids(*expected)
    made = plan(selection, merge_patch=b'{"x":1}')
    assert made.total == 3
    assert made.skipped == {
        "already_processed": 2,
        "not_json": 1,
        "gone": 3,
        "resolved": 1,
        "discarded": 1,
        "replaying": 1,
        "superseded": 1,
    }
    replay_id = create(selection, merge_patch=b'{"x":1}', actor=ME)
    runner.advance()
    assert stage.consume() == 3
    runner.advance()
    assert outcomes(replay_id) == expected
    assert state(replay_id) == "completed"
    check_counters(replay_id)


def test_what_fails_after_the_replay_was_made_is_not_swept_in(stage: Stage) -> None:
    first = stage.letters(3)
    replay_id = create(stage.all, pace=Pace(rate_per_second=0.001), actor=ME)
    stage.letters(2)
    assert list(outcomes(replay_id)) == first
    assert reads.get(replay_id).total == 3


def test_items_stand_in_the_order_of_their_records(stage: Stage) -> None:
    late = stage.letter(offset=30)
    early = stage.letter(offset=10)
    elsewhere = stage.letter(offset=5, partition=2)
    middle = stage.letter(offset=20)
    assert list(outcomes(create(stage.all, actor=ME))) == [early, middle, late, elsewhere]


def test_an_id_that_is_unknown_refuses_the_whole_request(stage: Stage) -> None:
    [letter] = stage.letters(1)
    for call in (plan, lambda selection: create(selection, actor=ME)):
        with pytest.raises(DeadLetterNotFound, match="999999999"):
            call(ids(letter, 999_999_999))
        with pytest.raises(InvalidValue):
            call(ids())
        with pytest.raises(InvalidValue):
            call(ids(*range(1, 1002)))
    assert not Replay.objects.exists()
    assert plan(ids(letter, letter)).total == 1


def test_a_selection_of_nothing_is_a_replay_of_nothing(stage: Stage) -> None:
    assert plan(stage.all) == plans.Plan(0, {}, [], [])
    replay_id = create(stage.all, actor=ME)
    runner.advance()
    assert state(replay_id) == "completed"
    assert reads.get(replay_id).total == 0


def test_too_large_a_selection_is_refused_and_leaves_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "MAX_ITEMS", 4)
    stage.letters(5)
    for call in (plan, lambda selection: create(selection, actor=ME)):
        with pytest.raises(InvalidValue, match="up to 4 dead letters"):
            call(stage.all)
    assert not ReplayItem.objects.exists()
    assert not Replay.objects.exists()


def test_every_side_of_a_filter_narrows_it(stage: Stage) -> None:
    letters = stage.letters(3)
    now = datetime.now(UTC)
    assert plan(Filter(group=stage.group, until=now - timedelta(hours=1))).total == 0
    assert plan(Filter(group=stage.group, since=now - timedelta(hours=1), state="open", q="no plane")).total == 3
    with pytest.raises(DeadLetterNotFound):
        plan(Filter(ids=(letters[0],), group="another"))
    made = create(Filter(group=stage.group, since=now - timedelta(hours=1)), actor=ME)
    assert reads.get(made).selection["filter"]["group"] == stage.group
    assert reads.get(made).selection["filter"]["since"].endswith("Z")


def test_who_may_not_replay_all_of_it_replays_nothing(stage: Stage) -> None:
    stage.letters(2)
    asked: list[list[Consumer]] = []

    def refuse(consumers: Any) -> None:
        asked.append(list(consumers))
        raise AccessDenied("not yours")

    for call in (plan, lambda selection, check: create(selection, check=check, actor=ME)):
        with pytest.raises(AccessDenied):
            call(stage.all, check=refuse)
    assert asked == [[Consumer("topic", stage.topic, stage.group)]] * 2
    assert not Replay.objects.exists()


# -- what arrives ---------------------------------------------------------------------------------------------------


def test_a_replay_reaches_the_group_that_failed_and_no_other(stage: Stage) -> None:
    other = Stage(topic=stage.topic)
    letters = stage.letters(4)
    [kept] = other.letters(1)
    replay_id = create(stage.all, reason="the bug is mended", actor=ME)
    runner.advance()
    assert (stage.in_lane(), other.in_lane()) == (4, 0)
    assert states(letters) == ["replaying"] * 4
    assert state(replay_id) == "running", "not before every item has an outcome"
    assert other.consume() == 0
    assert stage.consume() == 4
    runner.advance()
    assert state(replay_id) == "completed"
    assert states([*letters, kept]) == ["replayed"] * 4 + ["open"]
    assert set(DeadLetter.objects.filter(pk__in=letters).values_list("replays", flat=True)) == {1}
    assert topic_log.bounds_of_topic(topics.lookup(stage.topic).id)[0].latest_offset == 0, "nothing is published"
    check_counters(replay_id)


def test_a_record_arrives_as_it_was_and_says_that_it_is_a_replay(stage: Stage) -> None:
    headers = {"h": "\x00ü", "X-Waystation-Replay-Id": "an earlier one"}
    letter = stage.letter(key=b"\xff\x00", value=b'{"n": 1.0}', headers=headers, partition=2, offset=77)
    replay_id = create(ids(letter), actor=ME)
    runner.advance()
    stage.consume()
    [record] = stage.handled
    assert (record.key_bytes, record.value_bytes, record.encoding) == (b"\xff\x00", b'{"n": 1.0}', JSON)
    assert (record.topic, record.partition, record.offset) == (stage.topic, 2, 77)
    assert record.headers == {
        "h": "\x00ü",
        "x-waystation-replay-id": str(replay_id),
        "x-waystation-replayed-from": str(letter),
        "x-waystation-revision": "1",
        "x-waystation-attempt-base": "0",
        "x-waystation-replayed-by": "ada (token 1)",
    }


def test_records_of_a_key_arrive_in_their_order(stage: Stage) -> None:
    for offset in range(30):
        stage.letter(key=b"abc"[offset % 3 : offset % 3 + 1], offset=29 - offset)
    create(stage.all, actor=ME)
    runner.advance()
    stage.consume()
    assert len(stage.handled) == 30
    for key in (b"a", b"b", b"c"):
        offsets = [record.offset for record in stage.handled if record.key_bytes == key]
        assert offsets == sorted(offsets)


def test_what_fails_again_is_open_again_and_says_whether_as_before(stage: Stage) -> None:
    same, new, fine = stage.letter(key=b"1"), stage.letter(key=b"2"), stage.letter(key=b"3")
    replay_id = create(stage.all, actor=ME)
    runner.advance()
    stage.consume(lambda record: {b"1": "no plane", b"2": "no crew"}.get(record.key_bytes or b""))
    runner.advance()
    found = outcomes(replay_id)
    assert found[fine] == ("succeeded", "")
    assert found[new][0] == found[same][0] == "failed_again"
    assert found[new][1] == "new"
    assert states([same, new, fine]) == ["open", "open", "replayed"]
    assert state(replay_id) == "completed"
    check_counters(replay_id)
    again = create(stage.all, actor=ME)
    assert (reads.get(again).total, reads.get(again).skips) == (2, {"already_processed": 1})
    runner.advance()
    stage.consume()
    assert states([same, new]) == ["replayed"] * 2
    assert DeadLetter.objects.get(pk=same).replays == 2


def test_what_its_consumer_had_processed_already_counts_as_skipped(stage: Stage) -> None:
    letter, other = stage.letters(2)
    replay_id = create(stage.all, actor=ME)
    runner.advance()
    stage.consume(skips=[letter])
    assert outcomes(replay_id) == {letter: ("skipped", "already_processed"), other: ("succeeded", "")}
    assert states([letter, other]) == ["replayed"] * 2


def test_two_replays_of_the_same_dead_letters_send_each_once(stage: Stage) -> None:
    letters = stage.letters(5)
    first, second = create(stage.all, actor=ME), create(stage.all, actor=ME)
    runner.advance()
    assert stage.in_lane() == 5
    assert set(outcomes(second).values()) == {("skipped", "replaying")}
    assert stage.consume() == 5
    runner.advance()
    assert [state(first), state(second)] == ["completed"] * 2
    assert states(letters) == ["replayed"] * 5
    third = create(stage.all, actor=ME)
    assert reads.get(third).skips == {"already_processed": 5}


def test_what_changed_since_the_plan_is_looked_at_once_more(stage: Stage) -> None:
    resolved, edited, processed, vanished, fine = (stage.letter(idempotency_key=str(n)) for n in range(5))
    replay_id = create(stage.all, actor=ME, planned=True)
    change_state([resolved], "resolved", ME)
    dead_letters.add_revision(edited, 1, b"k", b"2", JSON, {}, "edit", ME)
    ProcessedMessage.objects.create(consumer=stage.group, message_key="2")
    DeadLetterRevision.objects.filter(dead_letter_id=vanished).delete()
    DeadLetter.objects.filter(pk=vanished).delete()
    Replay.objects.filter(pk=replay_id).update(state="running", expires_at=None)
    runner.advance()
    assert outcomes(replay_id) == {
        resolved: ("skipped", "resolved"),
        edited: ("skipped", "superseded"),
        processed: ("skipped", "already_processed"),
        vanished: ("skipped", "gone"),
        fine: ("waiting", ""),
    }
    check_counters(replay_id)


def test_a_topic_that_is_deleted_meanwhile_leaves_nothing_under_way(stage: Stage) -> None:
    letters = stage.letters(3)
    replay_id = create(stage.all, actor=ME)
    runner.advance()
    topics.delete(stage.topic)
    assert purge_orphans() == 3
    runner.advance()
    assert set(outcomes(replay_id).values()) == {("skipped", "gone")}
    assert states(letters) == ["open"] * 3
    assert state(replay_id) == "completed"
    assert plan(ids(*letters)).skipped == {"gone": 3}


# -- edits ----------------------------------------------------------------------------------------------------------


def test_an_edit_is_a_revision_at_once_and_the_original_cannot_be_replayed_too(stage: Stage) -> None:
    letter = stage.letter(headers={"h": "1"})
    waiting = create(ids(letter), pace=Pace(rate_per_second=0.001), actor=ME, planned=True)
    edit = Edit(value=b'{"n":2}', headers={"h": "2"}, expected_revision=1)
    made = plan(ids(letter), edit=edit)
    assert (made.sample[0].before.value, made.sample[0].after.value) == (b'{"n":1}', b'{"n":2}')
    assert made.sample[0].after.key == b"k"
    replay_id = create(ids(letter), edit=edit, actor=ME)
    assert DeadLetter.objects.get(pk=letter).revision == 2
    assert reads.get(replay_id).edited
    runner.advance()
    stage.consume()
    [record] = stage.handled
    assert (record.key_bytes, record.value_bytes) == (b"k", b'{"n":2}')
    assert record.headers["h"] == "2"
    assert record.headers["x-waystation-revision"] == "2"
    revisions = DeadLetterRevision.objects.filter(dead_letter_id=letter).order_by("number")
    assert [(bytes(r.value or b""), r.origin) for r in revisions] == [(b'{"n":1}', "original"), (b'{"n":2}', "edit")]
    Replay.objects.filter(pk=waiting).update(state="running", rate_per_second=None)
    runner.advance()
    assert outcomes(waiting) == {letter: ("skipped", "superseded")}
    assert plan(ids(letter)).skipped == {"superseded": 1}


def test_an_edit_of_what_somebody_else_edited_is_refused(stage: Stage) -> None:
    letter = stage.letter()
    create(ids(letter), edit=Edit(value=b"2", expected_revision=1), actor=ME, pace=Pace(rate_per_second=0.001))
    stale = Edit(value=b"3", expected_revision=1)
    for call in (plan, lambda selection, edit: create(selection, edit=edit, actor=ME)):
        with pytest.raises(RevisionSuperseded):
            call(ids(letter), edit=stale)
    assert DeadLetter.objects.get(pk=letter).revision == 2


def test_what_is_under_way_cannot_be_edited(stage: Stage) -> None:
    letter = stage.letter()
    create(ids(letter), actor=ME)
    runner.advance()
    for call in (plan, lambda selection, edit: create(selection, edit=edit, actor=ME)):
        with pytest.raises(DeadLetterReplaying):
            call(ids(letter), edit=Edit(value=b"3"))


def test_an_edit_of_a_settled_dead_letter_makes_no_revision(stage: Stage) -> None:
    letter = stage.letter()
    change_state([letter], "discarded", ME)
    replay_id = create(ids(letter), edit=Edit(value=b"3"), actor=ME)
    assert outcomes(replay_id) == {letter: ("skipped", "discarded")}
    assert DeadLetter.objects.get(pk=letter).revision == 1


def test_an_edit_can_remove_the_key_and_make_a_tombstone(stage: Stage) -> None:
    letter = stage.letter(headers={"h": "1"})
    create(ids(letter), edit=Edit(key=None, value=None, headers={}), actor=ME)
    runner.advance()
    stage.consume()
    [record] = stage.handled
    assert record.key_bytes is record.value_bytes is None
    assert "h" not in record.headers


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"edit": Edit(value=b"{")}, MalformedJson),
        ({"merge_patch": b"{"}, MalformedJson),
        ({"merge_patch": b"[1]"}, InvalidValue),
        ({"edit": Edit(), "merge_patch": b"{}"}, InvalidValue),
        ({"target": Target(topic="no-such-topic")}, TopicNotFound),
        ({"target": Target(queue="q")}, QueueNotFound),
        ({"target": Target(exchange="x", routing_key="a.b")}, ExchangeNotFound),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(stage: Stage, arguments: dict[str, Any], error: type) -> None:
    selection = ids(stage.letter())
    with pytest.raises(error):
        plan(selection, **arguments)
    with pytest.raises(error):
        create(selection, **arguments, actor=ME)
    assert not Replay.objects.exists()


def test_an_edit_is_of_one_dead_letter(stage: Stage) -> None:
    with pytest.raises(InvalidValue, match="one dead letter"):
        plan(ids(*stage.letters(2)), edit=Edit(value=b"1"))
    with pytest.raises(InvalidValue, match="one dead letter"):
        plan(stage.all, edit=Edit(value=b"1"))
    with pytest.raises(InvalidValue, match="reason"):
        create(stage.all, reason="x" * 3000, actor=ME)


def test_a_merge_patch_makes_a_revision_of_each_when_it_is_sent(stage: Stage) -> None:
    plain, exact, there, raw = (
        stage.letter(key=b"1", value=b'{"a":{"b":1,"c":2}}'),
        stage.letter(key=b"2", value=b'{"n": 1e400, "a":{"c":12345678901234567890.5}}'),
        stage.letter(key=b"3", value=b'{"a":{"c":3},"cancelled":true}'),
        stage.letter(key=b"4", value=b"bytes", encoding=RAW),
    )
    patch = b'{"cancelled":true,"a":{"b":null}}'
    replay_id = create(stage.all, merge_patch=patch, actor=ME)
    assert reads.get(replay_id).merge_patch == patch.decode()
    assert DeadLetter.objects.get(pk=plain).revision == 1
    runner.advance()
    stage.consume()
    values = {record.key_bytes: record.value_bytes for record in stage.handled}
    assert values == {
        b"1": b'{"a":{"c":2},"cancelled":true}',
        b"2": b'{"n":1e400,"a":{"c":12345678901234567890.5},"cancelled":true}',
        b"3": b'{"a":{"c":3},"cancelled":true}',
    }
    runner.advance()
    assert outcomes(replay_id)[raw] == ("skipped", "not_json")
    letters = DeadLetter.objects.in_bulk([plain, exact, there, raw])
    assert [letters[number].revision for number in (plain, exact, there, raw)] == [2, 2, 1, 1], "nothing to change"
    assert letters[plain].size == len(b"1" + (values[b"1"] or b""))
    revision = DeadLetterRevision.objects.get(dead_letter_id=plain, number=2)
    assert (revision.origin, revision.created_by) == ("merge_patch", "ada (token 1)")
    assert ReplayItem.objects.get(dead_letter_id=plain).revision == 2


def test_a_patched_letter_that_fails_again_keeps_its_revision_and_its_clean_headers(stage: Stage) -> None:
    letter = stage.letter(headers={"h": "1"})
    create(ids(letter), merge_patch=b'{"n":2}', actor=ME)
    runner.advance()
    stage.consume(lambda _: "no plane")
    assert DeadLetter.objects.get(pk=letter).revision == 2
    create(ids(letter), merge_patch=b'{"n":3}', actor=ME)
    runner.advance()
    stage.consume()
    assert [record.value_bytes for record in stage.handled] == [b'{"n":2}', b'{"n":3}']
    for revision in DeadLetterRevision.objects.filter(dead_letter_id=letter):
        assert json.loads(bytes(revision.headers)) == {"h": "1"}


# -- other targets --------------------------------------------------------------------------------------------------


def test_a_replay_to_a_topic_publishes_and_has_then_succeeded(stage: Stage) -> None:
    letters = stage.letters(4, headers={"h": "1"})
    stage.letter(idempotency_key="done")
    ProcessedMessage.objects.create(consumer=stage.group, message_key="done")
    elsewhere = topics.create(unique(), partitions=1).name
    topics.delete(stage.topic)
    target = Target(topic=elsewhere)
    assert plan(stage.all, target=target).total == 5, "neither the group nor its topic is needed"
    replay_id = create(stage.all, target=target, merge_patch=b'{"n":5}', actor=ME)
    runner.advance()
    assert state(replay_id) == "completed"
    records = topic_log.read(topics.lookup(elsewhere), 0, 0).records
    assert [record.value for record in records] == [{"n": 5}] * 5
    assert records[0].headers["x-waystation-replayed-from"] == str(letters[0])
    assert records[0].headers["h"] == "1"
    assert states(letters) == ["replayed"] * 4
    assert not Redelivery.objects.exists()
    assert reads.get(replay_id).target == {"topic": elsewhere}
    check_counters(replay_id)


def test_a_target_that_is_deleted_stops_the_replay(stage: Stage) -> None:
    letters = stage.letters(3)
    elsewhere = topics.create(unique(), partitions=1).name
    replay_id = create(stage.all, target=Target(topic=elsewhere), actor=ME)
    topics.delete(elsewhere)
    runner.advance()
    replay = reads.get(replay_id)
    assert (replay.state, replay.skipped) == ("stopped", 3)
    assert elsewhere in replay.stop_cause
    assert states(letters) == ["open"] * 3


def test_a_target_that_does_not_take_a_record_skips_it(stage: Stage) -> None:
    keyless, large, fine = stage.letter(key=None), stage.letter(value=b'"%b"' % (b"x" * 5000)), stage.letter()
    elsewhere = topics.create(unique(), partitions=1, max_record_bytes=2000, cleanup_policy="compact").name
    replay_id = create(stage.all, target=Target(topic=elsewhere), actor=ME)
    runner.advance()
    assert outcomes(replay_id) == {
        keyless: ("skipped", "key_required"),
        large: ("skipped", "record_too_large"),
        fine: ("succeeded", ""),
    }
    assert states([keyless, large, fine]) == ["open", "open", "replayed"]


def test_large_dead_letters_go_a_few_at_a_time(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "_CHUNK_BYTES", 20)
    stage.letters(5, value=b'"0123456789"')
    replay_id = create(stage.all, actor=ME)
    assert runner.step(replay_id) == 0.0
    assert stage.in_lane() == 2
    runner.advance()
    assert stage.in_lane() == 5


# -- what is told ---------------------------------------------------------------------------------------------------


def test_all_of_it_is_audited(stage: Stage) -> None:
    stage.letters(2)
    replay_id = create(stage.all, reason="because", pace=Pace(5.0, Canary(1, 0.5), 0.2), actor=ME)
    runner.advance()
    entry = AuditEntry.objects.get(resource_type="replay", resource=str(replay_id), operation="create")
    assert (entry.principal, entry.surface) == ("ada (token 1)", "rest")
    assert entry.details["reason"] == "because"
    assert (entry.details["total"], entry.details["canary"]) == (2, {"count": 1, "min_success": 0.5})
    stage.consume()
    runner.advance()
    assert [event.operation for event in reads.events(replay_id)] == ["pass_canary", "create"]


def test_a_replay_that_fails_to_be_made_leaves_no_trace(stage: Stage) -> None:
    letter = stage.letter()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        create(ids(letter), edit=Edit(value=b"2"), actor=ME)
        raise ZeroDivisionError
    assert DeadLetter.objects.get(pk=letter).revision == 1
    assert not AuditEntry.objects.filter(resource_type__in=["replay", "dead_letter"]).exists()


def test_replays_are_listed_newest_first_to_those_who_may_see_them_all(stage: Stage) -> None:
    other = Stage()
    stage.letters(1)
    other.letters(1)
    mine = [create(stage.all, actor=ME) for _ in range(3)]
    both = create(Filter(), actor=ME)
    others = create(other.all, actor=ME)

    def everything(*consumer: str) -> bool:
        return True

    def only_mine(kind: str, source: str, group: str) -> bool:
        return group == stage.group

    assert [replay.id for replay in reads.page(None, 10, everything)[0]] == [others, both, *mine[::-1]]
    assert [replay.id for replay in reads.page(None, 10, only_mine)[0]] == mine[::-1]
    first, after = reads.page(None, 2, only_mine)
    assert [replay.id for replay in first] == mine[:0:-1]
    rest, end = reads.page(after, 2, only_mine)
    assert ([replay.id for replay in rest], end) == (mine[:1], None)
    assert reads.page(None, 10, everything, states=["completed"])[0] == []
    assert reads.moving() == 5
    for number in (0, -1, 2**70, 999_999_999):
        with pytest.raises(ReplayNotFound):
            reads.get(number)


def test_items_are_read_in_pages_by_outcome(stage: Stage) -> None:
    letters = stage.letters(5)
    change_state(letters[1:3], "discarded", ME)
    replay_id = create(stage.all, actor=ME)
    runner.advance()
    stage.consume(lambda record: "no plane" if record.offset == 5 else None)
    first, after = reads.items(replay_id, None, None, 3)
    rest, end = reads.items(replay_id, None, after, 3)
    assert [item.dead_letter_id for item in first + rest] == letters
    assert (after, end) == (2, None)
    skipped, _ = reads.items(replay_id, "skipped", None, 10)
    assert [(item.dead_letter_id, item.why, item.sent_at) for item in skipped] == [
        (letters[1], "discarded", None),
        (letters[2], "discarded", None),
    ]
    [failed], _ = reads.items(replay_id, "failed_again", None, 10)
    assert failed.dead_letter_id == letters[4]
    assert failed.sent_at is not None
    assert failed.finished_at is not None
    with pytest.raises(InvalidValue, match="outcome is one of"):
        reads.items(replay_id, "done", None, 10)


def test_a_dead_letter_knows_its_replays_and_no_mere_plans(stage: Stage) -> None:
    letter, other = stage.letter(), stage.letter()
    create(ids(letter), actor=ME, planned=True)
    first = create(ids(letter), actor=ME)
    runner.advance()
    stage.consume(lambda _: "no plane")
    second = create(ids(letter), actor=ME)
    found = reads.of_letters([letter, other])
    assert [(each.id, each.outcome) for each in found[letter]] == [(second, "waiting"), (first, "failed_again")]
    assert found[other] == []
    assert reads.of_letter(letter)[1].at > reads.get(first).created_at


def test_progress_tells_what_is_under_way_and_when_it_may_end(stage: Stage) -> None:
    stage.letters(6)
    replay_id = create(stage.all, pace=Pace(rate_per_second=0.5), actor=ME)
    runner.advance()
    assert reads.get(replay_id).sent == 1
    assert reads.progress(reads.get(replay_id)) == reads.Progress(1, 0.0, 12.0)
    stage.consume()
    assert reads.progress(reads.get(replay_id)) == reads.Progress(0, 0.1, 50.0)
    assert (reads.get(replay_id).done, reads.get(replay_id).waiting) == (1, 5)


def test_plans_that_expired_and_old_replays_are_forgotten_with_their_items(stage: Stage) -> None:
    stage.letters(3)
    expired, waiting = (create(stage.all, actor=ME, planned=True) for _ in range(2))
    old, recent = create(stage.all, actor=ME), create(stage.all, actor=ME)
    runner.advance()
    stage.consume()
    runner.advance()
    long_ago = datetime.now(UTC) - timedelta(days=91)
    Replay.objects.filter(pk=expired).update(expires_at=long_ago)
    Replay.objects.filter(pk=old).update(finished_at=long_ago)
    assert purge(lambda: False) == 0
    assert purge(lambda: True) == 6
    assert set(Replay.objects.values_list("pk", flat=True)) == {waiting, recent}
    assert set(ReplayItem.objects.values_list("replay_id", flat=True)) == {waiting, recent}


def test_publishing_goes_on_beside_it(stage: Stage) -> None:
    """The lane is not the log: what is published meanwhile keeps its offsets."""
    stage.letters(2)
    create(stage.all, actor=ME)
    runner.advance()
    assert publish(stage.topic, 1, partition=0).offset == 0
