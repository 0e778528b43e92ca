"""Sessions over HTTP, with requests that reach any of several processes of one machine."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from itertools import cycle
from pathlib import Path

import pytest

from tests.protocol.sockjs.echoing import Service, service
from tests.web_process import eventually

PRELUDE = b"h" * 2048 + b"\n"


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[list[Service]]:
    """Three processes of one service, as far as they know of each other."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(service(tmp_path)) for _ in range(3)]


def url() -> str:
    return f"000/{secrets.token_hex(8)}"


async def test_requests_may_reach_any_process(three: list[Service]) -> None:
    where = url()
    processes = cycle(three)
    assert (await next(processes).post(f"{where}/xhr")).text == "o\n"
    for number in range(10):
        assert (await next(processes).post(f"{where}/xhr_send", f'["{number}"]')).status_code == 204
        assert (await next(processes).post(f"{where}/xhr")).text == f'a["{number}"]\n'
    assert [len(each.sessions) for each in three] == [1, 0, 0]


@pytest.mark.parametrize(
    ("method", "transport", "begin", "frame"),
    [
        ("POST", "xhr_streaming", PRELUDE + b"o\n", 'a["{}"]\n'),
        ("GET", "eventsource", b"\r\ndata: o\r\n\r\n", 'data: a["{}"]\r\n\r\n'),
    ],
)
async def test_streams_pass_through(
    three: list[Service], method: str, transport: str, begin: bytes, frame: str
) -> None:
    first, second, third = three
    where = url()
    async with first.streamed(method, f"{where}/{transport}") as answer:
        assert await answer.read(len(begin)) == begin
        message = "x" * 4096
        assert (await second.post(f"{where}/xhr_send", f'["{message}"]')).status_code == 204
        expected = frame.format(message).encode()
        assert await answer.read(len(expected) + 1) == expected
    async with third.streamed(method, f"{where}/{transport}") as answer:  # passed on to the first
        await answer.read(begin.index(b"o\n" if method == "POST" else b"data"))
        for number in range(5):
            assert (await second.post(f"{where}/xhr_send", f'["{number}"]')).status_code == 204
            expected = frame.format(number).encode()
            assert await answer.read(len(expected)) == expected
        second_receiver = await second.post(f"{where}/xhr")
        assert second_receiver.text == 'c[2010,"Another connection still open"]\n'
    # The client has left the third; the first hears of it.
    await eventually(lambda: first.sessions[0].over)
    assert first.sessions[0].connection.last_error == "connection_interrupted"
    assert (await third.post(f"{where}/xhr_send", '["a"]')).status_code == 404


async def test_a_poll_that_is_passed_on_ends_with_its_client(three: list[Service]) -> None:
    first, second, _ = three
    where = url()
    assert (await first.post(f"{where}/xhr")).text == "o\n"
    waiting = asyncio.create_task(second.post(f"{where}/xhr"))
    held = first.sockjs._sessions.get(where[4:])
    assert held is not None
    await eventually(lambda: held.receiving)
    waiting.cancel()
    await eventually(lambda: first.sessions[0].over)


async def test_large_payloads_pass_through(three: list[Service]) -> None:
    first, second, third = three
    where = url()
    assert (await first.post(f"{where}/xhr")).text == "o\n"
    large = json.dumps(["\u00e9" * 300_000])
    assert (await second.post(f"{where}/xhr_send", large)).status_code == 204
    assert (await third.post(f"{where}/xhr")).text[1:] == large + "\n"


async def test_a_process_that_stops_leaves_nothing(tmp_path: Path) -> None:
    async with service(tmp_path) as staying:
        where = url()
        async with service(tmp_path) as leaving:
            assert (await leaving.post(f"{where}/xhr")).text == "o\n"
            assert (await staying.post(f"{where}/xhr_send", '["a"]')).status_code == 204
            waiting = asyncio.create_task(staying.post(f"{where}/xhr"))
            assert (await waiting).text == 'a["a"]\n'
            waiting = asyncio.create_task(staying.post(f"{where}/xhr"))
            held = leaving.sockjs._sessions.get(where[4:])
            assert held is not None
            await eventually(lambda: held.receiving)
        assert (await waiting).text == 'c[1001,"the server is stopping"]\n'
        assert list(tmp_path.iterdir()) == []
        assert (await staying.post(f"{where}/xhr_send", '["a"]')).status_code == 404
        assert (await staying.post(f"{where}/xhr")).text == "o\n"


async def test_a_process_that_has_died_is_forgotten(three: list[Service], tmp_path: Path) -> None:
    died = tmp_path / "0123.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(died))  # what a killed process leaves: a socket that nobody listens on
    where = url()
    assert (await three[0].post(f"{where}/xhr")).text == "o\n"
    assert not died.exists()
    assert (await three[1].post(f"{where}/xhr_send", '["a"]')).status_code == 204


async def test_a_process_that_hangs_delays_once(
    three: list[Service], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("realtime.sockjs.peers.ASK_SECONDS", 0.2)
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(tmp_path / "4567.sock"))
        hanging.listen(8)
        async with asyncio.timeout(3):
            for _ in range(10):
                where = url()
                assert (await three[0].post(f"{where}/xhr")).text == "o\n"
                assert (await three[1].post(f"{where}/xhr_send", '["a"]')).status_code == 204


async def test_what_another_process_sends_is_bounded(three: list[Service], tmp_path: Path) -> None:
    where = url()
    assert (await three[0].post(f"{where}/xhr")).text == "o\n"
    (path,) = tmp_path.iterdir()
    for sent in (b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", b"\0\0\0\x05abc"):
        reader, writer = await asyncio.open_unix_connection(str(path))
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    assert (await three[0].post(f"{where}/xhr_send", '["a"]')).status_code == 204


async def test_a_directory_that_cannot_be_used_leaves_one_process_working(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with service(tmp_path / "file" / "below") as alone:
        where = url()
        assert (await alone.post(f"{where}/xhr")).text == "o\n"
        assert (await alone.post(f"{where}/xhr_send", '["a"]')).status_code == 204
        assert (await alone.post(f"{where}/xhr")).text == 'a["a"]\n'
