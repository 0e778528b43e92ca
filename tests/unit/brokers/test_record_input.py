"""Values of Python on their way into the log: what is taken, how it is encoded, and what is refused and where."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import types
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from django.utils.safestring import mark_safe
from hypothesis import given
from hypothesis import strategies as st

from brokers import record_input
from brokers.errors import InvalidType, InvalidValue, UnencodableValue, UnknownField
from brokers.record import JSON, RAW, NewRecord

texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@dataclasses.dataclass
class Reading:
    celsius: float


class Colour(enum.Enum):
    RED = "red"


@given(json_values.filter(lambda value: value is not None))
def test_a_json_value_comes_back_equal(value: Any) -> None:
    encoded, encoding = record_input.value_bytes(value)
    assert encoded is not None
    assert encoding == JSON
    assert msgspec.json.decode(encoded) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (decimal.Decimal("1.10"), b'"1.10"'),
        (dt.datetime(2013, 1, 1, 5, 15, tzinfo=dt.UTC), b'"2013-01-01T05:15:00Z"'),
        (dt.datetime(2013, 1, 1, 5, 15), b'"2013-01-01T05:15:00"'),  # noqa: DTZ001 - naive on purpose
        (dt.date(2013, 1, 1), b'"2013-01-01"'),
        (dt.timedelta(seconds=90), b'"PT90S"'),
        (uuid.UUID(int=1), b'"00000000-0000-0000-0000-000000000001"'),
        (Colour.RED, b'"red"'),
        (Reading(1.5), b'{"celsius":1.5}'),
        ((1, 2), b"[1,2]"),
        ({1: "a", 2.5: "b"}, b'{"1":"a","2.5":"b"}'),
        ([b"\x00\xff"], b'["AP8="]'),
        (mark_safe("<b>"), b'"<b>"'),
        (types.MappingProxyType({"a": [mark_safe("x")]}), b'{"a":["x"]}'),
        (2**64 - 1, b"18446744073709551615"),
        ("\x00", b'"\\u0000"'),
    ],
)
def test_how_other_python_values_are_written(value: Any, text: bytes) -> None:
    assert record_input.value_bytes(value) == (text, JSON)


@pytest.mark.parametrize("value", [b"\x00", bytearray(b"\x00"), memoryview(b"\x00"), memoryview(b"\x00x")[::2]])
def test_bytes_of_any_kind_are_kept_as_they_are(value: Any) -> None:
    encoded, encoding = record_input.value_bytes(value)
    assert type(encoded) is bytes
    assert (encoded, encoding) == (b"\x00", RAW)


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "make",
    [
        lambda: float("nan"),
        lambda: [1, {"a": float("inf")}],
        lambda: {"null": None, "deep": [[-float("inf")]]},
        lambda: Reading(float("nan")),
        lambda: [Reading(float("inf"))],
        lambda: types.MappingProxyType({"a": float("nan")}),
        lambda: "\ud800",
        lambda: {"\udfff": 1},
        lambda: {None: 1},
        lambda: {(1, 2): 1},
        object,
        cyclic,
        lambda: nested(65),
        lambda: nested(100_000),
    ],
)
def test_what_has_no_json_form_is_refused(make: Any) -> None:
    with pytest.raises(UnencodableValue):
        record_input.value_bytes(make())
    with pytest.raises(UnencodableValue, match="record 1"):
        record_input.outgoing([{"value": 1}, {"value": make()}])


def test_null_in_a_text_is_no_reason_to_refuse() -> None:
    assert record_input.value_bytes({"a": None, "b": "null", "c": 1.5})[1] == JSON


def test_the_deepest_value_allowed_is_taken() -> None:
    assert record_input.value_bytes(nested(64))[1] == JSON


@pytest.mark.parametrize(
    ("record", "error", "pointer"),
    [
        ({}, InvalidValue, "/1/value"),
        ({"key": "k"}, InvalidValue, "/1/value"),
        ({"value": 1, "colour": 2, "size": 3}, UnknownField, "/1"),
        ("text", InvalidType, "/1"),
        (None, InvalidType, "/1"),
        ({"value": 1, "key": 7}, InvalidType, "/1/key"),
        ({"value": 1, "key": bytearray(b"k")}, InvalidType, "/1/key"),
        ({"value": 1, "key": "\ud800"}, InvalidValue, "/1/key"),
        ({"value": 1, "key": "ü" * 4097}, InvalidValue, "/1/key"),
        ({"value": 1, "headers": [("a", "b")]}, InvalidType, "/1/headers"),
        ({"value": 1, "headers": {"a": 1}}, InvalidType, "/1/headers"),
        ({"value": 1, "headers": {1: "a"}}, InvalidType, "/1/headers"),
        ({"value": 1, "headers": {"a": "\ud800"}}, InvalidValue, "/1/headers"),
        ({"value": 1, "headers": {str(n): "" for n in range(65)}}, InvalidValue, "/1/headers"),
        ({"value": 1, "headers": {"a": "x" * 16384}}, InvalidValue, "/1/headers"),
        ({"value": 1, "partition": "0"}, InvalidType, "/1/partition"),
        ({"value": 1, "partition": True}, InvalidType, "/1/partition"),
        ({"value": 1, "timestamp": 1.5}, InvalidType, "/1/timestamp"),
        ({"value": 1, "timestamp": -1}, InvalidValue, "/1/timestamp"),
        ({"value": 1, "timestamp": 253_402_300_800_000}, InvalidValue, "/1/timestamp"),
        (NewRecord(b"k", "text"), InvalidType, "/1/value"),  # type: ignore[arg-type]
        (NewRecord(b"k", b"v", 2), InvalidValue, "/1/encoding"),
        (NewRecord(b"k", b"v", headers={"a": "b"}, encoding=9), InvalidValue, "/1/encoding"),
        (NewRecord(None, 5), InvalidType, "/1/value"),  # type: ignore[arg-type]
        (NewRecord(bytes(8193), b"v"), InvalidValue, "/1/key"),
    ],
)
def test_a_wrong_record_is_named_with_its_place(record: Any, error: type[InvalidValue], pointer: str) -> None:
    with pytest.raises(error) as caught:
        record_input.outgoing([{"value": 0}, record])
    assert [where for where, _ in caught.value.errors] == [pointer]
    assert "record 1" in caught.value.detail


def test_headers_of_other_mappings_and_text_classes_become_plain() -> None:
    headers: Mapping[str, str] = types.MappingProxyType({str(mark_safe("h")): mark_safe("v")})
    row = record_input.one_row(1, None, headers, None)
    assert type(row[4]) is dict
    assert {(type(name), type(text)) for name, text in row[4].items()} == {(str, str)}


def test_keys_are_text_in_utf_8_or_bytes() -> None:
    made = record_input.outgoing(
        [
            {"value": 1, "key": "ü"},
            {"value": 1, "key": b"\xff"},
            {"value": 1, "key": mark_safe("k")},
            NewRecord(b"n", None),
            NewRecord(None, b"x", headers={"a": "b"}, partition=2, timestamp=5),
        ]
    )
    assert [row[1] for row in made.rows] == [b"\xc3\xbc", b"\xff", b"k", b"n", None]
    assert all(row[1] is None or type(row[1]) is bytes for row in made.rows)
    assert made.partitions == [None, None, None, None, 2]
    assert [row[0] for row in made.rows] == [None, None, None, None, 5]


def test_nothing_to_publish_is_nothing() -> None:
    assert record_input.outgoing([]).rows == []
    assert record_input.outgoing(iter(())).rows == []
