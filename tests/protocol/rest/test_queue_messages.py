"""Claiming, settling and looking at messages over REST."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.protocol.rest.queueing import assert_refused, bind, described, exchange_of, limited, put, queue_of, take
from tests.protocol.rest.raw_http import connect, head
from tests.server import Server

Json = dict[str, Any]


@pytest.fixture
def queue(api: httpx.Client) -> str:
    return queue_of(api)


def settle(api: httpx.Client, queue: str, how: str, *claims: str, **said: Any) -> Json:
    answer = api.post(f"/api/v1/queues/{queue}/{how}", json={"claims": list(claims), **said})
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        threading.Event().wait(0.02)


# -- claiming -------------------------------------------------------------------------------------------------------


def test_a_claimed_message_is_nobody_elses(api: httpx.Client, queue: str) -> None:
    put(api, queue, "a", "b", "c")
    first = take(api, queue)
    others = take(api, queue, limit=10)
    assert [message["body"] for message in first + others] == ["a", "b", "c"]
    assert take(api, queue) == []
    assert len({message["claim"] for message in first + others}) == 3
    assert all((message["delivery_count"], message["redelivered"]) == (1, False) for message in first + others)


def test_an_acknowledged_message_is_gone(api: httpx.Client, queue: str) -> None:
    put(api, queue, 1, 2)
    claims = [message["claim"] for message in take(api, queue, limit=2)]
    assert settle(api, queue, "acks", *claims) == {"acked": 2, "stale": []}
    assert described(api, queue)["messages"] == 0
    assert settle(api, queue, "acks", *claims) == {"acked": 0, "stale": claims}


def test_a_lapsed_claim_is_stale_once_another_has_taken_the_message(api: httpx.Client, queue: str) -> None:
    put(api, queue, "x")
    (first,) = take(api, queue, lease_ms=1)
    (second,) = take(api, queue, wait_ms=20_000)
    assert (second["id"], second["redelivered"], second["delivery_count"]) == (first["id"], True, 2)
    assert second["claim"] != first["claim"]
    for how, count in (("acks", "acked"), ("nacks", "nacked"), ("leases", "extended")):
        assert settle(api, queue, how, first["claim"]) == {count: 0, "stale": [first["claim"]]}
    rejected = settle(api, queue, "nacks", first["claim"], requeue=False)
    assert rejected == {"nacked": 0, "stale": [first["claim"]]}
    both = settle(api, queue, "acks", first["claim"], second["claim"])
    assert both == {"acked": 1, "stale": [first["claim"]]}


def test_a_claim_of_another_queue_or_of_nobody_is_stale(api: httpx.Client, queue: str) -> None:
    other = queue_of(api)
    put(api, queue, 1)
    (held,) = take(api, queue)
    made_up = ["", "1", f"{2**63}.{'0' * 32}", f"1.{'0' * 32}", "é\0", held["claim"] + "0"]
    assert settle(api, queue, "acks", *made_up) == {"acked": 0, "stale": made_up}
    assert settle(api, other, "acks", held["claim"]) == {"acked": 0, "stale": [held["claim"]]}
    assert settle(api, queue, "acks", held["claim"], held["claim"]) == {"acked": 1, "stale": []}


def test_an_extended_lease_lasts(api: httpx.Client, queue: str) -> None:
    put(api, queue, 1)
    (held,) = take(api, queue, lease_ms=1000)
    answer = settle(api, queue, "leases", held["claim"], lease_ms=600_000)
    assert answer == {"extended": 1, "stale": []}
    (seen,) = api.get(f"/api/v1/queues/{queue}/messages").json()["items"]
    assert (seen["state"], seen["holder"] is not None) == ("unacknowledged", True)
    assert take(api, queue, wait_ms=1500) == []
    assert settle(api, queue, "acks", held["claim"]) == {"acked": 1, "stale": []}


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"limit": 0}, "invalid_value", "/limit"),
        ({"limit": True}, "invalid_type", "/limit"),
        ({"lease_ms": 0}, "invalid_value", "/lease_ms"),
        ({"lease_ms": 86_400_001}, "invalid_value", "/lease_ms"),
        ({"wait_ms": 30_001}, "invalid_value", "/wait_ms"),
        ({"wait_ms": -1}, "invalid_value", "/wait_ms"),
        ({"consumer": ""}, "invalid_value", "/consumer"),
        ({"max": 1}, "unknown_field", "/max"),
    ],
)
def test_a_claim_that_makes_no_sense_is_refused(
    api: httpx.Client, queue: str, body: Json, code: str, pointer: str
) -> None:
    assert_refused(api.post(f"/api/v1/queues/{queue}/claims", json=body), 422, code, pointer)


@pytest.mark.parametrize("how", ["acks", "nacks", "leases"])
def test_1_to_1000_claims_fit_in_one_request(api: httpx.Client, queue: str, how: str) -> None:
    path = f"/api/v1/queues/{queue}/{how}"
    assert_refused(api.post(path, json={"claims": []}), 422, "invalid_value", "/claims")
    assert_refused(api.post(path, json={"claims": [1]}), 422, "invalid_type", "/claims/0")
    assert_refused(api.post(path, json={"claims": ["x"] * 1001}), 413, "batch_too_large")
    assert_refused(api.post(path, json={}), 422, "invalid_value", "/claims")
    assert len(settle(api, queue, how, *map(str, range(1000)))["stale"]) == 1000


# -- waiting --------------------------------------------------------------------------------------------------------


def test_a_held_claim_is_answered_when_a_message_comes(api: httpx.Client, server: Server, queue: str) -> None:
    found: list[Json] = []

    def wait() -> None:
        with server.client() as waiting:
            found.extend(take(waiting, queue, wait_ms=25_000))

    waiter = threading.Thread(target=wait)
    waiter.start()
    began = time.monotonic()
    put(api, queue, "at last")
    waiter.join(20)
    assert [message["body"] for message in found] == ["at last"]
    assert time.monotonic() - began < 15


def test_a_held_claim_ends_with_its_time(api: httpx.Client, queue: str) -> None:
    began = time.monotonic()
    assert take(api, queue, wait_ms=300) == []
    assert 0.29 < time.monotonic() - began < 15


def test_a_caller_that_goes_away_leaves_no_claim_behind(api: httpx.Client, server: Server, queue: str) -> None:
    body = json.dumps({"wait_ms": 30_000, "lease_ms": 600_000}).encode()
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}")
    request = head("POST", f"/api/v1/queues/{queue}/claims", server.admin_token, *lines) + body
    connections = [connect(server) for _ in range(10)]
    for connection in connections:
        connection.sendall(request)
    with server.client() as waiting:  # so they are behind this one's arrival, and waiting
        assert take(waiting, queue, wait_ms=200) == []
    for connection in connections:
        connection.close()
    put(api, queue, *range(10))
    got: set[int] = set()

    def all_there() -> bool:
        got.update(message["body"] for message in take(api, queue, limit=10, lease_ms=600_000))
        return len(got) == 10

    until(all_there)


def test_a_queue_that_is_deleted_meanwhile_ends_a_held_claim(api: httpx.Client, server: Server, queue: str) -> None:
    answers: list[httpx.Response] = []

    def wait() -> None:
        with server.client() as waiting:
            answers.append(waiting.post(f"/api/v1/queues/{queue}/claims", json={"wait_ms": 25_000}))

    waiter = threading.Thread(target=wait)
    waiter.start()
    assert take(api, queue, wait_ms=100) == []
    api.delete(f"/api/v1/queues/{queue}")
    waiter.join(20)
    assert_refused(answers[0], 404, "queue_not_found")


# -- giving back and giving up --------------------------------------------------------------------------------------


def test_a_requeued_message_keeps_its_place_and_does_not_count(api: httpx.Client) -> None:
    queue = queue_of(api, delivery_limit=0)
    put(api, queue, "a", "b")
    for count in range(1, 4):
        (message,) = take(api, queue)
        assert (message["body"], message["delivery_count"], message["redelivered"]) == ("a", count, count > 1)
        assert settle(api, queue, "nacks", message["claim"]) == {"nacked": 1, "stale": []}
    assert described(api, queue)["ready"] == 2
    assert settle(api, queue, "acks", message["claim"]) == {"acked": 0, "stale": [message["claim"]]}


def test_a_message_is_requeued_after_a_delay(api: httpx.Client, queue: str) -> None:
    put(api, queue, "a", "b")
    (message,) = take(api, queue)
    settle(api, queue, "nacks", message["claim"], delay_ms=600_000)
    assert [found["body"] for found in take(api, queue, limit=5)] == ["b"]
    assert described(api, queue)["delayed"] == 1


def test_a_rejected_message_is_dead_lettered(api: httpx.Client) -> None:
    dead = queue_of(api)
    queue = queue_of(api, dead_letter_exchange="", dead_letter_routing_key=dead)
    put(api, queue, {"seat": 1}, message_id="m-1", headers={"a": 1}, expiration_ms=600_000)
    (held,) = take(api, queue)
    answer = settle(api, queue, "nacks", held["claim"], requeue=False, reason="no such flight")
    assert answer == {"nacked": 1, "stale": []}
    assert described(api, queue)["messages"] == 0
    (message,) = take(api, dead)
    assert (message["body"], message["message_id"], message["routing_key"]) == ({"seat": 1}, "m-1", dead)
    headers = message["headers"]
    assert headers["a"] == 1
    assert [headers[f"x-first-death-{what}"] for what in ("queue", "reason", "exchange")] == [queue, "rejected", ""]
    (death,) = headers["x-death"]
    assert death == {
        "count": 1,
        "reason": "rejected",
        "queue": queue,
        "time": death["time"],
        "exchange": "",
        "routing-keys": [queue],
        "original-expiration": "600000",
    }
    (letter,) = api.get("/api/v1/dead-letters", params={"source_kind": "queue", "source": queue}).json()["items"]
    assert (letter["reason"], letter["state"], letter["source"]) == ("rejected", "open", queue)


@pytest.mark.parametrize("text", ["\0", "\u20ac" * 80, "\U0001f4a9" * 50])
def test_whatever_a_publisher_says_can_be_dead_lettered(api: httpx.Client, text: str) -> None:
    dead = queue_of(api)
    exchange, queue = (
        exchange_of(api, type="fanout"),
        queue_of(api, dead_letter_exchange="", dead_letter_routing_key=dead),
    )
    bind(api, exchange, queue=queue)
    said = dict.fromkeys(("message_id", "correlation_id", "reply_to", "content_type", "type"), text)
    message = {"body": text, "routing_key": text.strip("\0"), "headers": {text: text}, **said}
    published = api.post(f"/api/v1/exchanges/{exchange}/messages", json={"messages": [message]})
    assert published.status_code == 200, published.text
    (held,) = take(api, queue)
    assert settle(api, queue, "nacks", held["claim"], requeue=False, reason="no")["nacked"] == 1
    (found,) = take(api, dead)
    assert {name: found[name] for name in said} == said
    assert found["headers"][text] == text
    letters = api.get("/api/v1/dead-letters", params={"source_kind": "queue", "source": queue}).json()["items"]
    assert len(letters) == 1


def test_a_nack_that_makes_no_sense_is_refused(api: httpx.Client, queue: str) -> None:
    path = f"/api/v1/queues/{queue}/nacks"
    for body, code, pointer in (
        ({"claims": ["x"], "requeue": False, "delay_ms": 5}, "invalid_value", "/delay_ms"),
        ({"claims": ["x"], "requeue": "no"}, "invalid_type", "/requeue"),
        ({"claims": ["x"], "reason": "x" * 501}, "invalid_value", "/reason"),
        ({"claims": ["x"], "reason": "\0"}, "invalid_value", "/reason"),
        ({"claims": ["x"], "delay_ms": -1}, "invalid_value", "/delay_ms"),
    ):
        assert_refused(api.post(path, json=body), 422, code, pointer)


# -- one consumer at a time -----------------------------------------------------------------------------------------


def test_a_single_active_consumer_gets_everything(api: httpx.Client) -> None:
    queue = queue_of(api, single_active_consumer=True)
    put(api, queue, 1, 2, 3)
    assert [message["body"] for message in take(api, queue, consumer="first")] == [1]
    assert take(api, queue, consumer="second") == []
    assert [message["body"] for message in take(api, queue, consumer="first", limit=9)] == [2, 3]
    assert described(api, queue)["consumers"] == 2
    assert_refused(api.delete(f"/api/v1/queues/{queue}", params={"if_unused": "1"}), 409, "resource_in_use")


# -- looking --------------------------------------------------------------------------------------------------------


def test_looking_takes_nothing_and_changes_nothing(api: httpx.Client, queue: str) -> None:
    ids = put(api, queue, *range(5))
    delayed = put(api, queue, "later", delay_ms=600_000)
    (held,) = take(api, queue)
    path = f"/api/v1/queues/{queue}/messages"
    page = api.get(path).json()
    assert page["next"] is None
    assert [item["id"] for item in page["items"]] == [*ids[1:], *delayed, held["id"]]
    assert [item["state"] for item in page["items"]] == ["ready"] * 4 + ["delayed", "unacknowledged"]
    assert "claim" not in page["items"][-1]
    first = page["items"][0]
    assert (first["body"], first["delivery_count"], first["lease_until"], first["holder"]) == (1, 0, None, None)
    assert page["items"][4]["due_at"] is not None
    assert page["items"][5]["lease_until"] is not None
    seen: list[int] = []
    after: str | None = ""
    while after is not None:
        part = api.get(path, params={"limit": 2, "after": after}).json()
        seen += [item["id"] for item in part["items"]]
        after = part["next"]
    assert seen == [item["id"] for item in page["items"]]
    assert api.get(path).json() == page
    assert settle(api, queue, "acks", held["claim"]) == {"acked": 1, "stale": []}


def test_a_page_of_large_messages_ends_early(api: httpx.Client, queue: str) -> None:
    for _ in range(3):
        put(api, queue, *("x" * 1_000_000 for _ in range(5)))
    page = api.get(f"/api/v1/queues/{queue}/messages").json()
    assert 8 <= len(page["items"]) < 15
    rest = api.get(f"/api/v1/queues/{queue}/messages", params={"after": page["next"]}).json()
    assert len(page["items"]) + len(rest["items"]) == 15


def test_a_cursor_that_is_none_is_refused(api: httpx.Client, queue: str) -> None:
    for after in ("x", "ready.1", "ready.-1.1", "ready.1.9999999999999999999", "a" * 5000):
        answer = api.get(f"/api/v1/queues/{queue}/messages", params={"after": after})
        assert_refused(answer, 422, "invalid_value")


def test_a_message_may_be_looked_at_and_not_taken(api: httpx.Client, server: Server, queue: str) -> None:
    put(api, queue, 1)
    with limited(api, server, ("view_payload", "queue", queue)) as onlooker:
        assert len(onlooker.get(f"/api/v1/queues/{queue}/messages").json()["items"]) == 1
        assert_refused(onlooker.post(f"/api/v1/queues/{queue}/claims", json={}), 403, "forbidden")
