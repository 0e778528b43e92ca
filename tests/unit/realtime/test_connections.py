"""A connection's own rules, over a transport of the test: slow consumers, beats, rates, and how it ends."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from brokers.errors import AccessDenied, BrokerError, Unavailable
from realtime.connections import RECEIVED_AT_ONCE, RECEIVED_PER_SECOND, Connection
from realtime.errors import FrameTooLarge, PolicyViolation, ProtocolError
from realtime.wheel import Wheel


def bracketed(payload: bytes) -> bytes:
    return b"[" + payload + b"]"


class Recorded:
    """A transport that remembers what it was given, and takes it while `takes`."""

    kind = "test"

    def __init__(self) -> None:
        self.wrap = bracketed
        self.takes = True
        self.written: list[bytes] = []
        self.ends: list[tuple[Sequence[bytes], int, str]] = []

    def put(self, frame: bytes) -> bool:
        if self.takes:
            self.written.append(frame)
        return self.takes

    def buffered(self) -> int:
        return 0

    async def space(self) -> None:
        return None

    def end(self, payloads: Sequence[bytes], code: int, reason: str) -> None:
        self.ends.append((list(payloads), code, reason))


@pytest.fixture
def wheel() -> Wheel:
    return Wheel()


@pytest.fixture
def transport() -> Recorded:
    return Recorded()


@pytest.fixture
def connection(wheel: Wheel, transport: Recorded) -> Connection:
    made = Connection("stomp", transport, wheel=wheel)
    made.on_fail = lambda error, receipt_id: f"ERROR {error.code} {receipt_id}".encode()
    return made


def pass_time(wheel: Wheel, seconds: float) -> None:
    for _ in range(round(seconds * 10)):
        wheel.turn(wheel.now + 0.1)


def test_what_is_written_is_wrapped_and_counted(connection: Connection, transport: Recorded) -> None:
    assert connection.put(b"ready", messages=3)
    assert connection.write(b"receipt")
    assert (transport.written, connection.sent) == ([b"ready", b"[receipt]"], 3)


def test_a_connection_that_does_not_read_ends_as_a_slow_consumer(connection: Connection, transport: Recorded) -> None:
    ended: list[bool] = []
    connection.on_end = lambda: ended.append(True)
    transport.takes = False
    assert not connection.put(b"frame", messages=2)
    assert not connection.put(b"frame", messages=5)
    assert transport.ends == [([b"ERROR slow_consumer None"], 1008, "slow_consumer")]
    assert (connection.dropped, connection.last_error, ended) == (7, "slow_consumer", [True])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ProtocolError("bad"), 1002),
        (FrameTooLarge("big"), 1009),
        (PolicyViolation("much"), 1008),
        (AccessDenied("no"), 1008),
        (Unavailable("away"), 1011),
        (BrokerError("?"), 1011),
    ],
)
def test_an_error_is_the_last_word_and_closes_by_its_kind(
    connection: Connection, transport: Recorded, error: BrokerError, code: int
) -> None:
    connection.fail(error, "r-1")
    connection.fail(ProtocolError("once more"))
    connection.end(1000, "")
    assert transport.ends == [([f"ERROR {error.code} r-1".encode()], code, error.code)]
    assert connection.ended


def test_a_beat_is_written_when_nothing_else_was(connection: Connection, transport: Recorded, wheel: Wheel) -> None:
    connection.keep_alive(b"\n", 10.0, 0.0)
    pass_time(wheel, 40)
    assert 4 <= len(transport.written) <= 5
    assert connection.sent == 0
    transport.written.clear()
    for _ in range(40):
        connection.put(b"data")
        pass_time(wheel, 1)
    assert b"[\n]" not in transport.written


def test_a_beat_is_never_late(connection: Connection, transport: Recorded, wheel: Wheel) -> None:
    connection.keep_alive(b"\n", 10.0, 0.0)
    last, longest = wheel.now, 0.0
    for step in range(2000):
        if step % 137 == 0:
            connection.put(b"data")
        wheel.turn(wheel.now + 0.1)
        if transport.written:
            longest, last = max(longest, wheel.now - last), wheel.now
            transport.written.clear()
    assert longest <= 10.0


def test_a_peer_is_gone_after_three_silent_intervals(connection: Connection, transport: Recorded, wheel: Wheel) -> None:
    connection.keep_alive(b"\n", 0.0, 5.0)
    for _ in range(10):
        pass_time(wheel, 5)
        connection.heard()
    assert not connection.ended
    pass_time(wheel, 14)
    assert not connection.ended
    pass_time(wheel, 2)
    assert connection.ended
    assert connection.last_error == "heart_beat_missed"
    assert transport.ends == [([], 1008, "no heart-beat")]


def test_beats_end_with_the_connection(connection: Connection, transport: Recorded, wheel: Wheel) -> None:
    connection.keep_alive(b"\n", 1.0, 1.0)
    connection.closed()
    pass_time(wheel, 10)
    assert (transport.written, transport.ends) == ([], [])


def test_more_messages_than_allowed_are_a_violation(connection: Connection, wheel: Wheel) -> None:
    connection.heard(RECEIVED_AT_ONCE)
    with pytest.raises(PolicyViolation) as caught:
        connection.heard(1)
    assert caught.value.code == "rate_limited"
    pass_time(wheel, 1)
    connection.heard(RECEIVED_PER_SECOND // 2)
    assert connection.received == RECEIVED_AT_ONCE + 1 + RECEIVED_PER_SECOND // 2
