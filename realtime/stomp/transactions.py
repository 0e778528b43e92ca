"""What a session holds back between BEGIN and COMMIT, within bounds. Pure; called by the session."""

from __future__ import annotations

from typing import Final

from brokers.errors import shown
from realtime.errors import FrameTooLarge, ProtocolError
from realtime.stomp.frame import Frame

MAX_OPEN: Final = 16
MAX_FRAMES: Final = 1_000
"""Of one transaction."""
MAX_BYTES: Final = 8 * 1024 * 1024
"""Of all transactions of a session."""
_FRAME_COST: Final = 512


class Transactions:
    """The open transactions of one session. What was not committed is gone with it (STOMP 1.2, BEGIN)."""

    def __init__(self) -> None:
        self._open: dict[str, list[Frame]] = {}
        self._bytes = 0

    def begin(self, frame: Frame) -> None:
        """Opens the transaction that the frame names; raises `ProtocolError`."""
        name = _name(frame)
        if name in self._open:
            raise ProtocolError(f"the transaction {shown(name)} is open already", "duplicate_transaction")
        if len(self._open) >= MAX_OPEN:
            raise ProtocolError(f"{MAX_OPEN} transactions are open already", "too_many_transactions")
        self._open[name] = []

    def add(self, frame: Frame) -> None:
        """Keeps a frame that names an open transaction; raises `ProtocolError` and `FrameTooLarge`."""
        frames = self._known(_name(frame))
        if len(frames) >= MAX_FRAMES:
            raise ProtocolError(f"a transaction holds at most {MAX_FRAMES} frames", "transaction_too_large")
        self._bytes += _cost(frame)
        if self._bytes > MAX_BYTES:
            raise FrameTooLarge(f"open transactions hold at most {MAX_BYTES} bytes", "transaction_too_large")
        frames.append(frame)

    def end(self, frame: Frame) -> list[Frame]:
        """Closes the transaction that the frame names; what it held, in order. Raises `ProtocolError`."""
        name = _name(frame)
        frames = self._known(name)
        del self._open[name]
        self._bytes -= sum(map(_cost, frames))
        return frames

    def clear(self) -> None:
        """Forgets all of them."""
        self._open.clear()
        self._bytes = 0

    def _known(self, name: str) -> list[Frame]:
        frames = self._open.get(name)
        if frames is None:
            raise ProtocolError(f"the transaction {shown(name)} is not open", "unknown_transaction")
        return frames


def _name(frame: Frame) -> str:
    name = frame.headers.get("transaction")
    if not name:
        raise ProtocolError(f"{frame.command} needs the header transaction", "missing_transaction")
    return name


def _cost(frame: Frame) -> int:
    return _FRAME_COST + len(frame.body) + sum(len(name) + len(value) for name, value in frame.headers.items())
