"""A small STOMP 1.2 client for tests that cut connections: asyncio, one subscription, nothing but what they need."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from websockets.asyncio.client import ClientConnection, connect

_UNESCAPED = {"\\r": "\r", "\\n": "\n", "\\c": ":", "\\\\": "\\"}


@dataclass(slots=True)
class Received:
    """One frame from the server."""

    command: str
    headers: dict[str, str]
    body: str


def frame(command: str, headers: Mapping[str, str], body: str = "") -> str:
    """A frame as text; header values are taken as they are."""
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    return f"{command}\n{lines}\n{body}\0"


def parse(message: str | bytes) -> list[Received]:
    """The frames of one WebSocket message; bodies hold no NUL here."""
    text = message.decode() if isinstance(message, bytes) else message
    frames: list[Received] = []
    for part in text.split("\0"):
        stripped = part.lstrip("\n")
        if not stripped:
            continue
        head, _, body = stripped.partition("\n\n")
        command, *lines = head.split("\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name, _unescape(value))
        frames.append(Received(command, headers, body))
    return frames


def _unescape(value: str) -> str:
    made, position = [], 0
    while position < len(value):
        pair = value[position : position + 2]
        made.append(_UNESCAPED.get(pair, value[position]))
        position += 2 if pair in _UNESCAPED else 1
    return "".join(made)


@dataclass
class LiveClient:
    """One connection after its CONNECTED."""

    socket: ClientConnection
    connected: Received
    waiting: list[Received] = field(default_factory=list)

    async def send(self, command: str, headers: Mapping[str, str], body: str = "") -> None:
        """Sends one frame."""
        await self.socket.send(frame(command, headers, body))

    async def receive(self) -> Received:
        """The next frame; raises ConnectionClosed of websockets at the end."""
        while not self.waiting:
            self.waiting = parse(await self.socket.recv())
        return self.waiting.pop(0)

    async def subscribe(self, destination: str, **headers: str) -> None:
        """Subscribes under the id `s` and waits for the receipt."""
        await self.send("SUBSCRIBE", {"id": "s", "destination": destination, "receipt": "r"} | headers)

    def cut(self) -> None:
        """Ends the TCP connection without a word."""
        self.socket.transport.abort()


@asynccontextmanager
async def live_client(url: str, token: str) -> AsyncIterator[LiveClient]:
    """Connects and signs in; `url` is the server's HTTP address."""
    async with connect(f"{url.replace('http', 'ws', 1)}/ws", compression=None, max_size=None) as socket:
        await socket.send(frame("CONNECT", {"accept-version": "1.2", "host": "tests", "passcode": token}))
        first = parse(await socket.recv())
        assert first[0].command == "CONNECTED", first[0]
        yield LiveClient(socket, first[0], first[1:])
