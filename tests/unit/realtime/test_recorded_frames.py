"""What was written to a connection, read back into frames."""

from __future__ import annotations

import json

import pytest

from realtime import recorded_frames
from realtime.frame_protocol import message_frame
from realtime.recorded_frames import SHOWN_BYTES, is_secret
from realtime.sockjs import framing
from realtime.stomp.encoder import encode
from realtime.stomp.frame import HEART_BEAT, Frame

MESSAGE = encode(Frame("MESSAGE", {"destination": "/topic/a", "subscription": "s:1"}, b"\0\n\nbody"), "1.2")
RECEIPT = encode(Frame("RECEIPT", {"receipt-id": "r"}), "1.2")
ERROR = encode(Frame("ERROR", {"message": "forbidden"}, b"why"), "1.2")


@pytest.mark.parametrize(
    "wrapped",
    [
        MESSAGE + HEART_BEAT + RECEIPT + ERROR,
        message_frame(MESSAGE + RECEIPT + ERROR),
        message_frame(MESSAGE + RECEIPT + ERROR + encode(Frame("MESSAGE", {}, b"x" * 70_000), "1.2")),
        framing.json_string(MESSAGE + RECEIPT + ERROR),
        framing.message(MESSAGE + RECEIPT + ERROR),
        message_frame(framing.message(MESSAGE + RECEIPT + ERROR)),
    ],
    ids=["stomp", "websocket", "long-websocket", "sockjs-http", "sockjs-message", "sockjs-websocket"],
)
def test_frames_are_found_however_they_travel(wrapped: bytes) -> None:
    message, receipt, error = recorded_frames.read(wrapped, "stomp", most=50)[:3]
    assert message == ("MESSAGE", message.headers, b"\0\n\nbody", 7)
    assert (message.headers["destination"], message.headers["subscription"]) == ("/topic/a", "s:1")
    assert (receipt.command, receipt.headers, receipt.size) == ("RECEIPT", {"receipt-id": "r"}, 0)
    assert (error.headers["message"], error.body) == ("forbidden", b"why")


def test_the_last_frames_are_kept_and_the_beginning_of_each_body() -> None:
    frames = [encode(Frame("MESSAGE", {"n": str(number)}, b"y" * 600), "1.2") for number in range(200)]
    found = recorded_frames.read(message_frame(b"".join(frames)), "stomp", most=50)
    assert [each.headers["n"] for each in found] == [str(number) for number in range(150, 200)]
    assert {(len(each.body), each.size) for each in found} == {(SHOWN_BYTES, 600)}


@pytest.mark.parametrize("kept", [1, 2, 5, 40, 60, 100, 200, 201, 202, 203, 204, 205, 206, 207, 208, 400])
def test_what_was_cut_off_is_read_as_far_as_it_goes(kept: int) -> None:
    frame = encode(Frame("MESSAGE", {"a": "b"}, "\N{WHITE SMILING FACE}\U0001f600\\".encode() * 100), "1.2")
    for wrapped in (frame, message_frame(frame), framing.json_string(frame), message_frame(framing.message(frame))):
        for found in recorded_frames.read(wrapped[:kept], "stomp", most=50):
            assert found.command == "MESSAGE"
    by_sockjs = recorded_frames.read(framing.json_string(frame)[:kept], "stomp", most=50)
    assert bool(by_sockjs) == (kept > 10)


@pytest.mark.parametrize("nothing", [b"", b"\n", message_frame(b"\n"), b"\x81", b'a["', b"h", framing.message(b"\n")])
def test_heart_beats_are_no_frames(nothing: bytes) -> None:
    assert recorded_frames.read(nothing, "stomp", most=50) == []


def test_events_of_a_stream_are_frames_and_comments_are_none() -> None:
    data = json.dumps({"value": 1, "headers": {"Authorization": 'Bearer "x"', "x-auth-token": "t", "trace": "seen"}})
    stream = f": keep-alive\n\nretry: 1\n\nevent: record\nid: AAM\ndata: {data}\n\nevent: gap\ndata: 1\ndata: 2\n\n"
    record, gap = recorded_frames.read(stream.encode(), "sse", most=50)
    assert (record.command, record.headers, record.size) == ("record", {"id": "AAM"}, len(data))
    assert json.loads(record.body)["headers"] == {"Authorization": "•••", "x-auth-token": "•••", "trace": "seen"}
    assert (gap.command, gap.headers, gap.body) == ("gap", {}, b"1\n2")


def test_a_secret_that_is_cut_off_is_masked() -> None:
    data = b'{"ticket":"' + b"s" * 10_000
    (found,) = recorded_frames.read(b"event: record\ndata: " + data, "sse", most=50)
    assert b"ss" not in found.body


@pytest.mark.parametrize(
    "name",
    [
        "passcode",
        "login",
        "Authorization",
        "proxy-authorization",
        "cookie",
        "Set-Cookie",
        "ticket",
        "X-Api-Key",
        "db_password",
    ],
)
def test_names_of_secrets_are_known(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["message-id", "destination", "host", "session", "author", "key", "content-type", "resume"]
)
def test_other_names_are_no_secrets(name: str) -> None:
    assert not is_secret(name)
