"""The departures board of the flights example: its rows, their records, and the page that begins with both."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from brokers import declarations, publish_many, topic_log, topics
from brokers.errors import TopicNotFound
from brokers.models import Grant
from examples.flights import views
from examples.flights.departures import departures
from examples.flights.messaging import BOARD, DELAYS, DEPARTURES, count_departures
from examples.flights.models import Departure
from realtime import position, positions
from tests.listening import caught_up, listener, serving

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def declared() -> None:
    """Topics and queues of the example."""
    declarations.discover()
    declarations.reconcile()


@pytest.fixture
def counting() -> Iterator[None]:
    """The listener that keeps the board."""
    with serving(listener(count_departures, DEPARTURES, group=DELAYS, batch=True, not_retryable=(ValueError,))):
        yield


def published(rows: list[dict[str, Any]]) -> None:
    publish_many(DEPARTURES, [{"key": row["tailnum"], "value": row} for row in rows])
    caught_up(DELAYS)


def changes() -> list[dict[str, Any]]:
    """The values of all records of the board's topic."""
    info = topics.lookup(BOARD)
    read = [topic_log.read(info, partition, 0, 10_000).records for partition in range(len(info.partition_ids))]
    return [record.value for records in read for record in records]


def newest_first() -> list[Departure]:
    """All rows, ordered here as the page's script does."""
    rows = sorted(Departure.objects.order_by(), key=lambda row: row.id)
    return sorted(rows, key=lambda row: row.scheduled_at, reverse=True)


def test_a_departure_has_a_row_and_a_record_and_a_later_one_replaces_the_row(counting: None) -> None:
    rows = [row for row in departures() if row["dep_time"] is not None][:300]
    published(rows)
    assert Departure.objects.count() == len(changes()) == 300
    newest = views.board()["departures"]
    assert len(newest) == views.SHOWN
    assert [row["id"] for row in newest] == [row.id for row in newest_first()[: views.SHOWN]]

    published([rows[0] | {"dep_delay": 77}])
    assert Departure.objects.filter(delay_minutes=77, flight=f"{rows[0]['carrier']} {rows[0]['flight']}").count() == 1
    assert Departure.objects.count() == 300
    assert len(changes()) == 301


def test_a_record_that_cannot_be_counted_is_not_on_the_board(counting: None) -> None:
    row = next(row for row in departures() if row["dep_time"] is None)
    published([row])
    assert (Departure.objects.count(), changes()) == (0, [])
    published([row | {"cancelled": True}])
    assert [each["delay_minutes"] for each in changes()] == [None]


def test_the_position_is_where_the_topic_ends(counting: None) -> None:
    info = topics.lookup(BOARD)
    assert positions.decode(position(BOARD)) == positions.Position(info.id, (0, 0, 0))
    published(list(departures())[:50])
    found = positions.decode(views.board()["position"])
    assert found.offsets == tuple(topic_log.bounds(info, partition).latest for partition in range(3))
    assert sum(found.offsets) == len(changes()) > 0
    with pytest.raises(TopicNotFound):
        position("absent")


def test_the_page_holds_the_board_for_whoever_may_read_it(client: Client, counting: None) -> None:
    published(list(departures())[:50])
    answer = client.get("/flights/")
    assert (answer.status_code, answer["location"]) == (302, "/admin/login/?next=/flights/")

    user = User.objects.create_user("anna", is_staff=True)
    client.force_login(user)
    assert client.get("/flights/").status_code == 403
    Grant.objects.create(user=user, operation="read", resource_type="topic", name=BOARD)

    answer = client.get("/flights/")
    assert answer.status_code == 200
    assert "no-store" in answer["cache-control"]
    assert "script-src 'self'" in answer["content-security-policy"]
    held = re.search(r'<script id="board" type="application/json">(.*?)</script>', answer.content.decode())
    assert held is not None
    board = json.loads(held[1])
    assert (board["topic"], board["position"]) == (BOARD, position(BOARD))
    assert [row["id"] for row in board["departures"]] == [row["id"] for row in views.board()["departures"]]
    assert client.post("/flights/").status_code == 405
