"""What a whole server does with frames that are wrong, too large or too many: one ERROR, the end, and no fault."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from tests.protocol.stomp.wire import logged_in, wire
from tests.server import ADMIN_TOKEN, Server, unique

CONNECT = f"CONNECT\naccept-version:1.2\nhost:a\npasscode:{ADMIN_TOKEN}\n\n\0".encode()


@pytest.mark.parametrize(
    ("data", "code", "close"),
    [
        (b"FOO\n\n\0", "unknown_command", 1002),
        (b"send\ndestination:/topic/a\n\n\0", "unknown_command", 1002),
        (b"SEND\nnocolon\n\n\0", "malformed_header", 1002),
        (b"SEND\na:\\t\n\n\0", "malformed_header", 1002),
        (b"SEND\nreceipt:" + b"r" * 10_240 + b"\n\n\0", "malformed_header", 1002),
        (b"SEND\n" + b"a:b\n" * 65 + b"\n\0", "too_many_headers", 1002),
        (b"SEND\ndestination:/topic/a\ncontent-length:-1\n\nx\0", "malformed_frame", 1002),
        (b"SEND\ndestination:/topic/a\ncontent-length:1\n\nxyz\0", "malformed_frame", 1002),
        (b"SEND\ndestination:/topic/a\ncontent-length:1048577\n\n", "frame_too_large", 1009),
        (b"SEND\n" + b"a" * 40_000, "frame_too_large", 1009),
        (b"SEND\n\nx\0", "missing_destination", 1002),
        (b"SEND\ndestination:topic\n\nx\0", "invalid_destination", 1002),
        (b"SUBSCRIBE\ndestination:/topic/a\n\n\0", "missing_id", 1002),
        (b"UNSUBSCRIBE\nid:9\n\n\0", "unknown_subscription", 1002),
        (b"ACK\nid:1.2.3\n\n\0", "unknown_ack", 1002),
        (b"COMMIT\ntransaction:t\n\n\0", "unknown_transaction", 1002),
    ],
)
def test_a_wrong_frame_is_one_error_and_the_end(server: Server, data: bytes, code: str, close: int) -> None:
    with wire(server) as client:
        client.raw(CONNECT + data)
        client.expect("CONNECTED")
        assert client.expect("ERROR").headers["message"] == code
        assert client.end() == close


@pytest.mark.parametrize("heart_beat", ["a,b", "-1,0", "99999999999,0", "1"])
def test_a_heart_beat_that_is_none_is_an_error(server: Server, heart_beat: str) -> None:
    with wire(server) as client:
        client.send("CONNECT", accept_version="1.2", passcode=ADMIN_TOKEN, heart_beat=heart_beat)
        assert client.error().headers["message"] == "invalid_heartbeat"


def test_little_is_read_before_the_login(server: Server) -> None:
    with wire(server) as client:
        client.raw(b"CONNECT\n" + b"a:b\n" * 5_000)
        assert client.expect("ERROR").headers["message"] == "frame_too_large"
        assert client.end() == 1009


def test_the_largest_body_goes_through(server: Server) -> None:
    destination = f"/topic/{unique()}"
    body = "a" * (1024 * 1024)
    with logged_in(server) as client:
        client.send("SUBSCRIBE", id="1", destination=destination, receipt="r")
        assert client.receipt() == "r"
        client.send("SEND", body, destination=destination)
        assert client.expect("MESSAGE").body == body


def test_a_message_beyond_all_limits_is_not_even_read(server: Server) -> None:
    with logged_in(server) as client:
        with pytest.raises(ConnectionClosed) as ended:
            client.raw(b"SEND\ndestination:/topic/a\n\n" + b"a" * (4 * 1024 * 1024))
            while True:
                client.frame()
        assert ended.value.rcvd is None or ended.value.rcvd.code == 1009


def test_a_connection_has_at_most_100_subscriptions(server: Server) -> None:
    destination = f"/topic/{unique()}"
    with logged_in(server) as client:
        client.raw("".join(f"SUBSCRIBE\nid:{n}\ndestination:{destination}\nreceipt:{n}\n\n\0" for n in range(101)))
        assert [client.receipt() for _ in range(100)] == [str(n) for n in range(100)]
        error = client.expect("ERROR")
        assert error.headers["message"] == "too_many_subscriptions"
        assert error.headers["receipt-id"] == "100"
        assert client.end() == 1008


def test_too_many_frames_are_refused(server: Server) -> None:
    with logged_in(server) as client:
        pair = "BEGIN\ntransaction:t\n\n\0ABORT\ntransaction:t\n\n\0"
        for _ in range(15):
            client.raw(pair * 1_000)
        error = client.expect("ERROR")
        assert error.headers["message"] == "rate_limited"
        assert client.end() == 1008


def test_a_text_message_that_is_no_text_is_closed(server: Server) -> None:
    with logged_in(server) as client:
        client.socket.send(b"\xff\xfe", text=True)
        assert client.end() == 1007


def test_binary_messages_are_frames_too(server: Server) -> None:
    with wire(server) as client:
        client.raw(CONNECT)
        client.expect("CONNECTED")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.booleans(),
    st.lists(
        st.binary(max_size=40)
        | st.sampled_from(
            [b"SEND\n", b"\n\n", b"\0", b"destination:/topic/fuzz\n", b"receipt:1\n", b"id:1\n", b"ACK\n"]
        ),
        max_size=10,
    ),
)
def test_whatever_bytes_come_the_server_answers_or_closes(server: Server, connected: bool, pieces: list[bytes]) -> None:
    before = server.log.read_text().count("Traceback")
    with wire(server) as client:
        with pytest.raises(ConnectionClosed) as ended:
            if connected:
                client.raw(CONNECT)
            for piece in pieces:
                client.raw(piece)
            client.raw(b"\0\n\0DISCONNECT\nreceipt:bye\n\n\0")
            while True:
                client.frame()
        assert ended.value.rcvd is not None
        assert ended.value.rcvd.code in (1000, 1002, 1008, 1009)
    assert server.log.read_text().count("Traceback") == before
