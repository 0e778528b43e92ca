"""From Python values to rows of the log: what may be published, checked where it enters.

Called by `publishing` for Python code and by the surfaces for single fields. Each error says which value is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from brokers import strict_json
from brokers.codec import Row
from brokers.errors import InvalidType, InvalidValue, JsonTooDeep, UnencodableValue, UnknownField, shown
from brokers.outgoing import Outgoing
from brokers.record import JSON, RAW, NewRecord
from brokers.settings import MAX_HEADER_BYTES, MAX_HEADERS, MAX_KEY_BYTES, MAX_TIMESTAMP_MS


def _plain(value: Any) -> Any:
    """What msgspec does not know by itself: text of a class of its own, as Django's SafeString, and other mappings."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__qualname__} has none")


_encode_json = msgspec.json.Encoder(enc_hook=_plain).encode
_FIELDS = frozenset({"value", "key", "headers", "partition", "timestamp"})
_ENCODINGS = (RAW, JSON)
_SHALLOW_BYTES = 2 * strict_json.MAX_DEPTH
"""A shorter text cannot be nested too deeply."""
NO_HEADERS: Mapping[str, str] = {}


def outgoing(records: Iterable[Mapping[str, Any] | NewRecord]) -> Outgoing:
    """Records ready for `plan`; raises `InvalidValue` or `UnencodableValue` with the index of the wrong one."""
    rows: list[Row] = []
    others: dict[int, tuple[int | None, int | None]] = {}
    add = rows.append
    for record in records:
        try:
            if type(record) is NewRecord:
                key, value, encoding, headers, number, stamp = record
                if headers is None and number is None and stamp is None and type(key) is bytes:
                    if len(key) > MAX_KEY_BYTES:
                        key_bytes(key)
                    if type(value) is not bytes or encoding not in _ENCODINGS:
                        _check_encoded(record)
                    add((0, key, value, encoding, NO_HEADERS))
                    continue
            elif type(record) is dict and "value" in record and len(record) == (2 if "key" in record else 1):
                value = record["value"]
                key = record.get("key")
                if type(key) is str:
                    key = key.encode()
                    if len(key) > MAX_KEY_BYTES:
                        key_bytes(key)
                elif key is not None:
                    key = key_bytes(key)
                kind = type(value)
                if kind is bytes:
                    add((0, key, value, RAW, NO_HEADERS))
                elif kind is dict or kind is str or kind is int or kind is list:
                    add((0, key, encode_json(value), JSON, NO_HEADERS))
                else:
                    add((0, key, *value_bytes(value), NO_HEADERS))
                continue
            row, partition = _row(record)
            if partition is not None or row[0] is not None:
                others[len(rows)] = (partition, row[0])
            add((0, *row[1:]))
        except (InvalidValue, KeyError, UnicodeEncodeError, UnencodableValue) as error:
            raise _located(error, len(rows)) from error
    return _with_others(rows, others) if others else Outgoing(rows)


def _with_others(rows: list[Row], others: dict[int, tuple[int | None, int | None]]) -> Outgoing:
    """Adds partitions and timestamps where records brought any."""
    partitions: list[int | None] | None = None
    if any(partition is not None for partition, _ in others.values()):
        partitions = [None] * len(rows)
        for index, (partition, _) in others.items():
            partitions[index] = partition
    stamped = any(stamp is not None for _, stamp in others.values())
    if stamped:
        nothing: tuple[int | None, int | None] = (None, None)
        rows = [(others.get(index, nothing)[1], *row[1:]) for index, row in enumerate(rows)]
    return Outgoing(rows, partitions, stamped)


def _row(record: Mapping[str, Any] | NewRecord) -> tuple[Row, int | None]:
    if isinstance(record, NewRecord):
        headers = checked_headers(record.headers)
        _check_encoded(record)
        row = (
            checked_timestamp(record.timestamp),
            key_bytes(record.key),
            record.value,
            record.encoding,
            headers,
        )
        return row, _checked_partition(record.partition)
    if not isinstance(record, Mapping):
        raise InvalidType(f"a record is a mapping with a value, not {shown(record)}")
    if not record.keys() <= _FIELDS:
        unknown = min(map(str, record.keys() - _FIELDS))
        raise UnknownField(f"a record has no field {shown(unknown)}; it has {', '.join(sorted(_FIELDS))}")
    return one_row(record["value"], record.get("key"), record.get("headers"), record.get("timestamp")), (
        _checked_partition(record.get("partition"))
    )


def _check_encoded(record: NewRecord) -> None:
    """What nobody could read back must not be stored."""
    if record.value is not None and type(record.value) is not bytes:
        raise InvalidType(f"the value of a NewRecord is bytes, not {shown(record.value)}", pointer="/value")
    if type(record.encoding) is not int or record.encoding not in _ENCODINGS:
        raise InvalidValue(f"an encoding is RAW or JSON, not {shown(record.encoding)}", pointer="/encoding")


def _located(error: Exception, index: int) -> InvalidValue | UnencodableValue:
    if isinstance(error, KeyError):
        error = InvalidValue("a record needs a value; None makes it a tombstone", pointer="/value")
    elif isinstance(error, UnicodeEncodeError):
        error = InvalidValue("the key holds half of a surrogate pair", pointer="/key")
    elif isinstance(error, UnencodableValue):
        return UnencodableValue(f"record {index}: {error.detail}")
    assert isinstance(error, InvalidValue)
    return type(error)(
        f"record {index}: {error.detail}",
        errors=[(f"/{index}{pointer}", detail) for pointer, detail in error.errors],
    )


def single(
    value: Any,
    key: str | bytes | None,
    headers: Mapping[str, str] | None,
    partition: int | None,
    timestamp: int | None,
) -> Outgoing:
    """One record ready for `plan`."""
    row = one_row(value, key, headers, timestamp)
    number = _checked_partition(partition)
    if timestamp is None:
        row = (0, *row[1:])
    return Outgoing([row], None if number is None else [number], timestamp is not None)


def one_row(value: Any, key: str | bytes | None, headers: Mapping[str, str] | None, timestamp: int | None) -> Row:
    """One record as a row, its own timestamp or None in front."""
    return (checked_timestamp(timestamp), key_bytes(key), *value_bytes(value), checked_headers(headers))


def value_bytes(value: Any) -> tuple[bytes | None, int]:
    """Bytes and encoding of a value: bytes as they are, None as a tombstone, anything else as JSON."""
    if value is None:
        return None, RAW
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value), RAW
    return encode_json(value), JSON


def key_bytes(key: str | bytes | None) -> bytes | None:
    """A key's bytes; raises `InvalidValue` for one that is no text or bytes, or longer than 8 KiB."""
    if isinstance(key, str):
        try:
            key = key.encode()
        except UnicodeEncodeError as error:
            raise InvalidValue(f"the key {shown(key)} holds half of a surrogate pair", pointer="/key") from error
    elif key is not None and not isinstance(key, bytes):
        raise InvalidType(f"a key is text or bytes, not {shown(key)}", pointer="/key")
    if key is not None and len(key) > MAX_KEY_BYTES:
        raise InvalidValue(f"the key has {len(key)} bytes; {MAX_KEY_BYTES} are allowed", pointer="/key")
    return None if key is None else bytes(key)


def checked_headers(headers: Mapping[str, str] | None) -> Mapping[str, str]:
    """The headers, within their limits: 64 of them, 16 KiB together, names and values text."""
    if not headers:
        return NO_HEADERS
    if not isinstance(headers, Mapping):
        raise InvalidType(f"headers are a mapping of text to text, not {shown(headers)}", pointer="/headers")
    if len(headers) > MAX_HEADERS:
        raise InvalidValue(f"{len(headers)} headers are more than {MAX_HEADERS}", pointer="/headers")
    size = 0
    exact = type(headers) is dict
    for name, text in headers.items():
        if not isinstance(name, str) or not isinstance(text, str):
            raise InvalidType(f"header {shown(name)} and its value must be text", pointer="/headers")
        try:
            size += len(name.encode()) + len(text.encode())
        except UnicodeEncodeError as error:
            raise InvalidValue(f"header {shown(name)} holds half of a surrogate pair", pointer="/headers") from error
        exact = exact and type(name) is type(text) is str
    if size > MAX_HEADER_BYTES:
        raise InvalidValue(f"the headers have {size} bytes; {MAX_HEADER_BYTES} are allowed", pointer="/headers")
    return headers if exact else {str.__str__(name): str.__str__(text) for name, text in headers.items()}


def checked_timestamp(timestamp: int | None) -> int | None:
    """The timestamp, if it is one between 1970 and 9999."""
    if timestamp is None:
        return None
    if not isinstance(timestamp, int) or isinstance(timestamp, bool):
        raise InvalidType(f"a timestamp is an integer of milliseconds, not {shown(timestamp)}", pointer="/timestamp")
    if not 0 <= timestamp <= MAX_TIMESTAMP_MS:
        raise InvalidValue(f"{timestamp} is no instant between 1970 and 9999 in ms", pointer="/timestamp")
    return timestamp


def _checked_partition(partition: int | None) -> int | None:
    if partition is not None and (not isinstance(partition, int) or isinstance(partition, bool)):
        raise InvalidType(f"a partition is an integer, not {shown(partition)}", pointer="/partition")
    return partition


def encode_json(value: Any) -> bytes:
    """The JSON text of a Python value; raises `UnencodableValue` where it has none (NaN, a lone surrogate, a cycle)."""
    try:
        text = _encode_json(value)
    except (TypeError, ValueError, OverflowError, RecursionError, UnicodeEncodeError) as error:
        raise UnencodableValue(f"the value has no JSON form: {error}") from error
    if b"null" in text and _has_no_number(msgspec.to_builtins(value, enc_hook=_plain)):
        raise UnencodableValue("the value has no JSON form: it holds NaN or an infinity")
    if len(text) > _SHALLOW_BYTES and text.count(b"{") + text.count(b"[") > strict_json.MAX_DEPTH:
        try:
            strict_json.check_depth(text)
        except JsonTooDeep as error:
            raise UnencodableValue(f"the value cannot be published: {error.detail}") from error
    return text


def _has_no_number(value: Any) -> bool:
    """Whether a float in the value is not finite: msgspec would write null for it."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_no_number, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_no_number, value))
    return False
