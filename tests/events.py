"""A reader of server-sent events for tests, written from WHATWG HTML, 9.2.6."""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Event(NamedTuple):
    """An event as an `EventSource` dispatches it."""

    name: str
    data: str
    last_id: str

    def json(self) -> Any:
        """The data, decoded."""
        return json.loads(self.data)


@dataclass
class EventReader:
    """Takes bytes as they come, and gives events; remembers what a browser would."""

    last_id: str = ""
    seen_id: str = ""
    """The last id whose event was complete: what a browser sends when it connects again."""
    retry: int | None = None
    comments: list[str] = field(default_factory=list)
    _text: str = ""
    _name: str = ""
    _data: list[str] = field(default_factory=list)
    _decoder: Any = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("strict"))

    def feed(self, received: bytes) -> list[Event]:
        """The events that these bytes complete."""
        self._text += self._decoder.decode(received)
        found = []
        while (line := self._line()) is not None:
            if line:
                self._field(line)
                continue
            self.seen_id = self.last_id
            if self._data:
                found.append(Event(self._name or "message", "\n".join(self._data), self.last_id))
            self._name, self._data = "", []
        return found

    def _line(self) -> str | None:
        ends = [self._text.find(mark) for mark in "\r\n"]
        at = min((end for end in ends if end >= 0), default=-1)
        if at < 0 or (self._text[at] == "\r" and at + 1 == len(self._text)):
            return None
        line = self._text[:at]
        self._text = self._text[at + (2 if self._text[at : at + 2] == "\r\n" else 1) :]
        return line

    def _field(self, line: str) -> None:
        if line.startswith(":"):
            self.comments.append(line[1:].strip())
            return
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self.last_id = value
        elif name == "retry" and value.isascii() and value.isdecimal():
            self.retry = int(value)


def parse(received: bytes) -> list[Event]:
    """All events of a whole stream."""
    return EventReader().feed(received)
