"""From bytes to frames: incremental, within limits, and the same frames however the bytes were cut. Pure.

The session feeds it what comes in. Rules: STOMP 1.0, 1.1 and 1.2; where they leave a choice, `docs/stomp.md` says what
was chosen.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from brokers.errors import shown
from realtime.errors import FrameTooLarge, ProtocolError
from realtime.stomp.frame import CLIENT_COMMANDS, WITH_BODY, Frame


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a frame may be, in bytes."""

    head: int = 32 * 1024
    """The command and all headers."""
    body: int = 1024 * 1024
    line: int = 4096
    """One header."""
    headers: int = 64


BEFORE_LOGIN: Final = Limits(head=16 * 1024, body=16 * 1024)
AFTER_LOGIN: Final = Limits()

_BETWEEN: Final = re.compile(rb"(?:\r?\n|\0)*")
"""Ends of lines after a frame, which are heart-beats too; stray NULs are skipped as RabbitMQ does."""
_HEAD_END: Final = re.compile(rb"\n\r?\n|\0")
_LENGTH: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_ESCAPES: Final = re.compile(r"\\(.?)", re.DOTALL)
_PLAIN: Final = {"\\": "\\", "c": ":", "n": "\n", "r": "\r"}
_DEFINED: Final = {"1.0": frozenset[str](), "1.1": frozenset("\\cn"), "1.2": frozenset("\\cnr")}


class Decoder:
    """Decodes one peer's bytes. It keeps no more than one unfinished frame within its limits and what was fed last."""

    def __init__(self, limits: Limits = AFTER_LOGIN, *, commands: frozenset[str] = CLIENT_COMMANDS) -> None:
        self.limits = limits
        """May be changed between two frames."""
        self.version = "1.2"
        """What headers are unescaped by; may be changed between two frames."""
        self.receipt: str | None = None
        """The receipt that the frame asks for which `feed` has raised an error about, if that could be read."""
        self._commands = commands
        self._buffer = bytearray()
        self._searched = 0
        self._frame: Frame | None = None
        self._length: int | None = None

    @property
    def buffered(self) -> int:
        """Bytes of the unfinished frame."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that end in these bytes, each decoded when it is asked for.

        Raises: ProtocolError (`malformed_frame`, `malformed_header`, `unknown_command`, `frame_too_large`) after the
        frames before it; the decoder cannot go on then.
        """
        buffer = self._buffer
        buffer += data
        position = 0
        try:
            while True:
                if self._frame is None:
                    start = self._skip(position)
                    if start != position:
                        position = start
                        self._searched = 0
                    head = self._head_end(position)
                    if head is None:
                        return
                    self._frame = self._head(buffer[position : head.start()])
                    position = head.end()
                    self._searched = 0
                end = self._body_end(self._frame, position)
                if end is None:
                    return
                frame, self._frame = self._frame, None
                if end > position:
                    frame.body = bytes(buffer[position:end])
                position = end + 1
                self._searched = 0
                yield frame
        finally:
            if position:
                del buffer[:position]

    def _skip(self, position: int) -> int:
        """Where the next frame begins."""
        found = _BETWEEN.match(self._buffer, position)
        assert found is not None  # it matches nothing, too
        return found.end()

    def _head_end(self, position: int) -> re.Match[bytes] | None:
        buffer, limit = self._buffer, self.limits.head
        self.receipt = None
        found = _HEAD_END.search(buffer, max(position, position + self._searched - 2))
        if found is None:
            self._searched = len(buffer) - position
            if self._searched - 2 > limit:
                raise FrameTooLarge(f"the headers of a frame have more than {limit} bytes")
            return None
        if found.start() - position > limit:
            raise FrameTooLarge(f"the headers of a frame have more than {limit} bytes")
        if buffer[found.start()] == 0:
            raise ProtocolError("a NUL before the blank line that ends the headers", "malformed_frame")
        return found

    def _head(self, head: bytearray) -> Frame:
        """The frame so far; decides how its body ends."""
        first, *lines = [line.removesuffix(b"\r") for line in head.split(b"\n")]
        if len(lines) > self.limits.headers:
            raise ProtocolError(f"a frame has more than {self.limits.headers} headers", "too_many_headers")
        command = first.decode("latin-1")
        if command not in self._commands:
            raise ProtocolError(f"{shown(command)} is not a command of a client", "unknown_command")
        frame = Frame(command)
        headers = frame.headers
        for line in lines:
            name, value = self._header(command, line)
            headers.setdefault(name, value)
            if name == "receipt":
                self.receipt = headers[name]
        self._length = self._content_length(frame)
        return frame

    def _header(self, command: str, line: bytearray) -> tuple[str, str]:
        if len(line) > self.limits.line:
            raise ProtocolError(f"a header has more than {self.limits.line} bytes", "malformed_header")
        if b"\r" in line:
            raise ProtocolError("a carriage return in a header is not followed by a line feed", "malformed_header")
        try:
            name, colon, value = line.decode().partition(":")
        except UnicodeDecodeError as error:
            raise ProtocolError("a header is not UTF-8", "malformed_header") from error
        if not colon or not name:
            raise ProtocolError(
                f"{shown(name)} is not a header: it needs a name, a colon and a value", "malformed_header"
            )
        if self.version == "1.0":
            return name, value.lstrip(" ")
        if "\\" in name:
            name = self._unescaped(command, name)
        if "\\" in value:
            value = self._unescaped(command, value)
        return name, value

    def _unescaped(self, command: str, text: str) -> str:
        if command in ("CONNECT", "CONNECTED"):
            return text
        defined = _DEFINED[self.version]

        def plain(found: re.Match[str]) -> str:
            if found[1] and found[1] in defined:
                return _PLAIN[found[1]]
            if command == "STOMP":  # some clients escape it, and some do not
                return found[0]
            raise ProtocolError(f"{shown(found[0])} is no escape of STOMP {self.version}", "malformed_header")

        return _ESCAPES.sub(plain, text)

    def _content_length(self, frame: Frame) -> int | None:
        given = frame.headers.get("content-length")
        if given is None:
            return None
        if not _LENGTH.fullmatch(given):
            raise ProtocolError(f"content-length {shown(given)} is not a number of bytes", "malformed_frame")
        length = int(given)
        if length and frame.command not in WITH_BODY:
            raise ProtocolError(f"a frame {frame.command} has no body", "malformed_frame")
        if length > self.limits.body:
            raise FrameTooLarge(f"a body of {length} bytes; {self.limits.body} are allowed")
        return length

    def _body_end(self, frame: Frame, position: int) -> int | None:
        """Where the NUL is that ends the frame; None while it has not come."""
        buffer, length = self._buffer, self._length
        if length is None and frame.command not in WITH_BODY:
            length = 0
        if length is None:
            return self._nul(position)
        end = position + length
        if end >= len(buffer):
            return None
        if buffer[end] != 0:
            what = "a body" if length or frame.command in WITH_BODY else f"a frame {frame.command}, which has no body,"
            raise ProtocolError(f"{what} is not followed by a NUL", "malformed_frame")
        return end

    def _nul(self, position: int) -> int | None:
        buffer, limit = self._buffer, self.limits.body
        end = buffer.find(0, position + self._searched)
        size = (len(buffer) if end < 0 else end) - position
        if size > limit:
            raise FrameTooLarge(f"a body of more than {limit} bytes")
        if end < 0:
            self._searched = size
            return None
        return end
