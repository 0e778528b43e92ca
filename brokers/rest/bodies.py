"""Reads a request's body: its media type is checked first, its length before and while it comes, its time throughout.

Called by `serving` alone. What the body means is not known here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from starlette.types import Receive

from brokers.errors import EmptyBody, TooLarge, UnsupportedMediaType, shown
from brokers.rest.problems import RequestTimeout
from brokers.settings import MAX_BODY_BYTES

BODY_SECONDS = 30.0
"""How long a request's body may take to arrive, to within the period of `BodyReader.end_late`."""


class Disconnected(Exception):
    """The caller went away before its body had arrived."""


def media_type(headers: Mapping[bytes, bytes], accepted: tuple[str, ...]) -> str:
    """The body's media type, one of `accepted`; raises `UnsupportedMediaType`."""
    text = headers.get(b"content-type", b"").decode("latin-1")
    if text == accepted[0] and b"content-encoding" not in headers:
        return text
    kind, _, parameters = text.partition(";")
    kind = kind.strip().lower()
    if kind not in accepted:
        named = shown(kind) if kind else "nothing"
        raise UnsupportedMediaType(f"Content-Type must be {' or '.join(accepted)}; it is {named}")
    for parameter in parameters.split(";"):
        name, _, value = parameter.strip().lower().partition("=")
        if name == "charset" and value.strip('"') not in ("utf-8", "utf8"):
            raise UnsupportedMediaType(f"the body must be UTF-8, not {shown(value)}")
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
    if encoding != "identity":
        raise UnsupportedMediaType(f"Content-Encoding {shown(encoding)} is not understood; send the body as it is")
    return kind


class BodyReader:
    """Reads bodies for the tasks of one event loop, and ends those that wait for too long.

    A timer for each request would cost more than all else here, so one look a second at who waits does instead.
    """

    def __init__(self, seconds: float = BODY_SECONDS) -> None:
        self._seconds = seconds
        self._waiting: dict[asyncio.Task[object], float] = {}
        self._late: set[asyncio.Task[object]] = set()

    def end_late(self) -> None:
        """Ends the waiting of those whose time is over; call it about once a second."""
        now = time.monotonic()
        for task, deadline in list(self._waiting.items()):
            if deadline > now:
                return  # those after it began later
            del self._waiting[task]
            self._late.add(task)
            task.cancel()

    async def read(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        """The whole body.

        Raises `TooLarge` before or while it comes, `RequestTimeout`, `EmptyBody` and `Disconnected`.
        """
        declared = headers.get(b"content-length", b"")
        if len(declared) > len(str(MAX_BODY_BYTES)) or (declared and int(declared) > MAX_BODY_BYTES):
            raise TooLarge(f"the body has {shown(declared.decode('latin-1'))} bytes; {MAX_BODY_BYTES} are allowed")
        task = asyncio.current_task()
        assert task is not None
        self._waiting[task] = time.monotonic() + self._seconds
        try:
            body = await _all_of(receive)
        except asyncio.CancelledError:
            if task not in self._late:
                raise
            task.uncancel()
            raise RequestTimeout(f"the body did not arrive within {self._seconds:.0f} seconds") from None
        finally:
            self._waiting.pop(task, None)
            self._late.discard(task)
        if not body:
            raise EmptyBody("a body is needed")
        return body


async def _all_of(receive: Receive) -> bytes:
    gathered = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part: bytes = message.get("body", b"")
        if len(gathered) + len(part) > MAX_BODY_BYTES:
            raise TooLarge(f"the body has more than {MAX_BODY_BYTES} bytes")
        if not message.get("more_body", False):
            return bytes(gathered + part) if gathered else part
        gathered += part
