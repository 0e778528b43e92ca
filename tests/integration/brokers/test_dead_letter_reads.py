"""Reads of dead letters over the real PostgreSQL: filters, pages, bounds, and what a page costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from brokers.errors import DeadLetterNotFound, FailureGroupNotFound, InvalidValue, SearchTooBroad
from brokers.selectors import dead_letter_filter
from brokers.selectors.dead_letters import (
    Consumer,
    Filter,
    attempts,
    count,
    failure_group,
    failure_groups,
    get,
    history,
    neighbours,
    page,
    revisions,
    selected_consumers,
)

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def all_seen(*consumer: str) -> bool:
    return True


def execute(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def failures(fingerprint: str, source: str = "orders", group: str = "billing", kind: str = "topic") -> int:
    """A failure group; its id."""
    (row,) = execute(
        "insert into brokers_failure_group (fingerprint, version, source_kind, source, group_name, handler,"
        " exception_class, message, reason, first_failed_at, last_failed_at)"
        " values (%s, 1, %s, %s, %s, 'shop.handle', 'builtins.KeyError', 'no <text>', 'exception', %s, %s)"
        " returning id",
        fingerprint,
        kind,
        source,
        group,
        NOON - timedelta(days=1),
        NOON - timedelta(days=1),
    )
    return int(row[0])


def letter(
    failure_group_id: int,
    minutes: int = 0,
    *,
    key: bytes | None = b"k",
    value: bytes | None = b'{"n":1}',
    **columns: Any,
) -> int:
    """A dead letter of the failure group that failed so many minutes after noon; its id."""
    (owner,) = execute(
        "select source_kind, source, group_name from brokers_failure_group where id = %s", failure_group_id
    )
    at = NOON + timedelta(minutes=minutes)
    row = {
        "failure_group_id": failure_group_id,
        "source_kind": owner[0],
        "source": owner[1],
        "group_name": owner[2],
        "reason": "exception",
        "partition": 0,
        "record_offset": minutes,
        "exception_class": "builtins.KeyError",
        "error": "'total'",
        "size": len(key or b"") + len(value or b"") + 2,
        "first_failed_at": at,
        "failed_at": at,
    } | columns
    (made,) = execute(
        f"insert into brokers_dead_letter ({', '.join(row)}) values ({', '.join(['%s'] * len(row))}) returning id",
        *row.values(),
    )
    execute(
        "insert into brokers_dead_letter_revision (dead_letter_id, number, key, value, encoding, headers)"
        " values (%s, %s, %s, %s, 1, %s)",
        made[0],
        row.get("revision", 1),
        key,
        value,
        b"{}",
    )
    return int(made[0])


def listed(wanted: Filter, limit: int = 100, **options: Any) -> list[int]:
    """Ids of all pages."""
    found: list[int] = []
    after: str | None = ""
    while after is not None:
        items, after = page(wanted, after, limit, options.get("may_see", all_seen))
        found += [item.id for item in items]
    return found


# -- what is found --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_go_from_the_newest_failure_to_the_oldest(limit: int) -> None:
    first, second = failures("a"), failures("b", "orders", "search")
    made = [letter(group, minutes) for minutes in (1, 5, 3, 3) for group in (first, second)]
    expected = [made[3], made[2], made[7], made[6], made[5], made[4], made[1], made[0]]
    assert listed(Filter(), limit) == expected
    assert listed(Filter(source="orders"), limit) == expected
    assert listed(Filter(group="search"), limit) == [number for number in expected if number in made[1::2]]


def test_each_side_of_the_filter_counts_and_all_of_them_together() -> None:
    theirs = failures("a", "orders", "billing")
    others = failures("b", "orders", "search")
    queued = failures("c", "orders", "", "queue")
    mine = letter(theirs, 10, state="resolved")
    letter(theirs, 10)
    letter(theirs, 50, state="resolved")
    letter(theirs, -50, state="resolved")
    elsewhere = letter(others, 10, state="resolved")
    in_queue = letter(queued, 10, state="resolved")
    whole = Filter(
        source_kind="topic",
        source="orders",
        group="billing",
        fingerprint="a",
        state="resolved",
        since=NOON,
        until=NOON + timedelta(minutes=50),
        q="TOTAL",
    )
    assert listed(whole) == [mine]
    assert listed(Filter(source_kind="queue")) == [in_queue]
    assert listed(Filter(fingerprint="b")) == [elsewhere]
    assert listed(Filter(fingerprint="nobody's")) == []
    assert listed(Filter(ids=(mine, in_queue, 999_999_999))) == [in_queue, mine]
    assert listed(Filter(ids=(mine, in_queue), source_kind="topic")) == [mine]
    assert len(listed(Filter(state="resolved"))) == 5
    assert listed(Filter(since=NOON + timedelta(minutes=50))) == listed(Filter(since=NOON + timedelta(minutes=11)))


@pytest.mark.parametrize(
    ("q", "found"),
    [
        ("n14", ["key"]),
        ("N14228", ["key"]),
        ("ÜBER", ["umlaut"]),
        ("über", ["umlaut"]),
        ("100%", ["percent"]),
        ("_", ["underscore"]),
        ("out\\of", ["backslash"]),
        ("MSG-7", ["message id"]),
        ("outofstock", ["class"]),
        ("303", []),
        ("", ["key", "umlaut", "binary", "percent", "underscore", "backslash", "message id", "class", "none"]),
        ("nul", ["binary"]),
        ("'; drop table x; --", []),
    ],
)
def test_text_is_taken_literally_whatever_its_case(q: str, found: list[str]) -> None:
    group = failures("a")
    made = {
        "key": letter(group, key=b"n14228", error=""),
        "umlaut": letter(group, key="straße-über".encode(), error=""),
        "binary": letter(group, key=b"\xff\x00nul", error=""),
        "percent": letter(group, error="at 100% of it"),
        "underscore": letter(group, error="order_id"),
        "backslash": letter(group, error="out\\of"),
        "message id": letter(group, message_id="msg-7", error=""),
        "class": letter(group, exception_class="shop.errors.OutOfStock", error=""),
        "none": letter(group, key=None, value=None, error=""),
    }
    assert sorted(listed(Filter(q=q))) == sorted(made[name] for name in found)


def test_text_is_not_looked_for_in_keys_that_the_caller_may_not_view() -> None:
    first, second = failures("a", "orders"), failures("b", "secrets", "vault")
    seen, hidden = letter(first, key=b"swordfish"), letter(second, key=b"swordfish")
    by_error = letter(second, key=b"x", error="swordfish")

    def may_view(kind: str, source: str) -> bool:
        return source == "orders"

    found, _ = page(Filter(q="swordfish"), "", 100, all_seen, may_view=may_view)
    assert {item.id for item in found} == {seen, by_error}
    assert {item.id for item in page(Filter(q="swordfish"), "", 100, all_seen)[0]} == {seen, by_error, hidden}


def test_an_edited_letter_is_found_by_its_newest_key() -> None:
    number = letter(failures("a"), key=b"before", error="")
    execute("update brokers_dead_letter set revision = 2 where id = %s", number)
    execute(
        "insert into brokers_dead_letter_revision (dead_letter_id, number, key, value, encoding, headers, origin)"
        " values (%s, 2, 'after', '{}', 1, '{}', 'edit')",
        number,
    )
    assert listed(Filter(q="after")) == [number]
    assert listed(Filter(q="before")) == []
    assert get(number).body.key == b"after"


@pytest.mark.parametrize(
    "wrong",
    [{"state": "opened"}, {"source_kind": "topics"}, {"q": "a\0b"}, {"group": "\0"}, {"fingerprint": "\0"}],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue) as refused:
        Filter(**wrong)
    assert refused.value.errors[0][0] == f"/{next(iter(wrong))}"


@pytest.mark.parametrize("cursor", ["x", "AAAAAAAAAAAAAAAAAAAAA", "A" * 23, "!" * 22, "_" * 22, "é" * 22])
def test_a_cursor_of_another_making_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        page(Filter(), cursor, 10, all_seen)
    assert refused.value.errors[0][0] == "/after"


def test_a_search_that_takes_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SearchTooBroad), dead_letter_filter.search() as cursor:
        monkeypatch.setattr(dead_letter_filter, "SEARCH_MS", 50)
        cursor.execute("set local statement_timeout = 50")
        cursor.execute("select pg_sleep(20)")
    assert execute("show statement_timeout") != [("50ms",)]


def test_a_search_leaves_the_callers_timeout_as_it_was() -> None:
    before = execute("show statement_timeout")
    page(Filter(), "", 1, all_seen)
    assert execute("show statement_timeout") == before


# -- who sees what --------------------------------------------------------------------------------------------------


def test_a_list_holds_only_what_its_reader_may_see() -> None:
    mine = [letter(failures(f"mine{n}", "orders", f"mine{n}"), n) for n in range(3)]
    for n in range(40):
        letter(failures(f"theirs{n}", "orders", f"theirs{n}"), n)

    def may_see(kind: str, source: str, group: str) -> bool:
        return group.startswith("mine")

    for wanted in (Filter(), Filter(source="orders"), Filter(state="open"), Filter(q="total")):
        assert listed(wanted, 2, may_see=may_see) == mine[::-1]
        assert count(wanted, may_see) == 3
    assert listed(Filter(group="theirs1"), may_see=may_see) == []
    assert selected_consumers(Filter(state="open"), may_see) == [
        Consumer("topic", "orders", f"mine{n}") for n in range(3)
    ]
    groups, following = failure_groups(Filter(), "", 10, may_see)
    assert ({group.group for group in groups}, following) == ({"mine0", "mine1", "mine2"}, None)
    assert neighbours(mine[1], Filter(), may_see) == (mine[2], mine[0])
    assert listed(Filter(), may_see=lambda *consumer: False) == []


def test_the_consumers_of_a_selection_are_those_with_letters_in_it() -> None:
    first, second = failures("a", "orders", "billing"), failures("b", "orders", "search")
    old = letter(first, -100)
    letter(second, 0, state="resolved")
    assert selected_consumers(Filter(state="open"), all_seen) == [Consumer("topic", "orders", "billing")]
    assert selected_consumers(Filter(since=NOON), all_seen) == [Consumer("topic", "orders", "search")]
    assert selected_consumers(Filter(ids=(old,)), all_seen) == [Consumer("topic", "orders", "billing")]
    assert selected_consumers(Filter(q="nothing"), all_seen) == []


# -- one letter -----------------------------------------------------------------------------------------------------


def test_a_letter_comes_with_its_newest_failure_attempts_revisions_and_replays() -> None:
    number = letter(failures("a"))
    for attempt, error in enumerate(["first", "second", ""], 1):
        execute(
            "insert into brokers_dead_letter_attempt (dead_letter_id, number, started_at, ended_at, error,"
            " exception_class, stacktrace, frames) values (%s, %s, %s, %s, %s, %s, %s, %s)",
            number,
            attempt,
            NOON,
            NOON if error else None,
            error,
            "builtins.KeyError" if error else "",
            f"Traceback {attempt}",
            json.dumps([{"file": "a.py", "line": attempt, "module": "a", "function": "f", "own": True}]),
        )
    found = get(number)
    assert (found.error, found.stacktrace, found.frames[0]["line"]) == ("second", "Traceback 2", 2)
    assert (found.body.key, found.body.value, found.body.headers) == (b"k", b'{"n":1}', {})
    assert [(a.number, a.error, a.ended_at) for a in attempts(number)] == [
        (1, "first", NOON),
        (2, "second", NOON),
        (3, "", None),
    ]
    assert [a.number for a in attempts(number, 2)] == [2, 3]
    assert [(r.number, r.origin, r.body.value if r.body else None) for r in revisions(number)] == [
        (1, "original", b'{"n":1}')
    ]
    replay = replayed(number, "failed_again", "same")
    assert [(r.id, r.outcome, r.why) for r in get(number).replays] == [(replay, "failed_again", "same")]
    assert [(r.id, r.outcome) for r in page(Filter(), "", 10, all_seen)[0][0].replays] == [(replay, "failed_again")]
    assert {event.kind for event in history(number)} == {"given_up", "replay"}


def replayed(number: int, outcome: str, why: str) -> int:
    (row,) = execute(
        "insert into brokers_replay (state, selection, consumers, skips, created_by)"
        " values ('completed', '{}', '[]', '{}', 'ann') returning id"
    )
    execute(
        "insert into brokers_replay_item (replay_id, position, dead_letter_id, revision, outcome, why, finished_at)"
        " values (%s, 0, %s, 1, %s, %s, %s)",
        row[0],
        number,
        outcome,
        why,
        NOON,
    )
    return int(row[0])


@pytest.mark.parametrize("number", [-1, 0, 1, 2**63 - 1, 2**63, 10**30])
def test_a_letter_that_is_not_there_is_not_found(number: int) -> None:
    with pytest.raises(DeadLetterNotFound):
        get(number)


def test_neighbours_stay_within_the_filter() -> None:
    group = failures("a")
    made = [letter(group, n, state="resolved" if n % 2 else "open") for n in range(6)]
    assert neighbours(made[2], Filter(state="open"), all_seen) == (made[4], made[0])
    assert neighbours(made[2], Filter(), all_seen) == (made[3], made[1])
    assert neighbours(made[5], Filter(), all_seen) == (None, made[4])
    assert neighbours(made[0], Filter(source="orders"), all_seen) == (made[1], None)


# -- bounds ---------------------------------------------------------------------------------------------------------


def test_a_page_has_about_eight_megabytes_and_goes_on() -> None:
    group = failures("a")
    made = [letter(group, n, value=b"x" * 3_000_000) for n in range(5)]
    first, after = page(Filter(), "", 100, all_seen)
    assert [item.id for item in first] == made[:2:-1]
    assert after is not None
    second, after = page(Filter(), after, 100, all_seen)
    assert [item.id for item in second] == [made[2], made[1]]
    assert listed(Filter()) == made[::-1]
    previews, after = page(Filter(), "", 100, all_seen, preview_bytes=200)
    assert ([len(item.body.value or b"") for item in previews], after) == ([200] * 5, None)


def test_one_letter_is_given_however_large_it_is() -> None:
    group = failures("a")
    made = [letter(group, n, value=b"x" * 9_000_000) for n in range(2)]
    assert listed(Filter()) == made[::-1]


def test_counting_ends_at_its_bound() -> None:
    group = failures("a")
    for n in range(7):
        letter(group, n)
    assert (count(Filter(), all_seen), count(Filter(), all_seen, most=5)) == (7, 5)


# -- failure groups -------------------------------------------------------------------------------------------------


def fold() -> None:
    """What housekeeping does with the ledger, as far as these tests see it."""
    columns = ("open", "replaying", "replayed", "resolved", "discarded")
    sums = ", ".join(f"sum(change) filter (where state = '{column}') as {column}" for column in columns)
    added = ", ".join(f"{column}_count = g.{column}_count + coalesce(n.{column}, 0)" for column in columns)
    execute(
        f"update brokers_failure_group g set failures = g.failures + n.failures, {added}, sample_id = n.newest,"
        " last_failed_at = greatest(g.last_failed_at, n.at)"
        f" from (select failure_group_id, sum(failures) failures, max(newest_id) newest, max(at) at, {sums}"
        " from brokers_failure_change group by 1) n where n.failure_group_id = g.id"
    )
    execute("delete from brokers_failure_change")


def test_a_failure_groups_counters_are_right_at_once() -> None:
    group = failures("a")
    made = [letter(group, n) for n in range(4)]
    for folded in (False, True):
        found = failure_group("a")
        assert (found.open, found.resolved, found.failures, found.count) == (4, 0, 4, 4)
        assert (found.sample_id, found.last_failed_at) == (made[3], NOON + timedelta(minutes=3))
        if not folded:
            fold()
    execute("update brokers_dead_letter set state = 'resolved' where id = %s", made[0])
    found = failure_group("a")
    assert (found.open, found.resolved, found.failures, found.count) == (3, 1, 4, 4)
    execute("delete from brokers_dead_letter_revision where dead_letter_id = %s", made[3])
    execute("delete from brokers_dead_letter where id = %s", made[3])
    found = failure_group("a")
    assert (found.open, found.sample_id) == (2, made[2])


def test_failure_groups_come_newest_first_and_filtered() -> None:
    for n in range(5):
        letter(failures(f"f{n}", "orders" if n % 2 else "parts", "billing"), 10 - n, state="open" if n else "resolved")

    def fingerprints(wanted: Filter, limit: int = 2) -> list[str]:
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            groups, after = failure_groups(wanted, after, limit, all_seen)
            found += [group.fingerprint for group in groups]
        return found

    assert fingerprints(Filter()) == ["f0", "f1", "f2", "f3", "f4"]
    fold()
    assert fingerprints(Filter(), 1) == ["f0", "f1", "f2", "f3", "f4"]
    assert fingerprints(Filter(source="orders")) == ["f1", "f3"]
    assert fingerprints(Filter(state="open")) == ["f1", "f2", "f3", "f4"]
    assert fingerprints(Filter(since=NOON + timedelta(minutes=9))) == ["f0", "f1"]
    assert fingerprints(Filter(until=NOON + timedelta(minutes=8))) == ["f3", "f4"]
    assert fingerprints(Filter(fingerprint="f3")) == ["f3"]
    assert fingerprints(Filter(q="SHOP.handle")) == ["f0", "f1", "f2", "f3", "f4"]
    assert fingerprints(Filter(q="no such")) == []
    with pytest.raises(FailureGroupNotFound):
        failure_group("none")


def test_the_failures_of_the_last_day_are_counted_by_the_hour() -> None:
    group = failures("a")
    now = datetime.now(UTC)
    letter(group, failed_at=now)
    for hours, failed in ((0.2, 2), (3.5, 5), (23.5, 7), (24.5, 11)):
        execute("insert into brokers_failure_minute values (%s, %s, %s)", group, now - timedelta(hours=hours), failed)
    found = failure_group("a").hours
    assert (len(found), found[-1], found[-4], found[0], sum(found)) == (24, 3, 5, 7, 15)


# -- cost -----------------------------------------------------------------------------------------------------------

ROWS = 100_000
OLD_ROWS = 30_000
"""Of one failure group, older than all others: an index of the time alone would pass over those."""
GROUPS = 200


@pytest.fixture(scope="module")
def crowd(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """100,000 dead letters of 200 failure groups, most of them of a few, in a transaction of the module's own."""
    with django_db_blocker.unblock():
        connection.ensure_connection()
        connection.set_autocommit(False)
        try:
            with connection.cursor() as cursor:
                seed(cursor)
            yield
        finally:
            connection.rollback()
            connection.set_autocommit(True)


def seed(cursor: Any) -> None:
    cursor.execute(
        "insert into brokers_failure_group (fingerprint, version, source_kind, source, group_name, reason)"
        " select 'f' || n, 1, case when n %% 10 = 9 then 'queue' else 'topic' end, 'source' || n %% 7,"
        " case when n %% 10 = 9 then '' else 'group' || n %% 50 end, 'exception' from generate_series(0, %s) n",
        [GROUPS - 1],
    )
    cursor.execute(
        "insert into brokers_dead_letter (failure_group_id, source_kind, source, group_name, state, reason,"
        " exception_class, error, size, first_failed_at, failed_at)"
        " select f.id, f.source_kind, f.source, f.group_name,"
        " (array['open', 'replaying', 'replayed', 'resolved', 'discarded'])"
        "[1 + (power(x.n %% 97 / 97.0, 3) * 5)::int %% 5],"
        " 'exception', 'builtins.KeyError', 'error ' || x.n %% 1000, 20,"
        " timestamptz '2026-03-01' - x.n * interval '1 second', timestamptz '2026-03-01' - x.n * interval '1 second'"
        " from (select n, mod(n::bigint * 7919, 10007) / 10007.0 as r from generate_series(1, %s) n) x"
        " join lateral (select 'f' || (power(x.r, 4) * %s)::int as name) p on true"
        " join brokers_failure_group f on f.fingerprint = p.name",
        [ROWS, GROUPS - 1],
    )
    cursor.execute(
        "with old as (insert into brokers_failure_group"
        " (fingerprint, version, source_kind, source, group_name, reason)"
        " values ('old', 1, 'topic', 'old', 'old', 'exception') returning id)"
        " insert into brokers_dead_letter (failure_group_id, source_kind, source, group_name, state, reason,"
        " exception_class, error, size, first_failed_at, failed_at)"
        " select old.id, 'topic', 'old', 'old', 'open', 'exception', 'builtins.OSError', 'old', 20,"
        " timestamptz '2026-01-01' - n * interval '1 second', timestamptz '2026-01-01' - n * interval '1 second'"
        " from old, generate_series(1, %s) n",
        [OLD_ROWS],
    )
    cursor.execute(
        "insert into brokers_dead_letter_revision (dead_letter_id, number, key, value, encoding, headers)"
        " select id, 1, ('key' || id)::text::bytea, '{}', 1, '{}' from brokers_dead_letter"
    )
    cursor.execute("analyze brokers_dead_letter, brokers_dead_letter_revision, brokers_failure_group")


def scanned() -> tuple[int, int]:
    """Sequential scans and rows that were read of dead letters in this transaction so far."""
    (row,) = execute(
        "select seq_scan, seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables"
        " where relid = 'brokers_dead_letter'::regclass"
    )
    return int(row[0]), int(row[1])


MINUTES = timedelta(minutes=30)
OLD = datetime(2026, 2, 28, 4, tzinfo=UTC)
COMMON = {
    "nothing": Filter(),
    "state": Filter(state="resolved"),
    "rare state": Filter(state="discarded"),
    "fingerprint": Filter(fingerprint="f0"),
    "rare fingerprint": Filter(fingerprint="f150"),
    "fingerprint and state": Filter(fingerprint="f0", state="replayed"),
    "source": Filter(source="source3"),
    "source and kind": Filter(source_kind="topic", source="source3"),
    "source and state": Filter(source_kind="topic", source="source3", state="open"),
    "group": Filter(group="group8"),
    "group and state": Filter(group="group8", state="resolved"),
    "group and source": Filter(group="group8", source="source1"),
    "kind": Filter(source_kind="queue"),
    "kind and state": Filter(source_kind="queue", state="open"),
    "since": Filter(since=OLD),
    "until": Filter(until=OLD),
    "between": Filter(since=OLD - MINUTES, until=OLD),
    "state between": Filter(state="open", since=OLD - MINUTES, until=OLD),
    "group until": Filter(group="group8", until=OLD),
    "source and state until": Filter(source="source0", state="open", until=OLD),
    "everything": Filter(source_kind="topic", source="source3", group="group3", state="open", until=OLD),
    "fingerprint that is old": Filter(fingerprint="old"),
    "group that is old": Filter(group="old", state="open"),
    "source that is old": Filter(source="old"),
    "frequent text": Filter(q="builtins"),
}


@pytest.mark.parametrize("name", COMMON)
def test_a_page_reads_few_more_rows_than_it_holds(crowd: None, name: str) -> None:
    before = scanned()
    items, after = page(COMMON[name], "", 50, all_seen)
    if after is not None:
        items, _ = page(COMMON[name], after, 50, all_seen)
        neighbours(items[0].id, COMMON[name], all_seen)
    scans, rows = scanned()
    assert items or name == "group and source"
    assert scans == before[0]
    assert rows - before[1] <= 2 * (51 + 50) + 4 * 5 * dead_letter_filter.MAX_SCANS + 10


def test_a_reader_of_few_consumers_pays_for_those_alone(crowd: None) -> None:
    before = scanned()
    items, _ = page(Filter(), "", 50, lambda kind, source, group: group == "group8")
    assert len(items) == 50
    scans, rows = scanned()
    assert (scans, rows - before[1] < 500) == (before[0], True)


def test_many_failure_groups_are_read_by_the_index_of_their_source(crowd: None) -> None:
    with dead_letter_filter.search() as cursor:
        fitting = dead_letter_filter.failure_group_ids(cursor, Filter(source="source0", source_kind="topic"), None)
    assert len(fitting) < dead_letter_filter.MAX_SCANS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dead_letter_filter, "MAX_SCANS", 3)
        for wanted in (Filter(source="source0"), Filter(group="group8"), Filter(source="old", state="open")):
            before = scanned()
            found, _ = page(wanted, "", 50, all_seen)
            scans, rows = scanned()
            assert (len(found), scans) == (50, before[0])
            assert rows - before[1] < 1000


def test_failure_groups_are_listed_without_reading_dead_letters(crowd: None) -> None:
    fold()
    before = scanned()
    groups, _ = failure_groups(Filter(), "", 100, all_seen)
    scans, rows = scanned()
    assert len(groups) == 100
    assert sum(group.count for group in failure_groups(Filter(), "", 1000, all_seen)[0]) == ROWS + OLD_ROWS
    assert (scans, rows - before[1] <= 100 + GROUPS + 1) == (before[0], True)
