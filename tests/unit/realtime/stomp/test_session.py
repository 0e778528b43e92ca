"""The rules of a session, over a transport that keeps what is written and destinations that note what comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brokers.access import Principal
from brokers.errors import AccessDenied, BrokerError
from realtime.connections import Connection
from realtime.errors import ProtocolError
from realtime.stomp import committing, sending, settling, subscribing
from realtime.stomp.decoder import Decoder
from realtime.stomp.frame import SERVER_COMMANDS, Frame
from realtime.stomp.session import MAX_SUBSCRIPTIONS, StompSession
from realtime.stomp.subscription import Context, Subscription
from realtime.wheel import Wheel


class Kept:
    """A transport that keeps everything."""

    kind = "test"

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.beats = 0
        self.closed: tuple[int, str] | None = None
        self.version: Callable[[], str] = lambda: "1.2"
        """By which the session writes."""

    @property
    def wrap(self) -> Callable[[bytes], bytes]:
        return bytes

    def put(self, frame: bytes) -> bool:
        assert self.closed is None
        decoder = Decoder(commands=SERVER_COMMANDS)
        decoder.version = self.version()
        self.frames += decoder.feed(frame)
        return True

    def buffered(self) -> int:
        return 0

    async def space(self) -> None:
        return

    def end(self, payloads: Sequence[bytes], code: int, reason: str) -> None:
        for payload in payloads:
            self.put(payload)
        self.closed = (code, reason)


class Noted(Subscription):
    """A subscription that notes what it is told."""

    has_claims = True

    def __init__(self, context: Context, frame: Frame) -> None:
        super().__init__(context, frame, frame.headers["destination"])
        self.told: list[Any] = []

    async def settle(self, number: int | None, frame: Frame) -> None:
        self.told.append((frame.command.lower(), number))

    async def close(self) -> None:
        self.told.append("closed")


class World:
    """One session with what it did."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[bytes] = []
        self.together: list[int] = []
        self.groups: list[int] = []
        self.subscriptions: list[Noted] = []
        monkeypatch.setattr(sending, "send_many", self._send_many)
        monkeypatch.setattr(committing, "commit", self._commit)
        monkeypatch.setattr(subscribing, "subscribe", self._subscribe)
        self.hold: asyncio.Event | None = None
        self.open()

    def open(self) -> None:
        """A new session."""
        self.transport = Kept()
        self.connection = Connection("stomp", self.transport, wheel=Wheel(), principal=None)
        self.connection.principal = Principal("tester", superuser=True)
        live: Any = SimpleNamespace()
        self.session = StompSession(self.connection, live)
        self.transport.version = lambda: self.session.version

    async def _send_many(self, context: Context, frames: Sequence[Frame]) -> tuple[int, BrokerError | None]:
        self.groups.append(len(frames))
        for place, frame in enumerate(frames):
            try:
                await self._send(frame)
            except BrokerError as error:
                return place, error
        return len(frames), None

    async def _send(self, frame: Frame) -> None:
        if self.hold is not None:
            await self.hold.wait()
        if frame.headers["destination"] == "/topic/secret":
            raise AccessDenied("write on topic secret is not granted")
        self.sent.append(frame.body)

    async def _commit(self, context: Context, subscriptions: Collection[Subscription], frames: Sequence[Frame]) -> None:
        self.together.append(len(frames))
        for frame in frames:
            if frame.command == "SEND":
                await self._send(frame)
            else:
                await settling.settle(context.version, subscriptions, frame)

    async def _subscribe(self, context: Context, frame: Frame) -> Subscription:
        if self.hold is not None:
            await self.hold.wait()
        self.subscriptions.append(Noted(context, frame))
        return self.subscriptions[-1]

    async def connect(self, version: str = "1.2") -> None:
        """CONNECT, whose answer is not kept."""
        await self.say("CONNECT", accept_version=version)
        assert self.transport.frames.pop().command == "CONNECTED"

    async def say(self, command: str, body: str = "", **headers: str) -> None:
        """One frame to the session."""
        lines = "".join(f"{name.replace('_', '-')}:{value}\n" for name, value in headers.items())
        await self.session.received(f"{command}\n{lines}\n{body}\0".encode())
        await self.session.done()

    @property
    def answers(self) -> list[str]:
        """Receipts by their id, errors by their code."""
        return [frame.headers.get("receipt-id") or frame.headers["message"] for frame in self.transport.frames]

    @property
    def error(self) -> str | None:
        """The code of the error that ended the connection."""
        last = self.transport.frames[-1] if self.transport.frames else None
        return last.headers["message"] if last is not None and last.command == "ERROR" else None


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


# -- receipts ------------------------------------------------------------------------------------------------------


async def test_a_receipt_of_a_send_comes_after_it_was_stored(world: World) -> None:
    await world.connect()
    world.hold = asyncio.Event()
    saying = asyncio.create_task(world.say("SEND", "a", destination="/topic/a", receipt="r"))
    await asyncio.sleep(0)
    assert world.answers == []
    world.hold.set()
    await saying
    assert world.sent == [b"a"]
    assert world.answers == ["r"]


async def test_frames_are_handled_in_order_even_when_two_pieces_come_at_once(world: World) -> None:
    await world.connect()
    world.hold = asyncio.Event()
    first = asyncio.create_task(world.say("SEND", "1", destination="/topic/a", receipt="1"))
    second = asyncio.create_task(world.say("SEND", "2", destination="/topic/a", receipt="2"))
    await asyncio.sleep(0)
    world.hold.set()
    await asyncio.gather(first, second)
    assert world.sent == [b"1", b"2"]
    assert world.answers == ["1", "2"]


async def test_a_receipt_is_escaped_as_it_was_asked_for(world: World) -> None:
    await world.connect()
    await world.say("BEGIN", transaction="t", receipt="a\\cb\\n")
    assert world.answers == ["a:b\n"]


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ("SEND\n\n\0", "missing_destination"),
        ("SEND\ndestination:/topic/secret\n\n\0", "access_denied"),
        ("SUBSCRIBE\nid:1\n\n\0", "missing_destination"),
        ("SUBSCRIBE\ndestination:/topic/a\n\n\0", "missing_id"),
        ("SUBSCRIBE\nid:1\ndestination:/topic/a\nack:maybe\n\n\0", "invalid_ack_mode"),
        ("UNSUBSCRIBE\n\n\0", "missing_id"),
        ("UNSUBSCRIBE\nid:1\n\n\0", "unknown_subscription"),
        ("ACK\n\n\0", "missing_id"),
        ("ACK\nid:1.2.3\n\n\0", "unknown_ack"),
        ("NACK\nid:x\n\n\0", "unknown_ack"),
        ("BEGIN\n\n\0", "missing_transaction"),
        ("COMMIT\ntransaction:t\n\n\0", "unknown_transaction"),
        ("ABORT\ntransaction:t\n\n\0", "unknown_transaction"),
        ("SEND\ndestination:/topic/a\ntransaction:t\n\n\0", "unknown_transaction"),
        ("ACK\nid:1\ntransaction:t\n\n\0", "unknown_transaction"),
        ("CONNECT\naccept-version:1.2\n\n\0", "already_connected"),
        ("CONNECTED\nversion:1.2\n\n\0", "unknown_command"),
        ("SEND\ndestination:/topic/a\\\n\n\0", "malformed_header"),
    ],
)
async def test_an_error_is_one_frame_and_the_end(world: World, frame: str, code: str) -> None:
    await world.connect()
    world.session._decoder.version = "1.2"
    asked = frame.replace("\n", "\nreceipt:r\n", 1)
    await world.session.received((asked + "SEND\ndestination:/topic/a\n\nafter\0").encode())
    await world.say("SEND", "later", destination="/topic/a")
    assert world.error == {"access_denied": AccessDenied.code}.get(code, code)
    assert len(world.transport.frames) == 1
    assert world.transport.frames[0].headers["content-type"] == "text/plain"
    assert world.transport.frames[0].body
    if code != "unknown_command":
        assert world.transport.frames[0].headers["receipt-id"] == "r"
    assert world.transport.closed is not None
    assert world.sent == []


async def test_a_receipt_of_an_earlier_frame_is_not_named_by_an_error(world: World) -> None:
    await world.connect()
    await world.session.received(b"BEGIN\ntransaction:t\nreceipt:r\n\n\0bad\n\n\0")
    assert world.error == "unknown_command"
    assert "receipt-id" not in world.transport.frames[-1].headers


async def test_a_frame_too_large_closes_with_its_own_code(world: World) -> None:
    await world.session.received(b"CONNECT\n" + b"a" * 17_000)
    assert world.error == "frame_too_large"
    assert world.transport.closed == (1009, "frame_too_large")


# -- subscriptions -------------------------------------------------------------------------------------------------


async def test_subscriptions_have_ids_of_their_own_and_a_limit(world: World) -> None:
    await world.connect()
    for number in range(MAX_SUBSCRIPTIONS):
        await world.say("SUBSCRIBE", id=str(number), destination="/topic/a")
    assert len(world.connection.subscriptions) == MAX_SUBSCRIPTIONS
    await world.say("UNSUBSCRIBE", id="5")
    await world.say("SUBSCRIBE", id="5", destination="/topic/b")
    assert world.transport.closed is None
    await world.say("SUBSCRIBE", id="more", destination="/topic/a")
    assert world.error == "too_many_subscriptions"
    await world.session.closed()
    assert all(each.told == ["closed"] for each in world.subscriptions)
    assert world.connection.subscriptions == {}


async def test_an_id_can_be_used_once_at_a_time(world: World) -> None:
    await world.connect()
    await world.say("SUBSCRIBE", id="1", destination="/topic/a")
    await world.say("SUBSCRIBE", id="1", destination="/topic/b")
    assert world.error == "duplicate_subscription"


async def test_1_0_needs_no_ids(world: World) -> None:
    await world.connect("1.0")
    await world.say("SUBSCRIBE", destination="/topic/a")
    await world.say("SUBSCRIBE", destination="/topic/b")
    await world.say("UNSUBSCRIBE", destination="/topic/a")
    assert [each.told for each in world.subscriptions] == [["closed"], []]
    assert world.subscriptions[0].id == ""
    await world.say("SUBSCRIBE", destination="/topic/b")
    assert world.error == "duplicate_subscription"


async def test_what_was_subscribed_while_the_connection_ended_is_closed_again(world: World) -> None:
    await world.connect()
    world.hold = asyncio.Event()
    saying = asyncio.create_task(world.say("SUBSCRIBE", id="1", destination="/topic/a"))
    await asyncio.sleep(0)
    await world.session.closed()
    world.hold.set()
    await saying
    assert world.subscriptions[0].told == ["closed"]


async def test_a_failed_connection_lets_go_before_its_peer_notices(world: World) -> None:
    await world.connect()
    await world.say("SUBSCRIBE", id="1", destination="/queue/a")
    world.connection.fail(ProtocolError("no more"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert world.subscriptions[0].told == ["closed"]
    await world.session.closed()
    assert world.subscriptions[0].told == ["closed"]


async def test_acknowledgements_find_their_subscription(world: World) -> None:
    await world.connect()
    await world.say("SUBSCRIBE", id="a", destination="/queue/a", ack="client")
    await world.say("SUBSCRIBE", id="b", destination="/queue/a", ack="client")
    await world.say("ACK", id=f"77.{world.subscriptions[1].serial}.4", receipt="1")
    await world.say("NACK", id=f"77.{world.subscriptions[0].serial}.2", subscription="b", receipt="2")
    assert [each.told for each in world.subscriptions] == [[("nack", 2)], [("ack", 4)]]
    assert world.answers == ["1", "2"]


# -- transactions --------------------------------------------------------------------------------------------------


async def test_a_transaction_happens_at_its_commit(world: World) -> None:
    await world.connect()
    await world.say("SUBSCRIBE", id="a", destination="/queue/a", ack="client")
    serial = world.subscriptions[0].serial
    await world.say("BEGIN", transaction="t", receipt="begin")
    await world.say("SEND", "1", destination="/topic/a", transaction="t", receipt="send")
    await world.say("ACK", id=f"7.{serial}.1", transaction="t", receipt="ack")
    await world.say("SEND", "2", destination="/topic/a", transaction="t")
    await world.say("SEND", "0", destination="/topic/a")
    assert world.sent == [b"0"]
    assert world.subscriptions[0].told == []
    assert world.answers == ["begin", "ack"]
    await world.say("COMMIT", transaction="t", receipt="commit")
    assert world.sent == [b"0", b"1", b"2"]
    assert world.together == [3]
    assert world.subscriptions[0].told == [("ack", 1)]
    assert world.answers == ["begin", "ack", "send", "commit"]
    await world.say("COMMIT", transaction="t")
    assert world.error == "unknown_transaction"


async def test_an_aborted_transaction_never_happened(world: World) -> None:
    await world.connect()
    await world.say("BEGIN", transaction="t")
    await world.say("SEND", "1", destination="/topic/a", transaction="t", receipt="never")
    await world.say("ABORT", transaction="t", receipt="abort")
    assert world.sent == []
    assert world.answers == ["abort"]


async def test_a_connection_that_ends_commits_nothing(world: World) -> None:
    await world.connect()
    await world.say("BEGIN", transaction="t")
    await world.say("SEND", "1", destination="/topic/a", transaction="t")
    await world.say("DISCONNECT", receipt="bye")
    assert world.sent == []
    assert world.answers == ["bye"]
    assert world.transport.closed == (1000, "")


# -- whatever comes ------------------------------------------------------------------------------------------------

_headers = st.sampled_from(
    [
        "id:1",
        "id:2",
        "destination:/topic/a",
        "destination:/topic/secret",
        "destination:",
        "ack:client",
        "ack:x",
        "transaction:t",
        "receipt:r",
        "receipt:\\x",
        "content-length:3",
        "accept-version:1.0,1.1",
        "accept-version:1.2",
        "heart-beat:1,1",
        "heart-beat:x",
        "subscription:1",
        "message-id:1.2.3",
        "passcode:",
        "\\c:\\n",
    ]
)
_commands = st.sampled_from(
    ["CONNECT", "STOMP", "SEND", "SUBSCRIBE", "UNSUBSCRIBE", "ACK", "NACK", "BEGIN", "COMMIT", "ABORT", "DISCONNECT"]
)
_frames = st.builds(
    lambda command, headers, body, end: "\n".join([command, *headers, "", body]).encode() + end,
    _commands,
    st.lists(_headers, max_size=5),
    st.sampled_from(["", "", "abc", "abcd"]),
    st.sampled_from([b"\0", b"\0", b"\0", b"\0\n", b""]),
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.booleans(), st.lists(_frames | st.binary(max_size=8), max_size=12))
async def test_whatever_comes_is_answered_within_the_rules(
    monkeypatch: pytest.MonkeyPatch, connected: bool, pieces: list[bytes]
) -> None:
    """No exception, at most one ERROR, which is last and followed by the end; nothing before CONNECTED is done."""
    with monkeypatch.context() as patch:
        world = World(patch)
        if connected:
            await world.connect()
        for piece in pieces:
            await world.session.received(piece)
        await world.session.closed()
        commands = [frame.command for frame in world.transport.frames]
        assert "ERROR" not in commands[:-1]
        assert ("ERROR" in commands) <= (world.transport.closed is not None)
        assert connected or "CONNECTED" in commands or not (world.sent or world.subscriptions)
        assert all(each.told[-1] == "closed" for each in world.subscriptions)
