"""What may be sent, and what is said of the rest."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.errors import BrokerError, InvalidType, InvalidValue, TooLarge, UnencodableValue, UnknownField
from brokers.queues.message import NewMessage
from brokers.queues.message_input import MAX_BODY_BYTES, checked, messages, single
from brokers.record import JSON, RAW
from brokers.settings import MAX_HEADER_BYTES, MAX_HEADERS


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_bodies_are_json_but_for_bytes() -> None:
    assert single({"a": [1, None]}).body == b'{"a":[1,null]}'
    assert single({"a": 1}).encoding == JSON
    assert single(None) == NewMessage(b"null", JSON)
    assert single(b"\x00\xff") == NewMessage(b"\x00\xff", RAW)
    assert single("text").body == b'"text"'


def test_all_properties_are_kept() -> None:
    fields: dict[str, Any] = {
        "routing_key": "a.b",
        "headers": {"n": 1, "list": [1, "x"], "none": None},
        "priority": 255,
        "expiration_ms": 0,
        "delay_ms": 5,
        "message_id": "m",
        "correlation_id": "c",
        "reply_to": "r",
        "content_type": "text/plain",
        "type": "order",
    }
    assert single(1, **fields)._asdict() == {"body": b"1", "encoding": JSON, **fields}
    assert messages([{"body": 1, **fields}]) == [single(1, **fields)]


@pytest.mark.parametrize(
    "body", [float("nan"), {"a": [float("inf")]}, "\ud800", {"\udfff": 1}, deep(65), 10**400, {"n": 10**101}, object()]
)
def test_what_has_no_json_form_is_refused(body: Any) -> None:
    with pytest.raises(UnencodableValue):
        single(body)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"routing_key": "k" * 256}, "/routing_key"),
        ({"routing_key": "é" * 128}, "/routing_key"),
        ({"routing_key": "\ud800"}, "/routing_key"),
        ({"routing_key": 7}, "/routing_key"),
        ({"routing_key": None}, "/routing_key"),
        ({"routing_key": 0}, "/routing_key"),
        ({"priority": -1}, "/priority"),
        ({"priority": 256}, "/priority"),
        ({"priority": True}, "/priority"),
        ({"priority": 1.0}, "/priority"),
        ({"priority": 10**5000}, "/priority"),
        ({"expiration_ms": -1}, "/expiration_ms"),
        ({"expiration_ms": "5"}, "/expiration_ms"),
        ({"expiration_ms": 315_360_000_001}, "/expiration_ms"),
        ({"delay_ms": 2**63}, "/delay_ms"),
        ({"delay_ms": float("nan")}, "/delay_ms"),
        ({"message_id": "x" * 256}, "/message_id"),
        ({"correlation_id": 1}, "/correlation_id"),
        ({"reply_to": "\udc00"}, "/reply_to"),
        ({"content_type": b"text"}, "/content_type"),
        ({"type": ["a"]}, "/type"),
        ({"headers": [("a", 1)]}, "/headers"),
        ({"headers": {1: "a"}}, "/headers"),
        ({"headers": {"a": float("nan")}}, "/headers"),
        ({"headers": {"a": {"b": float("-inf")}}}, "/headers"),
        ({"headers": {"a": "\ud800"}}, "/headers"),
        ({"headers": {"\ud800": 1}}, "/headers"),
        ({"headers": {"a": deep(65)}}, "/headers"),
        ({"headers": {"a": 10**101}}, "/headers"),
        ({"headers": {"a": object()}}, "/headers"),
        ({"headers": {str(n): n for n in range(MAX_HEADERS + 1)}}, "/headers"),
        ({"headers": {"a": "x" * MAX_HEADER_BYTES}}, "/headers"),
        ({"headers": {"CC": "key"}}, "/headers/CC"),
        ({"headers": {"CC": [1]}}, "/headers/CC"),
        ({"headers": {"BCC": ["k" * 256]}}, "/headers/BCC"),
    ],
)
def test_what_is_outside_of_the_limits_is_refused_and_located(fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidValue) as raised:
        single(1, **fields)
    assert [at for at, _ in raised.value.errors] == [pointer]
    assert len(raised.value.detail) < 300
    with pytest.raises(InvalidValue) as raised:
        messages([{"body": 1}, {"body": 1, **fields}])
    assert [at for at, _ in raised.value.errors] == [f"/1{pointer}"]


def test_what_is_at_the_limits_is_taken() -> None:
    fullest = dict.fromkeys(map(str, range(MAX_HEADERS)), 0)
    assert single(1, routing_key="é" * 127, headers=fullest, message_id="é" * 255, delay_ms=315_360_000_000)
    assert single(1, headers={"a": "x" * (MAX_HEADER_BYTES - 8)}, priority=0)
    assert single(b"x" * MAX_BODY_BYTES)
    assert single(deep(64))


def test_a_body_over_eight_megabytes_is_too_large() -> None:
    with pytest.raises(TooLarge) as raised:
        messages([{"body": b""}, {"body": b"x" * (MAX_BODY_BYTES + 1)}])
    assert raised.value.errors == [("/1/body", "it is too large")]


def test_bodies_of_one_call_are_bounded_together() -> None:
    body = bytes(MAX_BODY_BYTES)
    with pytest.raises(TooLarge, match=r"message 32: .* together"):
        messages(NewMessage(body, RAW) for _ in range(40))
    assert len(messages(NewMessage(body, RAW) for _ in range(32))) == 32


def test_headers_become_what_json_reads_back() -> None:
    identity = uuid.uuid4()
    found = single(1, headers={"pair": (1, 2), "id": identity}).headers
    assert found == {"pair": [1, 2], "id": str(identity)}


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"body": 1, "value": 2}, UnknownField),
        ({"body": 1, "encoding": RAW}, UnknownField),
        ({"body": 1, 5: 2}, UnknownField),
        ({"routing_key": "a"}, InvalidValue),
        ("text", InvalidType),
        (None, InvalidType),
        (NewMessage("text", JSON), InvalidType),  # type: ignore[arg-type]
        (NewMessage(b"1", 7), InvalidValue),
        (NewMessage(b"1", True), InvalidValue),
    ],
)
def test_what_is_no_message_is_refused(wrong: Any, error: type[BrokerError]) -> None:
    with pytest.raises(error, match="message 1: "):
        messages([{"body": 1}, wrong])


def test_a_routing_key_for_all_gives_way_to_a_messages_own() -> None:
    found = messages([{"body": 1}, {"body": 2, "routing_key": "own"}], "all")
    assert [message.routing_key for message in found] == ["all", "own"]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=10,
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys((*NewMessage._fields, "else"), values)))
def test_whatever_comes_is_taken_or_refused_with_an_error_of_ours(given: dict[str, Any]) -> None:
    try:
        [found] = messages([given])
    except (InvalidValue, TooLarge, UnencodableValue):
        return
    assert checked(found) == found
