"""Refusals: every one is a problem document, whatever came over the wire, and the server goes on."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec
import pytest

from brokers.errors import Unavailable
from brokers.rest.bodies import BodyReader, Disconnected
from brokers.rest.operation import PUBLIC, Answer, Call, Operation
from brokers.rest.problems import RequestTimeout, body_of, catalogue
from brokers.rest.routing import Router
from brokers.rest.serving import Endpoint
from messaging_site import asgi
from tests.protocol.rest.raw_http import connect, exchange, head, read_answer
from tests.server import Server, unique


@pytest.fixture
def topic(api: httpx.Client) -> str:
    name = unique()
    assert api.post("/api/v1/topics", json={"name": name, "partitions": 1}).status_code == 201
    return name


@pytest.fixture(autouse=True)
def _goes_on(server: Server) -> Iterator[None]:
    """After whatever a test sent, the next request is served, and nothing went wrong inside."""
    before = server.log.read_text(errors="replace").count("Traceback")
    yield
    with server.client() as client:
        assert client.get("/api/v1/topics", params={"limit": 1}).status_code == 200
    assert server.log.read_text(errors="replace").count("Traceback") == before


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"] == f"/api/docs#{code}"
    assert problem["title"]
    assert problem["detail"]


# -- paths and methods ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api/", "/api/v1", "/api/v2/topics", "/api/v1/topic", "/api/v1/topics/a/b", "/api"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_an_unknown_path_is_not_found(api: httpx.Client, path: str, method: str) -> None:
    assert_problem(api.request(method, path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PUT", "/api/v1/topics", "GET, HEAD, POST"),
        ("OPTIONS", "/api/v1/topics", "GET, HEAD, POST"),
        ("DELETE", "/api/v1/topics", "GET, HEAD, POST"),
        ("POST", "/api/v1/topics/t", "DELETE, GET, HEAD, PATCH"),
        ("GET", "/api/v1/topics/t/records", "POST"),
        ("HEAD", "/api/v1/topics/t/records", "POST"),
        ("POST", "/api/v1/topics/t/partitions/0/records", "GET, HEAD"),
        ("PATCH", "/api/v1/tokens/x", "DELETE"),
        ("POST", "/api/docs", "GET, HEAD"),
        ("TRACE", "/api/v1/topics", "GET, HEAD, POST"),
        ("PROPFIND", "/api/v1/topics", "GET, HEAD, POST"),
    ],
)
def test_a_method_that_a_path_does_not_know_is_named(api: httpx.Client, method: str, path: str, allow: str) -> None:
    answer = api.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allow
    if method != "HEAD":
        assert_problem(answer, 405, "method_not_allowed")


def test_every_path_answers_other_methods_with_those_that_it_knows(api: httpx.Client) -> None:
    by_path: dict[str, set[str]] = {}
    for operation in asgi.rest.operations:
        by_path.setdefault(operation.path, set()).add(operation.method)
    for path, methods in by_path.items():
        known = methods | ({"HEAD"} if "GET" in methods else set())
        for method in {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"} - known:
            answer = api.request(method, re.sub(r"\{\w+\}", "0", path))
            assert answer.status_code == 405
            assert set(answer.headers["allow"].split(", ")) == known


def test_head_answers_as_get_without_the_body(api: httpx.Client, topic: str) -> None:
    for path in (f"/api/v1/topics/{topic}", "/api/docs", "/api/v1/topics/none-of-these"):
        got, asked = api.get(path), api.head(path)
        assert asked.content == b""
        assert asked.status_code == got.status_code
        for name in ("content-type", "content-length", "cache-control"):
            assert asked.headers[name] == got.headers[name]


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"])
def test_a_method_is_not_overridden(api: httpx.Client, topic: str, header: str) -> None:
    assert api.get(f"/api/v1/topics/{topic}", headers={header: "DELETE"}).status_code == 200
    assert api.get(f"/api/v1/topics/{topic}").status_code == 200


# -- credentials ----------------------------------------------------------------------------------------------------


def test_two_authorization_headers_are_refused(server: Server, topic: str) -> None:
    token = f"Authorization: Bearer {server.admin_token}"
    for first, second in ((token, token), (token, "Authorization: Bearer x"), ("Authorization: Bearer x", token)):
        answer = exchange(server, head("GET", f"/api/v1/topics/{topic}", None, first, second))
        assert (answer.status, answer.json()["code"]) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"] == 'Bearer realm="waystation"'


def test_other_headers_may_come_twice(server: Server, topic: str) -> None:
    answer = exchange(server, head("GET", f"/api/v1/topics/{topic}", server.admin_token, "X-A: 1", "X-A: 2"))
    assert answer.status == 200


def test_a_signed_in_browser_is_nobody_here(server: Server) -> None:
    """Cookies are not read: so no other site can make a browser call the API."""
    with httpx.Client(base_url=server.url, follow_redirects=True) as browser:
        page = browser.get("/admin/login/")
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token is not None
        form = {"csrfmiddlewaretoken": token[1], "username": "admin", "password": server.admin_password}
        browser.post("/admin/login/", data=form, headers={"Referer": f"{server.url}/admin/login/"})
        assert any("session" in name for name in browser.cookies)
        assert_problem(browser.get("/api/v1/topics"), 401, "unauthenticated")


@pytest.mark.parametrize(
    "text", ["Bearer", "Bearer ", "Basic YWRtaW46YWRtaW4=", "Token abc", "Bearer \xff\xfe", "Bearer a b", ","]
)
def test_an_authorization_that_is_no_bearer_token_is_refused(server: Server, text: str) -> None:
    answer = exchange(server, head("GET", "/api/v1/topics", None, f"Authorization: {text}"))
    assert answer.status == 401
    assert answer.json()["code"] in ("unauthenticated", "invalid_token")


def test_who_may_not_call_learns_nothing_of_what_is_wrong_with_the_body(server: Server, topic: str) -> None:
    with server.client(None) as client:
        assert client.post(f"/api/v1/topics/{topic}/records", content=b"{").status_code == 401


# -- what a server must survive -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "request_bytes",
    [
        head("GET", "/api/v1/topics/" + "x" * 70_000),
        head("GET", "/api/v1/topics?after=" + "x" * 70_000),
        head("GET", "/api/v1/topics", None, "X-Long: " + "x" * 200_000),
        head("GET", "/api/v1/topics", None, *(f"X-{n}: {n}" for n in range(5000))),
        head("GET", "/api/v1/t\xf6pics"),
        head("GET", "/api/v1/topics/\xff\xfe"),
        head("GET", "api/v1/topics"),
        head("GET", "*"),
        head("GET", "http://localhost/api/v1/topics"),
        head("G\x00T", "/api/v1/topics"),
        head("get", "/api/v1/topics"),
        head("GET", "/api/v1/topics", None, "Content-Length: -1"),
        head("POST", "/api/v1/topics", None, "Content-Length: x"),
        head("POST", "/api/v1/topics", None, "Content-Length: 99999999999999999999999999"),
        head("POST", "/api/v1/topics", None, "Content-Length: 2", "Content-Length: 3") + b"{}",
        head("POST", "/api/v1/topics", None, "Content-Length: 2", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        head("POST", "/api/v1/topics", None, "Transfer-Encoding: chunked") + b"zz\r\n{}\r\n0\r\n\r\n",
        head("POST", "/api/v1/topics", None, "Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n",
        head("GET", "/api/v1/topics", None, "X-A: 1\n X-B: 2"),
        head("GET", "/api/v1/topics", None, "no colon here"),
        head("GET", "/api/v1/topics", None, "X-Nul: a\0b"),
        head("GET", "/api/v1/topics", None, "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings"),
        b"GET /api/v1/topics HTTP/9.9\r\n\r\n",
        b"GET /api/v1/topics\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0" * 1000 + b"\r\n\r\n",
        b"\r\n\r\n",
    ],
    ids=lambda sent: repr(sent[:24] + sent[-30:]),
)
def test_what_is_no_proper_request_is_answered_4xx_or_closed(server: Server, request_bytes: bytes) -> None:
    with connect(server, timeout=5) as connection:
        try:
            connection.sendall(request_bytes)
            connection.shutdown(1)
        except OSError:
            return
        answer = read_answer(connection)
    assert answer.status == 0 or 400 <= answer.status < 500, answer


def test_a_caller_that_goes_away_amid_its_body_stores_nothing(server: Server, api: httpx.Client, topic: str) -> None:
    body = b'{"records":[{"value":1}]}'
    for sent in (0, 1, len(body) - 1):
        with connect(server) as connection:
            connection.sendall(
                head(
                    "POST",
                    f"/api/v1/topics/{topic}/records",
                    server.admin_token,
                    "Content-Type: application/json",
                    f"Content-Length: {len(body)}",
                )
                + body[:sent]
            )
    assert api.get(f"/api/v1/topics/{topic}/partitions/0/records").json()["latest_offset"] == 0


def test_a_body_that_comes_in_pieces_is_read_whole(server: Server, api: httpx.Client, topic: str) -> None:
    body = json.dumps({"records": [{"value": "x" * 50_000}]}).encode()
    request = head(
        "POST",
        f"/api/v1/topics/{topic}/records",
        server.admin_token,
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
    )
    chunks = [body[at : at + 997] for at in range(0, len(body), 997)]
    request += b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    assert exchange(server, request).status == 200
    assert api.get(f"/api/v1/topics/{topic}/partitions/0/records").json()["latest_offset"] == 1


def test_a_caller_that_asks_whether_to_go_on_is_told_so(server: Server, topic: str) -> None:
    body = b'{"records":[{"value":1}]}'
    lines = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Expect: 100-continue")
    with connect(server) as connection:
        connection.sendall(head("POST", f"/api/v1/topics/{topic}/records", server.admin_token, *lines))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert read_answer(connection).status == 200


def test_pipelined_requests_are_done_once_each_and_in_order(server: Server, api: httpx.Client, topic: str) -> None:
    bodies = [b'{"records":[{"value":%d}]}' % n for n in range(50)]
    lines = "Content-Type: application/json"
    path = f"/api/v1/topics/{topic}/records"
    requests = [head("POST", path, server.admin_token, lines, f"Content-Length: {len(body)}") + body for body in bodies]
    kept_open = [request.replace(b"Connection: close\r\n", b"") for request in requests[:-1]]
    assert exchange(server, b"".join(kept_open) + requests[-1]).status == 200
    found = api.get(f"/api/v1/topics/{topic}/partitions/0/records").json()["records"]
    assert [record["value"] for record in found] == list(range(50))


# -- bodies that take too long --------------------------------------------------------------------------------------


class Body(msgspec.Struct):
    """A body of the operation below."""


def endpoint(bodies: BodyReader, raises: Exception | None = None) -> Endpoint:
    async def post_it(call: Call) -> Answer:
        if raises is not None:
            raise raises
        return Answer(body=call.raw)

    return Endpoint(
        Operation(
            method="POST",
            path="/api/x",
            summary="",
            tag="",
            access=PUBLIC,
            public=True,
            handler=post_it,
            body=Body,
            raw_body=True,
            answers={200: None},
        ),
        bodies,
    )


@asynccontextmanager
async def watched(bodies: BodyReader) -> AsyncIterator[None]:
    async def watch() -> None:
        while True:
            await asyncio.sleep(0.01)
            bodies.end_late()

    task = asyncio.create_task(watch())
    try:
        yield
    finally:
        task.cancel()


async def served(made: Endpoint, messages: AsyncIterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the endpoint sends for a body that comes as these messages."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return await anext(messages)

    async def send(message: Any) -> None:
        sent.append(dict(message))

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/x",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    await made({}, scope, receive, send)
    return sent


async def drip(pause: float, more: bool = True) -> AsyncIterator[dict[str, Any]]:
    while True:
        await asyncio.sleep(pause)
        yield {"type": "http.request", "body": b"x", "more_body": more}


@pytest.mark.parametrize("pause", [0.02, 60])
async def test_a_body_that_drips_or_never_comes_is_answered_408(pause: float) -> None:
    bodies = BodyReader(seconds=0.1)
    async with watched(bodies), asyncio.timeout(5):
        start, body = await served(endpoint(bodies), drip(pause))
    assert start["status"] == 408
    assert (b"connection", b"close") in start["headers"]
    assert json.loads(body["body"])["code"] == "request_timeout"
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def test_a_body_that_comes_in_time_is_not_disturbed() -> None:
    bodies = BodyReader(seconds=0.3)
    async with watched(bodies):
        for _ in range(4):
            start, body = await served(endpoint(bodies), drip(0.1, more=False))
            assert (start["status"], body["body"]) == (200, b"x")


async def test_a_cancellation_from_elsewhere_is_no_timeout() -> None:
    bodies = BodyReader(seconds=60)
    task = asyncio.create_task(served(endpoint(bodies), drip(60)))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_caller_that_goes_away_gets_nothing() -> None:
    async def gone() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "http.request", "body": b"x", "more_body": True}
        yield {"type": "http.disconnect"}

    assert await served(endpoint(BodyReader()), gone()) == []


async def test_reading_says_why_it_ended() -> None:
    async def gone() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def never() -> dict[str, Any]:
        await asyncio.sleep(60)
        return {}

    with pytest.raises(Disconnected):
        await BodyReader().read({}, gone)
    bodies = BodyReader(seconds=0.05)
    async with watched(bodies):
        with pytest.raises(RequestTimeout):
            await bodies.read({}, never)


# -- the documents --------------------------------------------------------------------------------------------------


def test_codes_are_stable_words_and_each_has_one_status_and_a_meaning() -> None:
    codes = [code for code, _, _ in catalogue()]
    assert len(codes) == len(set(codes))
    for code, status, meaning in catalogue():
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", code)
        assert 400 <= status < 600
        assert meaning


def test_every_error_has_a_status_of_its_own_or_an_ancestors() -> None:
    unnamed = [code for code, status, _ in catalogue() if status == 500 and code != "internal_error"]
    assert unnamed == []


async def test_what_goes_wrong_inside_is_told_to_the_log_alone(caplog: pytest.LogCaptureFixture) -> None:
    secret = RuntimeError("a secret of the server")
    start, body = await served(endpoint(BodyReader(), secret), drip(0, more=False))
    assert start["status"] == 500
    assert json.loads(body["body"])["code"] == "internal_error"
    assert b"secret" not in body["body"]
    assert "a secret of the server" in caplog.text


async def test_a_store_that_is_away_is_worth_another_try() -> None:
    start, _ = await served(endpoint(BodyReader(), Unavailable("away")), drip(0, more=False))
    assert start["status"] == 503
    assert (b"retry-after", b"1") in start["headers"]


def test_a_rejected_value_is_shown_in_part_and_escaped(api: httpx.Client) -> None:
    answer = api.post("/api/v1/topics", json={"name": "\u202e<script>\n" * 100})
    detail = answer.json()["detail"]
    assert len(detail) < 300
    assert detail.isascii()
    assert "\n" not in detail


def test_facts_of_an_error_are_members_of_the_document() -> None:
    from brokers.errors import OffsetOutOfRange

    status, body = body_of(OffsetOutOfRange("t", 0, 1, 5, 9))
    problem = json.loads(body)
    assert (status, problem["earliest_offset"], problem["latest_offset"]) == (410, 5, 9)
    assert "errors" not in problem


def test_two_operations_cannot_have_the_same_route() -> None:
    router = Router()
    router.add(endpoint(BodyReader()))
    with pytest.raises(ValueError, match="declared twice"):
        router.add(endpoint(BodyReader()))
