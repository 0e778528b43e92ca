"""One POST of JSON to a webhook: signed, within five seconds altogether, and never led elsewhere.

The call is written onto the connection by hand because nothing of the answer is wanted but its status: no redirect is
followed, no proxy or cookie of the environment is used, and a server that answers byte by byte gains nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import re
import ssl
import time
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

TIMEOUT_SECONDS: Final = 5.0
"""For looking up the name, connecting, sending and the answer together."""
_MAX_HEADER_BYTES: Final = 16 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: |\r?\n)")
_INFORMATIONAL: Final = range(100, 200)


class Undelivered(Exception):
    """A notification did not arrive; the text says why, without any secret."""


def signature(secret: str, body: bytes, at: int) -> str:
    """The value of `x-waystation-signature`: HMAC-SHA256 of `<at>.<body>`, `at` in Unix seconds."""
    digest = hmac.new(secret.encode(), b"%d." % at + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def headers(secret: str, body: bytes, notification_id: int, event: str) -> dict[str, str]:
    """The headers of a call; without a secret it is not signed."""
    told = {
        "content-type": "application/json",
        "user-agent": "Waystation",
        "x-waystation-event": event,
        "x-waystation-notification-id": str(notification_id),
    }
    if secret:
        told["x-waystation-signature"] = signature(secret, body, int(time.time()))
    return told


async def post(url: str, body: bytes, told: dict[str, str]) -> None:
    """Sends a POST and returns once the server has answered with 2xx.

    Raises: Undelivered for any other answer, an address that makes no sense, or no answer within five seconds.
    """
    parts = _checked(url)
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            status = await _exchange(parts, body, told)
    except TimeoutError as error:
        raise Undelivered(f"no answer within {TIMEOUT_SECONDS:g} s") from error
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise Undelivered(_why(error)) from error
    if 300 <= status < 400:
        raise Undelivered(f"the server answered {status}; redirects are not followed")
    if not 200 <= status < 300:
        raise Undelivered(f"the server answered {status}")


def _why(error: Exception) -> str:
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    return str(error)[:300] or type(error).__name__


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port_is_sound = parts.port is None or parts.port > 0
        host = (parts.hostname or "").encode("idna")
    except ValueError as error:
        raise Undelivered(f"the address makes no sense: {error}") from error
    if parts.scheme not in ("http", "https") or not host or not port_is_sound or parts.username is not None:
        raise Undelivered("the address must be http:// or https://, with a host and without a user name")
    return parts


async def _exchange(parts: SplitResult, body: bytes, told: dict[str, str]) -> int:
    secure = parts.scheme == "https"
    host = (parts.hostname or "").encode("idna").decode("ascii")
    port = parts.port or (443 if secure else 80)
    reader, writer = await asyncio.open_connection(
        host, port, ssl=ssl.create_default_context() if secure else None, limit=_MAX_HEADER_BYTES
    )
    try:
        writer.write(_request(parts, host, body, told))
        await writer.drain()
        return await _status(reader)
    finally:
        # Not waiting for the other side's goodbye: the answer is in, or nobody wants it any more.
        writer.transport.abort()


def _request(parts: SplitResult, host: str, body: bytes, told: dict[str, str]) -> bytes:
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        target += "?" + quote(parts.query, safe="/?%:@!$&'()*+,;=~-._")
    shown_host = f"[{host}]" if ":" in host else host
    lines = [f"POST {target} HTTP/1.1", f"host: {shown_host}" + (f":{parts.port}" if parts.port else "")]
    lines += [f"{name}: {value}" for name, value in told.items()]
    lines += [f"content-length: {len(body)}", "connection: close", "", ""]
    return "\r\n".join(lines).encode("ascii") + body


async def _status(reader: asyncio.StreamReader) -> int:
    while True:
        head = await reader.readuntil(b"\n")
        found = _STATUS.match(head)
        if found is None:
            raise Undelivered("the server's answer is not HTTP/1.1")
        status = int(found[1])
        if status not in _INFORMATIONAL:
            return status
        while (await reader.readuntil(b"\n")).strip():  # the headers of an interim answer
            pass
