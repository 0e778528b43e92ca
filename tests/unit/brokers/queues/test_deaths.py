"""RabbitMQ's rules of dying: what is counted, what is written once, and where a ring is cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.queues.deaths import forwarded, is_cycle, record_death
from brokers.queues.message import Envelope, delivered_headers

REASONS = ("rejected", "expired", "maxlen", "delivery_limit")


def dying(*deaths: tuple[str, str], **fields: Any) -> Envelope:
    """A message that has died so often, each time in a queue and for a reason, ten seconds apart."""
    envelope = Envelope(exchange="flights", routing_key="delayed", **fields)
    for number, (queue, reason) in enumerate(deaths):
        envelope = record_death(envelope, queue, reason, 1000 + 10 * number)
    return envelope


def test_the_first_death_is_told_in_all_its_parts() -> None:
    headers = delivered_headers(dying(("q1", "expired"), expiration_ms=1500, headers={"a": 1}))
    assert headers == {
        "a": 1,
        "x-death": [
            {
                "count": 1,
                "reason": "expired",
                "queue": "q1",
                "time": 1000,
                "exchange": "flights",
                "routing-keys": ["delayed"],
                "original-expiration": "1500",
            }
        ],
        "x-first-death-queue": "q1",
        "x-first-death-reason": "expired",
        "x-first-death-exchange": "flights",
        "x-last-death-queue": "q1",
        "x-last-death-reason": "expired",
        "x-last-death-exchange": "flights",
    }


def test_the_same_death_again_counts_up_comes_first_and_keeps_what_it_said() -> None:
    once = dying(("q1", "rejected"), ("q2", "expired"))
    again = record_death(forwarded(once, "elsewhere", "other")[0], "q1", "rejected", 5000)
    assert [(death.queue, death.reason, death.count) for death in again.deaths] == [
        ("q1", "rejected", 2),
        ("q2", "expired", 1),
    ]
    newest = again.deaths[0]
    assert (newest.time, newest.exchange, newest.routing_keys) == (1000, "flights", ["delayed"])


def test_each_queue_and_reason_has_an_entry_of_its_own_newest_first() -> None:
    envelope = dying(("q1", "expired"), ("q1", "rejected"), ("q2", "expired"))
    assert [(death.queue, death.reason) for death in envelope.deaths] == [
        ("q2", "expired"),
        ("q1", "rejected"),
        ("q1", "expired"),
    ]


def test_the_first_death_stays_and_the_last_one_moves() -> None:
    first = dying(("q1", "maxlen"))
    envelope = record_death(forwarded(first, "", "q2")[0], "q2", "expired", 1010)
    headers = delivered_headers(envelope)
    assert [headers[f"x-first-death-{part}"] for part in ("queue", "reason", "exchange")] == ["q1", "maxlen", "flights"]
    assert [headers[f"x-last-death-{part}"] for part in ("queue", "reason", "exchange")] == ["q2", "expired", ""]


def test_an_expiration_is_taken_away_and_told_by_that_death_alone() -> None:
    envelope = dying(("q1", "expired"), ("q2", "expired"), expiration_ms=0)
    assert envelope.expiration_ms is None
    assert [death.original_expiration for death in envelope.deaths] == [None, "0"]
    assert "original-expiration" not in delivered_headers(envelope)["x-death"][0]


def test_a_death_tells_of_keys_in_cc_and_never_of_those_in_bcc() -> None:
    envelope = dying(("q1", "rejected"), headers={"CC": ["more", "delayed"], "BCC": ["secret"]})
    assert envelope.deaths[0].routing_keys == ["delayed", "more"]
    assert "BCC" not in delivered_headers(envelope)


def test_without_a_key_of_its_own_the_queue_passes_a_message_on_by_all_its_keys() -> None:
    envelope, keys = forwarded(dying(headers={"CC": ["more"], "BCC": ["secret"]}), "dlx", None)
    assert keys == ("delayed", "more", "secret")
    assert (envelope.exchange, envelope.routing_key) == ("dlx", "delayed")
    assert envelope.headers == {"CC": ["more"], "BCC": ["secret"]}


def test_a_dead_letter_routing_key_takes_the_place_of_all_keys() -> None:
    envelope, keys = forwarded(dying(headers={"CC": ["more"], "BCC": ["secret"], "a": 1}), "dlx", "dead")
    assert keys == ("dead",)
    assert (envelope.routing_key, envelope.headers) == ("dead", {"a": 1})


def test_a_clients_own_history_is_dropped_at_the_next_death() -> None:
    theirs = {"x-death": [{"queue": "q1", "reason": "rejected", "count": 41}]}
    assert delivered_headers(dying(headers=theirs))["x-death"] == theirs["x-death"]
    headers = delivered_headers(dying(("q1", "rejected"), headers=theirs))
    assert [entry["count"] for entry in headers["x-death"]] == [1]


@pytest.mark.parametrize("value", ["text", 5, None, [1, {"a": 2}], {}])
def test_what_an_edit_made_of_cc_does_no_harm(value: Any) -> None:
    assert forwarded(dying(headers={"CC": value}), "dlx", None)[1] == ("delayed",)


# -- rings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deaths", "target", "reason", "cut"),
    [
        ([("q1", "expired")], "q2", "expired", False),
        ([("q1", "expired")], "q1", "expired", True),
        ([("q1", "maxlen")], "q1", "maxlen", True),
        ([("q1", "delivery_limit")], "q1", "delivery_limit", True),
        ([("q1", "rejected")], "q1", "rejected", False),
        ([("q1", "expired"), ("q2", "expired")], "q1", "expired", True),
        ([("q1", "rejected"), ("q2", "expired")], "q1", "expired", False),
        ([("q1", "expired"), ("q2", "rejected"), ("q3", "expired")], "q1", "expired", False),
        ([("q3", "rejected"), ("q1", "expired"), ("q2", "expired")], "q1", "expired", True),
        ([("q1", "rejected"), ("q1", "expired")], "q1", "expired", True),
    ],
)
def test_a_ring_that_no_client_has_closed_is_cut(
    deaths: list[tuple[str, str]], target: str, reason: str, cut: bool
) -> None:
    assert is_cycle(dying(*deaths), target, reason) is cut


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(REASONS)), min_size=1, max_size=12))
def test_counts_add_up_to_all_deaths_and_the_newest_stands_first(deaths: list[tuple[str, str]]) -> None:
    envelope = dying(*deaths)
    counted = {(death.queue, death.reason): death.count for death in envelope.deaths}
    assert counted == {place: deaths.count(place) for place in deaths}
    newest_first = list(dict.fromkeys(reversed(deaths)))
    assert [(death.queue, death.reason) for death in envelope.deaths] == newest_first
    assert envelope.first_death is not None
    assert envelope.last_death is not None
    assert (envelope.first_death.queue, envelope.first_death.reason) == deaths[0]
    assert (envelope.last_death.queue, envelope.last_death.reason) == deaths[-1]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(REASONS[1:])), min_size=1, max_size=8),
    st.sampled_from("abc"),
)
def test_without_a_rejection_every_queue_of_the_history_is_closed(deaths: list[tuple[str, str]], target: str) -> None:
    assert is_cycle(dying(*deaths), target, deaths[-1][1]) is (target in {queue for queue, _ in deaths})
