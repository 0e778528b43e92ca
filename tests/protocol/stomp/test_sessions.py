"""The life of a session on a whole server: CONNECT, versions, heart-beats, receipts, DISCONNECT."""

from __future__ import annotations

import httpx
import pytest

from tests.protocol.stomp.wire import logged_in, wire
from tests.server import ADMIN_TOKEN, Server, unique


@pytest.mark.parametrize(
    ("accepted", "agreed"),
    [("1.2,1.1,1.0", "1.2"), ("1.0,1.1,2.0", "1.1"), ("1.1, 1.2", "1.2"), ("1.0", "1.0")],
)
def test_the_highest_common_version_is_agreed_on(server: Server, accepted: str, agreed: str) -> None:
    with wire(server) as client:
        assert client.log_in(version=accepted).headers["version"] == agreed


def test_a_client_that_names_no_version_speaks_1_0(server: Server) -> None:
    with wire(server) as client:
        client.raw(f"CONNECT\nlogin: me\npasscode: {ADMIN_TOKEN}\n\n\0")
        assert client.expect("CONNECTED").headers["version"] == "1.0"


def test_no_common_version_is_an_error_that_names_those_there_are(server: Server) -> None:
    with wire(server) as client:
        client.send("CONNECT", accept_version="3.0", host="a", passcode=ADMIN_TOKEN)
        error = client.expect("ERROR")
        assert error.headers["message"] == "unsupported_version"
        assert error.headers["version"] == "1.0,1.1,1.2"
        assert error.headers["content-type"] == "text/plain"
        assert client.end() == 1002


def test_connected_says_who_is_connected_and_always_names_heart_beats(server: Server) -> None:
    with wire(server) as client:
        connected = client.log_in()
        assert connected.headers["heart-beat"] == "5000,5000"
        assert connected.headers["server"].startswith("Waystation/")
        assert connected.headers["session"]
        assert connected.headers["user-name"] == "admin"


def test_stomp_is_another_name_of_connect(server: Server) -> None:
    with wire(server) as client:
        client.send("STOMP", accept_version="1.2", host="a\\cb", passcode=ADMIN_TOKEN)
        assert client.expect("CONNECTED").headers["version"] == "1.2"


@pytest.mark.parametrize("passcode", ["", "wrong", "wst_abcdefgh_" + "a" * 43 + "_000000", "a\\cb"])
def test_who_gives_no_valid_token_is_refused(server: Server, passcode: str) -> None:
    with wire(server) as client:
        client.send("CONNECT", accept_version="1.2", host="a", passcode=passcode)
        assert client.expect("ERROR").headers["message"] == "unauthenticated"
        assert client.end() == 1008


def test_the_handshake_may_bring_the_token(server: Server) -> None:
    with wire(server, additional_headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}) as client:
        client.send("CONNECT", accept_version="1.2", host="a")
        client.expect("CONNECTED")


def test_a_token_of_connect_takes_the_place_of_the_handshakes(server: Server) -> None:
    with wire(server, additional_headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}) as client:
        client.log_in()


@pytest.mark.parametrize("command", ["SEND", "SUBSCRIBE", "DISCONNECT"])
def test_nothing_is_done_before_connect(server: Server, command: str) -> None:
    with wire(server) as client:
        client.send(command, destination="/topic/a", id="1", receipt="r")
        error = client.expect("ERROR")
        assert error.headers["message"] == "not_connected"
        assert error.headers["receipt-id"] == "r"
        assert client.end() == 1002


def test_a_second_connect_is_an_error(server: Server) -> None:
    with logged_in(server) as client:
        client.send("CONNECT", accept_version="1.2", host="a", passcode=ADMIN_TOKEN)
        assert client.error().headers["message"] == "already_connected"


def test_disconnect_is_answered_by_its_receipt_and_the_end(server: Server) -> None:
    with logged_in(server) as client:
        client.raw("DISCONNECT\nreceipt:close-1\n\n\0SEND\ndestination:/nowhere/a\n\nignored\0")
        assert client.receipt() == "close-1"
        assert client.end() == 1000


def test_disconnect_without_a_receipt_ends_the_connection(server: Server) -> None:
    with logged_in(server) as client:
        client.send("DISCONNECT")
        assert client.end() == 1000


def test_a_frame_may_come_in_single_bytes_and_several_frames_at_once(server: Server) -> None:
    destination = f"/topic/{unique()}"
    with wire(server) as client:
        for byte in f"CONNECT\naccept-version:1.2\npasscode:{ADMIN_TOKEN}\n\n\0":
            client.raw(byte)
        client.expect("CONNECTED")
        client.raw(
            f"SUBSCRIBE\nid:1\ndestination:{destination}\nreceipt:a\n\n\0\n\n"
            f"SEND\ndestination:{destination}\nreceipt:b\n\nhello\0\r\n".encode()
        )
        assert client.receipt() == "a"
        found = {client.frame().command, client.frame().command}
        assert found == {"RECEIPT", "MESSAGE"}


def test_a_broadcast_reaches_who_is_subscribed_until_unsubscribe(server: Server) -> None:
    destination = f"/topic/{unique()}"
    with logged_in(server) as client:
        client.send("SUBSCRIBE", id="s\\c1", destination=destination, receipt="1")
        assert client.receipt() == "1"
        client.send("SEND", '{"a": 1}', destination=destination, content_type="application/json", colour="r\\cd")
        message = client.expect("MESSAGE")
        assert message.body == '{"a": 1}'
        assert message.headers["destination"] == destination
        assert message.headers["subscription"] == "s:1"
        assert message.headers["content-type"] == "application/json"
        assert message.headers["colour"] == "r:d"
        assert message.headers["content-length"] == "8"
        client.send("UNSUBSCRIBE", id="s\\c1", receipt="2")
        assert client.receipt() == "2"
        client.send("SEND", "b", destination=destination, receipt="3")
        assert client.receipt() == "3"
        client.send("DISCONNECT", receipt="4")
        assert client.receipt() == "4"


def test_heart_beats_come_when_they_were_agreed_on(server: Server) -> None:
    with logged_in(server, heart_beat="0,1000") as client:
        assert client.socket.recv(8) == "\n"


def test_no_heart_beats_are_asked_of_who_offers_none(server: Server) -> None:
    with logged_in(server, heart_beat="0,0") as client:
        client.send("BEGIN", transaction="t", receipt="1")
        assert client.receipt() == "1"


def test_a_token_that_is_revoked_ends_its_connections_within_seconds(server: Server, api: httpx.Client) -> None:
    made = api.post("/api/v1/tokens", json={"name": unique("token"), "grants": []}).json()
    with logged_in(server, made["token"]) as client:
        assert api.delete(f"/api/v1/tokens/{made['id']}").status_code == 204
        error = client.expect("ERROR")
        assert error.headers["message"] == "token_revoked"
        assert client.end() == 1008


def test_receipts_of_a_burst_come_in_order_whatever_it_is_for(server: Server, api: httpx.Client) -> None:
    topic, queue = unique(), unique("queue")
    assert api.post("/api/v1/topics", json={"name": topic, "partitions": 1}).status_code == 201
    destinations = [f"/topic/{topic}", f"/topic/{topic}", f"/queue/{queue}", f"/topic/{unique()}", "/user/queue/own"]
    with logged_in(server) as client:
        for number in range(500):
            client.send("SEND", str(number), destination=destinations[number // 7 % 5], receipt=str(number))
        assert [client.receipt() for _ in range(500)] == [str(number) for number in range(500)]
    records = api.get(f"/api/v1/topics/{topic}/partitions/0/records?offset=earliest&limit=1000").json()["records"]
    assert [record["value"] for record in records] == [n for n in range(500) if n // 7 % 5 < 2]
