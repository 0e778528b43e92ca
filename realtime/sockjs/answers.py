"""HTTP answers of SockJS: what may be cached, who may read them, and what pages are told before they ask.

A page of an allowed origin gets its own origin back, never `*` with credentials; whoever sends no Origin is no page,
and is told `*` as the protocol wants it. Pages from elsewhere are refused.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from email.utils import formatdate
from time import time
from typing import Final

from starlette.types import Scope, Send

from realtime import origins

Headers = list[tuple[bytes, bytes]]

JAVASCRIPT: Final = b"application/javascript; charset=UTF-8"
TEXT: Final = b"text/plain; charset=UTF-8"
JSON: Final = b"application/json; charset=UTF-8"
NOT_CACHED: Final = (b"cache-control", b"no-store, no-cache, no-transform, must-revalidate, max-age=0")
GREETING: Final = b"Welcome to SockJS!\n"
_YEAR: Final = 31_536_000


async def answer(
    send: Send, status: int, headers: Sequence[tuple[bytes, bytes]] = (), body: bytes = b"", kind: bytes = b""
) -> None:
    """A whole answer."""
    written = [*headers, (b"content-type", kind)] if kind else [*headers]
    if status != 204:
        written.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": written})
    await send({"type": "http.response.body", "body": body})


def readable(scope: Scope) -> Headers:
    """The headers of every answer that is about a session, once its origin was found to be allowed."""
    return [NOT_CACHED, *_cross_origin(scope)]


def _cross_origin(scope: Scope) -> Headers:
    return origins.cross_origin(scope["headers"]) or [(b"access-control-allow-origin", b"*"), (b"vary", b"Origin")]


async def preflight(scope: Scope, send: Send, method: str) -> None:
    """What a page may do with the URL (Fetch, CORS-preflight request); it may remember that for a year."""
    headers = [
        (b"cache-control", b"public, max-age=%d" % _YEAR),
        (b"expires", formatdate(time() + _YEAR, usegmt=True).encode()),
        (b"access-control-max-age", b"%d" % _YEAR),
        (b"access-control-allow-methods", f"OPTIONS, {method}".encode()),
        *_cross_origin(scope),
    ]
    asked = origins.header(scope["headers"], b"access-control-request-headers")
    if asked:
        headers.append((b"access-control-allow-headers", asked.encode("latin-1")))
    await answer(send, 204, headers)


async def not_allowed(send: Send, allow: str) -> None:
    """405: the URL has other methods."""
    await answer(send, 405, [(b"allow", allow.encode())])


async def info(scope: Scope, send: Send) -> None:
    """What a client asks first: whether there are WebSockets, and for random bits (sockjs-protocol, Info)."""
    known = {"websocket": True, "origins": ["*:*"], "cookie_needed": False, "entropy": secrets.randbits(32)}
    await answer(send, 200, readable(scope), json.dumps(known).encode(), JSON)


async def greeting(scope: Scope, send: Send) -> None:
    """What SockJS servers say to whoever looks (sockjs-protocol, base URL greeting)."""
    if scope["method"] in ("GET", "HEAD"):
        await answer(send, 200, (), GREETING if scope["method"] == "GET" else b"", TEXT)
    else:
        await not_allowed(send, "GET, HEAD")
