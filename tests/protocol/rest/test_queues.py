"""Queues over REST: declaring, describing, pausing, emptying, moving and deleting them, and who may."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from tests.protocol.rest.queueing import assert_refused, bind, described, exchange_of, limited, put, queue_of, take
from tests.server import Server, unique

Json = dict[str, Any]
SETTINGS: Json = {
    "message_ttl_ms": None,
    "expires_ms": None,
    "max_length": None,
    "overflow": "drop-head",
    "dead_letter_exchange": None,
    "dead_letter_routing_key": None,
    "delivery_limit": 20,
}
DEFAULTS: Json = SETTINGS | {"max_priority": None, "single_active_consumer": False, "dead_letters": "unrouted"}
EMPTY: Json = {
    "policy": None,
    "paused": False,
    "temporary": False,
    "messages": 0,
    "ready": 0,
    "unacknowledged": 0,
    "delayed": 0,
    "consumers": 0,
    "oldest_ready_at": None,
}


def test_a_queue_is_made_with_the_defaults_of_the_contract(api: httpx.Client) -> None:
    name = unique("q")
    made = api.put(f"/api/v1/queues/{name}", json={})
    assert made.status_code == 201
    assert made.headers["location"] == f"/api/v1/queues/{name}"
    found = made.json()
    assert found == {"name": name, **DEFAULTS, "effective": SETTINGS, **EMPTY, "created_at": found["created_at"]}
    assert abs((datetime.now(UTC) - datetime.fromisoformat(found["created_at"])).total_seconds()) < 60
    again = api.put(f"/api/v1/queues/{name}", json=DEFAULTS)
    assert (again.status_code, again.json()) == (200, found)
    assert described(api, name) == found


def test_a_queue_is_made_as_it_is_declared(api: httpx.Client) -> None:
    declared: Json = {
        "message_ttl_ms": 0,
        "expires_ms": 315_360_000_000,
        "max_length": 0,
        "overflow": "reject-publish",
        "dead_letter_exchange": "",
        "dead_letter_routing_key": "elsewhere",
        "delivery_limit": -1,
        "max_priority": 255,
        "single_active_consumer": True,
        "dead_letters": "none",
    }
    name = queue_of(api, **declared)
    found = described(api, name)
    assert found | declared == found
    assert found["effective"] == {setting: declared[setting] for setting in SETTINGS}
    assert api.put(f"/api/v1/queues/{name}", json=declared).status_code == 200


@pytest.mark.parametrize("other", [{"max_length": 9}, {"message_ttl_ms": None}, {"max_priority": 3}])
def test_another_declaration_of_the_same_name_is_a_conflict(api: httpx.Client, other: Json) -> None:
    name = queue_of(api, message_ttl_ms=1000)
    refused = api.put(f"/api/v1/queues/{name}", json={"message_ttl_ms": 1000, **other})
    assert_refused(refused, 409, "precondition_failed", f"/{next(iter(other))}")
    assert described(api, name)["message_ttl_ms"] == 1000


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"message_ttl_ms": -1}, "invalid_value", "/message_ttl_ms"),
        ({"message_ttl_ms": "1"}, "invalid_type", "/message_ttl_ms"),
        ({"message_ttl_ms": True}, "invalid_type", "/message_ttl_ms"),
        ({"message_ttl_ms": 315_360_000_001}, "invalid_value", "/message_ttl_ms"),
        ({"expires_ms": 0}, "invalid_value", "/expires_ms"),
        ({"max_length": -1}, "invalid_value", "/max_length"),
        ({"overflow": "reject-publish-dlx"}, "invalid_value", "/overflow"),
        ({"max_priority": 256}, "invalid_value", "/max_priority"),
        ({"delivery_limit": -2}, "invalid_value", "/delivery_limit"),
        ({"dead_letter_exchange": "a b"}, "invalid_value", "/dead_letter_exchange"),
        ({"dead_letter_routing_key": "k"}, "invalid_value", "/dead_letter_routing_key"),
        ({"dead_letter_exchange": "", "dead_letter_routing_key": "a\0"}, "invalid_value", "/dead_letter_routing_key"),
        ({"dead_letters": "all"}, "invalid_value", "/dead_letters"),
        ({"single_active_consumer": None}, "invalid_type", "/single_active_consumer"),
        ({"durable": True}, "unknown_field", "/durable"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(api: httpx.Client, body: Json, code: str, pointer: str) -> None:
    name = unique("q")
    assert_refused(api.put(f"/api/v1/queues/{name}", json=body), 422, code, pointer)
    assert_refused(api.get(f"/api/v1/queues/{name}"), 404, "queue_not_found")


@pytest.mark.parametrize("path", ["a%2Fb", "%2E%2E", "a%00", "x" * 250, "a%0A", "%D0%BE"])
def test_a_name_outside_of_the_rule_is_refused(api: httpx.Client, path: str) -> None:
    assert_refused(api.put(f"/api/v1/queues/{path}", json={}), 422, "invalid_name", "/queue")


def test_queues_are_listed_by_name_in_pages(api: httpx.Client) -> None:
    prefix = unique("q")
    names = [queue_of(api, f"{prefix}.{letter}") for letter in "abc"]
    put(api, names[1], 1, 2)
    page = api.get("/api/v1/queues", params={"after": prefix, "limit": 2}).json()
    assert [(item["name"], item["ready"]) for item in page["items"]] == [(names[0], 0), (names[1], 2)]
    rest = api.get("/api/v1/queues", params={"after": page["next"], "limit": 1}).json()
    assert [item["name"] for item in rest["items"]] == names[2:]


def test_a_queue_tells_what_waits_in_it(api: httpx.Client) -> None:
    name = queue_of(api, max_priority=5)
    before = datetime.now(UTC)
    put(api, name, 1)
    put(api, name, 2, 3, priority=5)
    put(api, name, 4, delay_ms=600_000)
    found = described(api, name)
    assert (found["ready"], found["unacknowledged"], found["delayed"], found["messages"]) == (3, 0, 1, 4)
    oldest = datetime.fromisoformat(found["oldest_ready_at"])
    assert abs((oldest - before).total_seconds()) < 60
    take(api, name, limit=2)
    found = described(api, name)
    assert (found["ready"], found["unacknowledged"], found["delayed"]) == (1, 2, 1)
    assert datetime.fromisoformat(found["oldest_ready_at"]) == oldest


def test_a_paused_queue_hands_out_nothing_and_takes_everything(api: httpx.Client) -> None:
    name = queue_of(api)
    paused = api.post(f"/api/v1/queues/{name}/pause")
    assert (paused.status_code, paused.json()["paused"]) == (200, True)
    put(api, name, "later")
    assert take(api, name) == []
    assert api.post(f"/api/v1/queues/{name}/resume").json()["paused"] is False
    assert [message["body"] for message in take(api, name)] == ["later"]
    for verb in ("pause", "resume"):
        assert_refused(api.post(f"/api/v1/queues/{unique()}/{verb}"), 404, "queue_not_found")


def test_a_purge_spares_what_is_claimed(api: httpx.Client) -> None:
    name = queue_of(api)
    put(api, name, 1, 2, 3)
    put(api, name, 4, delay_ms=600_000)
    (held,) = take(api, name)
    assert api.delete(f"/api/v1/queues/{name}/messages").status_code == 204
    assert (described(api, name)["messages"], described(api, name)["unacknowledged"]) == (1, 1)
    acked = api.post(f"/api/v1/queues/{name}/acks", json={"claims": [held["claim"]]})
    assert acked.json() == {"acked": 1, "stale": []}
    assert_refused(api.delete(f"/api/v1/queues/{unique()}/messages"), 404, "queue_not_found")


def test_messages_are_moved_to_another_queue(api: httpx.Client) -> None:
    source, target = queue_of(api), queue_of(api)
    put(api, source, 1, 2, 3, correlation_id="c")
    moved = api.post(f"/api/v1/queues/{source}/moves", json={"to": target, "limit": 2})
    assert (moved.status_code, moved.json()) == (200, {"moved": 2})
    assert [(message["body"], message["correlation_id"]) for message in take(api, target, limit=9)] == [
        (1, "c"),
        (2, "c"),
    ]
    assert api.post(f"/api/v1/queues/{source}/moves", json={"to": target}).json() == {"moved": 1}
    assert described(api, source)["messages"] == 0
    assert_refused(api.post(f"/api/v1/queues/{source}/moves", json={"to": unique()}), 404, "queue_not_found")
    assert_refused(api.post(f"/api/v1/queues/{unique()}/moves", json={"to": target}), 404, "queue_not_found")
    assert_refused(api.post(f"/api/v1/queues/{source}/moves", json={"to": ""}), 422, "invalid_value", "/to")


def test_a_queue_is_deleted_if_it_is_empty(api: httpx.Client) -> None:
    name, exchange = queue_of(api), exchange_of(api)
    bind(api, exchange, queue=name, routing_key="k")
    put(api, name, 1)
    assert_refused(api.delete(f"/api/v1/queues/{name}", params={"if_empty": "1"}), 409, "queue_not_empty")
    api.delete(f"/api/v1/queues/{name}/messages")
    answer = api.delete(f"/api/v1/queues/{name}", params={"if_empty": "1", "if_unused": "1"})
    assert answer.status_code == 204, answer.text
    assert_refused(api.get(f"/api/v1/queues/{name}"), 404, "queue_not_found")
    assert api.get(f"/api/v1/exchanges/{exchange}").json()["bindings"] == 0


def test_a_queue_is_deleted_with_what_is_in_it(api: httpx.Client) -> None:
    name = queue_of(api)
    put(api, name, 1)
    (held,) = take(api, name)
    put(api, name, 2)
    assert api.delete(f"/api/v1/queues/{name}").status_code == 204
    for call in (
        api.post(f"/api/v1/queues/{name}/messages", json={"messages": [{"body": 1}]}),
        api.post(f"/api/v1/queues/{name}/claims", json={}),
        api.post(f"/api/v1/queues/{name}/acks", json={"claims": [held["claim"]]}),
        api.get(f"/api/v1/queues/{name}/messages"),
        api.delete(f"/api/v1/queues/{name}"),
    ):
        assert_refused(call, 404, "queue_not_found")
    queue_of(api, name)
    assert take(api, name, limit=10) == []


# -- permissions ----------------------------------------------------------------------------------------------------

CALLS: list[tuple[str, str, Json | None, tuple[str, ...]]] = [
    ("GET", "", None, ("describe", "read", "write", "alter", "delete")),
    ("DELETE", "", None, ("delete",)),
    ("POST", "/pause", None, ("alter",)),
    ("POST", "/resume", None, ("alter",)),
    ("GET", "/messages", None, ("read", "view_payload")),
    ("DELETE", "/messages", None, ("delete",)),
    ("POST", "/messages", {"messages": [{"body": 1}]}, ("write",)),
    ("POST", "/claims", {}, ("read",)),
    ("POST", "/acks", {"claims": ["1.0"]}, ("read",)),
    ("POST", "/nacks", {"claims": ["1.0"]}, ("read",)),
    ("POST", "/leases", {"claims": ["1.0"]}, ("read",)),
]
OPERATIONS = ("read", "write", "describe", "create", "alter", "delete", "replay", "view_payload")


@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_call_takes_its_operation_on_the_queue(api: httpx.Client, server: Server, operation: str) -> None:
    name, absent = queue_of(api), unique("q")
    with limited(api, server, (operation, "queue", name), (operation, "queue", absent)) as holder:
        for method, path, body, enough in CALLS:
            permitted = operation in enough or (operation == "replay" and not path and method == "GET")
            answer = holder.request(method, f"/api/v1/queues/{name}{path}", json=body)
            assert (answer.status_code != 403) == permitted, (method, path, answer.text)
            if permitted and method == "DELETE" and not path:
                queue_of(api, name)
            unknown = holder.request(method, f"/api/v1/queues/{absent}{path}", json=body)
            assert unknown.status_code == (404 if permitted else 403), (method, path, unknown.text)


def test_moving_takes_read_and_delete_here_and_write_there(api: httpx.Client, server: Server) -> None:
    source, target = queue_of(api), queue_of(api)
    needed = [("read", "queue", source), ("delete", "queue", source), ("write", "queue", target)]
    for missing in needed:
        with limited(api, server, *(grant for grant in needed if grant != missing)) as half:
            answer = half.post(f"/api/v1/queues/{source}/moves", json={"to": target})
            assert_refused(answer, 403, "forbidden")
    with limited(api, server, *needed) as whole:
        assert whole.post(f"/api/v1/queues/{source}/moves", json={"to": target}).status_code == 200


def test_declaring_takes_create_and_write_on_the_dead_letter_exchange(api: httpx.Client, server: Server) -> None:
    there, new, dead = queue_of(api), unique("q"), exchange_of(api)
    with limited(api, server, ("describe", "queue", there), ("describe", "queue", new)) as reader:
        assert reader.put(f"/api/v1/queues/{there}", json={}).status_code == 200
        assert_refused(reader.put(f"/api/v1/queues/{there}", json={"max_length": 1}), 409, "precondition_failed")
        assert_refused(reader.put(f"/api/v1/queues/{new}", json={}), 403, "forbidden")
        assert_refused(reader.put(f"/api/v1/queues/{unique()}", json={}), 403, "forbidden")
    assert api.get(f"/api/v1/queues/{new}").status_code == 404
    with limited(api, server, ("create", "queue", new), ("describe", "queue", new)) as maker:
        body = {"dead_letter_exchange": dead}
        assert_refused(maker.put(f"/api/v1/queues/{new}", json=body), 403, "forbidden")
        # The default exchange leads into any queue.
        assert_refused(maker.put(f"/api/v1/queues/{new}", json={"dead_letter_exchange": ""}), 403, "forbidden")
        assert maker.put(f"/api/v1/queues/{new}", json={}).status_code == 201


def test_a_list_holds_what_the_caller_may_describe(api: httpx.Client, server: Server) -> None:
    mine = queue_of(api)
    queue_of(api, f"{mine}-other")
    with limited(api, server, ("write", "queue", mine)) as writer:
        assert [item["name"] for item in writer.get("/api/v1/queues").json()["items"]] == [mine]
