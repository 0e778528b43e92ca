"""Tokens over REST, and the whole matrix of who may call what: each operation with each kind of token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import psycopg
import pytest

from messaging_site import asgi
from tests.protocol.rest.seeded_failures import failing, seeding
from tests.protocol.rest.seeded_tasks import run_of, task_of
from tests.server import Server, unique

Json = dict[str, Any]


def grant(operation: str, resource_type: str, name: str, *, prefix: bool = False, deny: bool = False) -> Json:
    return {
        "operation": operation,
        "resource_type": resource_type,
        "name": name,
        "match": "prefix" if prefix else "literal",
        "effect": "deny" if deny else "allow",
    }


def issue(api: httpx.Client, *grants: Json, **more: Any) -> Json:
    answer = api.post("/api/v1/tokens", json={"name": unique("token"), "grants": list(grants), **more})
    assert answer.status_code == 201, answer.text
    issued: Json = answer.json()
    return issued


# -- the matrix -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """How to call an operation so that an administrator succeeds, and the grants that it takes."""

    needs: tuple[tuple[str, str], ...]
    """Pairs of operation and resource type; the name is that of the `Things`, empty for tokens."""
    body: Callable[[Things], Any] = lambda things: None
    filtered: bool = False
    """A list that shows what the caller may see: nobody with a token is refused."""
    public: bool = False
    hides: bool = False
    """What the caller may not know of is not found, as if it were not there."""


@dataclass
class Things:
    """What is made for one call.

    A topic with records, a group with a member and dead letters, a replay and a token; or an exchange bound to a queue,
    another queue whose name begins alike, and a policy; or a lock; or a scheduled task with a run.
    """

    topic: str
    group: str
    member_id: str
    id: str
    partition: int = 0
    dead_letter_id: int = 0
    replay_id: int = 0
    exchange: str = ""
    queue: str = ""
    binding_id: int = 0
    policy: str = "of-nothing"
    lock: str = ""
    task: str = ""
    run_id: int = 0
    names: dict[str, str] = field(default_factory=dict)


MATRIX = {
    "post_topic": Row((("create", "topic"),), lambda things: {"name": f"{things.topic}.new"}),
    "get_topics": Row((("describe", "topic"),), filtered=True),
    "get_topic": Row((("describe", "topic"),)),
    "patch_topic": Row((("alter", "topic"),), lambda things: {"partitions": 2}),
    "delete_topic": Row((("delete", "topic"),)),
    "get_partitions": Row((("describe", "topic"),)),
    "post_records": Row((("write", "topic"),), lambda things: {"records": [{"value": 1}]}),
    "get_records": Row((("read", "topic"),)),
    "post_member": Row((("read", "group"), ("read", "topic")), lambda things: {"topics": [things.topic]}),
    "post_poll": Row((("read", "group"), ("read", "topic")), lambda things: {}),
    "post_commits": Row(
        (("read", "group"), ("read", "topic")),
        lambda things: {"offsets": [{"topic": things.topic, "partition": 0, "offset": 1}]},
    ),
    "delete_member": Row((("read", "group"),)),
    "get_groups": Row((("describe", "group"),), filtered=True),
    "get_group": Row((("describe", "group"),)),
    "post_pause": Row((("alter", "group"),)),
    "post_resume": Row((("alter", "group"),)),
    "post_resets": Row(
        (("alter", "group"), ("describe", "topic")), lambda things: {"topic": things.topic, "to": "earliest"}
    ),
    "put_exchange": Row((("describe", "exchange"),), lambda things: {}),
    "get_exchanges": Row((("describe", "exchange"),), filtered=True),
    "get_exchange": Row((("describe", "exchange"),)),
    "delete_exchange": Row((("delete", "exchange"),)),
    "post_routes": Row((("describe", "exchange"),), lambda things: {}),
    "post_exchange_messages": Row((("write", "exchange"),), lambda things: {"messages": [{"body": 1}]}),
    "put_queue": Row((("describe", "queue"),), lambda things: {}),
    "get_queues": Row((("describe", "queue"),), filtered=True),
    "get_queue": Row((("describe", "queue"),)),
    "delete_queue": Row((("delete", "queue"),)),
    "post_queue_pause": Row((("alter", "queue"),)),
    "post_queue_resume": Row((("alter", "queue"),)),
    "post_moves": Row(
        (("read", "queue"), ("delete", "queue"), ("write", "queue")), lambda things: {"to": f"{things.queue}.new"}
    ),
    "post_queue_messages": Row((("write", "queue"),), lambda things: {"messages": [{"body": 1}]}),
    "get_messages": Row((("view_payload", "queue"),)),
    "delete_messages": Row((("delete", "queue"),)),
    "post_claims": Row((("read", "queue"),), lambda things: {}),
    "post_acks": Row((("read", "queue"),), lambda things: {"claims": ["x"]}),
    "post_nacks": Row((("read", "queue"),), lambda things: {"claims": ["x"]}),
    "post_leases": Row((("read", "queue"),), lambda things: {"claims": ["x"]}),
    "post_binding": Row(
        (("read", "exchange"), ("write", "queue")), lambda things: {"exchange": things.exchange, "queue": things.queue}
    ),
    "get_bindings": Row((("describe", "exchange"), ("describe", "queue")), filtered=True),
    "get_binding": Row((("describe", "exchange"), ("describe", "queue")), hides=True),
    "delete_binding": Row((("read", "exchange"), ("write", "queue")), hides=True),
    "put_policy": Row((("alter", "server"),), lambda things: {"pattern": "^$", "max_length": 1}),
    "get_policies": Row((("describe", "server"),)),
    "get_policy": Row((("describe", "server"),)),
    "delete_policy": Row((("alter", "server"),)),
    "get_dead_letters": Row((("describe", "group"),), filtered=True),
    "get_failure_groups": Row((("describe", "group"),), filtered=True),
    "get_dead_letter": Row((("describe", "group"),), hides=True),
    "patch_dead_letter": Row((("replay", "group"),), lambda things: {"note": "seen"}, hides=True),
    "post_replay": Row(
        (("replay", "group"), ("write", "topic")),
        lambda things: {"selection": {"ids": [things.dead_letter_id]}, "target": {"topic": things.topic}},
        hides=True,
    ),
    "get_replays": Row((("describe", "group"),), filtered=True),
    "get_replay": Row((("describe", "group"),), hides=True),
    "get_replay_items": Row((("describe", "group"),), hides=True),
    "post_replay_pause": Row((("replay", "group"),), hides=True),
    "post_replay_resume": Row((("replay", "group"),), hides=True),
    "post_replay_cancel": Row((("replay", "group"),), hides=True),
    "get_locks": Row((("describe", "lock"),), filtered=True),
    "delete_lock": Row((("alter", "lock"),)),
    "get_scheduled_tasks": Row((("describe", "schedule"),), filtered=True),
    "get_scheduled_task": Row((("describe", "schedule"),)),
    "patch_scheduled_task": Row((("alter", "schedule"),), lambda things: {"paused": True}),
    "post_task_run": Row((("alter", "schedule"),)),
    "get_task_runs": Row((("describe", "schedule"),)),
    "get_task_run": Row((("describe", "schedule"),)),
    "get_executors": Row((("describe", "server"),)),
    "post_token": Row((("create", "token"),), lambda things: {"name": "another"}),
    "get_tokens": Row((("describe", "token"),)),
    "delete_token": Row((("delete", "token"),)),
    "get_openapi": Row((), public=True),
    "get_docs": Row((), public=True),
}
OPERATIONS = {operation.name: operation for operation in asgi.rest.operations}
ALSO_ENOUGH = {"put_exchange": {"create"}, "put_queue": {"create"}, "get_messages": {"read"}}
"""Other operations on the resource that do instead."""
MADE_BY_NAME = ("post_topic", "post_moves")
"""They take grants on a second name, which begins as the other's."""
NAMED = [name for name, row in MATRIX.items() if row.needs and not row.filtered]
WITH_NAMES = [name for name in NAMED if not {kind for _, kind in MATRIX[name].needs} & {"token", "server"}]


def test_the_matrix_holds_every_operation() -> None:
    assert set(MATRIX) == set(OPERATIONS)


@pytest.fixture
def things(request: pytest.FixtureRequest, server: Server, api: httpx.Client) -> Things:
    topic, group, exchange, queue = map(unique, ("orders.", "billing.", "flights.", "rebooking."))
    made = Things(topic, group, unique("member"), unique()[-8:], exchange=exchange, queue=queue)
    made.names = {"topic": topic, "group": group, "exchange": exchange, "queue": queue, "token": "", "server": ""}
    made.lock = made.names["lock"] = unique("lock")
    made.task = made.names["schedule"] = unique("report")
    path = OPERATIONS[request.node.callspec.params["name"]].path
    if path.startswith(("/api/v1/exchanges", "/api/v1/queues", "/api/v1/bindings", "/api/v1/policies")):
        make_queues(api, made)
    elif path.startswith("/api/v1/locks"):
        make_lock(server, made)
    elif path.startswith(("/api/v1/scheduled-tasks", "/api/v1/executors")):
        make_task(server, made)
    else:
        make_records(server, api, made)
    return made


def make_queues(api: httpx.Client, things: Things) -> None:
    for path in (f"exchanges/{things.exchange}", f"queues/{things.queue}", f"queues/{things.queue}.new"):
        assert api.put(f"/api/v1/{path}", json={}).status_code == 201
    assert api.put(f"/api/v1/policies/{things.policy}", json={"pattern": "^$", "max_length": 1}).is_success
    binding = {"exchange": things.exchange, "queue": things.queue}
    things.binding_id = api.post("/api/v1/bindings", json=binding).json()["id"]


def make_lock(server: Server, things: Things) -> None:
    with seeding(server) as connection:
        connection.execute("insert into shedlock values (%s, localtimestamp, localtimestamp, 'host')", (things.lock,))


def make_task(server: Server, things: Things) -> None:
    with seeding(server) as connection:
        things.run_id = run_of(connection, task_of(connection, things.task))


def make_records(server: Server, api: httpx.Client, things: Things) -> None:
    topic, group = things.topic, things.group
    assert api.post("/api/v1/topics", json={"name": topic, "partitions": 1}).status_code == 201
    api.post(f"/api/v1/topics/{topic}/records", json={"records": [{"value": 1}]})
    things.member_id = api.post(f"/api/v1/groups/{group}/members", json={"topics": [topic]}).json()["member_id"]
    things.id = issue(api)["id"]
    with seeding(server) as connection:
        failures = failing(api, connection, topic, group)
        replayed, things.dead_letter_id = failures.add(), failures.add()
    things.replay_id = api.post("/api/v1/replays", json={"selection": {"ids": [replayed]}}).json()["id"]


def call(server: Server, name: str, things: Things, token: str | None) -> httpx.Response:
    """Calls an operation; its answer must be one that it declares."""
    operation = OPERATIONS[name]
    path = operation.path.format(**vars(things))
    if name == "post_resets":  # the group must be empty or paused, whoever asks
        with server.client() as admin:
            admin.post(f"/api/v1/groups/{things.group}/pause")
    with server.client(token) as client:
        answer = client.request(operation.method, path, json=MATRIX[name].body(things))
    assert answer.status_code in {*operation.answers, 401, 403} | ({404} if MATRIX[name].hides else set()), answer.text
    return answer


def needed(name: str, things: Things) -> list[Json]:
    """The least grants that the operation declares."""
    prefix = name in MADE_BY_NAME
    return [grant(operation, kind, things.names[kind], prefix=prefix) for operation, kind in MATRIX[name].needs]


def assert_allowed(answer: httpx.Response) -> None:
    assert answer.is_success, answer.text


def assert_refused(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    if status == 401:
        assert answer.headers["www-authenticate"] == 'Bearer realm="waystation"'


def assert_denied(name: str, answer: httpx.Response) -> None:
    if MATRIX[name].hides and answer.status_code == 404:
        assert answer.json()["code"] in ("dead_letter_not_found", "replay_not_found", "binding_not_found")
    else:
        assert_refused(answer, 403, "forbidden")


@pytest.mark.parametrize("name", MATRIX)
def test_without_a_token_nothing_but_the_reference_is_served(server: Server, things: Things, name: str) -> None:
    answer = call(server, name, things, None)
    if MATRIX[name].public:
        assert_allowed(answer)
    else:
        assert_refused(answer, 401, "unauthenticated")


@pytest.fixture(scope="module")
def expired(server: Server) -> str:
    """A token that was good for everything that takes a grant, until now."""
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    kinds = sorted({needed for row in MATRIX.values() for needed in row.needs})
    with server.client() as admin:
        grants = [grant(operation, kind, "", prefix=True) for operation, kind in kinds]
        token: str = issue(admin, *grants, expires_at=soon.isoformat())["token"]
    while datetime.now(UTC) <= soon:
        pass
    return token


@pytest.mark.parametrize("name", [name for name, row in MATRIX.items() if not row.public])
def test_a_token_that_is_not_valid_is_refused(
    server: Server, api: httpx.Client, things: Things, expired: str, name: str
) -> None:
    """Unknown, malformed, revoked and expired ones, all with the same words."""
    good = issue(api, *needed(name, things))
    assert api.delete(f"/api/v1/tokens/{good['id']}").status_code == 204
    answers = [
        call(server, name, things, token) for token in ("an-unknown-token-of-theirs", "short", good["token"], expired)
    ]
    for answer in answers:
        assert_refused(answer, 401, "invalid_token")
    assert len({answer.text for answer in answers}) == 1


@pytest.mark.parametrize("name", [name for name, row in MATRIX.items() if row.needs])
def test_a_token_without_grants_may_nothing_and_sees_nothing(
    server: Server, api: httpx.Client, things: Things, name: str
) -> None:
    answer = call(server, name, things, issue(api)["token"])
    if MATRIX[name].filtered:
        assert answer.json() == {"items": [], "next": None}
    else:
        assert_refused(answer, 403, "forbidden")


@pytest.mark.parametrize("name", NAMED)
def test_the_grants_that_an_operation_declares_are_enough(
    server: Server, api: httpx.Client, things: Things, name: str
) -> None:
    assert_allowed(call(server, name, things, issue(api, *needed(name, things))["token"]))


@pytest.mark.parametrize("name", NAMED)
def test_each_of_the_grants_is_needed(server: Server, api: httpx.Client, things: Things, name: str) -> None:
    grants = needed(name, things)
    for left_out in range(len(grants)):
        token = issue(api, *grants[:left_out], *grants[left_out + 1 :])["token"]
        assert_denied(name, call(server, name, things, token))


@pytest.mark.parametrize("name", NAMED)
def test_grants_on_a_prefix_are_enough(server: Server, api: httpx.Client, things: Things, name: str) -> None:
    prefixes = {"topic": "orders.", "group": "billing.", "exchange": "flights.", "queue": "rebooking."}
    prefixes |= {"lock": "lock", "schedule": "report", "token": "", "server": ""}
    grants = [grant(operation, kind, prefixes[kind], prefix=True) for operation, kind in MATRIX[name].needs]
    assert_allowed(call(server, name, things, issue(api, *grants)["token"]))


@pytest.mark.parametrize("name", NAMED)
def test_a_denial_wins(server: Server, api: httpx.Client, things: Things, name: str) -> None:
    for operation, kind in MATRIX[name].needs:
        denial = grant(operation, kind, things.names[kind], prefix=True, deny=True)
        token = issue(api, *needed(name, things), denial)["token"]
        assert_denied(name, call(server, name, things, token))


@pytest.mark.parametrize("name", WITH_NAMES)
def test_a_grant_on_another_name_counts_for_nothing(
    server: Server, api: httpx.Client, things: Things, name: str
) -> None:
    """A name that ends alike, one that is shorter, one in other case, and the same name of another type."""
    for operation, kind in MATRIX[name].needs:
        mine = things.names[kind]
        other = "group" if kind == "topic" else "topic"
        token = issue(
            api,
            *(found for found in needed(name, things) if found["resource_type"] != kind),
            grant(operation, kind, f"old-{mine}"),
            grant(operation, kind, f"old-{mine}", prefix=True),
            grant(operation, kind, mine[:-1]),
            grant(operation, kind, mine.upper(), prefix=True),
            grant(operation, other, mine),
        )["token"]
        assert_denied(name, call(server, name, things, token))


@pytest.mark.parametrize("name", WITH_NAMES)
def test_other_operations_on_the_same_name_count_for_nothing(
    server: Server, api: httpx.Client, things: Things, name: str
) -> None:
    """But for describing, which reading, writing and changing imply."""
    for operation, kind in MATRIX[name].needs:
        others = {"read", "write", "describe", "create", "alter", "delete", "replay", "view_payload"} - {operation}
        if operation == "describe":
            others -= {"read", "write", "alter", "delete", "replay"}
        others -= ALSO_ENOUGH.get(name, set())
        token = issue(
            api,
            *(found for found in needed(name, things) if found["resource_type"] != kind),
            *(grant(other, kind, things.names[kind], prefix=True) for other in sorted(others)),
        )["token"]
        assert_denied(name, call(server, name, things, token))


# -- what a refusal tells -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in NAMED if "{topic}" in OPERATIONS[name].path])
def test_a_refusal_does_not_tell_whether_a_topic_exists(
    server: Server, api: httpx.Client, things: Things, name: str
) -> None:
    token = issue(api)["token"]
    there = call(server, name, things, token)
    missing = Things(unique("orders."), things.group, things.member_id, things.id)
    gone = call(server, name, missing, token)
    assert_refused(gone, 403, "forbidden")
    assert there.text.replace(things.topic, "?") == gone.text.replace(missing.topic, "?")


def test_who_may_describe_learns_that_a_topic_is_missing(server: Server, api: httpx.Client) -> None:
    token = issue(api, grant("describe", "topic", "orders.", prefix=True))["token"]
    with server.client(token) as client:
        answer = client.get(f"/api/v1/topics/{unique('orders.')}")
    assert_refused(answer, 404, "topic_not_found")


def test_lists_hold_what_the_caller_may_describe(server: Server, api: httpx.Client) -> None:
    mine, other = unique("mine."), unique("other.")
    names = [f"{prefix}.{n}" for n in range(5) for prefix in (mine, other)]
    for name in names:
        assert api.post("/api/v1/topics", json={"name": name, "partitions": 1}).status_code == 201
        joined = api.post(f"/api/v1/groups/{name}/members", json={"topics": [name]})
        assert joined.status_code == 201
    hidden = f"{mine}.3"
    for kind, path, field_name in (("topic", "/api/v1/topics", "name"), ("group", "/api/v1/groups", "group")):
        grants = [grant("read", kind, mine, prefix=True), grant("describe", kind, hidden, deny=True)]
        with server.client(issue(api, *grants)["token"]) as client:
            found: list[str] = []
            after = ""
            while True:
                page = client.get(path, params={"limit": 2, "after": after}).json()
                found += [item[field_name] for item in page["items"]]
                if page["next"] is None:
                    break
                after = page["next"]
        assert found == [f"{mine}.{n}" for n in (0, 1, 2, 4)]


# -- issuing, listing, revoking -------------------------------------------------------------------------------------


def test_a_token_is_issued_listed_without_its_text_and_revoked(server: Server, api: httpx.Client) -> None:
    topic = unique()
    expires_at = (datetime.now(UTC) + timedelta(days=1)).replace(microsecond=0)
    issued = issue(api, grant("read", "topic", topic), expires_at=expires_at.isoformat())
    assert set(issued) == {"id", "name", "grants", "created_at", "expires_at", "last_used_at", "token"}
    assert issued["grants"] == [grant("read", "topic", topic)]
    assert datetime.fromisoformat(issued["expires_at"]) == expires_at
    with server.client(issued["token"]) as client:
        client.get("/api/v1/topics")
    listed = [token for token in every_token(api) if token["id"] == issued["id"]]
    assert listed == [{name: value for name, value in issued.items() if name != "token"} | listed[0]]
    assert "token" not in listed[0]
    assert listed[0]["last_used_at"] is not None
    assert api.delete(f"/api/v1/tokens/{issued['id']}").status_code == 204
    assert all(token["id"] != issued["id"] for token in every_token(api))
    assert api.delete(f"/api/v1/tokens/{issued['id']}").json()["code"] == "token_not_found"


def every_token(api: httpx.Client) -> list[Json]:
    found: list[Json] = []
    after = "0"
    while True:
        page = api.get("/api/v1/tokens", params={"limit": 7, "after": after}).json()
        found += page["items"]
        if page["next"] is None:
            return found
        after = page["next"]


def test_a_revocation_holds_at_once(server: Server, api: httpx.Client) -> None:
    for _ in range(5):
        issued = issue(api)
        with server.client(issued["token"]) as client:
            assert client.get("/api/v1/topics").status_code == 200
            assert api.delete(f"/api/v1/tokens/{issued['id']}").status_code == 204
            assert client.get("/api/v1/topics").status_code == 401


def test_a_token_cannot_issue_one_that_may_more(server: Server, api: httpx.Client) -> None:
    held = [
        grant("create", "token", ""),
        grant("read", "topic", "orders.", prefix=True),
        grant("read", "topic", "orders.secret", deny=True),
    ]
    with server.client(issue(api, *held)["token"]) as client:

        def attempt(*grants: Json) -> int:
            return client.post("/api/v1/tokens", json={"name": "child", "grants": list(grants)}).status_code

        assert attempt(grant("read", "topic", "orders.eu")) == 201
        assert attempt(grant("read", "topic", "orders.eu.", prefix=True)) == 201
        assert attempt(held[1], held[2]) == 201
        assert attempt(held[1]) == 403
        assert attempt(grant("read", "topic", "orders.secret")) == 403
        assert attempt(grant("write", "topic", "orders.eu")) == 403
        assert attempt(grant("read", "topic", "orders", prefix=True)) == 403
        assert attempt(grant("read", "topic", "", prefix=True)) == 403
        assert attempt(grant("delete", "token", "")) == 403
        assert attempt(grant("describe", "server", "")) == 403


def test_a_token_cannot_issue_one_that_lasts_longer(server: Server, api: httpx.Client) -> None:
    ends = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    with server.client(issue(api, grant("create", "token", ""), expires_at=ends.isoformat())["token"]) as client:
        child = client.post("/api/v1/tokens", json={"name": "child"}).json()
        assert datetime.fromisoformat(child["expires_at"]) == ends
        longer = client.post("/api/v1/tokens", json={"name": "c", "expires_at": (ends + timedelta(1)).isoformat()})
        assert_refused(longer, 403, "forbidden")


def test_a_limited_token_cannot_revoke_an_administrators(server: Server, api: httpx.Client) -> None:
    administrators = next(token for token in every_token(api) if token["name"] == "administrator")
    with server.client(issue(api, grant("delete", "token", ""))["token"]) as client:
        assert_refused(client.delete(f"/api/v1/tokens/{administrators['id']}"), 404, "token_not_found")


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({}, 422, "/name"),
        ({"name": ""}, 422, "/name"),
        ({"name": "a\u0000b"}, 422, "/name"),
        ({"name": "x" * 201}, 422, "/name"),
        ({"name": 1}, 422, "/name"),
        ({"name": "t", "grants": None}, 422, "/grants"),
        ({"name": "t", "superuser": True}, 422, "/superuser"),
        ({"name": "t", "owner": 1}, 422, "/owner"),
        ({"name": "t", "expires_at": "tomorrow"}, 422, "/expires_at"),
        ({"name": "t", "expires_at": "2030-01-01T00:00:00"}, 422, "/expires_at"),
        ({"name": "t", "expires_at": "2020-01-01T00:00:00Z"}, 422, "/expires_at"),
        ({"name": "t", "expires_at": "9999-12-31T23:59:59-14:00"}, 422, "/expires_at"),
        ({"name": "t", "expires_at": "0001-01-01T00:00:00+14:00"}, 422, "/expires_at"),
        ({"name": "t", "expires_at": 1}, 422, "/expires_at"),
        ({"name": "t", "expires_at": "2030-W01-1T00:00:00Z"}, 422, "/expires_at"),
        ({"name": "t", "expires_at": "2030-02-30T00:00:00Z"}, 422, "/expires_at"),
        ({"name": "t", "grants": [grant("own", "topic", "a")]}, 422, "/grants/0/operation"),
        ({"name": "t", "grants": [grant("read", "planet", "a")]}, 422, "/grants/0/resource_type"),
        ({"name": "t", "grants": [grant("read", "topic", "a"), grant("read", "topic", "a/b")]}, 422, "/grants/1/name"),
        ({"name": "t", "grants": [grant("read", "topic", "")]}, 422, "/grants/0/name"),
        ({"name": "t", "grants": [grant("create", "token", "a\u0000")]}, 422, "/grants/0/name"),
        ({"name": "t", "grants": [grant("read", "topic", "a")] * 201}, 422, "/grants"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_bad_request_for_a_token_is_pointed_at(api: httpx.Client, body: Json, status: int, pointer: str) -> None:
    answer = api.post("/api/v1/tokens", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize("token_id", ["%00", "a%00", "x" * 65, "%F0%9F%92%A9", "a%2Fb", "a%0A"])
def test_an_id_that_no_token_has_is_refused_before_the_database(api: httpx.Client, token_id: str) -> None:
    assert api.delete(f"/api/v1/tokens/{token_id}").status_code == 422


@pytest.mark.parametrize("after", ["-1", "x", "9" * 19, "\u0663", "1.0"])
def test_a_cursor_that_no_page_gave_is_refused(api: httpx.Client, after: str) -> None:
    assert api.get("/api/v1/tokens", params={"after": after}).status_code == 422


def test_the_text_of_a_token_is_kept_and_logged_nowhere(server: Server, api: httpx.Client) -> None:
    """A canary is used rightly, wrongly and in the wrong places; then the log and every row are searched."""
    topic = unique()
    canary = issue(api, grant("write", "topic", topic), grant("create", "topic", topic))["token"]
    secret = canary.split("_")[2]
    with server.client(canary) as client:
        client.post("/api/v1/topics", json={"name": topic})
        records = f"/api/v1/topics/{topic}/records"
        assert client.post(records, json={"records": [{"value": 1}]}).status_code == 200
        client.post(records, json={"records": [{"value": 1}]}, headers={"Idempotency-Key": "k"})
        client.post(records, content=b"{")
        client.get(f"/api/v1/topics/{topic}/partitions/0/records")
        client.get("/metrics", headers={"X-Forwarded-For": "192.0.2.1"})
    with server.client(canary[:-1]) as client:
        client.get("/api/v1/topics")
    with server.client(None) as client:
        client.get("/api/v1/topics", headers={"Authorization": f"Basic {canary}"})
        client.get("/api/v1/topics", params={"access_token": canary})
        client.get(f"/api/v1/topics/{canary}")
        client.get("/metrics", headers={"Authorization": canary, "X-Forwarded-For": "192.0.2.1"})
    assert secret not in server.log.read_text(errors="replace")
    with psycopg.connect(server.database_url) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        assert len(tables) > 10
        for (table,) in tables:
            rows = connection.execute(f"select t::text from {table} t").fetchall()
            kept = "\n".join(row[0] for row in rows)
            assert secret not in kept, table
            assert secret.encode().hex() not in kept, table
