"""The published list of checks of SockJS servers (sockjs-protocol 0.3.3), by class, against an echo service.

Left out: what is off here (iframe page, htmlfile, JSONP, cookies, see docs/sockjs.md), and Hixie-76.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.protocol.sockjs.echoing import ORIGIN, Close, Service, service
from tests.web_process import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOT_CACHED = "no-store, no-cache, no-transform, must-revalidate, max-age=0"
PRELUDE = b"h" * 2048 + b"\n"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def echo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Service]:
    async with service(tmp_path_factory.mktemp("echo")) as started:
        yield started


def session() -> str:
    return f"000/{secrets.token_hex(8)}"


def check_cors(response: httpx.Response, origin: str | None) -> None:
    assert response.headers["access-control-allow-origin"] == (origin or "*")
    assert response.headers.get("access-control-allow-credentials") == ("true" if origin else None)


def check_not_cached(response: httpx.Response) -> None:
    assert response.headers["cache-control"] == NOT_CACHED
    assert "expires" not in response.headers
    assert "last-modified" not in response.headers


def kind(response: httpx.Response) -> str:
    return response.headers["content-type"].replace(" ", "")


# -- info -------------------------------------------------------------------------------------------------------------


async def test_info_says_what_the_server_can(echo: Service) -> None:
    response = await echo.client.get("info", headers={"Origin": ORIGIN})
    assert (response.status_code, kind(response)) == (200, "application/json;charset=UTF-8")
    check_cors(response, ORIGIN)
    check_not_cached(response)
    assert "set-cookie" not in response.headers
    known = response.json()
    entropy = known.pop("entropy")
    assert known == {"websocket": True, "cookie_needed": False, "origins": ["*:*"]}
    assert 0 <= entropy < 2**32
    assert (await echo.client.get("info")).json()["entropy"] != entropy


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("info", "OPTIONS, GET"),
        ("abc/abc/xhr", "OPTIONS, POST"),
        ("abc/abc/xhr_send", "OPTIONS, POST"),
        ("abc/abc/xhr_streaming", "OPTIONS, POST"),
        ("abc/abc/eventsource", "OPTIONS, GET"),
    ],
)
async def test_pages_may_ask_before(echo: Service, path: str, methods: str) -> None:
    response = await echo.client.options(path, headers={"Origin": ORIGIN, "Access-Control-Request-Method": methods})
    assert (response.status_code, response.content) == (204, b"")
    assert response.headers["cache-control"] == "public, max-age=31536000"
    assert response.headers["expires"]
    assert int(response.headers["access-control-max-age"]) > 1_000_000
    assert response.headers["access-control-allow-methods"] == methods
    check_cors(response, ORIGIN)


@pytest.mark.parametrize(("asked", "allowed"), [("a, b, c", "a, b, c"), ("", None), (None, None)])
async def test_headers_that_a_page_asks_for_are_allowed(echo: Service, asked: str | None, allowed: str | None) -> None:
    headers = {"Origin": ORIGIN} | ({} if asked is None else {"Access-Control-Request-Headers": asked})
    response = await echo.client.options("a/b/xhr", headers=headers)
    assert response.headers.get("access-control-allow-headers") == allowed


# -- URLs of sessions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["a/a", "_/_", "1/1", "abcdefgh_i-j%20/abcdefg_i-j%20", "%C3%A9/%E2%98%83"])
async def test_any_text_names_a_session(echo: Service, path: str) -> None:
    response = await echo.post(f"{path}/xhr")
    assert (response.status_code, response.text) == (200, "o\n")


@pytest.mark.parametrize(
    "path",
    [
        *("/", "a./a", "a/a.", "./.", "../..", "", "//", "a", "a/a/a", "a%2Fb/c/d", "%00/a", "a/%0a", f"a/{'x' * 129}"),
        *(f"{'x' * 129}/a",),
    ],
)
async def test_other_paths_are_nothing(echo: Service, path: str) -> None:
    for method in ("GET", "POST"):
        url = httpx.URL(f"http://{echo.address}").copy_with(raw_path=f"/ws/{path}/xhr".encode())
        assert (await echo.client.request(method, url)).status_code == 404, path


@pytest.mark.parametrize("path", ["a", "a.html", "/", "a/a", "a/a/", "iframe.html", "iframe-1.html", "a/b/jsonp?c=x"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
async def test_what_is_off_or_unknown_is_not_found(echo: Service, path: str, method: str) -> None:
    url = httpx.URL(f"http://{echo.address}").copy_with(raw_path=f"/ws/{path}".encode())
    assert (await echo.client.request(method, url)).status_code == 404


@pytest.mark.parametrize(("method", "path"), [("GET", "xhr"), ("PUT", "xhr_send"), ("POST", "eventsource")])
async def test_other_methods_are_not_allowed(echo: Service, method: str, path: str) -> None:
    response = await echo.client.request(method, f"a/b/{path}")
    assert (response.status_code, response.content) == (405, b"")
    assert "content-type" not in response.headers
    assert response.headers["allow"]


async def test_the_servers_name_is_ignored(echo: Service) -> None:
    name = secrets.token_hex(8)
    assert (await echo.post(f"000/{name}/xhr")).text == "o\n"
    assert (await echo.post(f"000/{name}/xhr_send", '["a"]')).status_code == 204
    assert (await echo.post(f"999/{name}/xhr")).text == 'a["a"]\n'


# -- sessions ---------------------------------------------------------------------------------------------------------


async def test_only_one_receiver_at_a_time(echo: Service) -> None:
    url = session()
    assert (await echo.post(f"{url}/xhr")).text == "o\n"
    first = asyncio.create_task(echo.post(f"{url}/xhr"))
    held = echo.sockjs._sessions.get(url[4:])
    await eventually(lambda: held is not None and held.receiving)
    second = await echo.post(f"{url}/xhr")
    assert (second.status_code, second.text) == (200, 'c[2010,"Another connection still open"]\n')
    assert (await echo.post(f"{url}/xhr_send", '["still here"]')).status_code == 204
    assert (await first).text == 'a["still here"]\n'


async def test_a_closed_session_says_so_until_it_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.sockjs.sessions.DISCONNECT_SECONDS", 0.5)
    async with service(tmp_path, Close) as closing:
        url = session()
        answers = [(await closing.post(f"{url}/xhr")).text for _ in range(3)]
        assert answers == ["o\n", 'c[3000,"Go away!"]\n', 'c[3000,"Go away!"]\n']
        await eventually(lambda: closing.sockjs._sessions.get(url[4:]) is None)
        assert closing.sessions[0].over
        assert (await closing.post(f"{url}/xhr")).text == "o\n"


async def test_a_session_without_a_receiver_expires(echo: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.sockjs.sessions.DISCONNECT_SECONDS", 0.3)
    url = session()
    assert (await echo.post(f"{url}/xhr")).text == "o\n"
    opened = echo.sessions[-1]
    await eventually(lambda: opened.over)
    assert opened.connection.last_error == "connection_lost"
    assert opened.connection.id not in echo.registry.connections
    assert (await echo.post(f"{url}/xhr_send", '["a"]')).status_code == 404


async def test_a_receiver_that_was_cut_off_ends_its_session(echo: Service) -> None:
    for transport, method in (("xhr", "POST"), ("xhr_streaming", "POST"), ("eventsource", "GET")):
        url = session()
        assert (await echo.post(f"{url}/xhr")).text == "o\n"
        waiting = asyncio.create_task(echo.client.request(method, f"{url}/{transport}"))
        held = echo.sockjs._sessions.get(url[4:])
        assert held is not None
        await eventually(lambda held=held: held.receiving)
        waiting.cancel()
        await eventually(lambda: echo.sessions[-1].over)
        assert (await echo.post(f"{url}/xhr_send", '["a"]')).status_code == 404
        assert (await echo.post(f"{url}/xhr")).text == 'c[1002,"Connection interrupted"]\n'
        assert echo.sessions[-1].connection.id not in echo.registry.connections


async def test_heart_beats_keep_a_receiver_alive(echo: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.sockjs.receiving.HEART_BEAT_SECONDS", 0.05)
    url = session()
    assert (await echo.post(f"{url}/xhr")).text == "o\n"
    assert (await echo.post(f"{url}/xhr")).text == "h\n"
    async with echo.streamed("GET", f"{url}/eventsource") as answer:
        assert await answer.read(28) == b"\r\n" + b"data: h\r\n\r\n" * 2 + b"data"


# -- xhr --------------------------------------------------------------------------------------------------------------


async def test_polling(echo: Service) -> None:
    url = session()
    opened = await echo.post(f"{url}/xhr", Origin=ORIGIN)
    assert (opened.status_code, opened.text) == (200, "o\n")
    assert kind(opened) == "application/javascript;charset=UTF-8"
    sent = await echo.post(f"{url}/xhr_send", '["x"]', Origin=ORIGIN)
    assert (sent.status_code, sent.content, kind(sent)) == (204, b"", "text/plain;charset=UTF-8")
    for response in (opened, sent):
        check_cors(response, ORIGIN)
        check_not_cached(response)
    assert (await echo.post(f"{url}/xhr")).text == 'a["x"]\n'


async def test_a_poll_brings_all_that_waits(echo: Service) -> None:
    url = session()
    await echo.post(f"{url}/xhr")
    kinds = ["text/plain", "T", "application/json", "application/xml", "", "text/xml; charset=utf-8"]
    for each in kinds:
        assert (await echo.post(f"{url}/xhr_send", '["a"]', Content_Type=each)).status_code == 204
    assert (await echo.post(f"{url}/xhr")).text == "a[" + ",".join(['"a"'] * len(kinds)) + "]\n"


async def test_what_is_no_array_of_strings(echo: Service) -> None:
    url = session()
    assert (await echo.post(f"{url}/xhr_send", '["x"]')).status_code == 404
    await echo.post(f"{url}/xhr")
    for body, text in (('["x', "Broken JSON encoding."), ("", "Payload expected."), ('["\\ud800"]', "Broken JSON")):
        response = await echo.post(f"{url}/xhr_send", body)
        assert (response.status_code, text in response.text) == (500, True), body
    assert (await echo.post(f"{url}/xhr_send", "[]")).status_code == 204
    assert (await echo.post(f"{url}/xhr_send", '["a"]')).status_code == 204
    assert (await echo.post(f"{url}/xhr")).text == 'a["a"]\n'


@pytest.mark.parametrize("body", ['["x", 1, {}]', "{}", "null", json.dumps(["x"] * 101), "[" * 100_000])
async def test_what_no_client_sends_ends_the_session(echo: Service, body: str) -> None:
    url = session()
    await echo.post(f"{url}/xhr")
    assert (await echo.post(f"{url}/xhr_send", body)).status_code == 500
    assert (await echo.post(f"{url}/xhr")).text == 'c[1002,"Connection interrupted"]\n'


async def test_a_payload_has_a_most_length(echo: Service) -> None:
    url = session()
    await echo.post(f"{url}/xhr")
    assert (await echo.post(f"{url}/xhr_send", json.dumps(["x" * 2_300_000]))).status_code == 413
    assert (await echo.post(f"{url}/xhr")).text == 'c[1009,"frame_too_large"]\n'


async def test_messages_keep_their_order(echo: Service) -> None:
    url = session()
    async with echo.streamed("POST", f"{url}/xhr_streaming") as answer:
        await answer.read(len(PRELUDE) + 2)
        for number in range(20):
            assert (await echo.post(f"{url}/xhr_send", json.dumps([f"{number}a", f"{number}b"]))).status_code == 204
        expected = "".join(f'a["{number}a","{number}b"]\n' for number in range(20))
        assert (await answer.read(len(expected))).decode() == expected


# -- xhr_streaming and eventsource ------------------------------------------------------------------------------------


async def test_streaming(echo: Service) -> None:
    url = session()
    async with echo.streamed("POST", f"{url}/xhr_streaming", Origin=ORIGIN) as answer:
        assert answer.response.status_code == 200
        assert kind(answer.response) == "application/javascript;charset=UTF-8"
        assert answer.response.headers["transfer-encoding"] == "chunked"
        check_cors(answer.response, ORIGIN)
        check_not_cached(answer.response)
        assert await answer.read(len(PRELUDE) + 2) == PRELUDE + b"o\n"
        assert (await echo.post(f"{url}/xhr_send", '["x"]')).status_code == 204
        assert await answer.read(7) == b'a["x"]\n'


async def test_a_streaming_answer_ends_after_so_much(echo: Service) -> None:
    url = session()
    message = f'["{"x" * 128}"]'
    async with echo.streamed("POST", f"{url}/xhr_streaming") as answer:
        await answer.read(len(PRELUDE) + 2)
        for _ in range(31):
            assert (await echo.post(f"{url}/xhr_send", message)).status_code == 204
            assert await answer.read(len(message) + 2) == f"a{message}\n".encode()
        assert await answer.read(1) == b""
    assert (await echo.post(f"{url}/xhr_send", '["and on"]')).status_code == 204
    async with echo.streamed("POST", f"{url}/xhr_streaming") as answer:
        assert await answer.read(len(PRELUDE) + 12) == PRELUDE + b'a["and on"]\n'


async def test_event_source(echo: Service) -> None:
    url = session()
    async with echo.streamed("GET", f"{url}/eventsource") as answer:
        assert kind(answer.response).startswith("text/event-stream")
        check_not_cached(answer.response)
        assert await answer.read(13) == b"\r\ndata: o\r\n\r\n"
        for sent, came in (
            ('["x"]', 'a["x"]'),
            (r'["  \u0000\n\r "]', r'a["  \u0000\n\r "]'),
            ('["50%"]', 'a["50%25"]'),
        ):
            assert (await echo.post(f"{url}/xhr_send", sent)).status_code == 204
            expected = f"data: {came}\r\n\r\n".encode()
            assert await answer.read(len(expected)) == expected
        long = f'["{"x" * 4096}"]'
        assert (await echo.post(f"{url}/xhr_send", long)).status_code == 204
        assert await answer.read(5000) == f"data: a{long}\r\n\r\n".encode()


# -- websocket --------------------------------------------------------------------------------------------------------


async def opened(echo: Service, url: str, **options: Any) -> Any:
    return await connect(f"ws://{echo.address}/ws/{url}/websocket", compression=None, **options)


async def test_websocket(echo: Service) -> None:
    async with await opened(echo, session()) as socket:
        assert await socket.recv() == "o"
        for ignored in ("", "[]"):
            await socket.send(ignored)
        for sent in ('["a"]', '"a"', b'["a"]'):
            await socket.send(sent)
            assert await socket.recv() == 'a["a"]'


async def test_websocket_on_a_server_that_makes_its_own_frames(tmp_path: Path) -> None:
    async with service(tmp_path, ws="websockets-sansio") as echo, await opened(echo, session()) as socket:
        assert await socket.recv() == "o"
        await socket.send('["a", "\u00e9"]')
        assert [await socket.recv(), await socket.recv()] == ['a["a"]', 'a["\\u00e9"]']
        echo.sessions[-1].connection.end(1000, "", [b"bye"])
        assert [await socket.recv(), await socket.recv()] == ['a["bye"]', 'c[3000,"Go away!"]']
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        await eventually(lambda: echo.sessions[-1].over)


async def test_two_websockets_may_have_one_name(echo: Service) -> None:
    url = session()
    async with await opened(echo, url) as first, await opened(echo, url) as second:
        for number, socket in enumerate((first, second)):
            assert await socket.recv() == "o"
            await socket.send(f'["{number}"]')
            assert await socket.recv() == f'a["{number}"]'


async def test_websocket_is_closed_after_the_close_frame(tmp_path: Path) -> None:
    async with service(tmp_path, Close) as closing, await opened(closing, session()) as socket:
        assert [await socket.recv(), await socket.recv()] == ["o", 'c[3000,"Go away!"]']
        with pytest.raises(ConnectionClosed):
            await socket.recv()


@pytest.mark.parametrize("broken", ['["a', "{}", "[1]", '["\\ud800"]', "\x00"])
async def test_broken_json_ends_a_websocket(echo: Service, broken: str) -> None:
    async with await opened(echo, session()) as socket:
        assert await socket.recv() == "o"
        await socket.send(broken)
        with pytest.raises(ConnectionClosed):
            while True:
                assert (await socket.recv())[0] == "c"


async def test_websocket_heart_beats(echo: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("realtime.sockjs.socket_transport.HEART_BEAT_SECONDS", 0.1)
    async with await opened(echo, session()) as socket:
        assert [await socket.recv() for _ in range(3)] == ["o", "h", "h"]


@pytest.mark.parametrize("path", ["0/0/websocket", "websocket"])
async def test_a_websockets_url_takes_nothing_else(echo: Service, path: str) -> None:
    assert (await echo.client.get(path)).status_code == 400
    closing = {"Upgrade": "WebSocket", "Connection": "close"}
    assert (await echo.client.get(path, headers=closing)).status_code == 400
    refused = await echo.client.post(path)
    assert (refused.status_code, refused.content) == (405, b"")
    assert "GET" in refused.headers["allow"]
    assert "content-type" not in refused.headers


# -- JSON -------------------------------------------------------------------------------------------------------------


async def test_what_browsers_mangle_is_escaped(echo: Service) -> None:
    ranges = [(0x00, 0x1F), (0x200C, 0x200F), (0x2028, 0x202F), (0x2060, 0x206F), (0xFFF0, 0xFFFF), (0x1F600, 0x1F602)]
    text = "".join(chr(code) for first, last in ranges for code in range(first, last + 1))
    url = session()
    await echo.post(f"{url}/xhr")
    assert (await echo.post(f"{url}/xhr_send", json.dumps([text], ensure_ascii=False).replace("\x7f", ""))).is_success
    came = (await echo.post(f"{url}/xhr")).text
    assert json.loads(came[1:]) == [text]
    assert came.isascii()
    assert "\\u200c" in came
    assert not any(chr(code) in came for code in range(0x20) if code != 0x0A)
