"""The example's scheduled tasks: the daily report and the roll-up of rates, against figures added up by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import msgspec
import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from brokers import declarations, publish_many
from brokers.models import Grant
from examples.flights import daily, rates
from examples.flights.messaging import BOARD, roll_up_rates
from examples.flights.models import DailyReport, Departure, Rate
from realtime import announcing
from scheduling.beat.leadership import Leadership
from scheduling.tasks import declared, store
from scheduling.worker.performing import Performer
from tests.integration.flights import sample
from tests.integration.scheduling.ticking import Database

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def example() -> None:
    """Topics of the example."""
    declarations.discover()
    declarations.reconcile()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What pages are told."""
    found: list[Any] = []
    monkeypatch.setattr(rates, "broadcast", lambda destination, payload: found.append((destination, payload)))
    return found


def new_yorks_today() -> date:
    with connection.cursor() as cursor:
        cursor.execute("select (clock_timestamp() at time zone 'America/New_York')::date")
        (today,) = cursor.fetchone()
    found: date = today
    return found


def line(name: str, flights: int, delayed: int, cancelled: int, delay_minutes: int) -> dict[str, Any]:
    return {
        "name": name,
        "flights": flights,
        "delayed": delayed,
        "cancelled": cancelled,
        "delay_minutes": delay_minutes,
    }


# -- the report -----------------------------------------------------------------------------------------------------


def test_the_report_adds_up_what_the_board_holds() -> None:
    Departure.put(sample.entries())
    assert daily.write() == {"day": new_yorks_today().isoformat(), "flights": 7}
    report = DailyReport.objects.get()
    assert (report.flights, report.delayed, report.cancelled, report.delay_minutes) == (7, 2, 1, 78)
    assert report.by_carrier == [
        line("UA", 3, 1, 0, 53),
        line("EV", 2, 1, 1, 24),
        line("AA", 1, 0, 0, 2),
        line("B6", 1, 0, 0, -1),
    ]
    assert report.by_airport == [line("EWR", 4, 2, 1, 73), line("JFK", 2, 0, 0, 1), line("LGA", 1, 0, 0, 4)]
    averages = [daily.average(each) for each in report.by_airport]
    assert averages == [pytest.approx(73 / 3), 0.5, 4.0]
    assert daily.average(line("none left", 2, 0, 2, 0)) is None


def test_a_day_has_one_report_however_often_it_is_made() -> None:
    entries = sample.entries()
    Departure.put(entries)
    daily.write()
    first = DailyReport.objects.get().made_at
    Departure.put([msgspec.structs.replace(entries[0], delay_minutes=20)])
    daily.write()
    report = DailyReport.objects.get()
    assert (report.flights, report.delayed, report.delay_minutes) == (7, 3, 96)
    assert report.made_at > first


def test_without_departures_the_report_says_so() -> None:
    daily.write()
    report = DailyReport.objects.get()
    assert (report.flights, report.delay_minutes, report.by_carrier, report.by_airport) == (0, 0, [], [])


def test_the_task_is_due_at_eight_in_new_york_whatever_the_season() -> None:
    task = declared.declaration("daily_report")
    assert task is not None
    due = [task.trigger.first(datetime(2026, month, 10, tzinfo=UTC)) for month in (1, 7)]
    assert due == [datetime(2026, 1, 10, 13, tzinfo=UTC), datetime(2026, 7, 10, 12, tzinfo=UTC)]
    assert task.options()["lock"] == {"name": "daily-report", "at_most_for_ms": 1_800_000, "at_least_for_ms": 300_000}


@pytest.fixture
def database() -> Iterator[Database]:
    found = Database()
    found.do("delete from shedlock where name = any(%s)", [store.BEAT_LOCK, "daily-report"])
    yield found
    found.do("delete from shedlock where name = %s", "daily-report")
    found.own.close()


def test_a_worker_makes_the_report_once_in_five_minutes(database: Database) -> None:
    Departure.put(sample.entries())
    store.declare([task for task in declared.declarations() if task.name == "daily_report"])
    leads, performer = Leadership(), Performer()
    assert leads.hold()
    try:
        for _ in range(2):
            performer.perform(database.fire_at_once(leads, "daily_report"))
    finally:
        performer.close()
        leads.resign()
    assert database.states("daily_report") == ["succeeded", "skipped"]
    assert DailyReport.objects.get().flights == 7


def test_reports_are_shown_to_whoever_may_read_the_board(client: Client) -> None:
    user = User.objects.create_user("anna", is_staff=True)
    client.force_login(user)
    assert client.get("/flights/reports/").status_code == 403
    Grant.objects.create(user=user, operation="read", resource_type="topic", name=BOARD)
    assert "No report yet" in client.get("/flights/reports/").content.decode()

    Departure.put(sample.entries())
    daily.write()
    page = client.get("/flights/reports/").content.decode()
    assert "<dd>13.0 min</dd>" in page
    assert '<th scope="row">EWR</th><td class="num">4</td><td class="num">2</td><td class="num">1</td>' in page
    assert client.get(f"/flights/reports/{new_yorks_today()}/").content.decode().count("13.0 min") == 1
    assert client.get("/flights/reports/2013-01-01/").status_code == 404
    assert client.get("/flights/reports/2013-02-31/").status_code == 404


# -- rates ----------------------------------------------------------------------------------------------------------


def publish(entries: list[Any], at: datetime) -> None:
    """Puts entries on the board's topic, as if they had come then."""
    milliseconds = int(at.timestamp() * 1000)
    publish_many(
        BOARD,
        [{"key": each.id, "value": msgspec.to_builtins(each), "timestamp": milliseconds} for each in entries],
    )


def minutes() -> list[tuple[datetime, int, int, int]]:
    return list(Rate.objects.order_by("minute").values_list("minute", "departures", "delayed", "cancelled"))


def test_each_record_is_rolled_up_once_for_its_minute(said: list[Any]) -> None:
    entries = sample.entries()
    minute = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=5)
    publish(entries[:4], minute + timedelta(seconds=1))
    publish(entries[4:6], minute + timedelta(seconds=59))
    publish(entries[6:], minute + timedelta(seconds=60))
    assert roll_up_rates() == {"records": 7, "minutes": 2}
    assert minutes() == [(minute, 6, 2, 0), (minute + timedelta(minutes=1), 1, 0, 1)]
    assert roll_up_rates() == {"records": 0, "minutes": 0}

    publish(entries[6:], minute)
    assert roll_up_rates() == {"records": 1, "minutes": 1}
    assert minutes() == [(minute, 7, 2, 1), (minute + timedelta(minutes=1), 1, 0, 1)]
    destination, told = said[-1]
    assert destination == "/topic/departure-rates"
    assert told["minutes"] == [[minute.isoformat(), 7, 2, 1], [(minute + timedelta(minutes=1)).isoformat(), 1, 0, 1]]


def test_a_run_that_fails_at_the_end_has_counted_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(destination: str, payload: Any) -> None:
        raise LookupError

    publish(sample.entries(), datetime.now(UTC))
    with monkeypatch.context() as patched:
        patched.setattr(rates, "broadcast", fail)
        with pytest.raises(LookupError):
            roll_up_rates()
    assert minutes() == []
    assert roll_up_rates()["records"] == 7


def test_a_run_takes_a_bounded_number_and_the_next_one_the_rest(
    monkeypatch: pytest.MonkeyPatch, said: list[Any]
) -> None:
    monkeypatch.setattr(rates, "MOST", 6)
    monkeypatch.setattr(rates, "AT_ONCE", 1)
    now = datetime.now(UTC)
    for _ in range(3):
        publish(sample.entries(), now)
    read = []
    while records := roll_up_rates()["records"]:
        assert records <= 6
        read.append(records)
    assert sum(read) == 21 == sum(row[1] for row in minutes())


def test_what_is_no_departure_holds_nothing_up_and_what_is_old_is_forgotten(said: list[Any]) -> None:
    publish_many(BOARD, [{"key": "x", "value": {"id": 1}}, {"key": "y", "value": b"\xff"}, {"key": "z", "value": None}])
    publish(sample.entries(), datetime.now(UTC) - timedelta(days=8))
    assert roll_up_rates() == {"records": 10, "minutes": 1}
    assert minutes() == []
    assert rates.shown()["minutes"] == []


def test_pages_are_told_when_the_rates_are_committed(monkeypatch: pytest.MonkeyPatch, client: Client) -> None:
    told: list[str] = []
    monkeypatch.setattr(announcing, "announce", lambda destination, *_: told.append(destination))
    publish(sample.entries(), datetime.now(UTC))
    roll_up_rates()
    assert len(told) == 1
    client.force_login(User.objects.create_superuser("ada"))
    ((_, *numbers),) = client.get("/flights/rates/").json()["minutes"]
    assert numbers == [7, 2, 1]
