"""Giving up, failing again, and what operators do with dead letters, against the real PostgreSQL."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connections, transaction

from brokers import dead_letter_topics, dead_letters, topic_log, topics, wakeup
from brokers.audit import Actor
from brokers.dead_letters import Origin, Payload, add, add_revision, change_state, purge
from brokers.errors import (
    BrokerError,
    Conflict,
    DeadLetterNotFound,
    DeadLetterReplaying,
    InvalidType,
    InvalidValue,
    RecordTooLarge,
    RevisionSuperseded,
)
from brokers.models import (
    AuditEntry,
    DeadLetter,
    DeadLetterAttempt,
    DeadLetterRevision,
    DeliveryAttempt,
    FailureGroup,
    Redelivery,
)
from brokers.record import JSON, RAW
from tests.integration.brokers.given_up import (
    attempt,
    delivery,
    failure,
    give_up,
    in_lane,
    letter,
    query,
    replaying,
)
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)

ANN = Actor("user:ann", "console")


def attempts(number: int) -> list[DeadLetterAttempt]:
    return list(DeadLetterAttempt.objects.filter(dead_letter_id=number).order_by("number"))


def at_dlt(topic: str, partition: int = 1) -> list[Any]:
    return topic_log.fetch(f"{topic}.DLT", partition, 0).records


# -- giving up --------------------------------------------------------------------------------------------------


def test_a_record_that_is_given_up_is_a_dead_letter_with_all_that_is_known() -> None:
    given = delivery(headers={"Message-ID": "m-1", "correlation_id": "c-1", "x-waystation-attempt-base": "3"})
    given.idempotency_key = "flight-1"
    failed = failure("no plane 'N14228'\nat all")
    found = letter(give_up(given, "attempts_exhausted", failed))
    record = given.record
    expected = {
        "state": "open",
        "reason": "attempts_exhausted",
        "source_kind": "topic",
        "source": record.topic,
        "group_name": given.group,
        "partition_id": given.partition_id,
        "partition": 1,
        "record_offset": 7,
        "record_timestamp": 1_700_000_000_000,
        "exchange": None,
        "message_id": "m-1",
        "correlation_id": "c-1",
        "idempotency_key": "flight-1",
        "exception_class": "builtins.ValueError",
        "error": "no plane 'N14228' at all",
        "attempts": 0,
        "revision": 1,
        "replays": 0,
        "note": "",
        "size": len(b'N14228{"a":1}Message-IDm-1correlation_idc-1'),
    }
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.first_failed_at == found.failed_at == found.changed_at
    group = found.failure_group
    assert (group.source, group.group_name, group.handler) == (record.topic, given.group, "shop.handle")
    assert (group.exception_class, group.message, group.version) == ("builtins.ValueError", "no plane '*' at all", 1)
    assert group.frame == "tests.integration.brokers.given_up:failure"
    revision = DeadLetterRevision.objects.get(dead_letter_id=found.pk)
    assert (bytes(revision.key), bytes(revision.value), revision.encoding) == (b"N14228", b'{"a":1}', JSON)  # type: ignore[arg-type]
    assert json.loads(bytes(revision.headers)) == {"Message-ID": "m-1", "correlation_id": "c-1"}
    assert (revision.number, revision.origin, revision.created_by) == (1, "original", "")


def test_a_record_without_key_and_value_is_given_up_too() -> None:
    found = give_up(delivery(key_bytes=None, value_bytes=None, encoding=RAW, headers={}))
    revision = DeadLetterRevision.objects.get(dead_letter_id=found)
    assert (revision.key, revision.value) == (None, None)
    assert letter(found).size == 0


def test_its_attempts_become_the_dead_letters() -> None:
    given, neighbour = delivery(), delivery()
    neighbour.group_id, neighbour.partition_id = given.group_id, given.partition_id
    neighbour.record.offset = 8
    attempt(neighbour, 1)
    for number in (1, 2, 3):
        attempt(given, number, delay_ms=None if number == 3 else 100 * number)
    found = give_up(given)
    moved = attempts(found)
    assert [each.number for each in moved] == [1, 2, 3]
    assert [each.delay_ms for each in moved] == [100, 200, None]
    assert {(each.error, each.exception_class, each.stacktrace, each.worker) for each in moved} == {
        ("went wrong", "a.B", "trace", "worker-1")
    }
    assert {(each.revision, each.replay_id) for each in moved} == {(1, None)}
    assert letter(found).attempts == 3
    assert letter(found).first_failed_at == datetime(2024, 5, 1, 1, 1, 10, tzinfo=UTC)
    assert [row.record_offset for row in DeliveryAttempt.objects.filter(group_id=given.group_id)] == [8]


def test_attempts_in_which_workers_were_lost_are_kept_as_such() -> None:
    given = delivery()
    for number in (1, 2, 3):
        attempt(given, number, ended=False, kind="")
    found = give_up(given, "worker_lost")
    assert [each.ended_at for each in attempts(found)] == [None] * 3
    row = letter(found)
    assert (row.reason, row.exception_class) == ("worker_lost", "")
    assert row.error == row.failure_group.message == "its workers were lost while they handled it"
    assert row.first_failed_at == datetime(2024, 5, 1, 1, 1, tzinfo=UTC)


def test_what_could_not_be_decoded_has_no_attempts() -> None:
    found = letter(give_up(delivery(value_bytes=b"{", encoding=JSON), "undecodable", failure("not JSON")))
    assert (found.reason, found.attempts, found.error) == ("undecodable", 0, "not JSON")


def test_a_transaction_that_rolls_back_has_given_nothing_up() -> None:
    given = delivery()
    attempt(given, 1)
    dead_letter_topics.prepare(given.record.topic, 3)
    with pytest.raises(RuntimeError), transaction.atomic():
        dead_letters.give_up(given, "exception", failure())
        raise RuntimeError
    assert not DeadLetter.objects.filter(source=given.record.topic).exists()
    assert not FailureGroup.objects.filter(source=given.record.topic).exists()
    assert DeliveryAttempt.objects.filter(group_id=given.group_id).count() == 1
    assert at_dlt(given.record.topic) == []


def test_the_record_on_the_dead_letter_topic_names_the_dead_letter() -> None:
    given = delivery()
    found = give_up(given)
    [record] = at_dlt(given.record.topic)
    assert record.headers["x-waystation-dead-letter-id"] == str(found)


@pytest.mark.parametrize("key", ["a\0b", "half \ud83d", "x" * 1025])
def test_an_idempotency_key_that_cannot_have_been_processed_is_not_kept(key: str) -> None:
    given = delivery()
    given.idempotency_key = key
    assert letter(give_up(given)).idempotency_key is None


def test_nothing_that_a_handler_or_record_holds_keeps_it_from_being_given_up() -> None:
    hostile = "\0\ud83d" + "x" * 20_000
    given = delivery(
        key_bytes=b"\0\xff",
        value_bytes=b"\0\xff",
        encoding=RAW,
        headers={"message-id": "\0" + "m" * 5000, "correlation-id": " \n", "n\0": "v\0"},
        handler="h" * 5000,
    )
    failed = failure(hostile)._replace(exception_class="c" * 300)
    found = letter(give_up(given, "exception", failed))
    assert len(found.error) == 500
    assert found.message_id is not None
    assert len(found.message_id) == 255
    assert found.correlation_id == ""
    assert len(found.failure_group.handler) == 300
    assert json.loads(bytes(DeadLetterRevision.objects.get(dead_letter_id=found.pk).headers)) == given.record.headers


def test_failures_alike_are_one_failure_group_and_others_are_not() -> None:
    topic = topics.create(unique()).name
    group = unique("group")

    def given(offset: int, message: str) -> int:
        return letter(give_up(delivery(topic, offset, group=group), failed=failure(message))).failure_group_id

    first = given(1, "no plane 'N14228' in row 5")
    assert given(2, "no plane 'N24211' in row 6") == first
    assert given(3, "no pilot") != first
    elsewhere = delivery(topic, 4, group=unique("other"))
    assert letter(give_up(elsewhere, failed=failure("no plane 'N14228' in row 5"))).failure_group_id != first


def in_threads(*calls: Callable[[], object]) -> list[object]:
    """What concurrent calls answer, or the error of each."""
    answers: list[object] = [None] * len(calls)

    def run(index: int) -> None:
        try:
            answers[index] = calls[index]()
        except BrokerError as error:
            answers[index] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(index,)) for index in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    return answers


def test_many_that_fail_alike_at_once_for_the_first_time_share_one_failure_group() -> None:
    topic, group = topics.create(unique()).name, unique("group")
    dead_letter_topics.prepare(topic, 3)
    deliveries = [delivery(topic, offset, group=group) for offset in range(6)]
    ids = in_threads(*(lambda given=given: give_up(given) for given in deliveries))
    assert len(set(ids)) == 6
    assert DeadLetter.objects.filter(source=topic).values_list("failure_group_id", flat=True).distinct().count() == 1
    assert [record.offset for record in at_dlt(topic)] == list(range(6))


def test_a_dead_letter_topic_that_is_gone_fails_the_transaction_and_the_next_one_makes_it_anew() -> None:
    given = delivery()
    dead_letter_topics.prepare(given.record.topic, 3)
    query(
        "delete from brokers_partition p using brokers_topic t where t.id = p.topic_id and t.name = %s",
        f"{given.record.topic}.DLT",
    )
    query("delete from brokers_topic where name = %s", f"{given.record.topic}.DLT")
    with pytest.raises(BrokerError, match="there is no topic"), transaction.atomic():
        dead_letters.give_up(given, "exception", failure())
    assert not DeadLetter.objects.filter(source=given.record.topic).exists()
    give_up(given)
    assert len(at_dlt(given.record.topic)) == 1


# -- out of the redelivery lane ---------------------------------------------------------------------------------


def test_a_parked_record_that_is_given_up_leaves_its_lane_with_its_attempts() -> None:
    given = delivery()
    attempt(given, 9)  # of another reading of the log
    parked = in_lane(given, "retry")
    attempt(parked, 1)
    attempt(parked, 2)
    found = letter(give_up(parked))
    assert found.attempts == 2
    assert found.first_failed_at == datetime(2024, 5, 1, 0, 30, tzinfo=UTC)
    assert not Redelivery.objects.filter(group_id=given.group_id).exists()
    assert [row.number for row in DeliveryAttempt.objects.filter(group_id=given.group_id)] == [9]


def failed_again(message: str = "no plane 'N24211'", revision: int = 1) -> tuple[int, int, Any]:
    """A dead letter with two attempts that was replayed and failed once more: its id, first failure group, item."""
    given = delivery()
    attempt(given, 1)
    attempt(given, 2)
    found = give_up(given)
    query(
        "update brokers_dead_letter set note = 'known', failed_at = failed_at - interval '1 day' where id = %s", found
    )
    first = letter(found).failure_group_id
    [item] = replaying([found])
    again = in_lane(given, "replay", found, item.pk)
    assert again.redelivery is not None
    again.redelivery = again.redelivery._replace(revision=revision)
    attempt(again, 1)
    again.idempotency_key = "later"
    assert give_up(again, "attempts_exhausted", failure(message)) == found
    item.refresh_from_db()
    return found, first, item


def test_what_a_replay_gave_back_and_fails_again_is_open_again_under_its_id() -> None:
    found, first, item = failed_again(revision=2)
    row = letter(found)
    assert (row.state, row.reason, row.error) == ("open", "attempts_exhausted", "no plane 'N24211'")
    assert (row.attempts, row.note, row.idempotency_key) == (3, "known", "later")
    assert row.replays == 0  # counted when a replay sends it
    assert (row.failed_at - row.first_failed_at).days > 0
    assert row.failure_group_id == first
    numbers = [(each.number, each.revision, each.replay_id) for each in attempts(found)]
    assert numbers == [(1, 1, None), (2, 1, None), (3, 2, item.replay_id)]
    assert (item.outcome, item.why) == ("failed_again", "same")
    assert item.finished_at is not None
    assert not Redelivery.objects.exists()
    assert DeadLetterRevision.objects.filter(dead_letter_id=found).count() == 1
    assert len(at_dlt(row.source)) == 2


def test_when_it_fails_in_another_way_it_moves_to_another_failure_group() -> None:
    found, first, item = failed_again("no pilot at all")
    assert letter(found).failure_group_id != first
    assert (item.outcome, item.why) == ("failed_again", "new")


def test_an_item_that_has_its_outcome_keeps_it() -> None:
    given = delivery()
    found = give_up(given)
    [item] = replaying([found])
    item.outcome = "skipped"
    item.save()
    give_up(in_lane(given, "replay", found, item.pk))
    item.refresh_from_db()
    assert item.outcome == "skipped"
    assert letter(found).state == "open"


def test_a_dead_letter_that_is_no_more_is_written_anew() -> None:
    given = delivery()
    again = in_lane(given, "replay", 2**40, None)
    attempt(again, 1)
    found = give_up(again)
    assert (letter(found).attempts, letter(found).state) == (1, "open")
    assert not Redelivery.objects.exists()
    assert not DeliveryAttempt.objects.filter(group_id=given.group_id).exists()


def test_a_replay_hears_of_it_after_the_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    monkeypatch.setattr(wakeup, "announce_replays", lambda: heard.append("replays"))
    failed_again()
    assert heard == ["replays"]


# -- other sources ----------------------------------------------------------------------------------------------


def test_a_message_of_a_queue_fits_the_same_table() -> None:
    origin = Origin(
        source_kind="queue",
        source="rebooking",
        exchange="flights",
        routing_key="delayed.long",
        message_id="m-1",
        first_failed_at=datetime(2024, 5, 1, tzinfo=UTC),
    )
    with transaction.atomic():
        found = letter(add(origin, Payload(None, b"{}", JSON, {"x-death": "1"}), "expired", None))
    assert (found.source_kind, found.source, found.group_name) == ("queue", "rebooking", "")
    assert (found.exchange, found.routing_key, found.message_id) == ("flights", "delayed.long", "m-1")
    assert (found.partition_id, found.record_offset, found.attempts) == (None, None, 0)
    assert found.first_failed_at == datetime(2024, 5, 1, tzinfo=UTC)
    assert (found.failure_group.reason, found.error) == ("expired", "expired")


# -- what operators do ------------------------------------------------------------------------------------------


def several(count: int, state: str = "open") -> list[int]:
    topic = topics.create(unique()).name
    group = unique("group")
    ids = [give_up(delivery(topic, offset, group=group)) for offset in range(count)]
    DeadLetter.objects.filter(pk__in=ids).update(state=state)
    return ids


def audited(*numbers: int) -> list[tuple[str, str, str, dict[str, Any]]]:
    found = AuditEntry.objects.filter(resource_type="dead_letter", resource__in=map(str, numbers)).order_by("id")
    return list(found.values_list("principal", "operation", "resource", "details"))


@pytest.mark.parametrize(
    ("before", "after", "operation"),
    [
        ("open", "resolved", "resolve"),
        ("open", "discarded", "discard"),
        ("resolved", "open", "reopen"),
        ("discarded", "open", "reopen"),
        ("resolved", "discarded", "discard"),
    ],
)
def test_operators_settle_and_reopen_with_a_note_and_each_change_is_audited(
    before: str, after: str, operation: str
) -> None:
    one, two = several(2, before)
    assert change_state([two, one, two], after, ANN, "known trouble") == 2
    assert {(letter(each).state, letter(each).note) for each in (one, two)} == {(after, "known trouble")}
    details = {"state": [before, after], "note": "known trouble"}
    assert sorted(audited(one, two)) == sorted(("user:ann", operation, str(each), details) for each in (one, two))


def test_a_change_that_changes_nothing_is_none() -> None:
    [one] = several(1, "resolved")
    changed_at = letter(one).changed_at
    assert change_state([one], "resolved", ANN) == 0
    assert letter(one).changed_at == changed_at
    assert audited(one) == []


def test_a_note_is_kept_when_the_state_changes_without_one_and_replaced_by_a_new_one() -> None:
    [one] = several(1)
    change_state([one], None, ANN, "first")
    change_state([one], "resolved", ANN)
    assert (letter(one).note, letter(one).state) == ("first", "resolved")
    change_state([one], "resolved", ANN, "second")
    assert letter(one).note == "second"
    assert [operation for _, operation, _, _ in audited(one)] == ["note", "resolve", "note"]
    change_state([one], None, ANN, "")
    assert letter(one).note == ""


@pytest.mark.parametrize(("state", "error"), [("replaying", DeadLetterReplaying), ("replayed", Conflict)])
def test_one_that_is_with_a_replay_is_not_changed_and_nor_are_the_others(state: str, error: type[BrokerError]) -> None:
    one, two = several(2)
    DeadLetter.objects.filter(pk=two).update(state=state)
    for wanted in ("resolved", "discarded", "open"):
        with pytest.raises(error, match=f"dead letter {two}"):
            change_state([one, two], wanted, ANN)
    assert letter(one).state == "open"
    assert audited(one, two) == []
    assert change_state([two], None, ANN, "a note may stand there") == 1


def test_what_cannot_be_meant_is_refused() -> None:
    [one] = several(1)
    with pytest.raises(DeadLetterNotFound, match="no dead letter 4611686018427387904"):
        change_state([one, 2**62], "resolved", ANN)
    for odd in (0, -1, 2**63):
        with pytest.raises(DeadLetterNotFound):
            change_state([odd], "resolved", ANN)
    with pytest.raises(InvalidType):
        change_state(["1"], "resolved", ANN)  # type: ignore[list-item]
    with pytest.raises(InvalidValue, match="1001 dead letters"):
        change_state(range(1, 1002), "resolved", ANN)
    for state in ("replaying", "replayed", "closed", ""):
        with pytest.raises(InvalidValue, match="open, resolved or discarded"):
            change_state([one], state, ANN)
    for note in ("x" * 4001, "a\0b", "\ud83d"):
        with pytest.raises(InvalidValue, match="note"):
            change_state([one], "resolved", ANN, note)
    assert change_state([], "resolved", ANN) == 0
    assert letter(one).state == "open"


def test_a_thousand_are_changed_in_few_statements(django_assert_max_num_queries: Any) -> None:
    [one] = several(1)
    query(
        "insert into brokers_dead_letter (state, reason, failure_group_id, source_kind, source, size, first_failed_at,"
        " failed_at) select state, reason, failure_group_id, source_kind, source, size, first_failed_at, failed_at"
        " from brokers_dead_letter, generate_series(1, 999) where id = %s",
        one,
    )
    ids = list(DeadLetter.objects.filter(failure_group_id=letter(one).failure_group_id).values_list("id", flat=True))
    with django_assert_max_num_queries(10):
        assert change_state(ids, "discarded", ANN) == 1000
    assert AuditEntry.objects.filter(operation="discard", resource_type="dead_letter").count() == 1000


def test_two_operators_at_once_take_turns() -> None:
    ids = several(20)
    answers = in_threads(
        lambda: change_state(ids, "resolved", ANN), lambda: change_state(ids[::-1], "discarded", Actor("bob", "rest"))
    )
    assert answers == [20, 20]
    states = set(DeadLetter.objects.filter(pk__in=ids).values_list("state", flat=True))
    assert len(states) == 1
    changes = [tuple(details["state"]) for *_, details in audited(*ids)]
    assert set(changes) in (
        {("open", "resolved"), ("resolved", "discarded")},
        {("open", "discarded"), ("discarded", "resolved")},
    )


# -- edits ------------------------------------------------------------------------------------------------------


def edit(number: int, expected: int | None = None, value: bytes | None = b'{"cancelled":true}', **changes: Any) -> int:
    given: dict[str, Any] = {"key": b"k", "encoding": JSON, "headers": {"h": "v"}, "origin": "edit", "actor": ANN}
    given |= changes
    return add_revision(number, expected, value=value, **given)


def test_an_edit_is_a_new_revision_and_the_ones_before_stay() -> None:
    [one] = several(1)
    assert edit(one, 1, headers={"h": "v", "X-Waystation-Replay-Id": "5"}) == 2
    assert edit(one, value=None, encoding=RAW, origin="merge_patch") == 3
    rows = DeadLetterRevision.objects.filter(dead_letter_id=one).order_by("number")
    assert [(row.number, row.origin, row.created_by) for row in rows] == [
        (1, "original", ""),
        (2, "edit", "user:ann"),
        (3, "merge_patch", "user:ann"),
    ]
    assert [row.value and bytes(row.value) for row in rows] == [b'{"a":1}', b'{"cancelled":true}', None]
    assert json.loads(bytes(rows[1].headers)) == {"h": "v"}
    assert (letter(one).revision, letter(one).size) == (3, len(b"khv"))
    assert audited(one)[0][1:] == ("edit", str(one), {"revision": [1, 2], "size": [23, 21], "origin": "edit"})


def test_an_edit_of_a_superseded_revision_is_refused() -> None:
    [one] = several(1)
    edit(one, 1)
    with pytest.raises(RevisionSuperseded, match="revision 2 is newest"):
        edit(one, 1)
    assert letter(one).revision == 2


def test_of_two_edits_at_once_one_is_refused() -> None:
    [one] = several(1)
    answers = in_threads(lambda: edit(one, 1), lambda: edit(one, 1))
    assert sorted(type(answer).__name__ for answer in answers) == ["RevisionSuperseded", "int"]


def test_an_edit_that_cannot_be_meant_is_refused() -> None:
    [one] = several(1)
    big = b"x" * (8 * 1024 * 1024 + 1)
    for changes, error in (
        ({"value": big}, RecordTooLarge),
        ({"key": b"k" * 9000}, InvalidValue),
        ({"headers": {str(number): "" for number in range(65)}}, InvalidValue),
        ({"encoding": 7}, InvalidValue),
        ({"origin": "original"}, InvalidValue),
    ):
        with pytest.raises(error):
            edit(one, **changes)
    with pytest.raises(DeadLetterNotFound):
        edit(2**62)
    for state, kind in (("replaying", DeadLetterReplaying), ("replayed", Conflict)):
        DeadLetter.objects.filter(pk=one).update(state=state)
        with pytest.raises(kind):
            edit(one)
    assert DeadLetterRevision.objects.filter(dead_letter_id=one).count() == 1


# -- retention --------------------------------------------------------------------------------------------------


def age(numbers: list[int], days: int) -> None:
    query(
        "update brokers_dead_letter set changed_at = changed_at - %s * interval '1 day' where id = any(%s)",
        days,
        numbers,
    )


def test_settled_dead_letters_are_removed_after_ninety_days_and_open_ones_never() -> None:
    kept: list[int] = []
    gone: list[int] = []
    for state in ("open", "replaying", "replayed", "resolved", "discarded"):
        young, old = several(2, state)
        edit(old) if state == "open" else None
        age([young], 89)
        age([old], 91)
        kept += [young]
        (kept if state in ("open", "replaying") else gone).append(old)
    attempt_of = letter(gone[0])
    query(
        "insert into brokers_dead_letter_attempt (dead_letter_id, number, started_at, frames)"
        " values (%s, 1, now(), '[]')",
        attempt_of.pk,
    )
    assert purge() == 3
    left = set(DeadLetter.objects.values_list("id", flat=True))
    assert set(kept) <= left
    assert not set(gone) & left
    assert not DeadLetterRevision.objects.filter(dead_letter_id__in=gone).exists()
    assert not DeadLetterAttempt.objects.filter(dead_letter_id__in=gone).exists()
    assert purge() == 0


def test_they_are_removed_in_bounded_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = several(7, "resolved")
    age(ids, 91)
    monkeypatch.setattr(dead_letters, "PURGED_AT_ONCE", 2)
    monkeypatch.setattr(dead_letters, "PURGE_STEPS", 2)
    assert purge(lambda: False) == 0
    assert purge() == 4
    assert purge() == 3


def test_one_that_somebody_is_changing_is_left_to_them() -> None:
    ids = several(2, "resolved")
    age(ids, 91)
    with transaction.atomic():
        query("select 1 from brokers_dead_letter where id = %s for update", ids[0])
        assert in_threads(purge) == [1]
    assert purge() == 1
