"""ACK and NACK: finds the subscription that they speak of (STOMP 1.2, ACK; 1.1 and 1.0 the same).

What settles a delivery is `<message>.<subscription>.<number>`: it is MESSAGE's `ack` header, and for earlier versions
its `message-id`. Called by the session.
"""

from __future__ import annotations

from collections.abc import Iterable

from realtime.errors import ProtocolError
from realtime.stomp.frame import Frame
from realtime.stomp.subscription import AUTO, Subscription

_LONGEST = 60


def handle(message_id: int, serial: int, number: int) -> str:
    """What settles the delivery of that number of a subscription."""
    return f"{message_id}.{serial}.{number}"


async def settle(version: str, subscriptions: Iterable[Subscription], frame: Frame) -> None:
    """Does what an ACK or a NACK says; it is stored when this returns, if the frame wants a receipt.

    Raises `ProtocolError` `missing_id`, `unknown_ack` and `lease_lost`, and `Unavailable`.
    """
    subscription, number = find(version, subscriptions, frame)
    await subscription.settle(number, frame)


def find(version: str, subscriptions: Iterable[Subscription], frame: Frame) -> tuple[Subscription, int | None]:
    """The subscription that an ACK or a NACK speaks of, and the number of the delivery. Raises `ProtocolError`."""
    header = "id" if version == "1.2" else "message-id"
    given = frame.headers.get(header)
    if not given:
        raise ProtocolError(f"{frame.command} needs the header {header}", "missing_id")
    number, serial = _parsed(given)
    named = frame.headers.get("subscription") if version == "1.1" else None
    if version == "1.1" and not named:
        raise ProtocolError(f"{frame.command} needs the header subscription", "missing_id")
    found = _found(subscriptions, serial, named)
    if found is None:
        raise ProtocolError(f"{frame.command} of what was not delivered here", "unknown_ack")
    return found, number


def _parsed(given: str) -> tuple[int | None, int | None]:
    """Number and subscription of a handle; None for the ids of records and broadcasts, which have none."""
    parts = given.split(".")
    if len(given) <= _LONGEST and len(parts) == 3 and all(part.isascii() and part.isdecimal() for part in parts):
        return int(parts[2]), int(parts[1])
    return None, None


def _found(subscriptions: Iterable[Subscription], serial: int | None, named: str | None) -> Subscription | None:
    for each in subscriptions:
        if named not in (None, each.id):
            continue
        if each.serial == serial if each.has_claims else serial is None and each.mode != AUTO:
            return each
    return None
