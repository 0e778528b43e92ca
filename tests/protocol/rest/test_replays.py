"""Replays over REST, against a whole server: plans, creation, progress, controls, permissions, and what is refused."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from tests.protocol.rest.seeded_failures import Failures, failing, seeding
from tests.protocol.rest.test_dead_letters import LETTERS, issue, refused
from tests.server import ROOT, Server, unique

Json = dict[str, Any]
REPLAYS = "/api/v1/replays"
SLOW = {"rate_per_second": 0.001}
"""One at once, the others not in this test's life."""


@pytest.fixture(scope="module")
def connection(server: Server) -> Iterator[psycopg.Connection[Any]]:
    with seeding(server) as opened:
        yield opened


@pytest.fixture
def failures(api: httpx.Client, connection: psycopg.Connection[Any]) -> Failures:
    """A topic, a group, and three dead letters."""
    made = failing(api, connection)
    for n in range(3):
        made.add(b'{"n": %d}' % n, headers={"trace": str(n)})
    return made


def replay(api: httpx.Client, selection: Json, **more: Any) -> Json:
    answer = api.post(REPLAYS, json={"selection": selection, **more})
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"{REPLAYS}/{answer.json()['id']}"
    made: Json = answer.json()
    return made


def planned(api: httpx.Client, selection: Json, **more: Any) -> Json:
    answer = api.post(REPLAYS, json={"selection": selection, "dry_run": True, **more})
    assert answer.status_code == 200, answer.text
    plan: Json = answer.json()
    return plan


def until(api: httpx.Client, number: int, state: str, seconds: float = 30.0) -> Json:
    """The replay, once it is in that state."""
    deadline = time.monotonic() + seconds
    while True:
        found: Json = api.get(f"{REPLAYS}/{number}").json()
        if found["state"] == state:
            return found
        assert time.monotonic() < deadline, found


def published(api: httpx.Client, topic: str) -> list[Json]:
    answer = api.get(f"/api/v1/topics/{topic}/partitions/0/records", params={"wait_ms": 5000})
    records: list[Json] = answer.json()["records"]
    return records


# -- plans ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_happen_and_does_nothing(api: httpx.Client, failures: Failures) -> None:
    done = failures.add(state="resolved")
    plan = planned(api, {"filter": {"group": failures.group}})
    assert (plan["total"], plan["skipped"]) == (3, {"resolved": 1})
    first = {"key": "N14228", "value": {"n": 0}, "headers": {"trace": "0"}}
    assert plan["sample"][0] == {"id": failures.letters[0], "before": first, "after": first}
    assert planned(api, {"ids": [done]}) == {"total": 0, "skipped": {"resolved": 1}, "sample": []}
    assert planned(api, {"filter": {"group": unique()}}) == {"total": 0, "skipped": {}, "sample": []}
    assert {item["state"] for item in api.get(LETTERS, params={"group": failures.group}).json()["items"]} == {
        "open",
        "resolved",
    }


def test_a_merge_patch_is_shown_before_and_after(api: httpx.Client, failures: Failures) -> None:
    failures.add(b"\x00", encoding=0)
    patch = {"merge_patch": {"cancelled": True, "n": None}}
    plan = planned(api, {"filter": {"fingerprint": failures.fingerprint}}, edit=patch)
    assert (plan["total"], plan["skipped"]) == (3, {"not_json": 1})
    assert plan["sample"][1]["before"]["value"] == {"n": 1}
    assert plan["sample"][1]["after"]["value"] == {"cancelled": True}


def test_an_edit_is_shown_before_and_after(api: httpx.Client, failures: Failures) -> None:
    number = failures.letters[0]
    edit: Json = {"key": None, "value_base64": base64.b64encode(b"\x00\xff").decode(), "headers": {}}
    (sample,) = planned(api, {"ids": [number]}, edit=edit)["sample"]
    assert sample["after"] == {"key": None, "value_base64": edit["value_base64"], "headers": {}}
    assert sample["before"]["value"] == {"n": 0}
    (sample,) = planned(api, {"ids": [number]}, edit={"value": None, "key_base64": "/w=="})["sample"]
    assert sample["after"] == {"key_base64": "/w==", "value": None, "headers": {"trace": "0"}}
    assert api.get(f"{LETTERS}/{number}").json()["revision"] == 1


# -- making one -----------------------------------------------------------------------------------------------------


def test_a_replay_has_the_contracts_shape(api: httpx.Client, failures: Failures) -> None:
    selection = {"filter": {"group": failures.group, "state": "open", "since": "2026-01-01T00:00:00Z"}}
    made = replay(
        api,
        selection,
        rate_per_second=0.001,
        reason="mended",
        canary={"count": 2, "min_success": 0.5},
        stop_when_failed_again=0.2,
    )
    assert made.pop("created_at")
    assert made.pop("created_by").startswith("admin")
    assert made.pop("sent") in (0, 1)
    assert made == {
        "id": made["id"],
        "state": "canary",
        "total": 3,
        "waiting": 3,
        "succeeded": 0,
        "failed_again": 0,
        "skipped": 0,
        "selection": selection,
        "target": None,
        "rate_per_second": 0.001,
        "canary": {"count": 2, "min_success": 0.5},
        "stop_when_failed_again": 0.2,
        "stop_cause": "",
        "reason": "mended",
        "finished_at": None,
    }
    assert made["id"] in [found["id"] for found in api.get(REPLAYS).json()["items"]]
    cancelled = api.post(f"{REPLAYS}/{made['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert cancelled.json()["finished_at"] is not None


def test_a_replay_to_a_topic_publishes_each_anew_and_has_succeeded(api: httpx.Client, failures: Failures) -> None:
    target = unique("mended")
    assert api.post("/api/v1/topics", json={"name": target, "partitions": 1}).status_code == 201
    made = replay(api, {"ids": failures.letters}, target={"topic": target}, edit={"merge_patch": {"ok": True}})
    assert made["target"] == {"topic": target}
    done = until(api, made["id"], "completed")
    assert [done[name] for name in ("total", "sent", "succeeded", "waiting")] == [3, 3, 3, 0]
    records = published(api, target)
    assert sorted(record["value"]["n"] for record in records) == [0, 1, 2]
    assert all(record["value"]["ok"] for record in records)
    assert {record["headers"]["x-waystation-replay-id"] for record in records} == {str(made["id"])}
    items = api.get(f"{REPLAYS}/{made['id']}/items").json()["items"]
    assert [item["id"] for item in items] == failures.letters
    assert {item["outcome"] for item in items} == {"succeeded"}
    assert set(items[0]) == {"id", "revision", "outcome", "why", "sent_at", "finished_at"}
    letter = api.get(f"{LETTERS}/{failures.letters[0]}").json()
    assert (letter["state"], letter["revision"]) == ("replayed", 2)
    assert [(found["id"], found["outcome"]) for found in letter["replays"]] == [(made["id"], "succeeded")]
    again = replay(api, {"ids": failures.letters}, target={"topic": target})
    assert (again["total"], again["skipped"]) == (0, 3)


def test_an_edit_makes_a_revision_and_supersedes_the_original(api: httpx.Client, failures: Failures) -> None:
    number = failures.letters[0]
    made = replay(api, {"ids": [number]}, edit={"value": {"n": 100}, "revision": 1}, **SLOW)
    letter = api.get(f"{LETTERS}/{number}").json()
    assert (letter["revision"], letter["value"], letter["headers"]) == (2, {"n": 100}, {"trace": "0"})
    api.post(f"{REPLAYS}/{made['id']}/cancel")
    answer = api.post(REPLAYS, json={"selection": {"ids": [number]}, "edit": {"value": 1, "revision": 1}})
    assert answer.status_code == 409
    assert answer.json()["code"] in ("revision_superseded", "dead_letter_replaying")


def test_items_are_paged_and_filtered(api: httpx.Client, failures: Failures) -> None:
    failures.add(state="discarded")
    made = replay(api, {"ids": failures.letters}, **SLOW)
    path = f"{REPLAYS}/{made['id']}/items"
    found: list[int] = []
    after = None
    while True:
        page = api.get(path, params={"limit": 1} | ({"after": after} if after else {})).json()
        found += [item["id"] for item in page["items"]]
        after = page["next"]
        if after is None:
            break
    assert found == failures.letters
    skipped = api.get(path, params={"outcome": "skipped"}).json()["items"]
    assert [(item["id"], item["why"]) for item in skipped] == [(failures.letters[3], "discarded")]
    refused(api.get(path, params={"outcome": "lost"}), 422, "invalid_value", "/outcome")
    refused(api.get(path, params={"after": "-1"}), 422, "invalid_value", "/after")
    api.post(f"{REPLAYS}/{made['id']}/cancel")


def test_replays_are_listed_newest_first(api: httpx.Client, failures: Failures) -> None:
    made = [replay(api, {"ids": [number]}, **SLOW)["id"] for number in failures.letters]
    first = api.get(REPLAYS, params={"limit": 2}).json()
    assert [found["id"] for found in first["items"]] == made[:0:-1]
    second = api.get(REPLAYS, params={"limit": 1, "after": first["next"]}).json()
    assert [found["id"] for found in second["items"]] == made[:1]
    for number in made:
        api.post(f"{REPLAYS}/{number}/cancel")


# -- the same request again -----------------------------------------------------------------------------------------


def test_a_repeat_under_its_key_is_answered_with_the_first_replay(api: httpx.Client, failures: Failures) -> None:
    body = {"selection": {"ids": failures.letters}, **SLOW}
    key = {"Idempotency-Key": unique("key")}
    first, second = (api.post(REPLAYS, json=body, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json()["id"] == second.json()["id"]
    assert first.headers["location"] == second.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert second.headers["idempotent-replayed"] == "true"
    other = api.post(REPLAYS, json=body | {"reason": "another"}, headers=key)
    refused(other, 422, "idempotency_key_reused")
    dry = api.post(REPLAYS, json=body | {"dry_run": True}, headers=key)
    assert (dry.status_code, set(dry.json())) == (200, {"total", "skipped", "sample"})
    refused(api.post(REPLAYS, json=body, headers={"Idempotency-Key": ""}), 400, "invalid_idempotency_key")
    api.post(f"{REPLAYS}/{first.json()['id']}/cancel")


def test_repeats_at_once_make_one_replay(server: Server, api: httpx.Client, failures: Failures) -> None:
    body = {"selection": {"filter": {"group": failures.group}}, **SLOW}
    key = unique("key")
    answers: list[httpx.Response] = []

    def send() -> None:
        with server.client() as client:
            answers.append(client.post(REPLAYS, json=body, headers={"Idempotency-Key": key}))

    threads = [threading.Thread(target=send) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = {answer.json()["id"] for answer in answers if answer.status_code == 202}
    assert len(made) == 1
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert all(answer.json()["code"] == "idempotency_in_progress" for answer in answers if answer.status_code == 409)
    mine = [found for found in api.get(REPLAYS).json()["items"] if found["selection"] == body["selection"]]
    assert {found["id"] for found in mine} == made
    api.post(f"{REPLAYS}/{made.pop()}/cancel")


def test_a_refused_request_leaves_its_key_unused(api: httpx.Client, failures: Failures) -> None:
    key = {"Idempotency-Key": unique("key")}
    body = {"selection": {"ids": [failures.letters[0], 9_000_000_000]}}
    refused(api.post(REPLAYS, json=body, headers=key), 404, "dead_letter_not_found", "/selection/ids/1")
    body["selection"]["ids"].pop()
    answer = api.post(REPLAYS, json=body | SLOW, headers=key)
    assert answer.status_code == 202
    api.post(f"{REPLAYS}/{answer.json()['id']}/cancel")


# -- controls -------------------------------------------------------------------------------------------------------


def test_a_replay_is_paused_resumed_and_cancelled(api: httpx.Client, failures: Failures) -> None:
    path = f"{REPLAYS}/{replay(api, {'ids': failures.letters}, **SLOW)['id']}"
    for verb, state in (("pause", "paused"), ("pause", "paused"), ("resume", "running"), ("cancel", "cancelled")):
        answer = api.post(f"{path}/{verb}")
        assert (answer.status_code, answer.json()["state"]) == (200, state)
    assert api.post(f"{path}/cancel").json()["state"] == "cancelled"
    refused(api.post(f"{path}/pause"), 409, "replay_finished")
    refused(api.post(f"{path}/resume"), 409, "replay_finished")


@pytest.mark.parametrize(
    ("number", "status", "code"),
    [
        ("0", 404, "replay_not_found"),
        ("9223372036854775807", 404, "replay_not_found"),
        ("9223372036854775808", 422, "invalid_value"),
        ("-1", 422, "invalid_value"),
        ("x", 422, "invalid_value"),
    ],
)
@pytest.mark.parametrize(
    ("method", "below"), [("GET", ""), ("GET", "/items"), ("POST", "/pause"), ("POST", "/resume"), ("POST", "/cancel")]
)
def test_an_id_that_is_none_is_refused(
    api: httpx.Client, method: str, below: str, number: str, status: int, code: str
) -> None:
    refused(api.request(method, f"{REPLAYS}/{number}{below}"), status, code)


# -- what is refused ------------------------------------------------------------------------------------------------

ONE: Json = {"selection": {"ids": [1]}}


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/selection"),
        ({"selection": {}}, "/selection"),
        ({"selection": {"ids": [1], "filter": {}}}, "/selection"),
        ({"selection": {"ids": []}}, "/selection/ids"),
        ({"selection": {"ids": ["1"]}}, "/selection/ids/0"),
        ({"selection": {"ids": [-1]}}, "/selection/ids/0"),
        ({"selection": {"ids": [0]}}, "/selection/ids/0"),
        ({"selection": {"ids": [7, True]}}, "/selection/ids/1"),
        ({"selection": {"ids": [1.5]}}, "/selection/ids/0"),
        ({"selection": {"ids": [2**63]}}, "/selection/ids/0"),
        ({"selection": {"ids": list(range(1, 1002))}}, "/selection/ids"),
        ({"selection": {"ids": None}}, "/selection/ids"),
        ({"selection": [1]}, "/selection"),
        ({"selection": {"filter": {"status": "open"}}}, "/selection/filter/status"),
        ({"selection": {"filter": {"state": "opened"}}}, "/selection/filter/state"),
        ({"selection": {"filter": {"q": "a\0b"}}}, "/selection/filter/q"),
        ({"selection": {"filter": {"group": "\0"}}}, "/selection/filter/group"),
        ({"selection": {"filter": {"since": "now"}}}, "/selection/filter/since"),
        ({"selection": {"filter": {"ids": [1]}}}, "/selection/filter/ids"),
        (ONE | {"target": {}}, "/target"),
        (ONE | {"target": {"topic": "a", "queue": "b"}}, "/target"),
        (ONE | {"target": {"topic": "a", "routing_key": "b"}}, "/target/routing_key"),
        (ONE | {"target": {"topic": "a b"}}, "/target/topic"),
        (ONE | {"target": {"group": "a"}}, "/target/group"),
        (ONE | {"edit": {}}, "/edit"),
        (ONE | {"edit": {"revision": 1}}, "/edit"),
        (ONE | {"edit": {"merge_patch": {}, "key": "k"}}, "/edit/merge_patch"),
        (ONE | {"edit": {"merge_patch": [1]}}, "/edit/merge_patch"),
        (ONE | {"edit": {"merge_patch": None}}, "/edit/merge_patch"),
        (ONE | {"edit": {"key": "k", "key_base64": "aw=="}}, "/edit/key_base64"),
        (ONE | {"edit": {"value": 1, "value_base64": "aw=="}}, "/edit/value_base64"),
        (ONE | {"edit": {"value_base64": "?"}}, "/edit/value_base64"),
        (ONE | {"edit": {"headers": {"a": 1}}}, "/edit/headers"),
        (ONE | {"edit": {"value": 1, "offset": 1}}, "/edit/offset"),
        ({"selection": {"ids": [1, 2]}, "edit": {"value": 1}}, "/edit"),
        ({"selection": {"filter": {}}, "edit": {"value": 1}}, "/edit"),
        (ONE | {"rate_per_second": 0}, "/rate_per_second"),
        (ONE | {"rate_per_second": -1}, "/rate_per_second"),
        (ONE | {"rate_per_second": True}, "/rate_per_second"),
        (ONE | {"rate_per_second": "10"}, "/rate_per_second"),
        (ONE | {"rate_per_second": 1e9}, "/rate_per_second"),
        (ONE | {"canary": {"count": 0}}, "/canary/count"),
        (ONE | {"canary": {"count": 1001}}, "/canary/count"),
        (ONE | {"canary": {"count": 1.5}}, "/canary/count"),
        (ONE | {"canary": {"min_success": 1.1}}, "/canary/min_success"),
        (ONE | {"canary": {"min_success": -0.1}}, "/canary/min_success"),
        (ONE | {"canary": {"max": 1}}, "/canary/max"),
        (ONE | {"stop_when_failed_again": 2}, "/stop_when_failed_again"),
        (ONE | {"dry_run": 1}, "/dry_run"),
        (ONE | {"reason": "x" * 2001}, "/reason"),
        (ONE | {"reason": "a\0b"}, "/reason"),
        (ONE | {"state": "running"}, "/state"),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused(
    api: httpx.Client, failures: Failures, body: Json, pointer: str
) -> None:
    if body.get("selection", {}) == {"ids": [1]}:
        body = body | {"selection": {"ids": failures.letters[:1]}}
    elif body.get("selection", {}) == {"ids": [1, 2]}:
        body = body | {"selection": {"ids": failures.letters[:2]}}
    answer = api.post(REPLAYS, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer], answer.text


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"selection": {"ids": [1]}, "rate_per_second": Infinity}', "json_number"),
        ('{"selection": {"ids": [1]}, "rate_per_second": 1e999}', "json_number"),
        ('{"selection": {"ids": [1]}, "edit": {"merge_patch": {"a": 1, "a": 2}}}', "json_duplicate_key"),
        ('{"selection": {"ids": [1], "ids": [2]}}', "json_duplicate_key"),
        ('{"selection": {"ids": [1]}, "edit": {"value": ' + "[" * 70 + "]" * 70 + "}}", "json_too_deep"),
        ('{"selection": {"ids": [1]}, "edit": {"value": "\\ud800"}}', "invalid_unicode"),
    ],
)
def test_a_body_that_readers_would_read_apart_is_malformed(api: httpx.Client, text: str, code: str) -> None:
    refused(api.post(REPLAYS, content=text, headers={"Content-Type": "application/json"}), 400, code)


def test_what_is_named_must_be_there(api: httpx.Client, failures: Failures) -> None:
    one = {"selection": {"ids": failures.letters[:1]}}
    for target, code in (
        ({"topic": unique()}, "topic_not_found"),
        ({"queue": unique()}, "queue_not_found"),
        ({"exchange": unique(), "routing_key": "k"}, "exchange_not_found"),
    ):
        for dry_run in (True, False):
            refused(api.post(REPLAYS, json=one | {"target": target, "dry_run": dry_run}), 404, code)
    answer = api.post(REPLAYS, json={"selection": {"filter": {"fingerprint": unique()}}})
    refused(answer, 404, "failure_group_not_found")


def test_a_value_that_is_too_large_is_refused(api: httpx.Client, failures: Failures) -> None:
    body = {"selection": {"ids": failures.letters[:1]}, "edit": {"value": "x" * (8 * 2**20 + 10)}}
    assert api.post(REPLAYS, json=body).status_code == 413


# -- permissions ----------------------------------------------------------------------------------------------------


def test_a_replay_takes_replay_on_each_group_in_it(server: Server, api: httpx.Client, failures: Failures) -> None:
    others = failing(api, failures.connection, topic=failures.topic)
    theirs = others.add()
    both = {"ids": [failures.letters[0], theirs]}
    mine = ("replay", "group", failures.group)
    with server.client(issue(api, mine)) as client:
        answer = client.post(REPLAYS, json={"selection": both})
        refused(answer, 404, "dead_letter_not_found", "/selection/ids/1")
        assert planned(client, {"filter": {"source": failures.topic}})["total"] == 3
        made = replay(client, {"filter": {"source": failures.topic}}, **SLOW)
        assert made["total"] == 3
        assert [found["id"] for found in client.get(REPLAYS).json()["items"]] == [made["id"]]
        assert client.post(f"{REPLAYS}/{made['id']}/cancel").status_code == 200
    with server.client(issue(api, mine, ("describe", "group", others.group))) as client:
        refused(client.post(REPLAYS, json={"selection": both, "dry_run": True}), 403, "forbidden")
        refused(client.post(REPLAYS, json={"selection": {"filter": {"source": failures.topic}}}), 403, "forbidden")
    with server.client(issue(api, ("read", "group", failures.group))) as client:
        refused(client.post(REPLAYS, json={"selection": {"ids": failures.letters}}), 403, "forbidden")
        assert client.get(f"{REPLAYS}/{made['id']}").status_code == 200
        refused(client.post(f"{REPLAYS}/{made['id']}/pause"), 403, "forbidden")
    with server.client(issue(api, ("replay", "group", others.group))) as client:
        for path in ("", "/items"):
            refused(client.get(f"{REPLAYS}/{made['id']}{path}"), 404, "replay_not_found")
        refused(client.post(f"{REPLAYS}/{made['id']}/cancel"), 404, "replay_not_found")
        assert client.get(REPLAYS).json()["items"] == []
        answer = client.post(REPLAYS, json={"selection": {"filter": {"fingerprint": failures.fingerprint}}})
        refused(answer, 404, "failure_group_not_found")


def test_a_target_takes_write_and_an_edit_takes_the_payload(
    server: Server, api: httpx.Client, failures: Failures
) -> None:
    target = unique()
    api.post("/api/v1/topics", json={"name": target, "partitions": 1})
    one = {"selection": {"ids": failures.letters[:1]}, "dry_run": True}
    mine = ("replay", "group", failures.group)
    with server.client(issue(api, mine)) as client:
        assert client.post(REPLAYS, json=one).json()["sample"][0] == {
            "id": failures.letters[0],
            "before": None,
            "after": None,
            "payload_hidden": True,
        }
        refused(client.post(REPLAYS, json=one | {"target": {"topic": target}}), 403, "forbidden")
        refused(client.post(REPLAYS, json=one | {"target": {"topic": unique()}}), 403, "forbidden")
        refused(client.post(REPLAYS, json=one | {"edit": {"value": 1}}), 403, "forbidden")
        refused(client.post(REPLAYS, json=one | {"edit": {"merge_patch": {"a": 1}}}), 403, "forbidden")
    token = issue(api, mine, ("write", "topic", target), ("view_payload", "topic", failures.topic))
    with server.client(token) as client:
        answer = client.post(REPLAYS, json=one | {"target": {"topic": target}, "edit": {"value": 1}})
        assert answer.json()["sample"][0]["after"]["value"] == 1


def test_a_selection_of_nothing_is_its_makers_alone(server: Server, api: httpx.Client) -> None:
    group = unique("g")
    with server.client(issue(api, ("replay", "group", group))) as client:
        made = replay(client, {"filter": {"group": group}})
        assert made["total"] == 0
        assert until(client, made["id"], "completed")["finished_at"] is not None
    with server.client(issue(api, ("replay", "group", group))) as client:
        refused(client.get(f"{REPLAYS}/{made['id']}"), 404, "replay_not_found")


def test_hiding_and_absence_are_told_in_the_same_words(server: Server, api: httpx.Client, failures: Failures) -> None:
    made = replay(api, {"ids": failures.letters}, **SLOW)["id"]
    with server.client(issue(api, ("replay", "group", unique()))) as client:
        hidden, missing = (client.get(f"{REPLAYS}/{number}").text for number in (made, 9_000_000_000))
        assert hidden.replace(str(made), "9000000000") == missing
        answers = [
            client.post(REPLAYS, json={"selection": {"ids": [number]}}).text
            for number in (failures.letters[0], 9_000_000_000)
        ]
        assert json.loads(answers[0].replace(str(failures.letters[0]), "9000000000")) == json.loads(answers[1])
    api.post(f"{REPLAYS}/{made}/cancel")


# -- the documentation ----------------------------------------------------------------------------------------------


def test_the_documented_requests_are_understood(api: httpx.Client, failures: Failures) -> None:
    text = (ROOT / "docs" / "rest.md").read_text(encoding="utf-8")
    section = text[text.index("## Dead letters") : text.index("## Health and figures")].replace(
        "delays", failures.group
    )
    bodies = [
        json.loads(found) for found in re.findall(r"curl \"\$URL/api/v1/replays\".*?-d '(\{.*?\n  \})'", section, re.S)
    ]
    statuses = [api.post(REPLAYS, json=body).status_code for body in bodies]
    assert statuses == [200, 202]
    paths = re.findall(r'curl "\$URL(/api/v1/[^"]+)" -H', section)
    assert len(paths) == 7
    for path in paths:
        assert api.get(path).status_code in (200, 404), path
