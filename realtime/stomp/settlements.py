"""What an ACK or a NACK does to a queue's messages: at once, or within the transaction of a COMMIT.

Called by queue subscriptions and by `committing`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from brokers.queues import claims, dead_lettering
from brokers.queues.claims import Claim
from brokers.queues.topology import QueueInfo
from realtime.errors import ProtocolError
from realtime.stomp.frame import Frame
from realtime.threads import in_thread

ACK: Final = "ack"
REQUEUE: Final = "requeue"
REJECT: Final = "reject"
_LONGEST_REASON: Final = 1000


@dataclass(slots=True)
class Settlement:
    """Claims of one queue, and what becomes of their messages."""

    queue: QueueInfo
    kind: str
    reason: str = ""
    """Why they are rejected, in the consumer's words."""
    holder: str = ""
    taken: dict[int, Claim] = field(default_factory=dict)
    """By the number of the delivery."""


def kind_of(frame: Frame) -> str:
    """What the frame asks for; a NACK dead-letters unless it says `requeue:true`. Raises `ProtocolError`."""
    if frame.command != "NACK":
        return ACK
    text = frame.headers.get("requeue", "false")
    if text not in ("true", "false"):
        raise ProtocolError("requeue is true or false", "invalid_header")
    return REQUEUE if text == "true" else REJECT


def reason_of(frame: Frame) -> str:
    """The header `reason` of a NACK."""
    return frame.headers.get("reason", "").replace("\0", "")[:_LONGEST_REASON]


async def asettle(wanted: Settlement) -> None:
    """Settles now; it is stored when this returns. Raises `ProtocolError` `lease_lost` and `Unavailable`."""
    given = list(wanted.taken.values())
    if wanted.kind == ACK:
        done = await claims.aack(wanted.queue, given)
    elif wanted.kind == REQUEUE:
        done = await claims.arequeue(wanted.queue, given)
    else:
        done = await in_thread(dead_lettering.reject, wanted.queue, given, wanted.reason, wanted.holder)
    _check(len(given) - len(done))


def settle(wanted: Settlement) -> None:
    """Settles as a part of the caller's transaction. Raises `ProtocolError` `lease_lost` and `Unavailable`."""
    given = list(wanted.taken.values())
    if wanted.kind == ACK:
        done = claims.ack(wanted.queue, given)
    elif wanted.kind == REQUEUE:
        done = claims.requeue(wanted.queue, given)
    else:
        done = dead_lettering.reject(wanted.queue, given, wanted.reason, wanted.holder)
    _check(len(given) - len(done))


def _check(lost: int) -> None:
    if lost:
        raise ProtocolError(f"{lost} messages were no longer held: they were taken back, or deleted", "lease_lost")
