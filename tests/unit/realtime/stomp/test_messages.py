"""MESSAGE frames of records and broadcasts, in every version."""

from __future__ import annotations

import pytest

from brokers.record import JSON, RAW, Record
from realtime.stomp.decoder import Decoder
from realtime.stomp.encoder import encode
from realtime.stomp.frame import SERVER_COMMANDS, Frame
from realtime.stomp.messages import message, message_frames
from realtime.subscribers import BroadcastEvent, RecordEvent


def decoded(data: bytes, version: str = "1.2") -> list[Frame]:
    """The frames of these bytes."""
    decoder = Decoder(commands=SERVER_COMMANDS)
    decoder.version = version
    return list(decoder.feed(data))


def record(
    value: bytes | None = b'{"a":1}',
    key: bytes | None = b"k",
    encoding: int = JSON,
    headers: dict[str, str] | None = None,
) -> Record:
    """A record at orders/2@7."""
    return Record(1_700_000_000_000, key, value, encoding, headers or {}, offset=7, partition=2, topic="orders")


def test_a_record_has_its_place_its_time_and_its_headers() -> None:
    (frame,) = decoded(message_frames([RecordEvent(record(headers={"colour": "red:\n"}), "token")], "1.2", "sub-0"))
    assert frame == Frame(
        "MESSAGE",
        {
            "destination": "/topic/orders",
            "subscription": "sub-0",
            "message-id": "token",
            "content-type": "application/json",
            "partition": "2",
            "offset": "7",
            "timestamp": "1700000000000",
            "key": "k",
            "colour": "red:\n",
            "content-length": "7",
        },
        b'{"a":1}',
    )


def test_a_gap_is_told() -> None:
    (frame,) = decoded(message_frames([RecordEvent(record(), "token", 5)], "1.2", "s"))
    assert frame.headers["gap"] == "5"


def test_bytes_and_tombstones_and_keys_that_are_no_text() -> None:
    raw, none = decoded(
        message_frames(
            [RecordEvent(record(b"\0\xff\0", b"\xff", RAW), "a"), RecordEvent(record(None, None), "b")], "1.2", "s"
        )
    )
    assert raw.body == b"\0\xff\0"
    assert raw.headers["content-type"] == "application/octet-stream"
    assert raw.headers["key-base64"] == "/w=="
    assert "key" not in raw.headers
    assert none.body == b""
    assert none.headers["tombstone"] == "true"
    assert "key" not in none.headers


def test_a_records_own_content_type_is_kept_and_what_the_server_writes_is_not_overwritten() -> None:
    headers = {"content-type": "text/csv", "destination": "/topic/other", "offset": "99", "message-id": "forged"}
    (frame,) = decoded(message_frames([RecordEvent(record(b"a;b", headers=headers), "token")], "1.2", "s"))
    assert frame.headers["content-type"] == "text/csv"
    assert frame.headers["destination"] == "/topic/orders"
    assert frame.headers["offset"] == "7"
    assert frame.headers["message-id"] == "token"


@pytest.mark.parametrize(("version", "told"), [("1.0", None), ("1.1", None), ("1.2", "token")])
def test_ack_is_written_where_the_version_wants_it(version: str, told: str | None) -> None:
    (frame,) = decoded(message_frames([RecordEvent(record(), "token")], version, "s", with_ack=True), version)
    assert frame.headers.get("ack") == told


def test_a_broadcast() -> None:
    event = BroadcastEvent("/topic/a.b", b"hello", "text/plain", {"x": "1", "subscription": "no"}, "m-1")
    (frame,) = decoded(message_frames([event], "1.2", "s"))
    assert frame.headers == {
        "destination": "/topic/a.b",
        "subscription": "s",
        "message-id": "m-1",
        "content-type": "text/plain",
        "x": "1",
        "content-length": "5",
    }


def test_1_0_may_have_no_subscription() -> None:
    (frame,) = decoded(message_frames([BroadcastEvent("/topic/a", b"", "", {}, "m")], "1.0", ""), "1.0")
    assert frame.headers == {"destination": "/topic/a", "message-id": "m", "content-length": "0"}


def test_a_batch_is_written_one_after_the_other() -> None:
    events = [RecordEvent(record(b"%d" % number), str(number)) for number in range(5)]
    assert [frame.body for frame in decoded(message_frames(events, "1.1", "s"), "1.1")] == [
        b"0",
        b"1",
        b"2",
        b"3",
        b"4",
    ]


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_no_header_breaks_out_of_its_line(version: str) -> None:
    hostile = {"a\nevil": "1", "b": "x\r\n\r\nbody\0MESSAGE\n\n\0", "c:d\n\n": "\\n"}
    frames = decoded(message([("destination", "/topic/a"), *hostile.items()], b"body", version), version)
    assert [(frame.command, frame.body) for frame in frames] == [("MESSAGE", b"body")]
    assert "evil" not in frames[0].headers


def test_1_1_and_1_2_escape_by_their_own_rules() -> None:
    frame = Frame("MESSAGE", {"a:b": "\\ \n \r :"}, b"")
    assert encode(frame, "1.2") == b"MESSAGE\na\\cb:\\\\ \\n \\r \\c\ncontent-length:0\n\n\0"
    assert encode(frame, "1.1") == b"MESSAGE\na\\cb:\\\\ \\n   \\c\ncontent-length:0\n\n\0"


def test_connected_is_not_escaped_and_has_no_length() -> None:
    assert encode(Frame("CONNECTED", {"user-name": "a\\b:c\n"}), "1.2") == b"CONNECTED\nuser-name:a\\b:c \n\n\0"
    assert encode(Frame("RECEIPT", {"receipt-id": "a:b"}), "1.2") == b"RECEIPT\nreceipt-id:a\\cb\n\n\0"
