"""A STOMP client that writes whatever bytes a test wants, over a plain WebSocket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.live_client import Received, parse
from tests.server import ADMIN_TOKEN, Server

SECONDS = 10.0


class Wire:
    """One WebSocket. Frames are taken one by one; what follows the last is the close code."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._waiting: list[Received] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.socket.close()

    def raw(self, data: str | bytes) -> None:
        """Sends one WebSocket message."""
        self.socket.send(data)

    def send(self, command: str, body: str = "", **headers: str) -> None:
        """Sends one frame; an underscore in a header's name stands for a hyphen."""
        lines = "".join(f"{name.replace('_', '-')}:{value}\n" for name, value in headers.items())
        self.raw(f"{command}\n{lines}\n{body}\0")

    def frame(self) -> Received:
        """The next frame; raises ConnectionClosed at the end."""
        while not self._waiting:
            self._waiting = parse(self.socket.recv(SECONDS))
        return self._waiting.pop(0)

    def expect(self, command: str) -> Received:
        """The next frame, which is one of this command."""
        found = self.frame()
        assert found.command == command, found
        return found

    def log_in(self, passcode: str = ADMIN_TOKEN, version: str = "1.2", **headers: str) -> Received:
        """CONNECT and its answer."""
        self.send("CONNECT", accept_version=version, host="tests", passcode=passcode, **headers)
        return self.expect("CONNECTED")

    def receipt(self) -> str:
        """The id of the receipt that comes next."""
        return self.expect("RECEIPT").headers["receipt-id"]

    def error(self) -> Received:
        """The ERROR that comes next, after which the connection must end."""
        found = self.expect("ERROR")
        self.end()
        return found

    def end(self) -> int:
        """The close code; nothing may come before it."""
        try:
            found = self.frame()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006
        raise AssertionError(f"{found} instead of the end")


@contextmanager
def wire(server: Server, path: str = "/ws", **options: Any) -> Iterator[Wire]:
    """A WebSocket to the server, before CONNECT."""
    with (
        connect(f"{server.url.replace('http', 'ws', 1)}{path}", compression=None, max_size=None, **options) as socket,
        Wire(socket) as made,
    ):
        yield made


@contextmanager
def logged_in(server: Server, passcode: str = ADMIN_TOKEN, version: str = "1.2", **headers: str) -> Iterator[Wire]:
    """A WebSocket to the server, after CONNECTED."""
    with wire(server) as made:
        made.log_in(passcode, version, **headers)
        yield made
