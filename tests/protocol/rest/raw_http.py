"""Requests as bytes, for what no client library would send."""

from __future__ import annotations

import contextlib
import json
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.server import Server


@dataclass
class RawAnswer:
    """What came back; `status` 0 when the connection was closed without an answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def connect(server: Server, timeout: float = 10.0) -> socket.socket:
    """A connection to the server; close it, or use it as a context manager."""
    where = urlsplit(server.url)
    assert where.hostname is not None
    assert where.port is not None
    return socket.create_connection((where.hostname, where.port), timeout=timeout)


def head(method: str, path: str, token: str | None = None, *lines: str) -> bytes:
    """The beginning of a request, that asks the server to close the connection afterwards."""
    authorization = [f"Authorization: Bearer {token}"] if token else []
    text = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", *authorization, *lines])
    return text.encode("latin-1") + b"\r\n\r\n"


def exchange(server: Server, request: bytes, timeout: float = 10.0) -> RawAnswer:
    """Sends the bytes and reads until the server closes."""
    with connect(server, timeout) as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may answer before it has read all
            connection.sendall(request)
        return read_answer(connection)


def read_answer(connection: socket.socket) -> RawAnswer:
    """Reads an answer until the server closes."""
    received = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(65536):
            received += part
    top, _, body = bytes(received).partition(b"\r\n\r\n")
    status, *lines = top.decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    return RawAnswer(int(status.split(" ")[1]) if status else 0, headers, body)
