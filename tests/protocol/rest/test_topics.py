"""Topics over REST: creating, listing, describing, changing and deleting them, and what is refused on the way."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import httpx
import psycopg
import pytest

from tests.protocol.rest.raw_http import exchange, head
from tests.server import Server, unique

Json = dict[str, Any]
DEFAULTS = {
    "partitions": 3,
    "retention_ms": 604_800_000,
    "retention_bytes": None,
    "max_record_bytes": 1_048_576,
    "cleanup_policy": "delete",
    "partitioner": "crc32",
}


@pytest.fixture
def topic(api: httpx.Client) -> str:
    name = unique()
    assert api.post("/api/v1/topics", json={"name": name}).status_code == 201
    return name


def assert_refused(answer: httpx.Response, status: int, code: str, pointer: str | None = None) -> None:
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    if pointer is not None:
        assert answer.json()["errors"][0]["pointer"] == pointer


# -- creating -------------------------------------------------------------------------------------------------------


def test_a_topic_is_created_with_the_defaults_of_the_contract(api: httpx.Client) -> None:
    name = unique()
    answer = api.post("/api/v1/topics", json={"name": name})
    assert answer.status_code == 201
    assert answer.headers["location"] == f"/api/v1/topics/{name}"
    created = answer.json()
    assert created == {"name": name, **DEFAULTS, "created_at": created["created_at"]}
    assert created["created_at"].endswith("Z")
    assert abs((datetime.now(UTC) - datetime.fromisoformat(created["created_at"])).total_seconds()) < 60
    assert api.get(answer.headers["location"]).json() == created


def test_a_topic_is_created_as_it_is_declared(api: httpx.Client) -> None:
    declared: Json = {
        "name": unique(),
        "partitions": 12,
        "retention_ms": None,
        "retention_bytes": 2**63 - 1,
        "max_record_bytes": 1,
        "cleanup_policy": "compact",
        "partitioner": "murmur2",
    }
    created = api.post("/api/v1/topics", json=declared).json()
    assert created == declared | {"created_at": created["created_at"]}
    assert api.get(f"/api/v1/topics/{declared['name']}").json() == created


def test_a_second_topic_of_the_same_name_is_a_conflict(api: httpx.Client, topic: str) -> None:
    assert_refused(api.post("/api/v1/topics", json={"name": topic, "partitions": 9}), 409, "topic_exists")
    assert api.get(f"/api/v1/topics/{topic}").json()["partitions"] == 3


def test_names_differ_by_case(api: httpx.Client) -> None:
    name = unique()
    for other in (name, name.upper()):
        assert api.post("/api/v1/topics", json={"name": other}).status_code == 201


@pytest.mark.parametrize("name", ["a", "x" * 249, "...", "-", "_leading", "A.b-C_9"])
def test_any_name_of_the_rule_will_do(api: httpx.Client, name: str) -> None:
    answer = api.post("/api/v1/topics", json={"name": name})
    assert answer.status_code in (201, 409), answer.text
    assert api.get(f"/api/v1/topics/{name}").json()["name"] == name
    assert api.delete(f"/api/v1/topics/{name}").status_code == 204


BAD_NAMES = {
    "empty": "",
    "too long": "x" * 250,
    "one dot": ".",
    "two dots": "..",
    "slash": "a/b",
    "parent": "../a",
    "nul": "a\0b",
    "trailing newline": "orders\n",
    "leading space": " orders",
    "trailing space": "orders ",
    "carriage return": "a\rb",
    "look-alike o": "\u043erders",
    "full width": "\uff41",
    "combining": "a\u0301",
    "dotless i": "\u0131",
    "right to left": "a\u202eb",
    "zero width": "a\u200bb",
    "emoji": "\U0001f4a9",
    "arabic digit": "\u0663",
    "sql": "a';drop table x--",
    "template": "{{7*7}}",
    "percent": "%00",
    "colon": "a:b",
    "star": "*",
}


@pytest.mark.parametrize("name", BAD_NAMES.values(), ids=BAD_NAMES)
def test_a_name_outside_of_the_rule_is_refused_in_a_body(api: httpx.Client, name: str) -> None:
    assert_refused(api.post("/api/v1/topics", json={"name": name}), 422, "invalid_name", "/name")


BAD_SEGMENTS = ["%00", "a%00", "a%2Fb", "%2F", "..%2F", "%2e%2e%2f", "x" * 250, "orders%0A", "%20a", "%D0%BErders"]
BAD_SEGMENTS += ["%FF", "%C0%AF", "%ED%A0%80", "a%0d%0aX-Injected:%201", "%", "%zz", "a*", "a:b", "..", "."]


@pytest.mark.parametrize("segment", BAD_SEGMENTS)
@pytest.mark.parametrize("rest", ["", "/partitions", "/partitions/0/records"])
def test_a_name_outside_of_the_rule_is_refused_in_a_path(server: Server, segment: str, rest: str) -> None:
    answer = exchange(server, head("GET", f"/api/v1/topics/{segment}{rest}", server.admin_token))
    assert (answer.status, answer.json()["code"]) == (422, "invalid_name")
    assert "x-injected" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/api/v1/topics/", "/api/v1/topics//partitions", "//api/v1/topics", "/api//v1/topics", "/api/v1%2Ftopics"]
)
def test_an_empty_segment_is_no_name(server: Server, path: str) -> None:
    assert exchange(server, head("GET", path, server.admin_token)).status == 404


@pytest.mark.parametrize(
    ("member", "value", "code"),
    [
        ("name", 7, "invalid_type"),
        ("name", None, "invalid_type"),
        ("name", ["a"], "invalid_type"),
        ("partitions", 0, "invalid_value"),
        ("partitions", -1, "invalid_value"),
        ("partitions", 1001, "invalid_value"),
        ("partitions", 10**30, "invalid_value"),
        ("partitions", "3", "invalid_type"),
        ("partitions", 3.0, "invalid_type"),
        ("partitions", 3.5, "invalid_type"),
        ("partitions", True, "invalid_type"),
        ("partitions", None, "invalid_type"),
        ("retention_ms", 0, "invalid_value"),
        ("retention_ms", -1, "invalid_value"),
        ("retention_ms", 2**63, "invalid_value"),
        ("retention_ms", 10**40, "invalid_value"),
        ("retention_ms", "P1D", "invalid_type"),
        ("retention_bytes", 0, "invalid_value"),
        ("retention_bytes", 2**63, "invalid_value"),
        ("retention_bytes", 1e300, "invalid_type"),
        ("max_record_bytes", 0, "invalid_value"),
        ("max_record_bytes", 8 * 1024 * 1024 + 1, "invalid_value"),
        ("max_record_bytes", None, "invalid_type"),
        ("cleanup_policy", "keep", "invalid_value"),
        ("cleanup_policy", None, "invalid_type"),
        ("cleanup_policy", "delete\n", "invalid_value"),
        ("partitioner", "md5", "invalid_value"),
        ("partitioner", "", "invalid_value"),
        ("partitioner", "os.system", "invalid_value"),
        ("partitioner", "x" * 201, "invalid_value"),
        ("partitioner", "a\0", "invalid_value"),
        ("unknown", 1, "unknown_field"),
        ("Name", "a", "unknown_field"),
    ],
)
def test_a_bad_setting_is_pointed_at(api: httpx.Client, member: str, value: Any, code: str) -> None:
    answer = api.post("/api/v1/topics", json={"name": unique(), member: value})
    expected = "json_number" if answer.status_code == 400 else code
    assert_refused(answer, 400 if expected == "json_number" else 422, expected)
    if expected != "json_number":
        assert answer.json()["errors"][0]["pointer"] == f"/{member}"


@pytest.mark.parametrize("body", [b"[]", b"null", b"1", b'"a"', b"{}", b'{"name":"a","name":"b"}', b"{'name':1}"])
def test_a_body_of_another_shape_is_refused(api: httpx.Client, body: bytes) -> None:
    answer = api.post("/api/v1/topics", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["detail"]


# -- listing --------------------------------------------------------------------------------------------------------


def test_pages_follow_each_other_without_gap_or_repeat(api: httpx.Client) -> None:
    prefix = unique("page.")
    names = [f"{prefix}.{n:02}" for n in range(7)]
    for name in reversed(names):
        assert api.post("/api/v1/topics", json={"name": name, "partitions": 1}).status_code == 201
    found: list[str] = []
    after = prefix
    for _ in range(100):
        page = api.get("/api/v1/topics", params={"limit": 3, "after": after}).json()
        assert len(page["items"]) <= 3
        found += [item["name"] for item in page["items"]]
        if page["next"] is None:
            break
        after = page["next"]
    assert found == sorted(found)
    assert found[:7] == names


def test_the_last_page_that_is_just_full_has_no_next(api: httpx.Client) -> None:
    name = "~"
    page = api.get("/api/v1/topics", params={"after": name}).json()
    assert page == {"items": [], "next": None}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"limit": "0"}, "invalid_value"),
        ({"limit": "1001"}, "invalid_value"),
        ({"limit": "-1"}, "invalid_value"),
        ({"limit": "01"}, "invalid_value"),
        ({"limit": "1.0"}, "invalid_value"),
        ({"limit": "1e2"}, "invalid_value"),
        ({"limit": ""}, "invalid_value"),
        ({"limit": "\u0663"}, "invalid_value"),
        ({"limit": "1_0"}, "invalid_value"),
        ({"limit": "9" * 100}, "invalid_value"),
        ({"after": "a\0"}, "invalid_value"),
        ({"page": "1"}, "unknown_field"),
        ({"Limit": "1"}, "unknown_field"),
        ({"access_token": "x"}, "unknown_field"),
    ],
    ids=str,
)
def test_a_bad_parameter_of_a_list_is_named(api: httpx.Client, query: dict[str, str], code: str) -> None:
    assert_refused(api.get("/api/v1/topics", params=query), 422, code, f"/{next(iter(query))}")


@pytest.mark.parametrize("text", ["limit=1&limit=2", "after=%FF", "after=%ED%A0%80", "limit=1&" * 60, "%00=1", "="])
def test_a_query_that_cannot_be_read_is_refused(server: Server, text: str) -> None:
    assert exchange(server, head("GET", f"/api/v1/topics?{text}", server.admin_token)).status == 422


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_calls_without_parameters_take_none(api: httpx.Client, topic: str, method: str) -> None:
    assert_refused(api.request(method, f"/api/v1/topics/{topic}?force=1"), 422, "unknown_field")
    assert api.get(f"/api/v1/topics/{topic}").status_code == 200


# -- changing and deleting ------------------------------------------------------------------------------------------


def test_what_is_given_changes_and_the_rest_stays(api: httpx.Client, topic: str) -> None:
    before = api.get(f"/api/v1/topics/{topic}").json()
    changes: list[Json] = [
        {"partitions": 5},
        {"retention_ms": None},
        {"retention_ms": 1000, "retention_bytes": 10**9},
        {"retention_bytes": None, "max_record_bytes": 100, "cleanup_policy": "compact"},
        {},
    ]
    for change in changes:
        answer = api.patch(f"/api/v1/topics/{topic}", json=change)
        assert answer.status_code == 200
        before |= change
        assert answer.json() == before
        assert api.get(f"/api/v1/topics/{topic}").json() == before


def test_partitions_can_only_be_raised(api: httpx.Client, topic: str) -> None:
    assert api.patch(f"/api/v1/topics/{topic}", json={"partitions": 3}).status_code == 200
    refused = api.patch(f"/api/v1/topics/{topic}", json={"partitions": 2, "retention_ms": 1})
    assert_refused(refused, 409, "partitions_cannot_shrink")
    assert api.get(f"/api/v1/topics/{topic}").json()["retention_ms"] == DEFAULTS["retention_ms"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"name": "other"}, "unknown_field"),
        ({"partitioner": "murmur2"}, "unknown_field"),
        ({"partitions": None}, "invalid_type"),
        ({"partitions": 1001}, "invalid_value"),
        ({"retention_ms": 0}, "invalid_value"),
        ({"cleanup_policy": "none"}, "invalid_value"),
    ],
    ids=str,
)
def test_a_bad_change_is_refused_and_nothing_changes(api: httpx.Client, topic: str, body: Json, code: str) -> None:
    before = api.get(f"/api/v1/topics/{topic}").json()
    assert_refused(api.patch(f"/api/v1/topics/{topic}", json=body), 422, code, f"/{next(iter(body))}")
    assert api.get(f"/api/v1/topics/{topic}").json() == before


def test_new_partitions_take_records_at_once(api: httpx.Client, topic: str) -> None:
    api.patch(f"/api/v1/topics/{topic}", json={"partitions": 4})
    published = api.post(f"/api/v1/topics/{topic}/records", json={"records": [{"value": 1, "partition": 3}]})
    assert published.json() == {"offsets": [{"partition": 3, "offset": 0}]}


def test_partitions_are_listed_with_their_bounds(api: httpx.Client, topic: str) -> None:
    listed = api.get(f"/api/v1/topics/{topic}/partitions").json()
    empty = {"earliest_offset": 0, "latest_offset": 0, "bytes": 0}
    assert listed == {"items": [{"partition": n, **empty} for n in range(3)]}
    api.post(f"/api/v1/topics/{topic}/records", json={"records": [{"value": "x" * 50, "partition": 1}] * 4})
    first, second, third = api.get(f"/api/v1/topics/{topic}/partitions").json()["items"]
    assert (first, third) == ({"partition": 0, **empty}, {"partition": 2, **empty})
    assert (second["earliest_offset"], second["latest_offset"]) == (0, 4)
    assert second["bytes"] > 0


def test_a_deleted_topic_is_gone_for_every_call(api: httpx.Client, topic: str) -> None:
    api.post(f"/api/v1/topics/{topic}/records", json={"records": [{"value": 1}]})
    answer = api.delete(f"/api/v1/topics/{topic}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert "content-type" not in answer.headers
    here = f"/api/v1/topics/{topic}"
    for gone in (
        api.get(here),
        api.delete(here),
        api.patch(here, json={}),
        api.get(f"{here}/partitions"),
        api.get(f"{here}/partitions/0/records"),
        api.post(f"{here}/records", json={"records": [{"value": 1}]}),
    ):
        assert_refused(gone, 404, "topic_not_found")


def test_a_topic_made_again_begins_anew(api: httpx.Client, topic: str) -> None:
    api.post(f"/api/v1/topics/{topic}/records", json={"records": [{"value": 1, "partition": 0}]})
    api.delete(f"/api/v1/topics/{topic}")
    assert api.post("/api/v1/topics", json={"name": topic, "partitions": 1}).status_code == 201
    found = api.get(f"/api/v1/topics/{topic}/partitions/0/records").json()
    assert (found["records"], found["latest_offset"]) == ([], 0)


def test_a_change_is_in_the_audit_record(server: Server, api: httpx.Client, topic: str) -> None:
    api.patch(f"/api/v1/topics/{topic}", json={"retention_ms": 1000})
    api.delete(f"/api/v1/topics/{topic}")
    with psycopg.connect(server.database_url) as connection:
        rows = connection.execute(
            "select operation, surface, principal from brokers_audit_entry where resource = %s order by id", (topic,)
        ).fetchall()
    assert [row[:2] for row in rows] == [("create", "rest"), ("alter", "rest"), ("delete", "rest")]
    assert all(row[2].startswith("admin/administrator (") for row in rows)
