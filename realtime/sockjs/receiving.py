"""The requests that bring frames to the client: polling, streaming, and the event stream of an `EventSource`.

A request waits in its own coroutine and writes what its session has; a second task sees the client go. A streaming
answer ends after so many bytes, since browsers keep all of it in memory, and the client asks again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from starlette.types import Receive, Send

from realtime import send_buffers
from realtime.sockjs import answers
from realtime.sockjs.session import HttpSession, Receiver

HEART_BEAT_SECONDS: Final = 25.0
"""How long nothing may go out, lest a proxy take the request for dead (sockjs-protocol, Protocol)."""
RESPONSE_BYTES: Final = 128 * 1024
"""After so much a streaming answer ends, framing counted."""


def _line(frame: bytes) -> bytes:
    return frame + b"\n"


def _event(frame: bytes) -> bytes:
    """sockjs-client undoes %-escapes of what its EventSource brings."""
    return b"data: %b\r\n\r\n" % frame.replace(b"%", b"%25")


@dataclass(frozen=True, slots=True)
class Style:
    """What a receiving transport's answers look like."""

    kind: str
    """Of the connection, for people."""
    method: str
    content_type: bytes
    written: Callable[[bytes], bytes]
    """A frame as it is written."""
    prelude: bytes = b""
    streams: bool = True
    """Whether an answer brings more than one frame."""


STYLES: Final = {
    "xhr": Style("sockjs-xhr-polling", "POST", answers.JAVASCRIPT, _line, streams=False),
    "xhr_streaming": Style("sockjs-xhr-streaming", "POST", answers.JAVASCRIPT, _line, b"h" * 2048 + b"\n"),
    "eventsource": Style("sockjs-eventsource", "GET", b"text/event-stream; charset=UTF-8", _event, b"\r\n"),
}


async def deliver(
    session: HttpSession,
    style: Style,
    headers: answers.Headers,
    receive: Receive,
    send: Send,
    *,
    limit: int = RESPONSE_BYTES,
) -> None:
    """Answers one receiving request with what the session has, or will have."""
    raw = transport_of(send)
    receiver = Receiver(style.kind, raw.abort if raw is not None else None)
    refusal = session.attach(receiver)
    if refusal is not None:
        await answers.answer(send, 200, headers, style.prelude + style.written(refusal), style.content_type)
        return
    try:
        async with _watched(session, receiver, receive):
            if style.streams:
                send_buffers.bound(raw)
                await _stream(session, receiver, style, headers, send, limit)
            else:
                frame = await session.next_frame(HEART_BEAT_SECONDS)
                receiver.is_ending = True
                await answers.answer(send, 200, headers, style.written(frame), style.content_type)
        session.detach(receiver)
    except (OSError, RuntimeError):  # servers say in one of these ways that the client has gone
        return
    finally:
        session.interrupt(receiver)


async def _stream(
    session: HttpSession, receiver: Receiver, style: Style, headers: answers.Headers, send: Send, limit: int
) -> None:
    started = [*headers, (b"content-type", style.content_type), (b"x-accel-buffering", b"no")]
    await send({"type": "http.response.start", "status": 200, "headers": started})
    await send({"type": "http.response.body", "body": style.prelude, "more_body": True})
    left = limit
    while True:
        frame = await session.next_frame(HEART_BEAT_SECONDS)
        written = style.written(frame)
        left -= len(written)
        more = left > 0 and not session.is_last(frame)
        receiver.is_ending = not more
        await send({"type": "http.response.body", "body": written, "more_body": more})
        if not more:
            return


@asynccontextmanager
async def _watched(session: HttpSession, receiver: Receiver, receive: Receive) -> AsyncIterator[None]:
    """Interrupts the session when its client goes."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            continue
        session.interrupt(receiver)

    watching = asyncio.create_task(watch(), name="waystation-sockjs-receiver")
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def transport_of(send: Send) -> asyncio.Transport | None:
    """The server's connection to the client, where `send` is uvicorn's or another process's: it can be cut off."""
    return getattr(getattr(send, "__self__", None), "transport", None)
