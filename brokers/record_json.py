"""A record as JSON text, the same on every surface: REST's answers, streams and the `consume` command.

JSON values are the very bytes that were published, pasted in without being parsed again.
"""

from __future__ import annotations

import base64

import msgspec

from brokers.record import JSON, Record

_encode_text = msgspec.json.Encoder().encode


def record_json(record: Record) -> bytes:
    """One record as a JSON object; bytes that are not JSON come as base64."""
    return b'{"partition":%d,"offset":%d,"timestamp":%d,%b,%b,"headers":%b}' % (
        record.partition,
        record.offset,
        record.timestamp,
        _key_json(record.key_bytes),
        _value_json(record),
        _encode_text(record.headers) if record.headers else b"{}",
    )


def _key_json(key: bytes | None) -> bytes:
    if key is None:
        return b'"key":null'
    try:
        return b'"key":' + _encode_text(key.decode())
    except UnicodeDecodeError:
        return b'"key_base64":"%b"' % base64.b64encode(key)


def _value_json(record: Record) -> bytes:
    value = record.value_bytes
    if value is None:
        return b'"value":null'
    if record.encoding == JSON:
        return b'"value":' + value
    return b'"value_base64":"%b"' % base64.b64encode(value)
