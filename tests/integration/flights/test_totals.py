"""The totals of the flights example: what the group `delays` writes, and how the demo reads and compares it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from brokers import BatchListenerFailed, declarations, publish_many, topics
from brokers.listeners import registration
from brokers.models import DeadLetter
from brokers.record import JSON, Record
from brokers.replays.runner import Runner
from brokers.selectors import replays
from examples.flights import mending, totals
from examples.flights.counting import Count
from examples.flights.departures import departures
from examples.flights.messaging import DELAYS, DEPARTURES, count_departures
from examples.flights.models import AircraftTotal, CarrierTotal
from tests.listening import caught_up, listener, serving, until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def days() -> list[dict[str, Any]]:
    """The first days of the month; some of their flights have no departure time."""
    return list(departures())[:3000]


@pytest.fixture
def counting() -> Iterator[None]:
    """The listener of the example, as it declares it, in threads of this process."""
    declarations.reconcile()
    declared = next(found for found in registration.declared_listeners() if found.group == DELAYS)
    with serving(
        listener(
            count_departures,
            DEPARTURES,
            group=DELAYS,
            batch=declared.batch,
            concurrency=declared.concurrency,
            max_poll_records=declared.max_poll_records,
            retry=declared.policy.back_off,
            not_retryable=declared.policy.not_retryable,
        )
    ):
        yield


def test_what_cannot_be_counted_is_mended_by_a_replay_and_the_totals_are_those_of_the_file(
    days: list[dict[str, Any]], counting: None
) -> None:
    without = [departure for departure in days if departure["dep_time"] is None]
    positions = publish_many(DEPARTURES, [{"key": departure["tailnum"], "value": departure} for departure in days])
    caught_up(DELAYS)
    before = totals.standing(DELAYS, DEPARTURES)

    failed = mending.of_records({(place.partition, place.offset) for place in positions if place.offset is not None}, 0)
    assert len(failed) == len(without) > 20
    assert mending.left_open() == failed
    assert sum(count for _, _, count in mending.failure_groups(failed)) == len(without)
    assert before.totals == totals.handled(days)
    assert sum(before.offsets.values()) == len(days)

    plan = mending.plan(failed)
    assert (plan.total, plan.skipped) == (len(without), {})
    with Runner():
        replay = mending.replay(failed)
        until(lambda: replays.get(replay).waiting == 0, what="each has an outcome")
    assert replays.get(replay).succeeded == len(without)
    assert (mending.left_open(), mending.in_replay()) == ([], 0)

    after = totals.standing(DELAYS, DEPARTURES)
    assert totals.differing(totals.mended(days), after.totals) == []
    assert after.totals.since(before.totals).whole == Count(cancelled=len(without))


def test_what_is_no_flight_becomes_a_dead_letter_and_holds_nothing_up(
    days: list[dict[str, Any]], counting: None
) -> None:
    good = [departure for departure in days if departure["dep_time"] is not None][:200]
    values = [*good[:100], None, {"carrier": 7}, b"\xff", *good[100:]]
    publish_many(DEPARTURES, [{"key": "k", "value": value} for value in values])
    caught_up(DELAYS)

    assert DeadLetter.objects.filter(reason="exception").count() == 3
    assert mending.left_open() == []
    assert totals.standing(DELAYS, DEPARTURES).totals == totals.handled(good)


def test_the_handler_says_which_flight_cannot_be_counted(days: list[dict[str, Any]]) -> None:
    at = next(index for index, departure in enumerate(days) if departure["dep_time"] is None)
    records = [Record(0, None, b"", JSON, {}, index, _decoded=days[index]) for index in range(at + 1)]
    with pytest.raises(BatchListenerFailed) as caught:
        count_departures(records)
    assert caught.value.index_in(records) == at
    assert isinstance(caught.value.reason(), ValueError)
    assert not AircraftTotal.objects.exists()


def test_many_totals_are_added_to_by_one_statement_each(django_assert_num_queries: Any) -> None:
    counts = {f"N{number}": Count(1, number, 0) for number in range(100)}
    with django_assert_num_queries(4):
        for _ in range(2):
            AircraftTotal.add(counts)
            CarrierTotal.add({("UA", number): count for number, count in enumerate(counts.values())})
    AircraftTotal.add({})

    assert AircraftTotal.objects.get(pk="N7").count == Count(2, 14, 0)
    assert totals_of_carrier("UA") == Count(200, 2 * sum(range(100)), 0)


def totals_of_carrier(carrier: str) -> Count:
    topics.create("any")
    return dict(totals.standing("nobody", "any").totals.by_carrier)[carrier]


def test_a_difference_names_both_counts() -> None:
    one = totals.Totals({"N1": Count(1, 2, 0)}, {"UA": Count(3, 4, 0)})
    other = totals.Totals({"N1": Count(1, 2, 0), "N2": Count(0, 0, 1)}, {"UA": Count(3, 5, 0)})
    assert totals.differing(one, one) == []
    assert totals.differing(one, other) == [
        ("UA", Count(3, 4, 0), Count(3, 5, 0)),
        ("N2", Count(), Count(0, 0, 1)),
    ]
    assert other.since(one) == totals.Totals({"N2": Count(0, 0, 1)}, {"UA": Count(0, 1, 0)})
    assert totals.both(one, other.since(one)) == other


def test_the_topic_is_declared_with_six_partitions() -> None:
    declarations.discover()
    declared = {declaration.name: declaration.partitions for declaration in declarations.declared_topics()}
    assert declared[DEPARTURES] == 6
