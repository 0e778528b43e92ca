"""The Dead letters screens: failure groups with their filters, the list, one dead letter, and what each costs."""

from __future__ import annotations

import html
import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from brokers import dead_letters, failure_counts
from brokers.audit import Actor
from brokers.models import DeadLetter, FailureGroup, FailureMinute, ProcessedMessage, Replay, ReplayItem
from tests.integration.brokers.replaying import Stage, failure
from tests.integration.console.failing import HOSTILE, MOST_STATEMENTS, attempt, counted_statements, stage, text

SOMEBODY = Actor("somebody", "console")
GROUPS = "/admin/dead-letters/"
LIST = "/admin/dead-letters/list/"


@pytest.fixture
def delays(transactional_db: None) -> Stage:
    """The topic `departures`, on which the consumer group `delays` fails."""
    return stage()


def fingerprint(letter: int) -> str:
    return str(DeadLetter.objects.values_list("failure_group__fingerprint", flat=True).get(pk=letter))


# -- failure groups -----------------------------------------------------------------------------------------------


def test_before_anything_has_failed_the_page_says_what_will_come(admin: Client) -> None:
    page = text(admin, GROUPS)
    assert "Nothing has failed yet" in page
    assert "FixedBackOff" in page


def test_a_failure_group_shows_what_failed_where_and_how_often(admin: Client, delays: Stage) -> None:
    letters = delays.letters(3)
    dead_letters.change_state(letters[:1], "resolved", SOMEBODY)
    page = text(admin, GROUPS)
    assert "<strong>2</strong> open in 1 failure group." in page
    assert "LookupError" in page
    assert "no plane" in page
    assert "departures → delays" in page
    assert "1 resolved" in page
    assert f"fingerprint={fingerprint(letters[0])}" in page
    assert '<span class="badge badge-bad">1 group</span>' in page


def test_counts_are_right_before_and_after_they_are_folded(admin: Client, delays: Stage) -> None:
    delays.letters(2)
    before = text(admin, GROUPS)
    failure_counts.fold()
    delays.letter()
    assert "<strong>2</strong> open" in before
    assert "<strong>3</strong> open" in text(admin, GROUPS)


def test_the_last_day_is_drawn(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    failure_counts.fold()
    FailureMinute.objects.all().delete()
    group = DeadLetter.objects.get(pk=letter).failure_group_id
    for hours in (1, 5):
        minute = (timezone.now() - timedelta(hours=hours)).replace(second=0, microsecond=0)
        FailureMinute.objects.create(failure_group_id=group, minute=minute, failures=4)
    assert "LookupError: 8 in the last 24 hours" in text(admin, GROUPS)


def test_a_healthy_page_says_so_and_shows_what_was_settled_when_asked(admin: Client, delays: Stage) -> None:
    dead_letters.change_state([delays.letter()], "discarded", SOMEBODY)
    page = text(admin, GROUPS)
    assert "No open dead letters" in page
    assert "LookupError:" not in page
    assert "LookupError" in text(admin, f"{GROUPS}?state=discarded")


def test_filters_that_match_nothing_say_what_is_outside(admin: Client, delays: Stage) -> None:
    delays.letters(2)
    page = text(admin, f"{GROUPS}?source=elsewhere")
    assert "No failure group matches" in page
    assert "2 dead letters are open outside these filters" in page
    assert "Clear filters" in page


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("source=departures", True),
        ("group=delays", True),
        ("exception=builtins.LookupError", True),
        ("group=crew", False),
    ],
)
def test_failure_groups_are_filtered_by_facets(query: str, shown: bool, admin: Client, delays: Stage) -> None:
    delays.letter()
    Stage("departures", "crew")
    assert ("failure-message" in text(admin, f"{GROUPS}?{query}")) == shown


def test_facets_count_what_choosing_them_would_show(admin: Client, delays: Stage) -> None:
    delays.letters(2)
    crew = Stage(delays.topic, "crew")
    crew.letter(offset=900)
    page = text(admin, f"{GROUPS}?group=crew")
    counts = dict(re.findall(r'value="(delays|crew)"(?: checked)?><span>[^<]*</span><span class="count">(\d+)', page))
    assert counts == {"delays": "2", "crew": "1"}


def test_the_last_replays_result_stands_in_the_row(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    replay = Replay.objects.create(
        state="completed", selection={}, created_by="admin", total=1, finished_at=timezone.now(), sent=1
    )
    item = ReplayItem.objects.create(
        replay=replay, position=0, dead_letter_id=letter, revision=1, sent_at=timezone.now()
    )
    ReplayItem.objects.filter(pk=item.pk).update(outcome="failed_again", finished_at=timezone.now())
    assert "Failed again" not in text(admin, GROUPS)
    DeadLetter.objects.filter(pk=letter).update(replays=1)
    page = text(admin, GROUPS)
    assert f"replay {replay.pk}: 0 succeeded, 1 failed again" in page
    assert "Failed again" in page
    assert "The last replay ended" in page


# -- the list -----------------------------------------------------------------------------------------------------


def test_the_list_shows_the_newest_first_a_page_at_a_time(admin: Client, delays: Stage) -> None:
    letters = delays.letters(60)
    page = text(admin, LIST)
    shown = [int(number) for number in re.findall(r'id="letter-(\d+)"', page)]
    assert shown == sorted(letters, reverse=True)[:50]
    assert "50 of 60 dead letters" in page
    following = html.unescape(re.findall(r'href="(\?[^"]*after=[^"]*)"', page)[0])
    rest = [int(number) for number in re.findall(r'id="letter-(\d+)"', text(admin, LIST + following))]
    assert sorted(shown + rest) == letters


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("state=open", 2),
        ("state=resolved", 1),
        ("group=delays", 3),
        ("group=crew", 0),
        ("source=departures", 3),
        ("q=seat-7", 1),
        ("q=no+plane", 3),
        ("until=2020-01-01T00:00", 0),
        ("since=2020-01-01T00:00", 3),
    ],
)
def test_the_list_is_filtered_by_its_address(query: str, count: int, admin: Client, delays: Stage) -> None:
    delays.letter(key=b"seat-7")
    delays.letter()
    dead_letters.change_state([delays.letter()], "resolved", SOMEBODY)
    assert text(admin, f"{LIST}?{query}").count('class="row-link"') == count


def test_the_list_of_one_failure_group_says_why_it_is_one(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    page = text(admin, f"{LIST}?fingerprint={fingerprint(letter)}")
    assert "Why these are one group" in page
    assert fingerprint(letter) in page
    assert "Replay 1 open…" in page


@pytest.mark.parametrize("query", ["state=lost", "since=soon", "after=nonsense", "q=a%00b"])
def test_a_faulty_filter_is_explained_and_nothing_breaks(query: str, admin: Client, delays: Stage) -> None:
    delays.letter()
    response = admin.get(f"{LIST}?{query}")
    assert response.status_code == 422
    assert "Nothing was searched" in response.content.decode()


def test_a_search_that_takes_too_long_offers_a_narrower_one(
    admin: Client, delays: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from brokers.errors import SearchTooBroad
    from brokers.selectors import dead_letters as letter_reads

    def slow(*arguments: object, **options: object) -> object:
        raise SearchTooBroad("the search took too long: narrow it")

    delays.letter()
    monkeypatch.setattr(letter_reads, "page", slow)
    page = text(admin, f"{LIST}?q=x")
    assert "Narrow to the last 24 hours" in page
    assert "since=20" in page


def test_a_filter_without_matches_can_be_cleared(admin: Client, delays: Stage) -> None:
    letter = delays.letter()
    page = text(admin, f"{LIST}?fingerprint={fingerprint(letter)}&state=discarded")
    assert "No dead letter matches" in page
    assert "1 are open" in page or "1 is open" in page


# -- one dead letter ----------------------------------------------------------------------------------------------


@pytest.fixture
def letter(delays: Stage) -> int:
    """A dead letter with three attempts, the second of which its worker did not survive."""
    made = delays.letter(
        key=b"N14228",
        value=b'{"flight":4308,"fare":12345678901234567890123}',
        headers={"source": "importer"},
        idempotency_key="N14228-1",
    )
    attempt(made, 1)
    attempt(made, 2, is_lost=True)
    attempt(made, 3, delay_ms=None)
    return made


def test_a_dead_letter_shows_payload_error_attempts_and_origin(admin: Client, letter: int) -> None:
    page = text(admin, f"/admin/dead-letters/{letter}/")
    assert "12345678901234567890123" in page
    assert "LookupError: no plane" in html.unescape(page)
    assert "Worker lost" in page
    assert "departures, partition 0, offset 1" in page
    assert 'href="/admin/topics/departures.DLT/?partition=0"' in page
    assert "after 3 attempts" in page


def test_own_frames_stand_out(admin: Client, letter: int) -> None:
    page = text(admin, f"/admin/dead-letters/{letter}/?tab=error")
    assert 'class="frame own innermost"' in page
    assert "raise LookupError(message)" in page


def test_the_payload_has_three_views(admin: Client, letter: int) -> None:
    path = f"/admin/dead-letters/{letter}/?view="
    assert 'class="tree"' in text(admin, f"{path}tree")
    assert 'id="payload-text"' in text(admin, f"{path}raw")
    assert "00000000" in text(admin, f"{path}hex")


def test_its_tabs_show_headers_attempts_and_history(admin: Client, letter: int) -> None:
    path = f"/admin/dead-letters/{letter}/?tab="
    assert "importer" in text(admin, f"{path}headers")
    attempts = text(admin, f"{path}attempts")
    assert "the same message" not in attempts.partition("</thead>")[0]
    assert attempts.count("listen-1") >= 3
    dead_letters.add_revision(letter, 1, b"k", b"{}", 1, {}, "edit", SOMEBODY)
    dead_letters.change_state([letter], "resolved", SOMEBODY, "seen with <b>billing</b>")
    history = text(admin, f"{path}history")
    assert "Revision 2, by hand" in history
    assert "Given up by its consumer" in history
    assert "From open to resolved" in history
    assert "seen with &lt;b&gt;billing&lt;/b&gt;" in history
    assert history.count("Edited") == 1


def test_idempotency_says_whether_the_key_was_processed(admin: Client, letter: int) -> None:
    path = f"/admin/dead-letters/{letter}/?tab=idempotency"
    assert "A replay will be handled" in text(admin, path)
    ProcessedMessage.objects.create(consumer="delays", message_key="N14228-1")
    assert "a replay would be skipped" in text(admin, path)


def test_without_an_idempotency_key_it_says_how_to_have_one(admin: Client, delays: Stage) -> None:
    assert "@idempotent" in text(admin, f"/admin/dead-letters/{delays.letter()}/?tab=idempotency")


def test_a_letter_without_a_trace_says_why(admin: Client, delays: Stage) -> None:
    made = delays.letter()
    DeadLetter.objects.filter(pk=made).update(reason="worker_lost", exception_class="", error="")
    attempt(made, 1, is_lost=True)
    assert "there is no exception and no stack trace" in text(admin, f"/admin/dead-letters/{made}/")


def test_neighbours_are_of_the_same_failure_group_and_state(admin: Client, delays: Stage) -> None:
    first, second, third = delays.letters(3)
    dead_letters.change_state([second], "resolved", SOMEBODY)
    older = admin.get(f"/admin/dead-letters/{third}/older/?tab=attempts")
    assert older["Location"] == f"/admin/dead-letters/{first}/?tab=attempts"
    assert admin.get(f"/admin/dead-letters/{first}/newer/")["Location"] == f"/admin/dead-letters/{third}/"
    end = admin.get(f"/admin/dead-letters/{first}/older/", follow=True)
    assert "There is no older one" in end.content.decode()


@pytest.mark.parametrize("path", ["", "edit/", "older/", "value"])
@pytest.mark.parametrize("number", ["0", "999999", "9223372036854775807"])
def test_a_dead_letter_that_is_not_there_is_not_found(path: str, number: str, admin: Client) -> None:
    response = admin.get(f"/admin/dead-letters/{number}/{path}")
    assert response.status_code == 404
    assert "Not found" in response.content.decode()


@pytest.mark.parametrize("path", ["x/", "1/sideways/", "9223372036854775808/", "-1/"])
def test_addresses_that_name_no_page_are_not_found(path: str, admin: Client) -> None:
    assert admin.get(f"/admin/dead-letters/{path}").status_code == 404


def test_an_unknown_failure_group_is_not_found(admin: Client) -> None:
    assert admin.get(f"{LIST}?fingerprint=absent").status_code == 404


def test_the_value_is_downloaded_as_bytes(admin: Client, letter: int) -> None:
    response = admin.get(f"/admin/dead-letters/{letter}/value")
    assert response.content == b'{"flight":4308,"fare":12345678901234567890123}'
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"].startswith("attachment")


# -- what outsiders wrote -----------------------------------------------------------------------------------------


def test_hostile_content_stays_text_on_every_page(admin: Client, delays: Stage) -> None:
    made = delays.letter(
        key=HOSTILE.encode(), value=HOSTILE.encode(), encoding=0, headers={HOSTILE: HOSTILE}, message_id=HOSTILE[:200]
    )
    attempt(made, 1, error=HOSTILE, exception_class=HOSTILE, stacktrace=HOSTILE, worker=HOSTILE[:150])
    attempt(made, 2, error=HOSTILE, stacktrace=f'  File "{HOSTILE}", line 1, in {HOSTILE}\n    {HOSTILE}\n{HOSTILE}')
    DeadLetter.objects.filter(pk=made).update(
        error=HOSTILE, exception_class=HOSTILE, note=HOSTILE, idempotency_key=HOSTILE, correlation_id=HOSTILE[:200]
    )
    FailureGroup.objects.update(message=HOSTILE, exception_class=HOSTILE, handler=HOSTILE, frame=f"{HOSTILE}:{HOSTILE}")
    pages = [GROUPS, LIST, f"{LIST}?fingerprint={fingerprint(made)}", "/admin/", f"/admin/replays/new/?ids={made}"]
    pages += [
        f"/admin/dead-letters/{made}/?tab={tab}" for tab in ("message", "headers", "error", "attempts", "history")
    ]
    pages += [f"/admin/dead-letters/{made}/?tab=idempotency", f"/admin/dead-letters/{made}/edit/"]
    for path in pages:
        page = text(admin, path)
        assert "<script>document" not in page, path
        assert "<img src=x" not in page, path
        assert "onerror=alert(1)>" not in page, path


@pytest.mark.parametrize("value", [b"\xff\xfe\x00", b"", None, b"x" * 300_000, b'{"a":' * 70])
def test_any_payload_can_be_looked_at(value: bytes | None, admin: Client, delays: Stage) -> None:
    made = delays.letter(key=b"\xff", value=value, encoding=0)
    for path in (LIST, f"/admin/dead-letters/{made}/", f"/admin/dead-letters/{made}/edit/"):
        text(admin, path)


# -- what pages cost ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        GROUPS,
        f"{GROUPS}?state=open&source=departures",
        LIST,
        f"{LIST}?state=open&q=no",
        f"{LIST}?fingerprint={{fingerprint}}&state=open",
        "/admin/dead-letters/{letter}/",
        "/admin/dead-letters/{letter}/?tab=error",
        "/admin/dead-letters/{letter}/?tab=attempts",
        "/admin/dead-letters/{letter}/?tab=history",
        "/admin/dead-letters/{letter}/?tab=idempotency",
        "/admin/dead-letters/{letter}/edit/",
    ],
)
def test_a_page_costs_few_statements_whatever_it_shows(path: str, admin: Client, delays: Stage, letter: int) -> None:
    others = [Stage(delays.topic, f"group-{number}") for number in range(5)]
    for number, other in enumerate(others):
        other.letters(5, offset=1000 + number)
    path = path.format(letter=letter, fingerprint=fingerprint(letter))
    delays.many(60)
    text(admin, path)
    with counted_statements() as sent:
        text(admin, path)
    assert len(sent) <= MOST_STATEMENTS, "\n".join(sent)


def test_the_list_stays_small(admin: Client, delays: Stage) -> None:
    delays.many(60)
    assert len(admin.get(LIST).content) < 90_000
    assert failure().message
