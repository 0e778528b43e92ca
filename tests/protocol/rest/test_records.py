"""Records over REST, against a whole server: what is stored, what is refused, and how."""

from __future__ import annotations

import base64
import json
import threading
import time
from typing import Any

import httpx
import pytest

from tests.server import Server, unique


@pytest.fixture
def topic(api: httpx.Client) -> str:
    name = unique()
    assert api.post("/api/v1/topics", json={"name": name, "partitions": 1}).status_code == 201
    return name


def post(api: httpx.Client, topic: str, body: bytes, **headers: str) -> httpx.Response:
    return api.post(
        f"/api/v1/topics/{topic}/records", content=body, headers={"Content-Type": "application/json", **headers}
    )


def fetch(api: httpx.Client, topic: str, **query: Any) -> dict[str, Any]:
    answer = api.get(f"/api/v1/topics/{topic}/partitions/0/records", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_published_records_come_back_in_order(api: httpx.Client, topic: str) -> None:
    records: list[dict[str, Any]] = [
        {"key": "N14228", "value": {"a": 1}, "headers": {"h": "v"}, "partition": 0, "timestamp": 1357034400000},
        {"value": None},
        {"key_base64": "/w==", "value_base64": "AP8="},
    ]
    answer = api.post(f"/api/v1/topics/{topic}/records", json={"records": records})
    assert answer.status_code == 200
    assert answer.json() == {"offsets": [{"partition": 0, "offset": n} for n in range(3)]}
    found = fetch(api, topic)
    assert (found["next_offset"], found["latest_offset"]) == (3, 3)
    first, second, third = found["records"]
    assert first == records[0] | {"offset": 0}
    assert (second["key"], second["value"]) == (None, None)
    assert (third["key_base64"], third["value_base64"]) == ("/w==", "AP8=")
    assert "value" not in third
    assert "key" not in third


@pytest.mark.parametrize(
    "text",
    [
        b'{"b" : 1.0,\n "a":[ ]}',
        b"123456789012345678901234567890",
        b"9007199254740993.0",
        b'{"a":1,"a":2}',
        b'"\\u0000\\ud83d\\ude00"',
        '"\u202e \U0001f600"'.encode(),
        b"[" * 64 + b"]" * 64,
        b"-0.0",
        b'""',
    ],
)
def test_json_is_returned_as_the_very_bytes_that_came(api: httpx.Client, topic: str, text: bytes) -> None:
    assert post(api, topic, b'{"records":[{"value":%b}]}' % text).status_code == 200
    answer = api.get(f"/api/v1/topics/{topic}/partitions/0/records")
    assert b'"value":%b,"headers"' % text in answer.content


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "empty_body"),
        (b"{", 400, "malformed_json"),
        (b'{"records":[]} x', 400, "malformed_json"),
        (b"\xff\xfe", 400, "malformed_json"),
        (b'\xef\xbb\xbf{"records":[{"value":1}]}', 400, "malformed_json"),
        (b'{"records":[{"value":NaN}]}', 400, "json_number"),
        (b'{"records":[{"value":1e400}]}', 400, "json_number"),
        (b'{"records":[{"value":' + b"9" * 5000 + b"}]}", 400, "json_number"),
        (b'{"records":[{"value":' + b"[" * 65 + b"]" * 65 + b"}]}", 400, "json_too_deep"),
        (b'{"records":[{"value":' + b"[" * 200_000 + b"}]}", 400, "json_too_deep"),
        (b'{"records":[{"value":"\\ud800"}]}', 400, "invalid_unicode"),
        (b'{"records":[{"value":1,"value":2}]}', 400, "json_duplicate_key"),
        (b'{"records":[{"value":1}],"records":[]}', 400, "json_duplicate_key"),
        (b'{"records":[{"value":1,"nope":2}]}', 422, "unknown_field"),
        (b'{"records":[{"key":"k"}]}', 422, "invalid_value"),
        (b'{"records":[]}', 422, "invalid_value"),
        (b'{"records":{}}', 422, "invalid_type"),
        (b'{"records":[{"value":1,"partition":"0"}]}', 422, "invalid_type"),
        (b'{"records":[{"value":1,"partition":true}]}', 422, "invalid_type"),
        (b'{"records":[{"value":1,"partition":-1}]}', 422, "invalid_value"),
        (b'{"records":[{"value":1,"partition":7}]}', 404, "partition_not_found"),
        (b'{"records":[{"value":1,"timestamp":-1}]}', 422, "invalid_value"),
        (b'{"records":[{"value":1,"headers":{"a":1}}]}', 422, "invalid_type"),
        (b'{"records":[{"value":1,"value_base64":"AA=="}]}', 422, "invalid_value"),
        (b'{"records":[{"value_base64":"%%%"}]}', 422, "invalid_value"),
        (b'{"records":[{"value":1,"key":7}]}', 422, "invalid_type"),
        (b'{"records":[' + b",".join([b'{"value":1}'] * 1001) + b"]}", 413, "batch_too_large"),
        (b'{"records":[{"value":"' + b"x" * 1_100_000 + b'"}]}', 413, "record_too_large"),
        (b'{"records":[{"value":1,"key":"' + b"k" * 9000 + b'"}]}', 422, "invalid_value"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
def test_a_bad_body_is_a_problem_and_stores_nothing(
    api: httpx.Client, topic: str, body: bytes, status: int, code: str
) -> None:
    answer = post(api, topic, body)
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["title"]
    assert len(problem["detail"]) < 400
    assert fetch(api, topic)["latest_offset"] == 0


def test_one_bad_record_refuses_all_and_is_pointed_at(api: httpx.Client, topic: str) -> None:
    answer = api.post(f"/api/v1/topics/{topic}/records", json={"records": [{"value": 1}, {"value": 2, "key": 5}]})
    assert answer.json()["errors"][0]["pointer"] == "/records/1/key"
    assert fetch(api, topic)["latest_offset"] == 0


@pytest.mark.parametrize("content_type", ["text/plain", "", "application/json; charset=latin-1"])
def test_another_media_type_is_refused(api: httpx.Client, topic: str, content_type: str) -> None:
    answer = post(api, topic, b'{"records":[{"value":1}]}', **{"Content-Type": content_type})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_a_compressed_body_is_refused(api: httpx.Client, topic: str) -> None:
    answer = post(api, topic, b"\x1f\x8b", **{"Content-Encoding": "gzip"})
    assert answer.status_code == 415


def test_a_body_over_the_limit_is_refused_before_it_is_read(server: Server, topic: str) -> None:
    """Announced by Content-Length, and found out while chunks come in."""
    import http.client
    from urllib.parse import urlsplit

    where = urlsplit(server.url)
    for chunked in (False, True):
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
        connection.putrequest("POST", f"/api/v1/topics/{topic}/records")
        connection.putheader("Authorization", f"Bearer {server.admin_token}")
        connection.putheader("Content-Type", "application/json")
        if chunked:
            connection.putheader("Transfer-Encoding", "chunked")
            connection.endheaders()
            part = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
            try:
                for _ in range(20):
                    connection.send(part)
            except (BrokenPipeError, ConnectionResetError):
                connection.close()
                continue
        else:
            connection.putheader("Content-Length", str(10**12))
            connection.endheaders()
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (413, "too_large")
        connection.close()


def test_ndjson_takes_a_record_a_line(api: httpx.Client, topic: str) -> None:
    body = b'{"value":{"n": 1}}\n\n{"key":"k","value":2}\n'
    answer = post(api, topic, body, **{"Content-Type": "application/x-ndjson"})
    assert len(answer.json()["offsets"]) == 2
    assert [record["value"] for record in fetch(api, topic)["records"]] == [{"n": 1}, 2]
    refused = post(api, topic, b'{"value":1}\n{"value":}\n', **{"Content-Type": "application/x-ndjson"})
    assert refused.status_code == 400


# -- fetch --------------------------------------------------------------------------------------------------------


def test_a_fetch_goes_on_where_the_last_one_ended(api: httpx.Client, topic: str) -> None:
    api.post(f"/api/v1/topics/{topic}/records", json={"records": [{"value": n} for n in range(25)]})
    values, offset = [], 0
    for _ in range(3):
        page = fetch(api, topic, offset=offset, limit=10)
        values += [record["value"] for record in page["records"]]
        offset = page["next_offset"]
    assert values == list(range(25))
    assert fetch(api, topic, offset="latest")["next_offset"] == 25
    assert fetch(api, topic, offset=999)["records"] == []


def test_a_fetch_by_timestamp_begins_at_the_first_record_at_or_after_it(api: httpx.Client, topic: str) -> None:
    records = [{"value": n, "timestamp": 1000 * n} for n in range(10)]
    api.post(f"/api/v1/topics/{topic}/records", json={"records": records})
    assert fetch(api, topic, timestamp=4001)["records"][0]["value"] == 5
    assert fetch(api, topic, timestamp=99999)["records"] == []


def test_a_held_fetch_answers_as_soon_as_a_record_is_there(server: Server, api: httpx.Client, topic: str) -> None:
    found: list[tuple[float, dict[str, Any]]] = []

    def hold() -> None:
        with server.client() as client:
            answer = fetch(client, topic, offset="latest", wait_ms=20000)
            found.append((time.monotonic(), answer))

    thread = threading.Thread(target=hold)
    started = time.monotonic()
    thread.start()
    while time.monotonic() - started < 0.5:
        assert not found
        thread.join(0.05)
    published = time.monotonic()
    api.post(f"/api/v1/topics/{topic}/records", json={"records": [{"value": "now"}]})
    thread.join(10)
    [(answered, answer)] = found
    assert [record["value"] for record in answer["records"]] == ["now"]
    assert answered - published < 5


def test_a_held_fetch_ends_empty_when_its_time_is_over(api: httpx.Client, topic: str) -> None:
    assert fetch(api, topic, wait_ms=300) == {"records": [], "next_offset": 0, "latest_offset": 0}


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"limit": "0"}, 422, "invalid_value"),
        ({"limit": "1001"}, 422, "invalid_value"),
        ({"limit": "01"}, 422, "invalid_value"),
        ({"limit": "1_0"}, 422, "invalid_value"),
        ({"limit": "٣"}, 422, "invalid_value"),
        ({"offset": "-1"}, 422, "invalid_value"),
        ({"offset": "9" * 30}, 422, "invalid_value"),
        ({"offset": "first"}, 422, "invalid_value"),
        ({"wait_ms": "30001"}, 422, "invalid_value"),
        ({"timestamp": "1", "offset": "1"}, 422, "invalid_value"),
        ({"nope": "1"}, 422, "unknown_field"),
    ],
)
def test_a_bad_parameter_is_named(api: httpx.Client, topic: str, query: dict[str, str], status: int, code: str) -> None:
    answer = api.get(f"/api/v1/topics/{topic}/partitions/0/records", params=query)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


@pytest.mark.parametrize("partition", ["1", "99999999999"])
def test_an_unknown_partition_is_not_found(api: httpx.Client, topic: str, partition: str) -> None:
    answer = api.get(f"/api/v1/topics/{topic}/partitions/{partition}/records")
    assert (answer.status_code, answer.json()["code"]) == (404, "partition_not_found")


# -- Idempotency-Key ----------------------------------------------------------------------------------------------


def test_a_repeat_under_the_same_key_gets_the_first_answer_and_stores_nothing(api: httpx.Client, topic: str) -> None:
    body = b'{"records":[{"value":1}]}'
    first = post(api, topic, body, **{"Idempotency-Key": "k1"})
    again = post(api, topic, body, **{"Idempotency-Key": "k1"})
    assert first.json() == again.json()
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert fetch(api, topic)["latest_offset"] == 1


def test_the_same_key_with_another_body_is_refused(api: httpx.Client, topic: str) -> None:
    post(api, topic, b'{"records":[{"value":1}]}', **{"Idempotency-Key": "k1"})
    answer = post(api, topic, b'{"records":[{"value":2}]}', **{"Idempotency-Key": "k1"})
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_reused")
    assert fetch(api, topic)["latest_offset"] == 1


def test_keys_belong_to_a_topic(api: httpx.Client, topic: str) -> None:
    other = unique()
    api.post("/api/v1/topics", json={"name": other, "partitions": 1})
    for name in (topic, other):
        assert post(api, name, b'{"records":[{"value":1}]}', **{"Idempotency-Key": "k1"}).status_code == 200
        assert fetch(api, name)["latest_offset"] == 1


def test_concurrent_repeats_store_once(server: Server, api: httpx.Client, topic: str) -> None:
    statuses: list[int] = []

    def send() -> None:
        with server.client() as client:
            statuses.append(post(client, topic, b'{"records":[{"value":1}]}', **{"Idempotency-Key": "k"}).status_code)

    threads = [threading.Thread(target=send) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {200, 409}
    assert 200 in statuses
    assert fetch(api, topic)["latest_offset"] == 1


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_an_unusable_key_is_refused(api: httpx.Client, topic: str, key: str) -> None:
    answer = post(api, topic, b'{"records":[{"value":1}]}', **{"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_idempotency_key")


def test_base64_of_any_bytes_comes_back(api: httpx.Client, topic: str) -> None:
    value = base64.b64encode(bytes(range(256))).decode()
    api.post(f"/api/v1/topics/{topic}/records", json={"records": [{"value_base64": value}]})
    assert fetch(api, topic)["records"][0]["value_base64"] == value
