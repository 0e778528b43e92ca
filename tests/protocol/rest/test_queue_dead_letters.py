"""Dead letters of queues over REST, against a whole server: from the nack to the replay, and replays to queues."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from tests.protocol.rest.test_dead_letters import issue, refused
from tests.protocol.rest.test_replays import planned, replay, until
from tests.server import Server, unique

Json = dict[str, Any]


@pytest.fixture
def queue(api: httpx.Client) -> str:
    name = unique("queue")
    assert api.put(f"/api/v1/queues/{name}", json={"max_priority": 5}).status_code == 201
    return name


def claimed(api: httpx.Client, queue: str, limit: int = 1) -> list[Json]:
    """So many messages, as soon as they are there."""
    found: list[Json] = []
    deadline = time.monotonic() + 30
    while len(found) < limit:
        answer = api.post(f"/api/v1/queues/{queue}/claims", json={"limit": limit - len(found), "wait_ms": 1000})
        assert answer.status_code == 200, answer.text
        found += answer.json()["messages"]
        assert time.monotonic() < deadline, found
    return found


def letter(api: httpx.Client, queue: str, **message: Any) -> Json:
    """A message is published, claimed and rejected; its dead letter."""
    sent = api.post(f"/api/v1/queues/{queue}/messages", json={"messages": [{"body": {"n": 1}} | message]})
    assert sent.status_code == 200, sent.text
    [got] = claimed(api, queue)
    nack = {"claims": [got["claim"]], "requeue": False, "reason": "no seat"}
    assert api.post(f"/api/v1/queues/{queue}/nacks", json=nack).status_code == 200
    found = api.get("/api/v1/dead-letters", params={"source_kind": "queue", "source": queue}).json()["items"]
    newest: Json = found[0]
    return newest


def test_a_rejected_message_has_the_contracts_shape(api: httpx.Client, queue: str) -> None:
    headers = {"tries": 3, "tags": ["a", None], "on": True}
    listed = letter(api, queue, headers=headers, message_id="m-1", priority=2)
    assert {name: listed[name] for name in ("state", "reason", "source_kind", "source", "group")} == {
        "state": "open",
        "reason": "rejected",
        "source_kind": "queue",
        "source": queue,
        "group": None,
    }
    assert (listed["exchange"], listed["routing_key"], listed["message_id"]) == ("", queue, "m-1")
    assert (listed["partition"], listed["offset"], listed["key"], listed["value"]) == (None, None, None, {"n": 1})
    assert {name: listed["headers"][name] for name in headers} == headers
    [death] = listed["headers"]["x-death"]
    assert (death["queue"], death["reason"], death["count"]) == (queue, "rejected", 1)
    assert listed["headers"]["x-first-death-queue"] == queue
    whole = api.get(f"/api/v1/dead-letters/{listed['id']}").json()
    assert (whole["headers"], whole["attempts"]) == (listed["headers"], [])
    assert whole["exception"]["message"] == "no seat"
    [group] = api.get("/api/v1/dead-letters/groups", params={"source": queue}).json()["items"]
    assert (group["source_kind"], group["group"], group["count"]) == ("queue", None, 1)


def test_a_replay_goes_back_to_the_queue_and_the_ack_is_its_outcome(api: httpx.Client, queue: str) -> None:
    number = letter(api, queue, headers={"tries": 1}, priority=4)["id"]
    edit = {"value": {"n": 2}, "headers": {"tries": 2, "more": [None]}}
    [sample] = planned(api, {"ids": [number]}, edit=edit)["sample"]
    assert (sample["before"]["headers"]["tries"], sample["after"]["headers"]["more"]) == (1, [None])
    assert sample["after"]["headers"]["x-death"] == sample["before"]["headers"]["x-death"]
    made = replay(api, {"ids": [number]}, edit=edit)
    [message] = claimed(api, queue)
    assert (message["body"], message["priority"], message["delivery_count"]) == ({"n": 2}, 4, 1)
    assert (message["headers"]["tries"], message["headers"]["x-waystation-replay-id"]) == (2, str(made["id"]))
    assert message["headers"]["x-death"][0]["count"] == 1
    assert api.get(f"/api/v1/dead-letters/{number}").json()["state"] == "replaying"
    acked = api.post(f"/api/v1/queues/{queue}/acks", json={"claims": [message["claim"]]})
    assert acked.json()["acked"] == 1
    done = until(api, made["id"], "completed")
    assert (done["succeeded"], done["failed_again"]) == (1, 0)
    whole = api.get(f"/api/v1/dead-letters/{number}").json()
    assert (whole["state"], whole["revision"], whole["replays"][0]["outcome"]) == ("replayed", 2, "succeeded")


def test_what_is_rejected_again_is_open_again_under_its_id(api: httpx.Client, queue: str) -> None:
    number = letter(api, queue)["id"]
    made = replay(api, {"filter": {"source_kind": "queue", "source": queue}})
    [message] = claimed(api, queue)
    api.post(f"/api/v1/queues/{queue}/nacks", json={"claims": [message["claim"]], "requeue": False})
    assert until(api, made["id"], "completed")["failed_again"] == 1
    [again] = api.get("/api/v1/dead-letters", params={"source": queue}).json()["items"]
    assert (again["id"], again["state"]) == (number, "open")
    assert again["headers"]["x-death"][0]["count"] == 2


def test_targets_are_queues_and_exchanges_too(api: httpx.Client, queue: str) -> None:
    number, other, exchange = letter(api, queue)["id"], unique("queue"), unique("exchange")
    api.put(f"/api/v1/queues/{other}", json={})
    api.put(f"/api/v1/exchanges/{exchange}", json={"type": "topic"})
    bound = api.post("/api/v1/bindings", json={"exchange": exchange, "queue": other, "routing_key": "flight.#"})
    assert bound.status_code == 201
    lost = replay(api, {"ids": [number]}, target={"exchange": exchange, "routing_key": "train"})
    assert until(api, lost["id"], "completed")["skipped"] == 1
    [item] = api.get(f"/api/v1/replays/{lost['id']}/items").json()["items"]
    assert (item["outcome"], item["why"]) == ("skipped", "unroutable")
    target = {"exchange": exchange, "routing_key": "flight.jfk"}
    done = replay(api, {"ids": [number]}, target=target)
    assert (done["target"], until(api, done["id"], "completed")["succeeded"]) == (target, 1)
    [message] = claimed(api, other)
    assert (message["exchange"], message["routing_key"]) == (exchange, "flight.jfk")
    second = letter(api, queue)["id"]
    replay(api, {"ids": [second]}, target={"queue": other})
    assert claimed(api, other)[0]["headers"]["x-waystation-replayed-from"] == str(second)


def test_what_a_message_cannot_have_is_refused(api: httpx.Client, queue: str) -> None:
    selection = {"ids": [letter(api, queue)["id"]]}
    for more, status, code in (
        ({"edit": {"key": "k"}}, 422, "invalid_value"),
        ({"edit": {"headers": {f"h{n}": n for n in range(65)}}}, 422, "invalid_value"),
        ({"target": {"queue": "not-there"}}, 404, "queue_not_found"),
        ({"target": {"exchange": "not-there"}}, 404, "exchange_not_found"),
        ({"target": {"queue": queue, "routing_key": "k"}}, 422, "invalid_value"),
    ):
        answer = api.post("/api/v1/replays", json={"selection": selection, **more})
        refused(answer, status, code)


def test_permissions_are_the_queues(server: Server, api: httpx.Client, queue: str) -> None:
    number = letter(api, queue)["id"]
    path, body = f"/api/v1/dead-letters/{number}", {"selection": {"ids": [number]}}
    other = unique("queue")
    api.put(f"/api/v1/queues/{other}", json={})
    with server.client(issue(api, ("describe", "queue", other))) as blind:
        assert blind.get(path).status_code == 404
    with server.client(issue(api, ("describe", "queue", queue))) as sees:
        assert sees.get(path).json()["payload_hidden"] is True
        assert sees.post("/api/v1/replays", json=body).status_code == 403
    grants = [(operation, "queue", queue) for operation in ("describe", "replay", "read")]
    with server.client(issue(api, *grants)) as mine:
        assert mine.get(path).json()["value"] == {"n": 1}
        for target in ({"queue": other}, {"exchange": "", "routing_key": other}):
            assert mine.post("/api/v1/replays", json=body | {"target": target}).status_code == 403
    with server.client(issue(api, *grants, ("write", "queue", other))) as writes:
        target = {"exchange": "", "routing_key": other}
        assert writes.post("/api/v1/replays", json=body | {"target": target}).status_code == 202
    assert len(claimed(api, other)) == 1
