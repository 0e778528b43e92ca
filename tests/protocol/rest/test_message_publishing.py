"""Publishing messages over REST: to exchanges and to queues, what is kept of them, and what is refused."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import pytest

from tests.protocol.rest.queueing import (
    assert_refused,
    bind,
    described,
    exchange_of,
    limited,
    put,
    queue_of,
    take,
)
from tests.server import Server, unique

Json = dict[str, Any]
JSON_BODY = {"Content-Type": "application/json"}


@pytest.fixture
def queue(api: httpx.Client) -> str:
    return queue_of(api)


def publish(api: httpx.Client, queue: str, **message: Any) -> httpx.Response:
    return api.post(f"/api/v1/queues/{queue}/messages", json={"messages": [message]})


def test_a_message_reaches_the_queues_whose_bindings_fit(api: httpx.Client) -> None:
    exchange, one, other = exchange_of(api, type="topic"), queue_of(api), queue_of(api)
    bind(api, exchange, queue=one, routing_key="flight.#")
    bind(api, exchange, queue=one, routing_key="flight.EWR.*")
    bind(api, exchange, queue=other, routing_key="#.UA")
    messages = [{"routing_key": key, "body": key} for key in ("flight.EWR.UA", "flight.JFK.B6", "train")]
    answer = api.post(f"/api/v1/exchanges/{exchange}/messages", json={"messages": messages})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [result["queues"] for result in results] == [2, 1, 0]
    ids = [result["id"] for result in results]
    assert ids == sorted(set(ids))
    found = take(api, one, limit=10)
    assert [(message["id"], message["body"]) for message in found] == [
        (ids[0], "flight.EWR.UA"),
        (ids[1], "flight.JFK.B6"),
    ]
    assert {(message["exchange"], message["routing_key"]) for message in take(api, other)} == {
        (exchange, "flight.EWR.UA")
    }


def test_all_that_a_publisher_says_is_kept(api: httpx.Client, queue: str) -> None:
    said: Json = {
        "headers": {"text": "é", "number": 1.5, "nothing": None, "list": [1, {"a": True}], "": ""},
        "message_id": "m-1",
        "correlation_id": "c-1",
        "reply_to": "replies",
        "content_type": "application/json",
        "type": "greeting",
    }
    (number,) = put(api, queue, {"hello": "world"}, **said)
    (message,) = take(api, queue)
    assert message == said | {
        "id": number,
        "claim": message["claim"],
        "queue": queue,
        "exchange": "",
        "routing_key": queue,
        "body": {"hello": "world"},
        "priority": 0,
        "timestamp": message["timestamp"],
        "redelivered": False,
        "delivery_count": 1,
    }


BODIES = ['{"a" : 1.50, "a": 2}', "null", '"\\u0000 \\ud83d\\ude00"', "[ ]", "1E2", "-0.0", '"' + "x" * 200_000 + '"']


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_a_body_comes_back_as_the_very_bytes_that_came(api: httpx.Client, queue: str, body: str) -> None:
    content = f'{{"messages": [{{"body": {body}}}]}}'.encode()
    answer = api.post(f"/api/v1/queues/{queue}/messages", content=content, headers=JSON_BODY)
    assert answer.status_code == 200, answer.text
    claimed = api.post(f"/api/v1/queues/{queue}/claims", json={}).content
    assert f'"body":{body},'.encode() in claimed
    json.loads(claimed)


@pytest.mark.parametrize("body", [b"", b"\0\xff\xfe", bytes(range(256)) * 100])
def test_bytes_come_back_as_base64(api: httpx.Client, queue: str, body: bytes) -> None:
    assert publish(api, queue, body_base64=base64.b64encode(body).decode()).status_code == 200
    (message,) = take(api, queue)
    assert "body" not in message
    assert base64.b64decode(message["body_base64"]) == body


def test_carbon_copies_go_to_the_queues_that_the_headers_name(api: httpx.Client, queue: str) -> None:
    copied, blind = queue_of(api), queue_of(api)
    answer = publish(api, queue, body=1, headers={"CC": [copied, queue], "BCC": [blind]})
    assert answer.json()["results"][0]["queues"] == 3
    for name in (queue, copied, blind):
        (message,) = take(api, name)
        assert message["headers"] == {"CC": [copied, queue]}


# -- mandatory, priorities, delays, lengths -------------------------------------------------------------------------


def test_mandatory_refuses_all_when_one_reaches_no_queue(api: httpx.Client, queue: str) -> None:
    exchange = exchange_of(api)
    bind(api, exchange, queue=queue, routing_key="k")
    messages = [{"routing_key": "k", "body": 1}, {"routing_key": "other", "body": 2}]
    path = f"/api/v1/exchanges/{exchange}/messages"
    refused = api.post(path, json={"messages": messages, "mandatory": True})
    assert_refused(refused, 422, "unroutable", "/messages/1")
    assert described(api, queue)["messages"] == 0
    assert api.post(path, json={"messages": messages[:1], "mandatory": True}).status_code == 200
    assert api.post(f"/api/v1/queues/{queue}/messages", json={"messages": [{"body": 1}], "mandatory": True})


def test_priorities_go_before_age_and_end_at_the_queues(api: httpx.Client) -> None:
    queue = queue_of(api, max_priority=3)
    put(api, queue, "low")
    put(api, queue, "high", priority=2)
    put(api, queue, "above", priority=200)
    put(api, queue, "top", priority=3)
    found = take(api, queue, limit=10)
    assert [(message["body"], message["priority"]) for message in found] == [
        ("above", 3),
        ("top", 3),
        ("high", 2),
        ("low", 0),
    ]


def test_a_delayed_message_is_handed_out_when_it_is_due(api: httpx.Client, queue: str) -> None:
    put(api, queue, "later", delay_ms=300)
    put(api, queue, "now")
    assert [message["body"] for message in take(api, queue, limit=5)] == ["now"]
    assert [message["body"] for message in take(api, queue, wait_ms=20_000)] == ["later"]


def test_an_expired_message_is_handed_out_to_nobody(api: httpx.Client, queue: str) -> None:
    put(api, queue, "gone", expiration_ms=0)
    put(api, queue, "kept", expiration_ms=600_000)
    assert [message["body"] for message in take(api, queue, limit=5)] == ["kept"]


def test_a_full_queue_that_refuses_answers_429_and_stores_nothing(api: httpx.Client) -> None:
    queue = queue_of(api, max_length=2, overflow="reject-publish")
    put(api, queue, 1)
    refused = api.post(f"/api/v1/queues/{queue}/messages", json={"messages": [{"body": 2}, {"body": 3}]})
    assert_refused(refused, 429, "queue_full")
    assert refused.headers["retry-after"]
    assert described(api, queue)["messages"] == 1
    put(api, queue, 2)


def test_a_full_queue_that_drops_its_head_has_done_so_before_the_answer(api: httpx.Client) -> None:
    dead = queue_of(api)
    queue = queue_of(api, max_length=2, dead_letter_exchange="", dead_letter_routing_key=dead)
    put(api, queue, 1, 2, 3, 4)
    assert described(api, queue)["ready"] == 2
    found = take(api, dead, limit=5)
    assert [message["body"] for message in found] == [1, 2]
    death = found[0]["headers"]["x-death"][0]
    assert (death["queue"], death["reason"], death["count"], death["routing-keys"]) == (queue, "maxlen", 1, [queue])
    assert found[0]["headers"]["x-first-death-reason"] == "maxlen"


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "code", "pointer"),
    [
        ({}, "invalid_value", "/messages/0/body"),
        ({"body": 1, "body_base64": ""}, "invalid_value", "/messages/0/body_base64"),
        ({"body_base64": "a"}, "invalid_value", "/messages/0/body_base64"),
        ({"body": 1, "headers": []}, "invalid_type", "/messages/0/headers"),
        ({"body": 1, "headers": {"CC": "k"}}, "invalid_value", "/messages/0/headers/CC"),
        ({"body": 1, "headers": {str(n): 1 for n in range(65)}}, "invalid_value", "/messages/0/headers"),
        ({"body": 1, "headers": {"a": "x" * 17_000}}, "invalid_value", "/messages/0/headers"),
        ({"body": 1, "priority": -1}, "invalid_value", "/messages/0/priority"),
        ({"body": 1, "priority": 256}, "invalid_value", "/messages/0/priority"),
        ({"body": 1, "priority": True}, "invalid_type", "/messages/0/priority"),
        ({"body": 1, "expiration_ms": -1}, "invalid_value", "/messages/0/expiration_ms"),
        ({"body": 1, "expiration_ms": "10"}, "invalid_type", "/messages/0/expiration_ms"),
        ({"body": 1, "delay_ms": 315_360_000_001}, "invalid_value", "/messages/0/delay_ms"),
        ({"body": 1, "delay_ms": 1.5}, "invalid_type", "/messages/0/delay_ms"),
        ({"body": 1, "message_id": "x" * 256}, "invalid_value", "/messages/0/message_id"),
        ({"body": 1, "reply_to": 1}, "invalid_type", "/messages/0/reply_to"),
        ({"body": 1, "routing_key": "another"}, "invalid_value", "/messages/0/routing_key"),
        ({"body": 1, "delivery_mode": 2}, "unknown_field", "/messages/0/delivery_mode"),
    ],
)
def test_a_wrong_message_is_refused_with_its_place(
    api: httpx.Client, queue: str, message: Json, code: str, pointer: str
) -> None:
    assert_refused(publish(api, queue, **message), 422, code, pointer)
    good_then_bad = {"messages": [{"body": 1}, message]}
    answer = api.post(f"/api/v1/queues/{queue}/messages", json=good_then_bad)
    assert_refused(answer, 422, code, pointer.replace("/0/", "/1/"))
    assert described(api, queue)["messages"] == 0


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b'{"messages": [{"body": 1, "body": 2}]}', "json_duplicate_key"),
        (b'{"messages": [{"body": 1, "headers": {"a": 1, "a": 2}}]}', "json_duplicate_key"),
        (b'{"messages": [{"body": ' + b"[" * 65 + b"]" * 65 + b"}]}", "json_too_deep"),
        (b'{"messages": [{"body": 1, "headers": {"a": NaN}}]}', "json_number"),
        (b'{"messages": [{"body": 1e400}]}', "json_number"),
        (b'{"messages": [{"body": "\\ud800"}]}', "invalid_unicode"),
        (b'{"messages": [{"body": 1}]', "malformed_json"),
        (b"", "empty_body"),
    ],
)
def test_what_is_no_strict_json_is_refused(api: httpx.Client, queue: str, content: bytes, code: str) -> None:
    answer = api.post(f"/api/v1/queues/{queue}/messages", content=content, headers=JSON_BODY)
    assert_refused(answer, 400, code)


def test_1_to_1000_messages_fit_in_one_request(api: httpx.Client, queue: str) -> None:
    path = f"/api/v1/queues/{queue}/messages"
    assert_refused(api.post(path, json={"messages": []}), 422, "invalid_value", "/messages")
    assert_refused(api.post(path, json={"messages": [{"body": 1}] * 1001}), 413, "batch_too_large")
    assert len(api.post(path, json={"messages": [{"body": 1}] * 1000}).json()["results"]) == 1000
    assert len(take(api, queue, limit=1000)) == 1000
    assert_refused(api.post(f"/api/v1/queues/{queue}/claims", json={"limit": 1001}), 422, "invalid_value", "/limit")


def test_an_exchange_takes_messages_from_who_may_write_to_it(api: httpx.Client, server: Server, queue: str) -> None:
    exchange = exchange_of(api, type="fanout")
    bind(api, exchange, queue=queue)
    body = {"messages": [{"body": 1}]}
    with limited(api, server, ("write", "exchange", exchange)) as writer:
        answer = writer.post(f"/api/v1/exchanges/{exchange}/messages", json=body)
        assert answer.json()["results"][0]["queues"] == 1
        assert_refused(writer.post(f"/api/v1/queues/{queue}/messages", json=body), 403, "forbidden")
    with limited(api, server, ("read", "exchange", exchange)) as reader:
        assert_refused(reader.post(f"/api/v1/exchanges/{exchange}/messages", json=body), 403, "forbidden")


def test_copies_through_a_queue_take_write_on_each_queue_named(api: httpx.Client, server: Server, queue: str) -> None:
    other = queue_of(api)
    with limited(api, server, ("write", "queue", queue)) as writer:
        for header in ("CC", "BCC"):
            for name in (other, unique()):
                assert_refused(publish(writer, queue, body=1, headers={header: [name]}), 403, "forbidden")
        assert publish(writer, queue, body=1, headers={"CC": [queue]}).status_code == 200
    assert described(api, other)["messages"] == 0
