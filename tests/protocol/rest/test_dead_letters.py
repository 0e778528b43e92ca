"""Dead letters over REST, against a whole server: shapes, filters, permissions, and what is refused."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from tests.protocol.rest.seeded_failures import Failures, failing, seeding
from tests.server import Server, unique

Json = dict[str, Any]
LETTERS = "/api/v1/dead-letters"
ITEM = {
    "id",
    "state",
    "reason",
    "source_kind",
    "source",
    "group",
    "partition",
    "offset",
    "exchange",
    "routing_key",
    "message_id",
    "key",
    "value",
    "headers",
    "exception",
    "fingerprint",
    "first_failed_at",
    "failed_at",
    "revision",
    "replays",
    "note",
}


@pytest.fixture(scope="module")
def connection(server: Server) -> Iterator[psycopg.Connection[Any]]:
    with seeding(server) as opened:
        yield opened


@pytest.fixture
def failures(api: httpx.Client, connection: psycopg.Connection[Any]) -> Failures:
    """A topic and a group that has given up nothing yet."""
    return failing(api, connection)


def issue(api: httpx.Client, *grants: tuple[str, str, str] | tuple[str, str, str, str]) -> str:
    """A token with grants of operation, resource type and name, allowed unless a fourth word says `deny`."""
    given = [
        {"operation": grant[0], "resource_type": grant[1], "name": grant[2], "effect": (*grant, "allow")[3]}
        for grant in grants
    ]
    answer = api.post("/api/v1/tokens", json={"name": unique("token"), "grants": given})
    assert answer.status_code == 201, answer.text
    token: str = answer.json()["token"]
    return token


def refused(answer: httpx.Response, status: int, code: str, *pointers: str) -> None:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (status, code), problem
    if pointers:
        assert [error["pointer"] for error in problem["errors"]] == list(pointers), problem


def listed(api: httpx.Client, **asked: Any) -> list[int]:
    """Ids of all pages."""
    found: list[int] = []
    after = ""
    while True:
        answer = api.get(LETTERS, params={**asked, "after": after})
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [item["id"] for item in page["items"]]
        if page["next"] is None:
            return found
        after = page["next"]


# -- shapes ---------------------------------------------------------------------------------------------------------


def test_a_list_has_the_contracts_shape(api: httpx.Client, failures: Failures) -> None:
    number = failures.add(b'{ "n":1.50, "n2":9007199254740993 }', headers={"trace": "t"}, message_id="m-1")
    (item,) = api.get(LETTERS, params={"group": failures.group}).json()["items"]
    assert set(item) == ITEM
    assert item == {
        "id": number,
        "state": "open",
        "reason": "attempts_exhausted",
        "source_kind": "topic",
        "source": failures.topic,
        "group": failures.group,
        "partition": 0,
        "offset": 0,
        "exchange": None,
        "routing_key": None,
        "message_id": "m-1",
        "key": "N14228",
        "value": {"n": 1.5, "n2": 9007199254740993},
        "headers": {"trace": "t"},
        "exception": {"class": "builtins.KeyError", "message": "'dep_time'"},
        "fingerprint": failures.fingerprint,
        "first_failed_at": "2026-03-01T12:00:00.000Z",
        "failed_at": "2026-03-01T12:00:30.000Z",
        "revision": 1,
        "replays": [],
        "note": "",
    }


def test_one_has_its_stack_trace_and_attempts_besides(api: httpx.Client, failures: Failures) -> None:
    number = failures.add()
    answer = api.get(f"{LETTERS}/{number}")
    assert answer.status_code == 200
    found = answer.json()
    assert set(found) == ITEM | {"attempts"}
    assert found["exception"] == {
        "class": "builtins.KeyError",
        "message": "'dep_time'",
        "stacktrace": "Traceback (most recent call last)",
    }
    assert found["attempts"] == [
        {"number": 1, "started_at": "2026-03-01T12:00:00.000Z", "ended_at": None, "error": ""},
        {
            "number": 2,
            "started_at": "2026-03-01T12:00:00.000Z",
            "ended_at": "2026-03-01T12:00:01.000Z",
            "error": "builtins.KeyError: 'dep_time'",
        },
    ]


@pytest.mark.parametrize("value", [b'{ "n":1.50 ,"z":[ ] }', b'"\\u00fcber"', '"über"'.encode(), b"1e2", b"-0"])
def test_a_json_value_is_the_very_bytes_that_were_published(
    api: httpx.Client, failures: Failures, value: bytes
) -> None:
    number = failures.add(value)
    assert b'"value":' + value in api.get(f"{LETTERS}/{number}").content
    assert b'"value":' + value in api.get(LETTERS, params={"group": failures.group}).content


def test_bytes_come_as_base64_and_a_tombstone_as_null(api: httpx.Client, failures: Failures) -> None:
    raw = failures.add(b"\x00\xff", key=b"\xff", encoding=0)
    gone = failures.add(None, key=None, encoding=0)
    found = api.get(f"{LETTERS}/{raw}").json()
    assert base64.b64decode(found["value_base64"]) == b"\x00\xff"
    assert base64.b64decode(found["key_base64"]) == b"\xff"
    assert {"key", "value"}.isdisjoint(found)
    found = api.get(f"{LETTERS}/{gone}").json()
    assert (found["key"], found["value"]) == (None, None)


def test_failure_groups_are_counted_at_once(api: httpx.Client, failures: Failures) -> None:
    made = [failures.add() for _ in range(3)]
    api.patch(f"{LETTERS}/{made[0]}", json={"state": "resolved"})
    answer = api.get(f"{LETTERS}/groups", params={"group": failures.group})
    assert answer.status_code == 200
    (group,) = answer.json()["items"]
    assert group.pop("first_seen") <= group["last_seen"]
    assert group.pop("last_seen")
    assert len(group.pop("last_24_hours")) == 24
    assert group == {
        "fingerprint": failures.fingerprint,
        "count": 3,
        "states": {"open": 2, "replaying": 0, "replayed": 0, "resolved": 1, "discarded": 0},
        "failures": 3,
        "exception": {"class": "builtins.KeyError", "message": "<text>"},
        "reason": "attempts_exhausted",
        "source_kind": "topic",
        "source": failures.topic,
        "group": failures.group,
        "handler": "shop.handle",
        "sample": made[2],
    }
    assert api.get(f"{LETTERS}/groups", params={"group": failures.group, "state": "replayed"}).json()["items"] == []


# -- filters and pages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2, 5, 1000])
def test_pages_go_from_the_newest_failure_to_the_oldest(api: httpx.Client, failures: Failures, limit: int) -> None:
    made = [failures.add() for _ in range(5)]
    assert listed(api, group=failures.group, limit=limit) == made[::-1]


def test_each_parameter_narrows(api: httpx.Client, failures: Failures) -> None:
    made = [failures.add(key=f"key-{n}".encode()) for n in range(4)]
    api.patch(f"{LETTERS}/{made[0]}", json={"state": "discarded"})
    whose = {"group": failures.group}
    assert listed(api, fingerprint=failures.fingerprint) == made[::-1]
    assert listed(api, source=failures.topic, source_kind="topic") == made[::-1]
    assert listed(api, source=failures.topic, source_kind="queue") == []
    assert listed(api, **whose, state="discarded") == made[:1]
    assert listed(api, **whose, since="2026-03-01T12:02:30Z") == [made[3], made[2]]
    assert listed(api, **whose, until="2026-03-01T13:02:30+01:00") == [made[1], made[0]]
    assert listed(api, **whose, q="KEY-2") == [made[2]]
    assert listed(api, **whose, q="keyerror") == made[::-1]
    assert listed(api, **whose, q="%") == []


@pytest.mark.parametrize(
    ("asked", "code", "pointer"),
    [
        ({"state": "opened"}, "invalid_value", "/state"),
        ({"state": ""}, "invalid_value", "/state"),
        ({"source_kind": "topics"}, "invalid_value", "/source_kind"),
        ({"since": "yesterday"}, "invalid_value", "/since"),
        ({"until": "2026-03-01"}, "invalid_value", "/until"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "invalid_value", "/since"),
        ({"q": "a\0b"}, "invalid_value", "/q"),
        ({"q": "x" * 201}, "invalid_value", "/q"),
        ({"group": "\0"}, "invalid_value", "/group"),
        ({"limit": "0"}, "invalid_value", "/limit"),
        ({"limit": "1001"}, "invalid_value", "/limit"),
        ({"after": "12"}, "invalid_value", "/after"),
        ({"after": "A" * 22}, "invalid_value", "/after"),
        ({"after": "'; drop"}, "invalid_value", "/after"),
        ({"filter": "x"}, "unknown_field", "/filter"),
        ({"offset": "5"}, "unknown_field", "/offset"),
    ],
)
@pytest.mark.parametrize("path", [LETTERS, f"{LETTERS}/groups"])
def test_what_cannot_be_meant_is_refused(api: httpx.Client, path: str, asked: Json, code: str, pointer: str) -> None:
    refused(api.get(path, params=asked), 422, code, pointer)


def test_hostile_text_finds_nothing_and_breaks_nothing(api: httpx.Client, failures: Failures) -> None:
    failures.add()
    for text in (
        "'; drop table brokers_dead_letter; --",
        "%' or 1=1 --",
        "\\",
        "%s",
        "{}",
        "\U0001f4a9",
        "\u202e" * 50,
    ):
        assert listed(api, group=failures.group, q=text) == []
        assert listed(api, group=text) == []
        assert listed(api, fingerprint=text, source=text) == []


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize(
    ("number", "status", "code"),
    [
        ("0", 404, "dead_letter_not_found"),
        ("9223372036854775807", 404, "dead_letter_not_found"),
        ("9223372036854775808", 422, "invalid_value"),
        ("-1", 422, "invalid_value"),
        ("1.0", 422, "invalid_value"),
        ("01", 422, "invalid_value"),
        ("x", 422, "invalid_value"),
        ("%D9%A1", 422, "invalid_value"),
    ],
)
def test_an_id_that_is_none_is_refused(api: httpx.Client, method: str, number: str, status: int, code: str) -> None:
    body = {"note": "n"} if method == "PATCH" else None
    refused(api.request(method, f"{LETTERS}/{number}", json=body), status, code)


# -- changes --------------------------------------------------------------------------------------------------------


def test_a_dead_letter_is_resolved_noted_and_opened_again(
    api: httpx.Client, failures: Failures, connection: psycopg.Connection[Any]
) -> None:
    number = failures.add()
    for change in ({"state": "resolved", "note": "by hand"}, {"state": "open"}, {"state": "discarded"}, {"note": ""}):
        answer = api.patch(f"{LETTERS}/{number}", json=change)
        assert answer.status_code == 200, answer.text
        assert answer.json() | change == answer.json()
    assert answer.json()["state"] == "discarded"
    assert api.get(f"{LETTERS}/{number}").json() == answer.json()
    audited = connection.execute(
        "select count(*) from brokers_audit_entry where resource_type = 'dead_letter' and resource = %s", [str(number)]
    ).fetchone()
    assert audited == (4,)


@pytest.mark.parametrize("state", ["replaying", "replayed"])
def test_what_is_replayed_cannot_be_changed(api: httpx.Client, failures: Failures, state: str) -> None:
    number = failures.add(state=state)
    code = "dead_letter_replaying" if state == "replaying" else "conflict"
    refused(api.patch(f"{LETTERS}/{number}", json={"state": "resolved"}), 409, code)


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({}, "invalid_value", ""),
        ({"state": "replaying"}, "invalid_value", "/state"),
        ({"state": None}, "invalid_type", "/state"),
        ({"state": "resolved", "who": "me"}, "unknown_field", "/who"),
        ({"note": "x" * 4001}, "invalid_value", "/note"),
        ({"note": "a\0b"}, "invalid_value", "/note"),
        ({"note": 7}, "invalid_type", "/note"),
        ({"revision": 2}, "unknown_field", "/revision"),
    ],
)
def test_a_change_that_cannot_be_meant_is_refused(
    api: httpx.Client, failures: Failures, change: Json, code: str, pointer: str
) -> None:
    refused(api.patch(f"{LETTERS}/{failures.add()}", json=change), 422, code, pointer)


# -- permissions ----------------------------------------------------------------------------------------------------


def test_who_may_not_describe_the_group_does_not_learn_of_its_failures(
    server: Server, api: httpx.Client, failures: Failures
) -> None:
    number = failures.add()
    token = issue(api, ("describe", "group", unique("g")), ("view_payload", "topic", failures.topic))
    with server.client(token) as client:
        missing = client.get(f"{LETTERS}/9000000000")
        refused(missing, 404, "dead_letter_not_found")
        hidden = client.get(f"{LETTERS}/{number}")
        assert hidden.text.replace(str(number), "9000000000") == missing.text
        for each in (number, 9_000_000_000):
            refused(client.patch(f"{LETTERS}/{each}", json={"note": "x"}), 403, "forbidden")
        for path in (LETTERS, f"{LETTERS}/groups"):
            for asked in ({}, {"group": failures.group}, {"fingerprint": failures.fingerprint}, {"q": "dep_time"}):
                assert client.get(path, params=asked).json() == {"items": [], "next": None}


def test_who_may_replay_others_alone_changes_nothing(server: Server, api: httpx.Client, failures: Failures) -> None:
    number = failures.add()
    with server.client(issue(api, ("replay", "group", unique("g")))) as client:
        refused(client.patch(f"{LETTERS}/{number}", json={"note": "x"}), 404, "dead_letter_not_found")
    with server.client(issue(api, ("describe", "group", failures.group), ("replay", "group", unique("g")))) as client:
        refused(client.patch(f"{LETTERS}/{number}", json={"note": "x"}), 403, "forbidden")
    assert api.get(f"{LETTERS}/{number}").json()["note"] == ""


def test_payloads_are_hidden_from_who_may_not_view_the_topics(
    server: Server, api: httpx.Client, failures: Failures
) -> None:
    number = failures.add(key=b"swordfish", headers={"secret": "1"})
    with server.client(issue(api, ("describe", "group", failures.group))) as client:
        found = client.get(f"{LETTERS}/{number}").json()
        assert found["payload_hidden"] is True
        assert [found[name] for name in ("key", "value", "headers")] == [None] * 3
        assert found["exception"] == {"class": "builtins.KeyError", "message": "'dep_time'", "stacktrace": None}
        (item,) = client.get(LETTERS).json()["items"]
        assert (item["payload_hidden"], item["key"], item["value"], item["headers"]) == (True, None, None, None)
        assert client.get(LETTERS, params={"q": "swordfish"}).json()["items"] == []
        refused(client.patch(f"{LETTERS}/{number}", json={"note": "x"}), 403, "forbidden")
    for operation in ("view_payload", "read"):
        token = issue(api, ("describe", "group", failures.group), (operation, "topic", failures.topic))
        with server.client(token) as client:
            found = client.get(f"{LETTERS}/{number}").json()
            assert (found["key"], found["headers"]) == ("swordfish", {"secret": "1"})
            assert "payload_hidden" not in found
            assert [item["id"] for item in client.get(LETTERS, params={"q": "swordfish"}).json()["items"]] == [number]


def test_lists_hold_what_the_caller_may_describe(server: Server, api: httpx.Client, failures: Failures) -> None:
    mine = [failures.add() for _ in range(3)]
    others = failing(api, failures.connection, topic=failures.topic)
    others.add()
    with server.client(issue(api, ("replay", "group", failures.group))) as client:
        assert listed(client, source=failures.topic) == mine[::-1]
        assert listed(client, limit=1) == mine[::-1]
        groups = client.get(f"{LETTERS}/groups").json()["items"]
        assert [group["fingerprint"] for group in groups] == [failures.fingerprint]
        assert client.patch(f"{LETTERS}/{mine[0]}", json={"state": "resolved"}).status_code == 200
    denied = issue(api, ("replay", "group", failures.group), ("describe", "group", failures.group, "deny"))
    with server.client(denied) as client:
        assert listed(client) == []


def test_a_page_ends_at_about_eight_megabytes(api: httpx.Client, failures: Failures) -> None:
    made = [failures.add(b'"%b"' % (b"x" * 3_500_000)) for _ in range(5)]
    page = api.get(LETTERS, params={"group": failures.group}).json()
    assert [item["id"] for item in page["items"]] == [made[4], made[3]]
    assert listed(api, group=failures.group) == made[::-1]
