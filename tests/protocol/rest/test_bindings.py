"""Bindings over REST: making, listing, describing and removing them, and who may."""

from __future__ import annotations

import httpx
import pytest

from tests.protocol.rest.queueing import assert_refused, bind, exchange_of, limited, queue_of
from tests.server import Server, unique


def test_a_binding_is_made_once(api: httpx.Client) -> None:
    exchange, queue = exchange_of(api, type="headers"), queue_of(api)
    body = {"exchange": exchange, "queue": queue, "routing_key": "k", "arguments": {"x-match": "any", "a": 1}}
    made = api.post("/api/v1/bindings", json=body)
    assert made.status_code == 201
    found = made.json()
    assert found == body | {"id": found["id"], "to_exchange": None, "created_at": found["created_at"]}
    assert made.headers["location"] == f"/api/v1/bindings/{found['id']}"
    assert api.get(made.headers["location"]).json() == found
    again = api.post("/api/v1/bindings", json=body | {"arguments": {"a": 1, "x-match": "any"}, "to_exchange": None})
    assert (again.status_code, again.json()) == (200, found)
    assert api.post("/api/v1/bindings", json=body | {"routing_key": ""}).json()["id"] != found["id"]


def test_an_exchange_is_bound_to_an_exchange(api: httpx.Client) -> None:
    exchange, other = exchange_of(api), exchange_of(api)
    found = bind(api, exchange, to_exchange=other)
    assert (found["queue"], found["to_exchange"], found["routing_key"], found["arguments"]) == (None, other, "", {})


def test_a_removed_binding_routes_no_more(api: httpx.Client) -> None:
    exchange, queue = exchange_of(api), queue_of(api)
    binding = bind(api, exchange, queue=queue, routing_key="k")
    publish = {"messages": [{"routing_key": "k", "body": 1}]}
    assert api.post(f"/api/v1/exchanges/{exchange}/messages", json=publish).json()["results"][0]["queues"] == 1
    assert api.delete(f"/api/v1/bindings/{binding['id']}").status_code == 204
    assert api.post(f"/api/v1/exchanges/{exchange}/messages", json=publish).json()["results"][0]["queues"] == 0
    assert_refused(api.delete(f"/api/v1/bindings/{binding['id']}"), 404, "binding_not_found")


def test_bindings_are_listed_of_an_exchange_or_to_a_queue(api: httpx.Client) -> None:
    exchange, queue, other = exchange_of(api), queue_of(api), exchange_of(api)
    made = [bind(api, exchange, queue=queue, routing_key=key)["id"] for key in "ab"]
    made.append(bind(api, exchange, to_exchange=other)["id"])

    def listed(**query: str) -> list[int]:
        return [item["id"] for item in api.get("/api/v1/bindings", params=query).json()["items"]]

    assert listed(exchange=exchange) == made
    assert listed(queue=queue) == made[:2]
    assert listed(to_exchange=other) == made[2:]
    assert listed(exchange=exchange, queue=queue) == made[:2]
    assert listed(exchange=unique()) == []
    page = api.get("/api/v1/bindings", params={"exchange": exchange, "limit": "2"}).json()
    assert page["next"] == str(made[1])
    assert listed(exchange=exchange, after=page["next"]) == made[2:]
    assert listed(after=str(made[0] - 1), limit="3") == made


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"queue": None}, "invalid_value"),
        ({"to_exchange": "other"}, "invalid_value"),
        ({"exchange": ""}, "invalid_value"),
        ({"routing_key": "x" * 256}, "invalid_value"),
        ({"routing_key": 7}, "invalid_type"),
        ({"arguments": []}, "invalid_type"),
        ({"arguments": {"x-match": "some"}}, "invalid_value"),
        ({"destination": "q"}, "unknown_field"),
    ],
)
def test_a_binding_that_makes_no_sense_is_refused(api: httpx.Client, change: dict[str, object], code: str) -> None:
    exchange, queue = exchange_of(api, type="headers"), queue_of(api)
    answer = api.post("/api/v1/bindings", json={"exchange": exchange, "queue": queue, **change})
    assert_refused(answer, 422, code)


def test_both_ends_must_be_there(api: httpx.Client) -> None:
    exchange, queue = exchange_of(api), queue_of(api)
    for body, code in (
        ({"exchange": unique(), "queue": queue}, "exchange_not_found"),
        ({"exchange": exchange, "queue": unique()}, "queue_not_found"),
        ({"exchange": exchange, "to_exchange": unique()}, "exchange_not_found"),
    ):
        assert_refused(api.post("/api/v1/bindings", json=body), 404, code)


@pytest.mark.parametrize("number", ["0", str(2**63 - 1)])
def test_a_binding_that_is_not_there_is_not_found(api: httpx.Client, number: str) -> None:
    assert_refused(api.get(f"/api/v1/bindings/{number}"), 404, "binding_not_found")


def test_a_bindings_number_is_plain_decimal(api: httpx.Client) -> None:
    for number in ("01", "-1", "1.0", "x", str(2**63)):
        assert_refused(api.get(f"/api/v1/bindings/{number}"), 422, "invalid_value", "/binding_id")


def test_binding_takes_read_on_the_source_and_write_on_the_destination(api: httpx.Client, server: Server) -> None:
    exchange, queue = exchange_of(api), queue_of(api)
    body = {"exchange": exchange, "queue": queue}
    for grant in (("read", "exchange", exchange), ("write", "queue", queue)):
        with limited(api, server, grant) as half:
            assert_refused(half.post("/api/v1/bindings", json=body), 403, "forbidden")
            assert_refused(half.post("/api/v1/bindings", json=body | {"queue": unique()}), 403, "forbidden")
    with limited(api, server, ("read", "exchange", exchange), ("write", "queue", queue)) as both:
        binding = both.post("/api/v1/bindings", json=body).json()["id"]
        with limited(api, server, ("read", "exchange", exchange)) as half:
            assert_refused(half.get(f"/api/v1/bindings/{binding}"), 404, "binding_not_found")
            assert_refused(half.delete(f"/api/v1/bindings/{binding}"), 404, "binding_not_found")
            assert half.get("/api/v1/bindings").json()["items"] == []
        with limited(api, server, ("describe", "exchange", exchange), ("describe", "queue", queue)) as onlooker:
            assert [item["id"] for item in onlooker.get("/api/v1/bindings").json()["items"]] == [binding]
            assert_refused(onlooker.delete(f"/api/v1/bindings/{binding}"), 403, "forbidden")
        assert both.delete(f"/api/v1/bindings/{binding}").status_code == 204
