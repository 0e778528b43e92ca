"""One live connection of this process: who it is, what it subscribed to, how it is written to and how it ends.

Sessions of STOMP and streams of events write through it and are told by it; `registry` holds all of them. A transport
is what carries it: a WebSocket, a SockJS session, a streaming answer.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from brokers.access import Principal
from brokers.errors import BrokerError
from realtime import metrics
from realtime.credentials import Credential
from realtime.errors import PolicyViolation, ProtocolError, SlowConsumer
from realtime.wheel import Appointment, Wheel

if TYPE_CHECKING:
    from realtime.frame_recorder import FrameRecorder
    from realtime.subscription_positions import SubscriptionPosition

GOING_AWAY: Final = 1001
POLICY: Final = 1008
INTERNAL_ERROR: Final = 1011
_FAILURES_OF_OURS: Final = frozenset({"error", "unavailable", "internal_error"})
MISSED_BEATS: Final = 3
"""A peer that was silent for so many of the agreed intervals is taken for gone."""
RECEIVED_PER_SECOND: Final = 5_000
"""Messages that one connection may send in the long run."""
RECEIVED_AT_ONCE: Final = 20_000
"""Messages that it may send without a pause."""


class Transport(Protocol):
    """What carries a connection. Nothing of it waits, but `space`."""

    @property
    def kind(self) -> str:
        """Such as websocket, sockjs-xhr-streaming, sse: for people, and one of few."""

    @property
    def wrap(self) -> Callable[[bytes], bytes]:
        """Makes what is written of a payload: a function of a module, so that it is part of what an encoding is for."""

    def put(self, frame: bytes) -> bool:
        """Writes or queues what `wrap` made; False when the peer is too slow or gone."""

    def buffered(self) -> int:
        """Bytes that wait for the peer to read."""

    async def space(self) -> None:
        """Returns once the queue is less than half full, or the connection has ended."""

    def end(self, payloads: Sequence[bytes], code: int, reason: str) -> None:
        """Writes these payloads last, then closes; a peer that does not read them is cut off after a grace time.

        `code` and `reason` are those of a WebSocket (RFC 6455, 7.4). The second call does nothing.
        """


class Connection:
    """A live connection. Its owner calls `closed` when the peer has gone; everything else may end it by `fail`."""

    __slots__ = (
        "_appointment",
        "_beat",
        "_burst",
        "_burst_at",
        "_expect_every",
        "_heard_at",
        "_send_every",
        "_sent_at",
        "_wheel",
        "address",
        "busy",
        "connected_at",
        "credential",
        "dropped",
        "ended",
        "id",
        "last_error",
        "on_end",
        "on_fail",
        "on_principal",
        "opened",
        "positions",
        "principal",
        "protocol",
        "received",
        "recorder",
        "sent",
        "subscriptions",
        "transport",
        "user_agent",
    )

    def __init__(
        self,
        protocol: str,
        transport: Transport,
        *,
        wheel: Wheel,
        principal: Principal | None = None,
        credential: Credential | None = None,
        user_agent: str = "",
        address: str = "",
    ) -> None:
        self.id = secrets.token_hex(16)
        self.protocol = protocol
        """`stomp` or `sse`."""
        self.transport = transport
        self.principal = principal
        self.credential = credential
        """What the principal came with, asked again while the connection lives."""
        self.user_agent = user_agent[:200]
        self.address = address
        self.connected_at = time.time()
        self.sent = 0
        self.received = 0
        self.dropped = 0
        self.last_error: str | None = None
        self.subscriptions: dict[str, str] = {}
        """Ids of its subscriptions and what they are, for people; kept by the session."""
        self.opened = False
        """The protocol's own greeting is done, such as CONNECT by CONNECTED; the session says so (`expect_login`)."""
        self.busy = False
        """What the peer sent is being handled, and nothing more is read meanwhile: its silence proves nothing."""
        self.ended = False
        """Nothing can be written any more: it failed, was closed, or the peer has gone."""
        self.on_fail: Callable[[BrokerError, str | None], bytes] | None = None
        """Makes the protocol's last word of an error and the receipt asked for, such as an ERROR frame."""
        self.on_end: Callable[[], None] | None = None
        """Called once, when `ended` becomes true; it must not wait."""
        self.on_principal: Callable[[Principal], None] | None = None
        """Called when what the principal may do has changed; raising a `BrokerError` ends the connection with it."""
        self.positions: Callable[[], list[SubscriptionPosition]] | None = None
        """Where its subscriptions stand, for whoever watches it."""
        self.recorder: FrameRecorder | None = None
        """Is told of every frame while somebody watches (`connection_details`)."""
        self._wheel = wheel
        self._appointment: Appointment | None = None
        self._beat = b""
        self._send_every = self._expect_every = 0.0
        self._heard_at = self._sent_at = wheel.now
        self._burst, self._burst_at = float(RECEIVED_AT_ONCE), wheel.now

    # -- writing --------------------------------------------------------------------------------------------------

    def put(self, wrapped: bytes, messages: int = 1) -> bool:
        """Writes what `transport.wrap` made of so many messages; never waits.

        False when it cannot be written; a connection that does not read ends itself as a slow consumer.
        """
        if self.transport.put(wrapped):
            self.sent += messages
            self._sent_at = self._wheel.now
            metrics.delivered.count += messages
            if self.recorder is not None:
                self.recorder.sent(wrapped)
            return True
        self._overflow(messages)
        return False

    def write(self, payload: bytes, messages: int = 0) -> bool:
        """`put` of a payload that is for this connection alone, such as a RECEIPT."""
        return self.put(self.transport.wrap(payload), messages)

    async def space(self) -> bool:
        """Waits until there is room for more; False once the connection has ended."""
        if not self.ended:
            await self.transport.space()
        return not self.ended

    def _overflow(self, messages: int) -> None:
        self.dropped += messages
        if not self.ended:
            metrics.slow_consumers.inc()
            self.fail(SlowConsumer("the connection was not read fast enough for what it subscribed to"))

    # -- reading --------------------------------------------------------------------------------------------------

    def heard(self, messages: int = 0) -> None:
        """Notes that the peer sent something: any bytes, and so many messages among them.

        Raises: PolicyViolation (`rate_limited`) for too many messages.
        """
        self._heard_at = self._wheel.now
        if not messages:
            return
        self.received += messages
        metrics.received.count += messages
        self.spend(messages)

    def spend(self, messages: int) -> None:
        """Takes these from what the peer may send; heart-beats and pieces of messages are no messages, but not free.

        Raises: PolicyViolation (`rate_limited`).
        """
        now = self._wheel.now
        self._burst = min(RECEIVED_AT_ONCE, self._burst + (now - self._burst_at) * RECEIVED_PER_SECOND) - messages
        self._burst_at = now
        if self._burst < 0:
            raise PolicyViolation(f"more than {RECEIVED_PER_SECOND} messages per second", "rate_limited")

    def pause(self) -> float:
        """Seconds until the peer may send more; 0 is now.

        Whoever waits so long never exceeds the limit, and leaves something of it for messages that nobody waits with.
        """
        burst = self._burst + (self._wheel.now - self._burst_at) * RECEIVED_PER_SECOND
        return max(0.0, (1 + RECEIVED_AT_ONCE / 20 - burst) / RECEIVED_PER_SECOND)

    def keep_alive(self, beat: bytes, send_every: float, expect_every: float) -> None:
        """Agrees on heart-beats, in seconds; 0 is none (STOMP 1.2, heart-beating).

        The payload `beat` is written whenever nothing else was for `send_every`. A peer silent for `MISSED_BEATS` times
        `expect_every` is cut off.
        """
        if self._appointment is not None:
            self._appointment.cancel()
            self._appointment = None
        self._beat, self._send_every, self._expect_every = beat, send_every, expect_every
        self._heard_at = self._sent_at = self._wheel.now
        periods = [seconds for seconds in (send_every, expect_every) if seconds > 0]
        if periods and not self.ended:
            self._appointment = self._wheel.visit_in(min(periods) * 0.9, self._visit)

    def _visit(self, now: float) -> float | None:
        if self.ended:
            return None
        waits = []
        if self._expect_every:
            if self.busy:
                self._heard_at = now
            silent = now - self._heard_at
            if silent > MISSED_BEATS * self._expect_every:
                self.last_error = "heart_beat_missed"
                self.end(POLICY, "no heart-beat")
                return None
            waits.append(MISSED_BEATS * self._expect_every - silent)
        if self._send_every:
            period = self._send_every * 0.9  # a peer may not forgive the slot and the journey
            if now - self._sent_at >= period and not self.write(self._beat):
                return None
            waits.append(period - (now - self._sent_at))
        return max(min(waits), 0.0)

    def silent_for(self) -> float:
        """Seconds since the peer sent anything."""
        return max(0.0, self._wheel.now - self._heard_at)

    # -- ending ---------------------------------------------------------------------------------------------------

    def fail(self, error: BrokerError, receipt_id: str | None = None) -> None:
        """Ends the connection with an error: the protocol's last word of it, then the close."""
        if self.ended:
            return
        self.last_error = error.code
        last = self.on_fail(error, receipt_id) if self.on_fail is not None else None
        self.end(close_code(error), error.code, [last] if last else ())

    def end(self, code: int, reason: str, payloads: Sequence[bytes] = ()) -> None:
        """Closes the connection in good order, after these payloads."""
        if not self.ended:
            if self.recorder is not None:
                for payload in payloads:
                    self.recorder.sent(payload)
            self.transport.end(payloads, code, reason)
            self.closed()

    def closed(self) -> None:
        """Notes that the connection is over; its owner calls it when the peer has gone."""
        if self.ended:
            return
        self.ended = True
        if self._appointment is not None:
            self._appointment.cancel()
        if self.on_end is not None:
            self.on_end()


def close_code(error: BrokerError) -> int:
    """What a WebSocket is closed with for this error (RFC 6455, section 7.4.1)."""
    if isinstance(error, ProtocolError):
        return error.close_code
    return INTERNAL_ERROR if error.retryable or error.code in _FAILURES_OF_OURS else POLICY


async def wait_ended(connection: Connection) -> None:
    """Returns when the connection has ended; takes the place of its `on_end`."""
    ended = asyncio.Event()
    connection.on_end = ended.set
    if not connection.ended:
        await ended.wait()
