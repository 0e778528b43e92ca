"""The last frames of one connection, and how it kept up, for an operator who watches it.

`connection_details` gives a recorder to a connection for as long as somebody looks; all others cost one test of an
attribute at each write. While it records, a write costs a reference to what was written, and what that means is found
out once a second. What it keeps is bounded by `MOST_FRAMES`, `MOST_RAW_BYTES` and `MOST_SAMPLES`. Secrets are masked
here, so that none leaves the process.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from realtime import recorded_frames
from realtime.recorded_frames import SHOWN_BYTES, RawFrame
from realtime.stomp.frame import Frame

if TYPE_CHECKING:
    from realtime.connections import Connection

MOST_FRAMES: Final = 50
MOST_RAW_BYTES: Final = 256 * 1024
"""Of what was written since the last report, about: the newest is kept whatever its size, but for what is cut."""
CUT_BYTES: Final = 64 * 1024
"""What is kept of one write that is larger."""
MOST_SAMPLES: Final = 121
"""One each second: two minutes."""
MOST_HEADERS: Final = 24
MOST_CHARACTERS: Final = 300
"""Of the value of one header."""


class FrameReport(msgspec.Struct, frozen=True):
    """One frame that came or went, without its secrets."""

    number: int
    """Counts the frames of this recording that were kept."""
    is_sent: bool
    """To the client; else it came from there."""
    command: str
    """Of a stream the event's name."""
    at: float
    """Seconds since 1970; frames that were written together have one time."""
    size: int
    """Bytes of the body."""
    destination: str | None
    subscribed: str | None
    """What the subscription named by the frame is subscribed to; of a stream what it streams."""
    headers: dict[str, str]
    """But for those beyond `MOST_HEADERS`; values are cut, and `MASKED` where they are secret."""
    more_headers: int
    body: bytes
    """Its first bytes."""


class Sample(msgspec.Struct, frozen=True):
    """How the connection stood at one second."""

    at: float
    """Seconds since 1970."""
    buffered: int
    """Most bytes that waited for the client during the second before."""
    dropped: int
    """Messages dropped since the connection began; `sent` and `received` likewise."""
    sent: int
    received: int


class _Noted(NamedTuple):
    """What came or went, not yet looked at."""

    at: float
    raw: bytes | RawFrame
    """As the transport wrapped it, or a frame of the client's."""
    missing: int
    """Bytes that were cut off."""


class FrameRecorder:
    """Records one connection, on its event loop."""

    __slots__ = ("_connection", "_frames", "_number", "_peak", "_raw", "_raw_bytes", "_samples")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._raw: deque[_Noted] = deque(maxlen=MOST_FRAMES)
        self._raw_bytes = 0
        self._frames: deque[FrameReport] = deque(maxlen=MOST_FRAMES)
        self._samples: deque[Sample] = deque(maxlen=MOST_SAMPLES)
        self._number = 0
        self._peak = 0

    def sent(self, wrapped: bytes) -> None:
        """Notes what is written, as the transport wrapped it: any number of frames, or a heart-beat."""
        self._peak = max(self._peak, self._connection.transport.buffered())
        missing = max(0, len(wrapped) - CUT_BYTES)
        self._note(wrapped[:CUT_BYTES] if missing else wrapped, missing)

    def received(self, frame: Frame) -> None:
        """Notes a frame of the client's."""
        self._note(RawFrame(frame.command, frame.headers, frame.body[:SHOWN_BYTES], len(frame.body)), 0)

    def _note(self, raw: bytes | RawFrame, missing: int) -> None:
        size = _size(raw)
        while self._raw and (len(self._raw) == MOST_FRAMES or self._raw_bytes + size > MOST_RAW_BYTES):
            self._raw_bytes -= _size(self._raw.popleft().raw)
        self._raw.append(_Noted(time.time(), raw, missing))
        self._raw_bytes += size

    def look(self) -> bool:
        """Takes a sample, and finds out what was noted since the last time; whether that was anything."""
        connection = self._connection
        buffered = connection.transport.buffered()
        self._samples.append(
            Sample(time.time(), max(self._peak, buffered), connection.dropped, connection.sent, connection.received)
        )
        self._peak = buffered
        noted, before = list(self._raw), self._number
        self._raw.clear()
        self._raw_bytes = 0
        for each in noted:
            is_sent = not isinstance(each.raw, RawFrame)
            for frame in self._read(each):
                self._number += 1
                self._frames.append(self._report(frame, each.at, is_sent))
        return self._number > before

    def _read(self, noted: _Noted) -> list[RawFrame]:
        if isinstance(noted.raw, RawFrame):
            return [noted.raw]
        found = recorded_frames.read(noted.raw, self._connection.protocol, most=MOST_FRAMES)
        if found and noted.missing and self._connection.protocol == "sse":  # STOMP's say how long they are
            found[-1] = found[-1]._replace(size=found[-1].size + noted.missing - len(b"\n\n"))
        return found

    def _report(self, frame: RawFrame, at: float, is_sent: bool) -> FrameReport:
        headers = dict(list(frame.headers.items())[:MOST_HEADERS])
        return FrameReport(
            number=self._number,
            is_sent=is_sent,
            command=frame.command,
            at=at,
            size=frame.size,
            destination=frame.headers.get("destination"),
            subscribed=self._subscribed(frame),
            headers={name[:MOST_CHARACTERS]: _value(name, text) for name, text in headers.items()},
            more_headers=len(frame.headers) - len(headers),
            body=frame.body,
        )

    def _subscribed(self, frame: RawFrame) -> str | None:
        subscriptions = self._connection.subscriptions
        if self._connection.protocol == "sse":
            return next(iter(subscriptions.values()), None)
        return subscriptions.get(frame.headers.get("subscription", ""))

    @property
    def frames(self) -> list[FrameReport]:
        """The last ones up to the last `look`, oldest first."""
        return list(self._frames)

    @property
    def samples(self) -> list[Sample]:
        """One of each `look`, oldest first."""
        return list(self._samples)


def _size(raw: bytes | RawFrame) -> int:
    return len(raw.body) if isinstance(raw, RawFrame) else len(raw)


def _value(name: str, text: str) -> str:
    return recorded_frames.MASKED if recorded_frames.is_secret(name) else text[:MOST_CHARACTERS]
