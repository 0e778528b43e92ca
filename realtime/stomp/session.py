"""One STOMP session: what may come when, and what is answered.

Made by `realtime.asgi` for each connection, over a WebSocket or SockJS alike. Frames are handled one after the other;
a RECEIPT goes out when what it is for has been done, and with a SEND stored. Every error is one ERROR frame and the end
of the connection. Destinations are the business of `sending` and `subscribing`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from brokers.access import Principal
from brokers.errors import AccessDenied, BrokerError, InvalidToken, Unauthenticated, shown
from realtime import credentials
from realtime.connections import Connection
from realtime.errors import PolicyViolation, ProtocolError
from realtime.hub import LiveHub
from realtime.stomp import committing, negotiation, settling, subscribing
from realtime.stomp.decoder import AFTER_LOGIN, BEFORE_LOGIN, Decoder
from realtime.stomp.encoder import encode
from realtime.stomp.frame import HEART_BEAT, VERSIONS, Frame
from realtime.stomp.outbox import Outbox
from realtime.stomp.subscription import Subscription
from realtime.stomp.transactions import Transactions
from realtime.subscription_positions import SubscriptionPosition
from realtime.wheel import SLOT_SECONDS

SERVER: Final = "Waystation/0.1"
MAX_SUBSCRIPTIONS: Final = 100
"""Of one connection."""
NORMAL: Final = 1000
_LONGEST_DETAIL: Final = 2_000
_PACED: Final = frozenset({"SEND", "ACK", "NACK"})


class StompSession:
    """One client's; what `sending` and `subscribing` know as their context."""

    def __init__(self, connection: Connection, live: LiveHub) -> None:
        self.connection = connection
        self.live = live
        self.version = "1.2"
        """What was agreed on; until then what an ERROR is written by."""
        self._decoder = Decoder(BEFORE_LOGIN)
        self._subscriptions: dict[str, Subscription] = {}
        self._transactions = Transactions()
        self._outbox = Outbox(self, self._stored)
        self._one_at_a_time = asyncio.Lock()
        self._closing: asyncio.Task[None] | None = None
        self._connected = False
        connection.on_fail = self._error_frame
        connection.on_end = self._ended
        connection.on_principal = self._rights_changed
        connection.positions = self._positions

    @property
    def principal(self) -> Principal:
        """Who it is, as of the last look at what that one may do."""
        principal = self.connection.principal
        assert principal is not None  # destinations are for those who have logged in
        return principal

    def subscription(self, name: str) -> Subscription | None:
        """The subscription of that id."""
        return self._subscriptions.get(name)

    def check_room(self, name: str) -> None:
        """Raises `ProtocolError` if there is a subscription of that id, `PolicyViolation` if there are too many."""
        if name in self._subscriptions:
            raise ProtocolError(f"a subscription {shown(name)} exists already", "duplicate_subscription")
        if len(self._subscriptions) >= MAX_SUBSCRIPTIONS:
            raise PolicyViolation(
                f"a connection has at most {MAX_SUBSCRIPTIONS} subscriptions", "too_many_subscriptions"
            )

    async def adopt(self, name: str, subscription: Subscription) -> None:
        """Keeps a subscription by its id, or ends it: the connection may have ended meanwhile, or lost the permission.

        Raises `AccessDenied`.
        """
        try:
            subscription.check_rights()
        except AccessDenied:
            await subscription.close()
            raise
        if self.connection.ended:
            await subscription.close()
            return
        self._subscriptions[name] = subscription
        self.connection.subscriptions[name] = subscription.description

    def _positions(self) -> list[SubscriptionPosition]:
        found = [subscription.position() for subscription in self._subscriptions.values()]
        for position, name in zip(found, self._subscriptions, strict=True):
            position.id = name  # of STOMP 1.0 they may have none of their own
        return found

    # -- coming in ------------------------------------------------------------------------------------------------

    async def received(self, data: bytes) -> None:
        """Handles what came, in order. Errors end the connection.

        Returns when all whole frames of it are done, but for a few SENDs, which `done` waits for.
        """
        async with self._one_at_a_time:
            asked: str | None = None
            self.connection.busy = True
            try:
                self.connection.heard()
                is_piece = True
                for frame in self._decoder.feed(data):
                    if self.connection.ended:
                        return
                    asked = frame.headers.get("receipt")
                    is_piece = False
                    if self.connection.recorder is not None:
                        self.connection.recorder.received(frame)
                    if frame.command in _PACED:
                        await self._pace()
                    self.connection.heard(1)
                    await self._handle(frame)
                    asked = None
                if is_piece:
                    await self._pace()
                    self.connection.spend(1)
            except BrokerError as error:
                await self._outbox.empty()
                self.connection.fail(error, asked or self._decoder.receipt)
            finally:
                self.connection.busy = False

    async def done(self) -> None:
        """Returns once all SENDs are delivered that came."""
        await self._outbox.empty()

    async def _pace(self) -> None:
        """Reads no faster than a client may send: whoever has much to store or to settle is slowed down, not ended."""
        pause = self.connection.pause()
        if pause:
            await asyncio.sleep(pause + SLOT_SECONDS)  # the connection's clock turns by slots

    async def _handle(self, frame: Frame) -> None:
        if frame.command == "SEND" and self._connected and "transaction" not in frame.headers:
            _require(frame, "destination", "missing_destination")
            if not self._outbox.add(frame):
                await self._outbox.empty()
            return
        await self._outbox.empty()
        if self.connection.ended:
            return
        if frame.command in ("CONNECT", "STOMP"):
            await self._connect(frame)
            return
        if not self._connected:
            raise ProtocolError(f"{frame.command} before CONNECT", "not_connected")
        if "transaction" in frame.headers and frame.command in ("SEND", "ACK", "NACK"):
            if frame.command == "SEND":
                _require(frame, "destination", "missing_destination")
            self._transactions.add(frame)
            if frame.command != "SEND":  # a receipt of a SEND says that it is stored
                self._receipt(frame)
            return
        await self._HANDLERS[frame.command](self, frame)

    async def _connect(self, frame: Frame) -> None:
        if self._connected:
            raise ProtocolError("this session is connected already", "already_connected")
        version = negotiation.version(frame.headers)
        beats = negotiation.heart_beats(frame.headers)
        await self._log_in(frame.headers.get("passcode", "").strip())
        self.version = self._decoder.version = version
        self._decoder.limits = AFTER_LOGIN
        self._connected = self.connection.opened = True
        sends, expects = negotiation.SERVER_HEART_BEAT
        answer = {
            "version": version,
            "heart-beat": f"{sends},{expects}",
            "session": self.connection.id,
            "server": SERVER,
            "user-name": self.principal.user_name(),
        }
        self._write(Frame("CONNECTED", answer))
        self.connection.keep_alive(HEART_BEAT, beats.send_every / 1000, beats.expect_every / 1000)

    async def _log_in(self, passcode: str) -> None:
        if not passcode:
            if self.connection.principal is None:
                raise PolicyViolation("give an API token as passcode", "unauthenticated")
            return
        try:
            credential = credentials.of_token(passcode)
            principal = await credential.principal()
        except (InvalidToken, Unauthenticated) as error:
            raise PolicyViolation("the passcode is not a valid API token", "unauthenticated") from error
        self.live.registry.admit(self.connection, principal, credential)

    async def _subscribe(self, frame: Frame) -> None:
        _require(frame, "destination", "missing_destination")
        name = frame.headers.get("id", "")
        if not name:
            if self.version != "1.0":
                raise ProtocolError("SUBSCRIBE needs the header id", "missing_id")
            name = _unnamed(frame)
        self.check_room(name)
        await self.adopt(name, await subscribing.subscribe(self, frame))
        self._receipt(frame)

    async def _unsubscribe(self, frame: Frame) -> None:
        name = frame.headers.get("id", "")
        if not name and self.version == "1.0":
            name = _unnamed(frame) if frame.headers.get("destination") else ""
        if not name:
            raise ProtocolError("UNSUBSCRIBE needs the header id", "missing_id")
        subscription = self._subscriptions.pop(name, None)
        if subscription is None:
            raise ProtocolError(f"there is no subscription {shown(name)}", "unknown_subscription")
        self.connection.subscriptions.pop(name, None)
        await subscription.unsubscribe()
        self._receipt(frame)

    async def _settle(self, frame: Frame) -> None:
        await settling.settle(self.version, self._subscriptions.values(), frame)
        self._receipt(frame)

    async def _begin(self, frame: Frame) -> None:
        self._transactions.begin(frame)
        self._receipt(frame)

    async def _commit(self, frame: Frame) -> None:
        """Does all that was held back, as one; then receipts of its SENDs go out, too."""
        frames = self._transactions.end(frame)
        await committing.commit(self, self._subscriptions.values(), frames)
        self._receipt(*[each for each in frames if each.command == "SEND"], frame)

    async def _abort(self, frame: Frame) -> None:
        self._transactions.end(frame)
        self._receipt(frame)

    async def _disconnect(self, frame: Frame) -> None:
        receipt = _receipt_of(frame)
        last = [encode(receipt, self.version)] if receipt else []
        await self._let_go()
        self.connection.end(NORMAL, "", last)

    _HANDLERS: Final[dict[str, Callable[[StompSession, Frame], Awaitable[None]]]] = {
        "ABORT": _abort,
        "ACK": _settle,
        "BEGIN": _begin,
        "COMMIT": _commit,
        "DISCONNECT": _disconnect,
        "NACK": _settle,
        "SUBSCRIBE": _subscribe,
        "UNSUBSCRIBE": _unsubscribe,
    }

    # -- going out ------------------------------------------------------------------------------------------------

    def _stored(self, frames: Sequence[Frame]) -> None:
        self._receipt(*frames)

    def _receipt(self, *frames: Frame) -> None:
        answers = [answer for frame in frames if (answer := _receipt_of(frame)) is not None]
        if answers:
            self._write(*answers)

    def _write(self, *frames: Frame) -> None:
        if not self.connection.ended:
            self.connection.write(b"".join(encode(frame, self.version) for frame in frames))

    def _error_frame(self, error: BrokerError, receipt_id: str | None) -> bytes:
        headers = {"message": error.code, "content-type": "text/plain"}
        if isinstance(error, negotiation.UnsupportedVersion):
            headers["version"] = ",".join(VERSIONS)
        if receipt_id:
            headers["receipt-id"] = receipt_id
        detail = error.detail[:_LONGEST_DETAIL].encode("utf-8", "replace")
        return encode(Frame("ERROR", headers, detail), self.version)

    # -- the end --------------------------------------------------------------------------------------------------

    def _rights_changed(self, principal: Principal) -> None:
        for subscription in self._subscriptions.values():
            subscription.check_rights()

    def _ended(self) -> None:
        """Lets messages go back at once when the connection has failed, whenever its peer notices."""
        self._closing = asyncio.get_running_loop().create_task(self._let_go(), name="waystation-stomp-end")

    async def closed(self) -> None:
        """Lets go of everything: the connection is over."""
        self.connection.closed()
        if self._closing is not None:
            await self._closing
        await self._outbox.empty()
        await self._let_go()

    async def _let_go(self) -> None:
        self._transactions.clear()
        while self._subscriptions:
            name, subscription = self._subscriptions.popitem()
            self.connection.subscriptions.pop(name, None)
            await subscription.close()


def _require(frame: Frame, name: str, code: str) -> None:
    if not frame.headers.get(name):
        raise ProtocolError(f"{frame.command} needs the header {name}", code)


def _unnamed(frame: Frame) -> str:
    """What a subscription of STOMP 1.0 is known by that has no id."""
    return f"\n{frame.headers['destination']}"


def _receipt_of(frame: Frame) -> Frame | None:
    asked = frame.headers.get("receipt")
    return Frame("RECEIPT", {"receipt-id": asked}) if asked else None
