"""Counters of failure groups and replays: right after whatever happened, and without looking at dead letters."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any, LiteralString

import psycopg
import pytest
from django.db import connections, transaction

from brokers import dead_letter_topics, dead_letters, failure_counts, topics
from brokers.audit import Actor
from brokers.database import conninfo
from brokers.dead_letter_origins import tries_parameters
from brokers.failure_counts import fold, forget_old_minutes
from brokers.housekeeping import QUICK, SLOW
from brokers.models import DeadLetter, FailureChange, FailureGroup, FailureMinute, ReplayChange, ReplayItem
from brokers.sql import load
from tests.integration.brokers.given_up import delivery, failure, give_up, in_lane, letter, query, replaying
from tests.server import unique

pytestmark = pytest.mark.django_db(transaction=True)

ANN = Actor("user:ann", "console")
COLUMNS = "failures, open_count, replaying_count, replayed_count, resolved_count, discarded_count, sample_id"
STATES = ("open", "replaying", "replayed", "resolved", "discarded")


def counters() -> dict[int, tuple[Any, ...]]:
    """What the failure groups say, of which each has counted something."""
    return {row[0]: row[1:] for row in query(f"select id, {COLUMNS} from brokers_failure_group order by id")}


def scanned() -> dict[int, list[int]]:
    """Dead letters of each failure group by state, counted one by one."""
    found = {number: [0] * len(STATES) for number in FailureGroup.objects.values_list("id", flat=True)}
    for group, state in DeadLetter.objects.values_list("failure_group_id", "state"):
        found[group][STATES.index(state)] += 1
    return found


def check() -> None:
    fold()
    assert {group: list(row[1:6]) for group, row in counters().items()} == scanned()
    assert not FailureChange.objects.exists()


def given(count: int = 1, message: str = "no plane") -> list[int]:
    topic, group = topics.create(unique()).name, unique("group")
    return [give_up(delivery(topic, offset, group=group), failed=failure(message)) for offset in range(count)]


def test_each_failure_counts_once() -> None:
    ids = given(3)
    check()
    [row] = counters().values()
    assert row == (3, 3, 0, 0, 0, 0, max(ids))
    group = FailureGroup.objects.get()
    assert group.last_failed_at == letter(max(ids)).failed_at
    assert group.first_failed_at <= letter(min(ids)).failed_at
    assert sum(FailureMinute.objects.values_list("failures", flat=True)) == 3


def test_what_was_rolled_back_is_not_counted() -> None:
    [one] = given()
    record = delivery(letter(one).source, 5, group=letter(one).group_name)
    with pytest.raises(RuntimeError), transaction.atomic():
        dead_letters.give_up(record, "exception", failure("no plane"))
        dead_letters.change_state([one], "resolved", ANN)
        raise RuntimeError
    check()
    assert [row[0] for row in counters().values()] == [1]


def test_states_are_counted_as_they_change() -> None:
    one, two, three = given(3)
    dead_letters.change_state([one, two], "resolved", ANN)
    dead_letters.change_state([two], "discarded", ANN)
    dead_letters.change_state([one], "open", ANN)
    replaying([three])
    check()
    DeadLetter.objects.filter(pk=three).update(state="replayed")
    DeadLetter.objects.filter(pk=two).delete()
    check()
    assert [row[:6] for row in counters().values()] == [(3, 1, 0, 1, 0, 0)]


def test_a_note_changes_no_counter() -> None:
    [one] = given()
    fold()
    dead_letters.change_state([one], None, ANN, "seen")
    assert not FailureChange.objects.exists()


@pytest.mark.parametrize(("message", "counted"), [("no plane", [(2, 1)]), ("no pilot", [(1, 0), (1, 1)])])
def test_one_that_fails_again_counts_again_in_the_failure_group_that_it_is_in_then(
    message: str, counted: list[tuple[int, int]]
) -> None:
    record = delivery()
    found = give_up(record, failed=failure("no plane"))
    [item] = replaying([found])
    give_up(in_lane(record, "replay", found, item.pk), failed=failure(message))
    check()
    assert [row[:2] for row in counters().values()] == counted
    [replay] = query("select sent, succeeded, failed_again, skipped from brokers_replay")
    assert replay == (1, 0, 1, 0)


def test_a_purge_takes_its_dead_letters_out_of_the_counters_and_leaves_failures() -> None:
    ids = given(3)
    dead_letters.change_state(ids[:2], "discarded", ANN)
    query("update brokers_dead_letter set changed_at = changed_at - interval '91 days'")
    assert dead_letters.purge() == 2
    check()
    assert [row[:6] for row in counters().values()] == [(3, 1, 0, 0, 0, 0)]


def test_counters_are_right_after_concurrent_failures_changes_and_folds() -> None:
    topic, group = topics.create(unique()).name, unique("group")
    dead_letter_topics.prepare(topic, 3)
    deliveries = [delivery(topic, offset, group=group) for offset in range(48)]
    done = threading.Event()
    wrong: list[BaseException] = []

    def worker(index: int) -> None:
        try:
            for number, record in enumerate(deliveries[index::4]):
                found = give_up(record, failed=failure(("no plane", "no pilot", "no fuel")[number % 3]))
                if number % 3 == 0:
                    dead_letters.change_state([found], "resolved", ANN)
        except BaseException as error:
            wrong.append(error)
            raise
        finally:
            connections.close_all()

    def folder() -> None:
        try:
            while not done.is_set():
                fold()
        except BaseException as error:
            wrong.append(error)
            raise
        finally:
            connections.close_all()

    workers = [threading.Thread(target=worker, args=(index,)) for index in range(4)]
    folders = [threading.Thread(target=folder) for _ in range(3)]
    for thread in workers + folders:
        thread.start()
    for thread in workers:
        thread.join(60)
    done.set()
    for thread in folders:
        thread.join(60)
    assert wrong == []
    check()
    assert sum(row[0] for row in counters().values()) == 48
    assert sum(FailureMinute.objects.values_list("failures", flat=True)) == 48


def test_a_fold_passes_over_what_another_has_in_hand() -> None:
    given(2)
    held = FailureChange.objects.order_by("id").first()
    assert held is not None
    with psycopg.connect(conninfo()) as other:
        other.execute("select 1 from brokers_failure_change where id = %s for update", [held.pk])
        assert fold() == 1
        other.rollback()
    check()


def test_a_fold_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    given(7)
    monkeypatch.setattr(failure_counts, "CHUNK", 2)
    monkeypatch.setattr(failure_counts, "CHUNKS", 2)
    assert fold() == 4
    assert fold() == 3
    assert fold() == 0
    check()


def test_rows_of_what_is_gone_are_taken_away() -> None:
    query(
        "insert into brokers_failure_change (failure_group_id, state, change, failures) values (%s, 'open', 1, 1)",
        2**40,
    )
    ReplayChange.objects.create(replay_id=2**40, sent=1, succeeded=0, failed_again=0, skipped=0)
    assert fold() == 2
    assert not FailureMinute.objects.exists()


def test_failures_of_old_minutes_are_forgotten_after_seven_days(monkeypatch: pytest.MonkeyPatch) -> None:
    [one] = given()
    fold()
    group = letter(one).failure_group_id
    for days in (6, 8, 9, 10):
        query(
            "insert into brokers_failure_minute (failure_group_id, minute, failures)"
            " values (%s, date_trunc('minute', now() - %s * interval '1 day'), 1)",
            group,
            days,
        )
    monkeypatch.setattr(failure_counts, "_FORGOTTEN_AT_ONCE", 2)
    assert [forget_old_minutes() for _ in range(3)] == [2, 1, 0]
    assert FailureMinute.objects.count() == 2


def test_outcomes_of_a_replay_are_counted() -> None:
    items = replaying(given(5))
    ReplayItem.objects.filter(pk=items[0].pk).update(outcome="succeeded")
    ReplayItem.objects.filter(pk__in=[items[1].pk, items[2].pk]).update(outcome="failed_again")
    ReplayItem.objects.filter(pk=items[3].pk).update(outcome="skipped", sent_at=None)
    fold()
    assert query("select sent, succeeded, failed_again, skipped from brokers_replay") == [(4, 1, 2, 1)]
    assert not ReplayChange.objects.exists()


def test_housekeeping_does_it_each_second() -> None:
    jobs = {job.number: job for job in QUICK + SLOW}
    assert (jobs[10].seconds, jobs[10] in QUICK) == (1.0, True)
    assert jobs[11] in QUICK
    assert jobs[12] in SLOW


# -- plans ------------------------------------------------------------------------------------------------------

TABLES = (
    "brokers_dead_letter",
    "brokers_dead_letter_revision",
    "brokers_dead_letter_attempt",
    "brokers_delivery_attempt",
    "brokers_redelivery",
    "brokers_failure_group",
    "brokers_failure_change",
    "brokers_failure_minute",
    "brokers_replay",
    "brokers_replay_item",
)


@pytest.fixture
def many(transactional_db: None) -> Iterator[psycopg.Connection[Any]]:
    """A transaction in which there are thousands of all kinds; rolled back."""
    with psycopg.connect(conninfo()) as conn:
        conn.execute(
            "insert into brokers_failure_group (fingerprint, version, source_kind, source, reason)"
            " select n, 1, 'topic', 't', 'exception' from generate_series(1, 5000) n"
        )
        conn.execute(
            "insert into brokers_dead_letter (state, reason, failure_group_id, source_kind, source, size,"
            " first_failed_at, failed_at, changed_at)"
            " select (array['open', 'resolved', 'replayed'])[1 + n % 3], 'exception', g.id, 'topic', 't', 1, now(),"
            " now(), now() - n * interval '10 minutes'"
            " from generate_series(1, 20000) n join brokers_failure_group g on g.fingerprint = (1 + n % 5000)::text"
        )
        conn.execute(
            "insert into brokers_dead_letter_revision (dead_letter_id, number, encoding, headers)"
            " select id, 1, 1, '{}' from brokers_dead_letter"
        )
        conn.execute(
            "insert into brokers_dead_letter_attempt (dead_letter_id, number, started_at, frames)"
            " select id, 1, now(), '[]' from brokers_dead_letter"
        )
        conn.execute(
            "insert into brokers_delivery_attempt (group_id, partition_id, record_offset, number, started_at, frames)"
            " select 1, n % 4, n, 1, now(), '[]' from generate_series(1, 10000) n"
        )
        conn.execute(
            "insert into brokers_redelivery (group_id, partition_id, topic, partition, record_offset, record_timestamp,"
            " due_at, cause, encoding, headers)"
            " select 1, n % 4, 't', 0, n, 0, now(), 'replay', 1, '{}' from generate_series(1, 10000) n"
        )
        conn.execute(
            "insert into brokers_replay (state, selection, consumers, skips, created_by)"
            " select 'running', '{}', '[]', '{}', 'x' from generate_series(1, 3000)"
        )
        conn.execute(
            "insert into brokers_replay_item (replay_id, position, dead_letter_id, revision)"
            " select (select max(id) from brokers_replay), id, id, 1 from brokers_dead_letter"
        )
        conn.execute(
            "insert into brokers_failure_minute (failure_group_id, minute, failures)"
            " select id, date_trunc('hour', now()) - n * interval '1 hour', 1"
            " from brokers_failure_group, generate_series(1, 4) n"
        )
        conn.execute("set constraints all immediate")
        conn.execute("set constraints all deferred")
        conn.execute("analyze")
        yield conn
        conn.rollback()


def scans(conn: psycopg.Connection[Any]) -> dict[str, int]:
    rows = conn.execute(
        "select relname, seq_scan from pg_stat_xact_user_tables where relname = any(%s)", [list(TABLES)]
    )
    return {name: count or 0 for name, count in rows}


def test_none_scans_a_table_that_grows(many: psycopg.Connection[Any]) -> None:
    letters, counts = load("dead_letters"), load("failure_counts")
    group, newest, item, lane = many.execute(
        "select (select max(id) from brokers_failure_group), (select max(id) from brokers_dead_letter),"
        " (select max(id) from brokers_replay_item), (select max(id) from brokers_redelivery)"
    ).fetchone() or (0, 0, 0, 0)
    nothing = ("exchanges", "routing_keys", "message_ids", "correlation_ids", "idempotency_keys", "priorities")
    given: Mapping[str, Any] = {
        "group_id": 1,
        "partition_id": 2,
        "offset": 5002,
        "redelivery": lane,
        "reason": "exception",
        "failure_group": group,
        "source_kind": "topic",
        "source": "t",
        "group": "g",
        "partition": 0,
        "timestamp": 0,
        "message": 3,
        "messages": [3],
        **{name: [None] for name in (*nothing, "first_failed")},
        **{name: [b""] for name in ("keys", "values", "headers", "envelopes")},
        "idempotency_key": None,
        "exception_class": "",
        "error": "",
        "errors": [""],
        "sizes": [1],
        "no_keys": [True],
        "no_values": [True],
        "encodings": [1],
        "envelope": None,
        **tries_parameters([]),
        "letter": newest,
        "item": item,
        "revision": 1,
    }
    calls: dict[str, tuple[LiteralString, Any]] = {
        "group": (letters.group, ("77",)),
        "add_group": (letters.add_group, ("77", 1, "topic", "t", "", "", "", "", "", "exception")),
        "add": (letters.add, given),
        "reopen": (letters.reopen, given),
        "lock": (letters.lock, (list(range(newest - 500, newest)),)),
        "change": (letters.change, ("resolved", None, list(range(newest - 500, newest)))),
        "revise": (letters.revise, (2, 1, newest)),
        "fold_failures": (counts.fold_failures, (50,)),
        "fold_replays": (counts.fold_replays, (50,)),
        "forget_minutes": (counts.forget_minutes, (7, 100)),
        "purge": (letters.purge, (90, 50)),
    }
    guilty: dict[str, int] = {}
    for name, (statement, parameters) in calls.items():
        before = scans(many)
        for _ in range(7):
            many.execute(statement, parameters, prepare=True)
        after = scans(many)
        guilty |= {
            f"{name}: {table}": count for table in TABLES if (count := after.get(table, 0) - before.get(table, 0))
        }
    assert guilty == {}
