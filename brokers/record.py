"""The values that every layer passes: a record as read from the log, a record about to be published, a position.

Pure: no Django, no database. `Record` doubles as the msgpack shape of a stored record (see `codec`), which is why its
first five fields are in the stored order; the others are filled in when a batch is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

RAW = 0
"""`Record.encoding`: the value is bytes of the publisher's own."""
JSON = 1
"""`Record.encoding`: the value is JSON text, kept as the bytes that came in."""

_decode_json = msgspec.json.decode
_UNDECODED: Any = msgspec.UNSET


class Record(msgspec.Struct, array_like=True, gc=False, eq=False):
    """One record of a topic, as a consumer sees it.

    `timestamp` is in Unix milliseconds. `key_bytes` and `value_bytes` are exactly what was published; `key` and
    `value` are their decoded forms. A value of None is a tombstone.
    """

    timestamp: int
    key_bytes: bytes | None
    value_bytes: bytes | None
    encoding: int
    headers: dict[str, str]
    offset: int = -1
    partition: int = -1
    topic: str = ""
    attempt: int = 1
    _decoded: Any = msgspec.UNSET

    @property
    def key(self) -> str | None:
        """The key as text, or None.

        Raises UnicodeDecodeError when the key is not UTF-8; read `key_bytes` then.
        """
        return None if self.key_bytes is None else self.key_bytes.decode()

    @property
    def value(self) -> Any:
        """The decoded JSON value; bytes where the value was published as bytes; None for a tombstone."""
        if self.encoding != JSON or self.value_bytes is None:
            return self.value_bytes
        if self._decoded is _UNDECODED:
            self._decoded = _decode_json(self.value_bytes)
        return self._decoded

    def __repr__(self) -> str:
        return f"Record({self.topic}/{self.partition}@{self.offset}, key={self.key_bytes!r})"


class NewRecord(NamedTuple):
    """One record to publish whose key and value are bytes already; `publish_many` takes it beside mappings.

    `partition` None lets the topic's partitioner choose; `timestamp` None (Unix milliseconds) is the time of the
    append.
    """

    key: bytes | None
    value: bytes | None
    encoding: int = RAW
    headers: Mapping[str, str] | None = None
    partition: int | None = None
    timestamp: int | None = None


class Position(NamedTuple):
    """Where a record went. `offset` is None inside a transaction: the offset is given at its commit."""

    topic: str
    partition: int
    offset: int | None
