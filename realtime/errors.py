"""What goes wrong in live push; each error has a stable code, which is an ERROR frame's `message` header.

They are `brokers.errors`, so that REST and the streams answer with the same codes. Every protocol error is followed
by the end of the connection (STOMP 1.2, ERROR).
"""

from __future__ import annotations

from brokers.errors import BrokerError


class ProtocolError(BrokerError):
    """The peer broke a rule of its protocol; the connection ends."""

    code: str = "protocol_error"  # type: ignore[misc]  # an instance may carry a more exact one
    close_code: int = 1002
    """What a WebSocket is closed with (RFC 6455, section 7.4.1)."""

    def __init__(self, detail: str, code: str | None = None, *, close_code: int | None = None) -> None:
        super().__init__(detail)
        if code is not None:
            self.code = code
        if close_code is not None:
            self.close_code = close_code


class FrameTooLarge(ProtocolError):
    """A frame, a header or a buffer beyond its limit."""

    code: str = "frame_too_large"  # type: ignore[misc]
    close_code = 1009


class PolicyViolation(ProtocolError):
    """Refused for who the peer is or how much it asks, not for how it asks."""

    code: str = "policy_violation"  # type: ignore[misc]
    close_code = 1008


class SlowConsumer(PolicyViolation):
    """A subscriber did not read what was sent to it."""

    code: str = "slow_consumer"  # type: ignore[misc]
