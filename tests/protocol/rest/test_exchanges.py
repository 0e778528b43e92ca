"""Exchanges over REST: declaring, listing, describing, deleting them, and asking where a message would go."""

from __future__ import annotations

import httpx
import pytest

from tests.protocol.rest.queueing import assert_refused, bind, exchange_of, limited, put, queue_of
from tests.server import Server, unique


def test_declaring_makes_an_exchange_once(api: httpx.Client) -> None:
    name = unique("x")
    made = api.put(f"/api/v1/exchanges/{name}", json={"type": "topic"})
    assert made.status_code == 201
    assert made.headers["location"] == f"/api/v1/exchanges/{name}"
    created_at = made.json()["created_at"]
    expected = {"name": name, "type": "topic", "alternate_exchange": None, "bindings": 0, "created_at": created_at}
    assert made.json() == expected
    again = api.put(f"/api/v1/exchanges/{name}", json={"type": "topic", "alternate_exchange": None})
    assert (again.status_code, again.json()) == (200, expected)
    assert api.get(f"/api/v1/exchanges/{name}").json() == expected


def test_an_exchange_is_direct_unless_told_otherwise(api: httpx.Client) -> None:
    name = exchange_of(api)
    assert api.get(f"/api/v1/exchanges/{name}").json()["type"] == "direct"
    assert api.put(f"/api/v1/exchanges/{name}", json={"type": "direct"}).status_code == 200


@pytest.mark.parametrize("other", [{"type": "fanout"}, {"type": "topic", "alternate_exchange": "elsewhere"}])
def test_another_declaration_of_the_same_name_is_a_conflict(api: httpx.Client, other: dict[str, str]) -> None:
    name = exchange_of(api, type="topic")
    assert_refused(api.put(f"/api/v1/exchanges/{name}", json=other), 409, "precondition_failed")
    assert api.get(f"/api/v1/exchanges/{name}").json()["type"] == "topic"


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"type": "x-delayed"}, "invalid_value", "/type"),
        ({"type": None}, "invalid_type", "/type"),
        ({"durable": True}, "unknown_field", "/durable"),
        ({"alternate_exchange": "a/b"}, "invalid_value", "/alternate_exchange"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(
    api: httpx.Client, body: dict[str, object], code: str, pointer: str
) -> None:
    assert_refused(api.put(f"/api/v1/exchanges/{unique('x')}", json=body), 422, code, pointer)


@pytest.mark.parametrize("path", ["a%2Fb", "%2E%2E", "a%00", "x" * 250, "a%0A"])
def test_a_name_outside_of_the_rule_is_refused(api: httpx.Client, path: str) -> None:
    assert_refused(api.put(f"/api/v1/exchanges/{path}", json={}), 422, "invalid_name", "/exchange")


def test_the_default_exchange_has_no_path(api: httpx.Client) -> None:
    assert_refused(api.put("/api/v1/exchanges/", json={}), 404, "not_found")


def test_exchanges_are_listed_by_name_in_pages(api: httpx.Client) -> None:
    prefix = unique("x")
    names = [exchange_of(api, f"{prefix}.{letter}") for letter in "abc"]
    page = api.get("/api/v1/exchanges", params={"after": prefix, "limit": 2}).json()
    assert [item["name"] for item in page["items"]] == names[:2]
    rest = api.get("/api/v1/exchanges", params={"after": page["next"], "limit": 1}).json()
    assert [item["name"] for item in rest["items"]] == names[2:]


def test_a_deleted_exchange_is_gone_with_its_bindings(api: httpx.Client) -> None:
    name, queue = exchange_of(api), queue_of(api)
    binding = bind(api, name, queue=queue, routing_key="k")
    assert api.get(f"/api/v1/exchanges/{name}").json()["bindings"] == 1
    kept = api.delete(f"/api/v1/exchanges/{name}", params={"if_unused": "1"})
    assert_refused(kept, 409, "resource_in_use")
    assert api.delete(f"/api/v1/exchanges/{name}").status_code == 204
    assert_refused(api.get(f"/api/v1/exchanges/{name}"), 404, "exchange_not_found")
    assert_refused(api.delete(f"/api/v1/exchanges/{name}"), 404, "exchange_not_found")
    assert_refused(api.get(f"/api/v1/bindings/{binding['id']}"), 404, "binding_not_found")
    answer = api.post(f"/api/v1/exchanges/{name}/messages", json={"messages": [{"body": 1}]})
    assert_refused(answer, 404, "exchange_not_found")


def test_an_unused_exchange_can_be_deleted_if_unused(api: httpx.Client) -> None:
    name = exchange_of(api)
    assert_refused(api.delete(f"/api/v1/exchanges/{name}", params={"if_unused": "yes"}), 422, "invalid_value")
    assert api.delete(f"/api/v1/exchanges/{name}", params={"if_unused": "true"}).status_code == 204


# -- the route tester -----------------------------------------------------------------------------------------------


def test_the_route_tester_names_queues_and_why(api: httpx.Client) -> None:
    flights, copies = exchange_of(api, type="topic"), exchange_of(api, type="fanout")
    late, every = queue_of(api), queue_of(api)
    by_key = bind(api, flights, queue=late, routing_key="flight.*.UA")
    onward = bind(api, flights, to_exchange=copies, routing_key="flight.#")
    bind(api, copies, queue=every)
    bind(api, flights, queue=every, routing_key="train.#")
    answer = api.post(f"/api/v1/exchanges/{flights}/routes", json={"routing_key": "flight.EWR.UA"})
    assert answer.status_code == 200
    found = answer.json()
    assert sorted(found["queues"]) == sorted([late, every])
    steps = {step["binding_id"]: step for step in found["steps"]}
    assert {by_key["id"], onward["id"]} < set(steps)
    assert steps[by_key["id"]]["queue"] == late
    assert steps[by_key["id"]]["routing_key"] == "flight.*.UA"
    assert steps[onward["id"]]["to_exchange"] == copies
    assert all(step["why"] for step in steps.values())


def test_the_route_tester_compares_headers(api: httpx.Client) -> None:
    exchange, queue = exchange_of(api, type="headers"), queue_of(api)
    bind(api, exchange, queue=queue, arguments={"x-match": "all", "carrier": "UA", "seats": 2})
    for headers, expected in (
        ({"carrier": "UA", "seats": 2.0, "more": None}, [queue]),
        ({"carrier": "UA", "seats": "2"}, []),
        ({"carrier": "UA"}, []),
    ):
        answer = api.post(f"/api/v1/exchanges/{exchange}/routes", json={"headers": headers})
        assert answer.json()["queues"] == expected, answer.text


def test_the_route_tester_publishes_nothing_and_shows_the_alternate(api: httpx.Client) -> None:
    lost, queue = exchange_of(api, type="fanout"), queue_of(api)
    bind(api, lost, queue=queue)
    exchange = exchange_of(api, alternate_exchange=lost)
    found = api.post(f"/api/v1/exchanges/{exchange}/routes", json={"routing_key": "k"}).json()
    assert found["queues"] == [queue]
    assert (found["steps"][0]["to_exchange"], found["steps"][0]["binding_id"]) == (lost, None)
    assert api.get(f"/api/v1/queues/{queue}").json()["messages"] == 0
    assert_refused(api.post(f"/api/v1/exchanges/{unique()}/routes", json={}), 404, "exchange_not_found")


# -- permissions ----------------------------------------------------------------------------------------------------


def test_declaring_takes_create_and_declaring_again_describe(api: httpx.Client, server: Server) -> None:
    there, new = exchange_of(api), unique("x")
    with limited(api, server, ("describe", "exchange", there), ("describe", "exchange", new)) as reader:
        assert reader.put(f"/api/v1/exchanges/{there}", json={}).status_code == 200
        assert_refused(reader.put(f"/api/v1/exchanges/{there}", json={"type": "topic"}), 409, "precondition_failed")
        assert_refused(reader.put(f"/api/v1/exchanges/{new}", json={}), 403, "forbidden")
    assert api.get(f"/api/v1/exchanges/{new}").status_code == 404
    with limited(api, server, ("create", "exchange", new)) as maker:
        body = {"alternate_exchange": there}
        assert_refused(maker.put(f"/api/v1/exchanges/{new}", json=body), 403, "forbidden")
        assert maker.put(f"/api/v1/exchanges/{new}", json={}).status_code == 201


def test_nobody_learns_of_what_they_may_not_describe(api: httpx.Client, server: Server) -> None:
    mine, queue = exchange_of(api, type="fanout"), queue_of(api)
    other = exchange_of(api, f"{mine}-other")
    bind(api, mine, queue=queue)
    with limited(api, server, ("read", "exchange", mine)) as reader:
        assert [item["name"] for item in reader.get("/api/v1/exchanges").json()["items"]] == [mine]
        for name in (other, unique("x")):
            assert_refused(reader.get(f"/api/v1/exchanges/{name}"), 403, "forbidden")
            assert_refused(reader.delete(f"/api/v1/exchanges/{name}"), 403, "forbidden")
            assert_refused(reader.put(f"/api/v1/exchanges/{name}", json={}), 403, "forbidden")
            publish = reader.post(f"/api/v1/exchanges/{name}/messages", json={"messages": [{"body": 1}]})
            assert_refused(publish, 403, "forbidden")
        found = reader.post(f"/api/v1/exchanges/{mine}/routes", json={}).json()
        assert found == {"queues": [], "steps": []}
    put(api, queue, 1)
