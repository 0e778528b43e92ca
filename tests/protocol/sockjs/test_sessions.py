"""STOMP in SockJS sessions against a whole server: who may open them, who may use them, how they end."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from tests.live_client import Received, frame, parse
from tests.server import ADMIN_PASSWORD, ADMIN_TOKEN, Server, unique

CONNECT = frame("CONNECT", {"accept-version": "1.2", "passcode": ADMIN_TOKEN})
FOREIGN = ("http://elsewhere.test", "null", "https://127.0.0.1.evil.test", "HTTP://127.0.0.1", "http://127.0.0.1:1")


class Polling:
    """A session that is polled by hand."""

    def __init__(self, server: Server, **headers: str) -> None:
        self.url = f"/ws/000/{secrets.token_hex(8)}"
        self.client = server.client(token=None)
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        self.closed: list[Any] | None = None

    def __enter__(self) -> Polling:
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()

    def post(self, transport: str, content: str = "", **headers: str) -> httpx.Response:
        return self.client.post(f"{self.url}/{transport}", content=content, headers=self.headers | headers)

    def open(self) -> None:
        answer = self.post("xhr")
        assert (answer.status_code, answer.text) == (200, "o\n"), answer.text

    def send(self, *frames: str) -> None:
        answer = self.post("xhr_send", json.dumps(frames))
        assert answer.status_code == 204, answer.text

    def receive(self) -> list[Received]:
        """The frames of one poll; heart-beats are passed over."""
        while True:
            text = self.post("xhr").text
            if text[0] == "c":
                self.closed = json.loads(text[1:])
                return []
            if text[0] == "a" and (found := [each for part in json.loads(text[1:]) for each in parse(part)]):
                return found

    def log_in(self) -> None:
        self.open()
        self.send(CONNECT)
        assert [each.command for each in self.receive()] == ["CONNECTED"]


def own(server: Server) -> str:
    return server.url


# -- who may open one -------------------------------------------------------------------------------------------------


def test_the_greeting(server: Server) -> None:
    with server.client(token=None) as client:
        for path in ("/ws", "/ws/"):
            answer = client.get(path)
            assert (answer.status_code, answer.text) == (200, "Welcome to SockJS!\n")
            assert answer.headers["content-type"].replace(" ", "") == "text/plain;charset=UTF-8"
            assert client.post(path).status_code == 405
        for path in ("/ws/a", "/ws//", "/ws/a/a", "/ws/a/a/", "/ws/iframe.html", "/wsx"):
            assert client.get(path).status_code == 404, path


@pytest.mark.parametrize("origin", FOREIGN)
def test_pages_from_elsewhere_are_refused(server: Server, origin: str) -> None:
    with httpx.Client(base_url=server.url, headers={"Origin": origin}) as client:
        for method, path in (
            ("GET", "info"),
            ("OPTIONS", "info"),
            ("POST", "0/a/xhr"),
            ("OPTIONS", "0/a/xhr_send"),
            ("POST", "0/a/xhr_send"),
            ("POST", "0/a/xhr_streaming"),
            ("GET", "0/a/eventsource"),
        ):
            answer = client.request(method, f"/ws/{path}")
            assert answer.status_code == 403, path
            assert not [name for name in answer.headers if name.startswith("access-control")]
    with pytest.raises(InvalidStatus) as refused:
        connect(f"{server.url.replace('http', 'ws')}/ws/0/a/websocket", additional_headers={"Origin": origin})
    assert refused.value.response.status_code == 403


def test_own_pages_read_the_answers(server: Server) -> None:
    with Polling(server, Origin=own(server)) as session:
        answer = session.post("xhr")
        assert (answer.text, answer.headers["access-control-allow-origin"]) == ("o\n", own(server))
        assert answer.headers["access-control-allow-credentials"] == "true"
        assert "Origin" in answer.headers["vary"]


def test_a_token_that_is_not_valid_opens_nothing(server: Server) -> None:
    with Polling(server, Authorization="Bearer not-a-token-of-anybody-at-all") as session:
        assert session.post("xhr").status_code == 401


def test_a_session_belongs_to_whom_it_was_opened_for(server: Server) -> None:
    with Polling(server, Authorization=f"Bearer {ADMIN_TOKEN}") as session:
        session.open()
        headers, session.headers = session.headers, {}
        assert session.post("xhr_send", json.dumps([CONNECT])).status_code == 404
        assert session.post("xhr").status_code == 404
        for other in ("Basic abc", "Bearer x", f"Bearer {ADMIN_TOKEN}x"):
            assert session.post("xhr_send", json.dumps([CONNECT]), Authorization=other).status_code == 404
        session.headers = headers
        session.send(frame("CONNECT", {"accept-version": "1.2"}))
        (connected,) = session.receive()
        assert connected.headers["user-name"] == "admin"


def test_a_session_belongs_to_the_page_that_opened_it(server: Server) -> None:
    port = urlsplit(server.url).port
    with Polling(server, Origin=own(server)) as session:
        session.open()
        other = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
        assert session.post("xhr_send", json.dumps([CONNECT]), **other).status_code == 404
        assert session.post("xhr", **other).status_code == 404
        session.send(CONNECT)
        assert session.receive()[0].command == "CONNECTED"


def test_the_consoles_cookie_is_believed_from_own_pages_alone(server: Server) -> None:
    with server.client(token=None, follow_redirects=True) as browser:
        page = browser.get("/admin/login/")
        browser.post(
            "/admin/login/",
            data={
                "username": "admin",
                "password": ADMIN_PASSWORD,
                "csrfmiddlewaretoken": next(value for name, value in browser.cookies.items() if "csrf" in name),
                "next": "/admin/",
            },
            headers={"Referer": str(page.url)},
        )
        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    anonymous = frame("CONNECT", {"accept-version": "1.2"})
    for headers, command in (({"Origin": own(server)}, "CONNECTED"), ({}, "ERROR")):
        with Polling(server, Cookie=cookie, **headers) as session:
            session.open()
            session.send(anonymous)
            assert session.receive()[0].command == command


# -- what goes through one --------------------------------------------------------------------------------------------


def test_frames_before_the_login_end_the_session(server: Server) -> None:
    with Polling(server) as session:
        session.open()
        session.send(frame("SEND", {"destination": "/topic/x"}, "x"))
        (error,) = session.receive()
        assert (error.command, error.headers["message"]) == ("ERROR", "not_connected")
        assert session.receive() == []
        assert session.closed == [1002, "not_connected"]


def test_much_before_the_login_is_refused(server: Server) -> None:
    with Polling(server) as session:
        session.open()
        assert session.post("xhr_send", json.dumps(["x" * 70_000])).status_code == 413
        assert session.receive()[0].headers["message"] == "frame_too_large"
        assert session.receive() == []
        assert session.closed == [1009, "frame_too_large"]


def test_a_frame_may_come_in_pieces_and_many_at_once(server: Server) -> None:
    destination = f"/topic/{unique()}"
    with Polling(server) as session:
        session.log_in()
        subscribe = frame("SUBSCRIBE", {"id": "s", "destination": destination, "receipt": "r"})
        session.send(subscribe[:7], subscribe[7:30])
        session.send(subscribe[30:])
        assert session.receive()[0].headers["receipt-id"] == "r"
        session.send(*[frame("SEND", {"destination": destination}, str(number)) for number in range(100)])
        bodies: list[str] = []
        while len(bodies) < 100:
            bodies += [each.body for each in session.receive()]
        assert bodies == [str(number) for number in range(100)]


def test_a_record_that_is_no_text_comes_as_base64(server: Server, api: httpx.Client) -> None:
    topic = unique()
    assert api.post("/api/v1/topics", json={"name": topic, "partitions": 1}).status_code == 201
    with Polling(server) as session:
        session.log_in()
        session.send(frame("SUBSCRIBE", {"id": "s", "destination": f"/topic/{topic}", "offset": "earliest"}))
        values = [b"\xff\x00\n\n\xfe", b"text"]
        records = [{"value_base64": base64.b64encode(value).decode()} for value in values]
        assert api.post(f"/api/v1/topics/{topic}/records", json={"records": records}).status_code == 200
        messages: list[Received] = []
        while len(messages) < 2:
            messages += session.receive()
        assert messages[0].headers["body-encoding"] == "base64"
        assert [base64.b64decode(messages[0].body), messages[1].body.encode()] == values


# -- how one ends -----------------------------------------------------------------------------------------------------


def test_disconnect_is_answered_and_then_it_is_over(server: Server) -> None:
    with Polling(server) as session:
        session.log_in()
        session.send(frame("DISCONNECT", {"receipt": "bye"}))
        assert session.receive()[0].headers["receipt-id"] == "bye"
        assert session.receive() == []
        assert session.closed == [3000, "Go away!"]
        session.send(frame("SEND", {"destination": "/topic/x"}, "ignored"))


def test_a_revoked_token_ends_the_session(server: Server, api: httpx.Client) -> None:
    made = api.post("/api/v1/tokens", json={"name": unique(), "grants": []}).json()
    with Polling(server) as session:
        session.open()
        session.send(frame("CONNECT", {"accept-version": "1.2", "passcode": made["token"]}))
        assert session.receive()[0].command == "CONNECTED"
        assert api.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
        (error,) = session.receive()
        assert (error.command, error.headers["message"]) == ("ERROR", "token_revoked")
        assert session.receive() == []
        assert session.closed == [1008, "token_revoked"]


def test_unacknowledged_messages_go_back_with_the_session(server: Server, api: httpx.Client) -> None:
    queue = unique("queue")
    assert api.put(f"/api/v1/queues/{queue}", json={}).status_code == 201
    assert api.post(f"/api/v1/queues/{queue}/messages", json={"messages": [{"body": 1}]}).status_code == 200
    with Polling(server) as session:
        session.log_in()
        session.send(frame("SUBSCRIBE", {"id": "q", "destination": f"/queue/{queue}", "ack": "client-individual"}))
        assert session.receive()[0].command == "MESSAGE"
        session.send(frame("DISCONNECT", {}))
        claimed = api.post(f"/api/v1/queues/{queue}/claims", json={"wait_ms": 5000}).json()["messages"]
        assert [each["body"] for each in claimed] == [1]
