"""Frames of SockJS, and STOMP frames that are no text."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.errors import ProtocolError
from realtime.sockjs import framing
from realtime.sockjs.framing import BrokenJson
from realtime.stomp.messages import message


@given(st.text())
def test_a_message_is_one_json_string_in_ascii(text: str) -> None:
    written = framing.message(text.encode("utf-8", "replace"))
    assert written.isascii()
    assert not set(written) & set(range(0x20))
    assert json.loads(written[1:]) == [text.encode("utf-8", "replace").decode()]


def test_escapes_are_in_lower_case() -> None:
    payload = "\u200c\u2028\ufeff\U0001f6eb\0".encode()
    assert framing.json_string(payload) == rb'"\u200c\u2028\ufeff\ud83d\udeeb\u0000"'


def test_several_messages_make_one_array() -> None:
    assert framing.array([framing.json_string(each) for each in (b"a", b'"', b"\n")]) == rb'a["a","\"","\n"]'


@pytest.mark.parametrize(
    ("code", "reason", "frame"),
    [
        (1000, "", b'c[3000,"Go away!"]'),
        (1001, "the server is stopping", b'c[1001,"the server is stopping"]'),
        (1008, 'a "reason"', rb'c[1008,"a \"reason\""]'),
        (*framing.STILL_OPEN, b'c[2010,"Another connection still open"]'),
    ],
)
def test_a_close_says_why(code: int, reason: str, frame: bytes) -> None:
    assert framing.close(code, reason) == frame


@pytest.mark.parametrize(
    ("body", "found"),
    [(b'["a","\\u0000"]', [b"a", b"\0"]), (b"[]", []), (b'"a"', [b"a"]), (b' [ "\xc3\xa9" ] ', [b"\xc3\xa9"])],
)
def test_what_clients_send(body: bytes, found: list[bytes]) -> None:
    assert framing.messages(body) == found


@pytest.mark.parametrize("body", [b"[", b'["a"', b"", b'["\xff"]', b'["\\ud800"]', b"[nope]", b'["a"] ["b"]', b"\0"])
def test_broken_json_is_told_apart(body: bytes) -> None:
    with pytest.raises(BrokenJson):
        framing.messages(body)


@pytest.mark.parametrize("body", [b"{}", b"1", b"null", b'["a", 1]', b'[["a"]]', b"[" * 100_000, b'["",' * 99 + b'""]'])
def test_other_json_is_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        framing.messages(body)
    assert refused.value.close_code == 1002


def test_an_array_has_a_most_length() -> None:
    assert len(framing.messages(json.dumps(["x"] * framing.MAX_MESSAGES).encode())) == framing.MAX_MESSAGES
    with pytest.raises(ProtocolError):
        framing.messages(json.dumps(["x"] * (framing.MAX_MESSAGES + 1)).encode())


@given(st.binary() | st.text(alphabet='[]{}",:\\u0aF \n').map(str.encode))
def test_no_input_makes_anything_but_messages_or_a_protocol_error(body: bytes) -> None:
    try:
        found = framing.messages(body)
    except ProtocolError:
        return
    assert all(isinstance(each, bytes) for each in found)


def test_a_body_that_is_no_text_goes_as_base64() -> None:
    binary = b"\xff\0\n\n\xfe"
    payload = b"".join(
        message([("destination", "/topic/t"), ("message-id", each)], body, "1.2")
        for each, body in (("1", b"text"), ("2", binary), ("3", "\u00e9".encode()))
    )
    (text,) = json.loads(framing.message(payload)[1:])
    first, second, third = text.split("\0")[:3]
    assert first.endswith("content-length:4\n\ntext")
    head, _, body = second.partition("\n\n")
    assert head.split("\n")[:3] == ["MESSAGE", "body-encoding:base64", f"content-length:{len(body)}"]
    assert head.count("content-length") == 1
    assert base64.b64decode(body) == binary
    assert third.endswith("content-length:2\n\n\u00e9")


@given(st.binary())
def test_any_bytes_become_some_text(payload: bytes) -> None:
    (text,) = json.loads(framing.message(payload)[1:])
    assert isinstance(text, str)
