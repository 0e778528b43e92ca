"""Policies over REST: putting, listing, describing and removing them, and what they do to queues."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.protocol.rest.queueing import assert_refused, described, limited, put, queue_of, take
from tests.server import Server, unique

Json = dict[str, Any]


@pytest.fixture
def policy(api: httpx.Client) -> Iterator[str]:
    """A name for a policy, which is removed afterwards: policies hold for the queues of other tests, too."""
    name = unique("p")
    yield name
    api.delete(f"/api/v1/policies/{name}")


def test_a_policy_holds_for_queues_that_match(api: httpx.Client, policy: str) -> None:
    prefix = unique("q")
    queue, other = queue_of(api, f"{prefix}.in"), queue_of(api)
    body = {"pattern": f"^{prefix}\\.", "message_ttl_ms": 5000, "overflow": "reject-publish", "max_length": 1}
    made = api.put(f"/api/v1/policies/{policy}", json=body)
    assert made.status_code == 201
    assert made.headers["location"] == f"/api/v1/policies/{policy}"
    nothing = dict.fromkeys(("expires_ms", "dead_letter_exchange", "dead_letter_routing_key", "delivery_limit"))
    created_at = made.json()["created_at"]
    expected = {"name": policy, "priority": 0, **nothing, **body, "created_at": created_at}
    assert made.json() == expected
    assert api.get(f"/api/v1/policies/{policy}").json() == expected
    found = described(api, queue)
    assert (found["policy"], found["message_ttl_ms"], found["effective"]["message_ttl_ms"]) == (policy, None, 5000)
    assert (found["overflow"], found["effective"]["overflow"]) == ("drop-head", "reject-publish")
    assert described(api, other)["policy"] is None
    put(api, queue, 1)
    full = api.post(f"/api/v1/queues/{queue}/messages", json={"messages": [{"body": 2}]})
    assert_refused(full, 429, "queue_full")
    assert full.headers["retry-after"]
    assert [message["body"] for message in take(api, queue, limit=5)] == [1]


def test_putting_a_policy_again_replaces_it(api: httpx.Client, policy: str) -> None:
    prefix = unique("q")
    queue = queue_of(api, f"{prefix}.in", max_length=10)
    assert api.put(f"/api/v1/policies/{policy}", json={"pattern": prefix, "max_length": 3}).status_code == 201
    assert described(api, queue)["effective"]["max_length"] == 3
    again = api.put(f"/api/v1/policies/{policy}", json={"pattern": prefix, "delivery_limit": 4})
    assert (again.status_code, again.json()["max_length"]) == (200, None)
    assert (
        described(api, queue)["effective"] | {"max_length": 10, "delivery_limit": 4}
        == described(api, queue)["effective"]
    )
    assert api.delete(f"/api/v1/policies/{policy}").status_code == 204
    assert (described(api, queue)["policy"], described(api, queue)["effective"]["delivery_limit"]) == (None, 20)
    for call in (api.get(f"/api/v1/policies/{policy}"), api.delete(f"/api/v1/policies/{policy}")):
        assert_refused(call, 404, "policy_not_found")


def test_policies_are_listed_by_name(api: httpx.Client, policy: str) -> None:
    api.put(f"/api/v1/policies/{policy}", json={"pattern": "^nothing$", "max_length": 3})
    page = api.get("/api/v1/policies", params={"after": policy[:-1], "limit": 1}).json()
    assert [item["name"] for item in page["items"]] == [policy]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"pattern": "^nothing$"}, "invalid_value"),
        ({"pattern": "(", "max_length": 1}, "invalid_value"),
        ({"pattern": "(a)\\1", "max_length": 1}, "invalid_value"),
        ({"pattern": "", "max_length": 1}, "invalid_value"),
        ({"pattern": "a\0", "max_length": 1}, "invalid_value"),
        ({"max_length": 1}, "invalid_value"),
        ({"pattern": "a", "max_length": "1"}, "invalid_type"),
        ({"pattern": "a", "max_priority": 1}, "unknown_field"),
        ({"pattern": "a", "max_length": 1, "priority": 2**31}, "invalid_value"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(api: httpx.Client, policy: str, body: Json, code: str) -> None:
    assert_refused(api.put(f"/api/v1/policies/{policy}", json=body), 422, code)
    assert_refused(api.get(f"/api/v1/policies/{policy}"), 404, "policy_not_found")


def test_policies_are_the_servers(api: httpx.Client, server: Server, policy: str) -> None:
    body = {"pattern": "^nothing$", "max_length": 3}
    with limited(api, server, ("describe", "server", "")) as onlooker:
        assert_refused(onlooker.put(f"/api/v1/policies/{policy}", json=body), 403, "forbidden")
        assert_refused(onlooker.delete(f"/api/v1/policies/{policy}"), 403, "forbidden")
        assert onlooker.get("/api/v1/policies").status_code == 200
    with limited(api, server, ("alter", "server", "")) as operator:
        assert operator.put(f"/api/v1/policies/{policy}", json=body).status_code == 201
        assert operator.get(f"/api/v1/policies/{policy}").status_code == 200
        assert operator.delete(f"/api/v1/policies/{policy}").status_code == 204
    with limited(api, server, ("alter", "queue", policy)) as other:
        assert_refused(other.get("/api/v1/policies"), 403, "forbidden")
