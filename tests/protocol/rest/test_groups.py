"""Consumer groups over REST, against a whole server: shapes, statuses and permissions as the contract has them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.server import Server, unique

Json = dict[str, Any]


@pytest.fixture
def topic(api: httpx.Client) -> str:
    """Three partitions of four records each."""
    name = unique()
    assert api.post("/api/v1/topics", json={"name": name, "partitions": 3}).status_code == 201
    publish(api, name, [{"value": {"n": n}, "partition": p, "key": "k"} for p in range(3) for n in range(4)])
    return name


@pytest.fixture
def group() -> str:
    return unique("g")


def publish(api: httpx.Client, topic: str, records: list[Json]) -> None:
    assert api.post(f"/api/v1/topics/{topic}/records", json={"records": records}).status_code == 200


def join(api: httpx.Client, group: str, topic: str, **options: Any) -> Json:
    answer = api.post(f"/api/v1/groups/{group}/members", json={"topics": [topic], **options})
    assert answer.status_code == 201, answer.text
    joined: Json = answer.json()
    return joined


def poll(api: httpx.Client, group: str, member: str, **options: Any) -> Json:
    answer = api.post(f"/api/v1/groups/{group}/members/{member}/poll", json=options)
    assert answer.status_code == 200, answer.text
    polled: Json = answer.json()
    return polled


def commit(api: httpx.Client, group: str, member: str, *offsets: tuple[str, int, int], **more: Any) -> httpx.Response:
    named = [{"topic": topic, "partition": partition, "offset": offset} for topic, partition, offset in offsets]
    return api.post(f"/api/v1/groups/{group}/members/{member}/commits", json={"offsets": named, **more})


def described(api: httpx.Client, group: str) -> Json:
    answer = api.get(f"/api/v1/groups/{group}")
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def refused(answer: httpx.Response, status: int, code: str, pointer: str | None = None) -> None:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    if pointer is not None:
        assert [error["pointer"] for error in problem["errors"]] == [pointer], problem


def test_a_member_joins_polls_commits_and_leaves(api: httpx.Client, topic: str, group: str) -> None:
    joined = join(api, group, topic)
    everything = [{"topic": topic, "partition": n} for n in range(3)]
    member = joined["member_id"]
    assert joined == {"member_id": member, "generation": 1, "assignment": everything}
    polled = poll(api, group, member)
    assert (polled["generation"], polled["assignment"], len(polled["records"])) == (1, everything, 12)
    first = polled["records"][0]
    assert first.pop("timestamp") > 1_600_000_000_000
    assert first == {"topic": topic, "partition": 0, "offset": 0, "key": "k", "value": {"n": 0}, "headers": {}}
    answer = commit(api, group, member, (topic, 0, 4), (topic, 1, 2))
    assert answer.status_code == 200
    found = described(api, group)
    assert found == {
        "group": group,
        "state": "stable",
        "paused": False,
        "generation": 1,
        "members": [{"member_id": member, "assignment": everything}],
        "partitions": [
            {"topic": topic, "partition": 0, "committed_offset": 4, "latest_offset": 4, "lag": 0},
            {"topic": topic, "partition": 1, "committed_offset": 2, "latest_offset": 4, "lag": 2},
            {"topic": topic, "partition": 2, "committed_offset": None, "latest_offset": 4, "lag": None},
        ],
    }
    assert api.delete(f"/api/v1/groups/{group}/members/{member}").status_code == 204
    found = described(api, group)
    assert (found["state"], found["members"]) == ("empty", [])
    refused(api.post(f"/api/v1/groups/{group}/members/{member}/poll", json={}), 404, "unknown_member")
    refused(api.delete(f"/api/v1/groups/{group}/members/{member}"), 404, "unknown_member")
    refused(commit(api, group, member, (topic, 0, 1)), 409, "stale_generation")


def test_two_members_share_and_a_stale_one_commits_nothing(api: httpx.Client, topic: str, group: str) -> None:
    first = join(api, group, topic)["member_id"]
    poll(api, group, first)
    second = join(api, group, topic)["member_id"]
    assert described(api, group)["state"] == "rebalancing"
    refused(commit(api, group, first, (topic, 0, 4)), 409, "stale_generation")
    kept = poll(api, group, first, max_records=0)
    assert (kept["generation"], len(kept["assignment"]), kept["records"]) == (2, 2, [])
    taken = poll(api, group, second)
    assert taken["assignment"] == [{"topic": topic, "partition": 2}]
    assert [record["offset"] for record in taken["records"]] == [0, 1, 2, 3]
    assert described(api, group)["state"] == "stable"
    refused(commit(api, group, first, (topic, 0, 4), (topic, 2, 4)), 409, "stale_generation")
    refused(commit(api, group, first, (topic, 0, 4), generation=1), 409, "stale_generation")
    assert all(p["committed_offset"] is None for p in described(api, group)["partitions"])
    assert commit(api, group, first, (topic, 0, 4), generation=2).status_code == 200


def test_from_reads_a_lost_answer_again(api: httpx.Client, topic: str, group: str) -> None:
    member = join(api, group, topic)["member_id"]
    assert len(poll(api, group, member, max_records=1000)["records"]) == 12
    assert poll(api, group, member)["records"] == []
    again = poll(api, group, member, **{"from": [{"topic": topic, "partition": 1, "offset": 2}]})
    assert [(record["partition"], record["offset"]) for record in again["records"]] == [(1, 2), (1, 3)]
    place = {"topic": topic, "partition": 1, "offset": 5}
    answer = api.post(f"/api/v1/groups/{group}/members/{member}/poll", json={"from": [place]})
    refused(answer, 422, "invalid_value", "/from/0/offset")


def test_a_waiting_poll_is_answered_when_a_record_comes(api: httpx.Client, topic: str, group: str) -> None:
    member = join(api, group, topic, auto_offset_reset="latest")["member_id"]
    assert poll(api, group, member)["records"] == []
    timer = threading.Timer(0.4, publish, (api, topic, [{"value": "now"}]))
    timer.start()
    began = time.monotonic()
    polled = poll(api, group, member, wait_ms=20_000)
    timer.join()
    assert [record["value"] for record in polled["records"]] == ["now"]
    assert time.monotonic() - began < 5


def test_a_short_session_lives_through_a_waiting_poll_and_ends_by_itself(
    api: httpx.Client, topic: str, group: str
) -> None:
    member = join(api, group, topic, auto_offset_reset="latest", session_timeout_ms=400)["member_id"]
    assert poll(api, group, member, wait_ms=1500)["records"] == []
    deadline = time.monotonic() + 10
    while described(api, group)["members"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    refused(api.post(f"/api/v1/groups/{group}/members/{member}/poll", json={}), 404, "unknown_member")


def test_none_asks_for_a_committed_offset(api: httpx.Client, topic: str, group: str) -> None:
    member = join(api, group, topic, auto_offset_reset="none")["member_id"]
    path = f"/api/v1/groups/{group}/members/{member}/poll"
    refused(api.post(path, json={}), 409, "no_committed_offset")
    commit(api, group, member, *((topic, number, 3) for number in range(3)))
    assert [record["offset"] for record in poll(api, group, member)["records"]] == [3, 3, 3]


def test_a_paused_group_gives_no_records_and_can_be_reset(api: httpx.Client, topic: str, group: str) -> None:
    member = join(api, group, topic)["member_id"]
    poll(api, group, member)
    body: Json = {"topic": topic, "partitions": [1], "to": {"offset": 1}}
    refused(api.post(f"/api/v1/groups/{group}/resets", json=body), 409, "group_active")
    paused = api.post(f"/api/v1/groups/{group}/pause")
    assert (paused.status_code, paused.json()["paused"]) == (200, True)
    planned = api.post(f"/api/v1/groups/{group}/resets", json=body)
    assert planned.json() == {"partitions": [{"partition": 1, "before": None, "after": 1}]}
    assert described(api, group)["partitions"][1]["committed_offset"] is None
    done = api.post(f"/api/v1/groups/{group}/resets", json=body | {"dry_run": False})
    assert (done.status_code, done.json()) == (200, planned.json())
    assert poll(api, group, member)["records"] == []
    assert api.post(f"/api/v1/groups/{group}/resume").json()["paused"] is False
    assert [record["offset"] for record in poll(api, group, member)["records"]] == [1, 2, 3]


@pytest.mark.parametrize(
    ("to", "after"),
    [("earliest", 0), ("latest", 4), ({"offset": 99}, 4), ({"timestamp": 0}, 0), ({"timestamp": 9**14}, 4)],
)
def test_resets_lead_within_the_partition(
    api: httpx.Client, topic: str, group: str, to: str | Json, after: int
) -> None:
    answer = api.post(f"/api/v1/groups/{group}/resets", json={"topic": topic, "to": to, "dry_run": False})
    assert answer.json() == {"partitions": [{"partition": n, "before": None, "after": after} for n in range(3)]}
    shifted = api.post(f"/api/v1/groups/{group}/resets", json={"topic": topic, "to": {"shift": -1}})
    assert [p["after"] for p in shifted.json()["partitions"]] == [max(after - 1, 0)] * 3


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({"to": "middle"}, 422, "invalid_value", "/to"),
        ({"to": {}}, 422, "invalid_value", "/to"),
        ({"to": {"offset": 1, "shift": 1}}, 422, "invalid_value", "/to"),
        ({"to": {"shift": 1}}, 422, "invalid_value", "/to/shift"),
        ({"to": {"offset": -1}}, 422, "invalid_value", "/to/offset"),
        ({"to": "latest", "partitions": []}, 422, "invalid_value", "/partitions"),
        ({"to": "latest", "partitions": [3]}, 404, "partition_not_found", None),
        ({"to": "latest", "topic": "none-such"}, 404, "topic_not_found", None),
        ({"to": "latest", "dry_run": None}, 422, "invalid_type", "/dry_run"),
        ({}, 422, "invalid_value", "/to"),
    ],
)
def test_senseless_resets_are_refused(
    api: httpx.Client, topic: str, group: str, body: Json, status: int, code: str, pointer: str | None
) -> None:
    refused(api.post(f"/api/v1/groups/{group}/resets", json={"topic": topic} | body), status, code, pointer)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 422, "invalid_value"),
        ({"topics": []}, 422, "invalid_value"),
        ({"topics": ["a/b"]}, 422, "invalid_value"),
        ({"topics": ["none-such"]}, 404, "topic_not_found"),
        ({"topics": ["x"], "session_timeout_ms": 99}, 422, "invalid_value"),
        ({"topics": ["x"], "session_timeout_ms": 3_600_001}, 422, "invalid_value"),
        ({"topics": ["x"], "auto_offset_reset": "first"}, 422, "invalid_value"),
        ({"topics": ["x"], "colour": 1}, 422, "unknown_field"),
        ({"topics": "x"}, 422, "invalid_type"),
    ],
)
def test_senseless_memberships_are_refused(api: httpx.Client, group: str, body: Json, status: int, code: str) -> None:
    refused(api.post(f"/api/v1/groups/{group}/members", json=body), status, code)
    refused(api.get(f"/api/v1/groups/{group}"), 404, "group_not_found")


def test_senseless_polls_and_commits_are_refused(api: httpx.Client, topic: str, group: str) -> None:
    member = join(api, group, topic)["member_id"]
    path = f"/api/v1/groups/{group}/members/{member}"
    for body in ({"max_records": 1001}, {"wait_ms": 30_001}, {"max_records": -1}, {"from": [{"topic": topic}]}):
        refused(api.post(f"{path}/poll", json=body), 422, "invalid_value")
    refused(commit(api, group, member), 422, "invalid_value", "/offsets")
    refused(commit(api, group, member, (topic, 0, 5)), 422, "invalid_value", "/offsets/0/offset")
    refused(commit(api, group, member, (topic, 0, 1), (topic, 0, 2)), 422, "invalid_value", "/offsets/1/partition")
    refused(commit(api, group, member, (topic, 7, 0)), 409, "stale_generation")
    for unknown in ("m-" + "0" * 32, "nobody", "x" * 40):
        refused(api.post(f"/api/v1/groups/{group}/members/{unknown}/poll", json={}), 404, "unknown_member")
    for missing in ("pause", "resume"):
        refused(api.post(f"/api/v1/groups/{unique()}/{missing}"), 404, "group_not_found")
    refused(api.get("/api/v1/groups/a%20b"), 422, "invalid_name")


def test_groups_are_listed_by_name_in_pages(api: httpx.Client, topic: str) -> None:
    names = sorted(unique("page") for _ in range(5))
    members = {name: join(api, name, topic)["member_id"] for name in names}
    found: list[Json] = []
    after = min(names)[:-1]
    while True:
        page = api.get("/api/v1/groups", params={"limit": 2, "after": after}).json()
        assert len(page["items"]) <= 2
        found += page["items"]
        after = page["next"]
        if after is None:
            break
    found = [group for group in found if group["group"] in members]
    assert [group["group"] for group in found] == names
    assert [group["members"][0]["member_id"] for group in found] == [members[name] for name in names]
    assert all(len(group["partitions"]) == 3 for group in found)


# -- permissions --------------------------------------------------------------------------------------------------


@pytest.fixture
def restricted(server: Server, api: httpx.Client, topic: str, group: str) -> Iterator[httpx.Client]:
    """May read the topic and the group, and nothing else."""
    grants = [
        {"operation": "read", "resource_type": "topic", "name": topic},
        {"operation": "read", "resource_type": "group", "name": group},
    ]
    issued = api.post("/api/v1/tokens", json={"name": "reader", "grants": grants})
    assert issued.status_code == 201, issued.text
    with server.client(token=issued.json()["token"]) as client:
        yield client


def test_a_reader_may_consume_and_describe_and_change_nothing(
    api: httpx.Client, restricted: httpx.Client, topic: str, group: str
) -> None:
    member = join(restricted, group, topic)["member_id"]
    assert len(poll(restricted, group, member)["records"]) == 12
    assert commit(restricted, group, member, (topic, 0, 1)).status_code == 200
    assert described(restricted, group)["state"] == "stable"
    for change in ("pause", "resume"):
        refused(restricted.post(f"/api/v1/groups/{group}/{change}"), 403, "forbidden")
    reset = {"topic": topic, "to": "latest"}
    refused(restricted.post(f"/api/v1/groups/{group}/resets", json=reset), 403, "forbidden")
    join(api, unique("g"), topic)
    assert [found["group"] for found in restricted.get("/api/v1/groups").json()["items"]] == [group]


def test_neither_another_group_nor_another_topic_may_be_read(
    api: httpx.Client, restricted: httpx.Client, topic: str, group: str
) -> None:
    other = unique()
    assert api.post("/api/v1/topics", json={"name": other}).status_code == 201
    elsewhere = unique("g")
    refused(restricted.post(f"/api/v1/groups/{elsewhere}/members", json={"topics": [topic]}), 403, "forbidden")
    refused(restricted.get(f"/api/v1/groups/{elsewhere}"), 403, "forbidden")
    body = {"topics": [topic, other]}
    refused(restricted.post(f"/api/v1/groups/{group}/members", json=body), 403, "forbidden")
    member = join(api, group, other)["member_id"]
    refused(restricted.post(f"/api/v1/groups/{group}/members/{member}/poll", json={}), 403, "forbidden")
    refused(commit(restricted, group, member, (other, 0, 0)), 403, "forbidden")


def test_without_a_token_nothing_is_answered(server: Server, group: str) -> None:
    with server.client(token=None) as anonymous:
        refused(anonymous.get("/api/v1/groups"), 401, "unauthenticated")
        refused(anonymous.post(f"/api/v1/groups/{group}/members", json={"topics": ["t"]}), 401, "unauthenticated")
