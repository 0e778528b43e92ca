"""The queues of the flights example: what is sent for a delayed flight, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from brokers import declarations, groups, publish_many
from brokers.groups import ResetTo
from brokers.listeners.registration import Listener
from brokers.models import DeadLetter
from brokers.queues import claims, lengths, policies, tending, topology
from examples.flights import handling
from examples.flights.departures import departures
from examples.flights.handling import Fact, Handled
from examples.flights.messaging import (
    CREW,
    DELAYS,
    DEPARTURES,
    REBOOKING,
    STANDBY,
    call_standby_crew,
    count_departures,
    rebook,
)
from examples.flights.models import Rebooking, StandbyCall
from examples.flights.publication import Place
from tests.listening import caught_up, consumer, listener, serving, until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def declared() -> None:
    """Topic, exchanges and queues of the example; its crew desk has less time than in the demo."""
    declarations.discover()
    declarations.reconcile()
    policies.put_policy("hurry", pattern=f"^{CREW}$", message_ttl_ms=50)


@pytest.fixture
def published() -> dict[Place, dict[str, Any]]:
    """Departures with delays among them, by their places."""
    rows = list(departures())[:1500]
    positions = publish_many(DEPARTURES, [{"key": row["tailnum"], "value": row} for row in rows])
    return {(at.partition, at.offset): row for at, row in zip(positions, rows, strict=True) if at.offset is not None}


def counting() -> Listener:
    """The listener that counts and sends, under a name of the test's own."""
    return listener(count_departures, DEPARTURES, group=DELAYS, batch=True, not_retryable=(ValueError,))


@pytest.fixture
def at_work() -> Iterator[None]:
    """All listeners of the example."""
    with serving(counting(), consumer(rebook, REBOOKING), consumer(call_standby_crew, STANDBY)):
        yield


def held(queue: str) -> int:
    info = topology.queue(queue)
    return lengths.figures([info.id])[info.id].total


def is_done(expected: Handled, places: dict[Place, dict[str, Any]]) -> bool:
    tending.tend()
    return handling.done(places, handling.Newest(0, 0)) == expected


def test_each_delayed_flight_is_rebooked_and_what_the_crew_desk_leaves_goes_to_the_standby_crews(
    published: dict[Place, dict[str, Any]], at_work: None
) -> None:
    expected = handling.of_file(published)
    assert expected.rebooked.total() > expected.standby.total() > 10
    until(lambda: is_done(expected, published), what="all delays are handled")

    assert [held(queue) for queue in (REBOOKING, CREW, STANDBY)] == [0, 0, 0]
    assert set(StandbyCall.objects.values_list("origin", "reason")) == {("EWR", "expired")}
    assert not DeadLetter.objects.filter(source_kind="queue").exists()


def test_a_flight_that_is_counted_again_is_not_rebooked_again(
    published: dict[Place, dict[str, Any]], at_work: None
) -> None:
    expected = handling.of_file(published)
    until(lambda: is_done(expected, published), what="all delays are handled")
    groups.pause(DELAYS)
    groups.reset(DELAYS, DEPARTURES, ResetTo("earliest"), dry_run=False)
    groups.resume(DELAYS)
    caught_up(DELAYS)
    until(lambda: bool(tending.tend() or True) and not any(map(held, (REBOOKING, CREW, STANDBY))), what="all is gone")
    assert handling.done(published, handling.Newest(0, 0)) == expected


def test_the_most_urgent_message_is_handed_out_first(published: dict[Place, dict[str, Any]]) -> None:
    with serving(counting()):
        caught_up(DELAYS)
    found = claims.claim(topology.queue(REBOOKING), 1000, 30_000, "a test")
    assert len(found) == handling.of_file(published).rebooked.total()
    priorities = [message.priority for message in found]
    assert priorities == sorted(priorities, reverse=True)
    assert found[0].body["delay_minutes"] > found[-1].body["delay_minutes"]
    assert {message.routing_key.split(".")[1] for message in found} == {"EWR", "JFK", "LGA"}


def test_a_poll_that_fails_sends_nothing(published: dict[Place, dict[str, Any]]) -> None:
    publish_many(DEPARTURES, [{"value": {"carrier": 7}, "partition": partition} for partition in range(6)])
    with serving(counting()):
        caught_up(DELAYS)
    assert held(REBOOKING) == handling.of_file(published).rebooked.total()


def test_what_is_missing_wrong_or_there_twice_differs() -> None:
    fact = Fact((0, 1), "UA", 1, "EWR", 70, 0)
    expected, found = Handled(Counter([fact]), Counter()), Handled(Counter(), Counter())
    assert handling.differing(expected, expected) == 0
    assert handling.differing(expected, found) == 1
    Rebooking.of(
        {"carrier": "UA", "flight": 1, "origin": "EWR", "delay_minutes": 71},
        {"partition": 0, "offset": 1},
        priority=0,
    ).save()
    assert handling.differing(expected, handling.done({(0, 1): {}}, handling.Newest(0, 0))) == 2
