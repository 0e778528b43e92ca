"""A message's history of dying, by RabbitMQ's rules: what `x-death` counts, and where a death would go round in a ring.

Borrowed from RabbitMQ 4's `mc` (record_death, is_death_cycle) and `rabbit_dead_letter` (publish, detect_cycles). Pure.
Called by `dead_lettering`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from brokers.queues.message import BCC, CC, Death, Envelope, Place

REJECTED: Final = "rejected"
EXPIRED: Final = "expired"
MAXLEN: Final = "maxlen"
DELIVERY_LIMIT: Final = "delivery_limit"


def record_death(envelope: Envelope, queue: str, reason: str, now_seconds: int) -> Envelope:
    """The envelope of a message that has just died in a queue.

    Deaths are newest first, one entry for each queue and reason: a repeated one counts up, moves to the front and keeps
    what it said at first. The first death is written once, the last one each time. The expiration is taken away, so
    that the message does not expire again, and stays in the death's entry.
    """
    known = next((death for death in envelope.deaths if death.queue == queue and death.reason == reason), None)
    if known is None:
        expiration = envelope.expiration_ms
        newest = Death(
            queue=queue,
            reason=reason,
            count=1,
            time=now_seconds,
            exchange=envelope.exchange,
            routing_keys=_keys(envelope, (CC,)),
            original_expiration=None if expiration is None else str(expiration),
        )
    else:
        newest = msgspec.structs.replace(known, count=known.count + 1)
    place = Place(queue=queue, reason=reason, exchange=envelope.exchange)
    return msgspec.structs.replace(
        envelope,
        expiration_ms=None,
        deaths=[newest, *(death for death in envelope.deaths if death is not known)],
        first_death=envelope.first_death or place,
        last_death=place,
    )


def is_cycle(envelope: Envelope, queue: str, reason: str) -> bool:
    """Whether a message that died for `reason` must not go to this queue.

    So it is when it was there before and no client has rejected it since; `envelope` already holds the death.
    """
    if reason == REJECTED:
        return False
    for death in envelope.deaths:
        if death.reason == REJECTED:
            return False
        if death.queue == queue:
            return True
    return False


def forwarded(envelope: Envelope, exchange: str, routing_key: str | None) -> tuple[Envelope, tuple[str, ...]]:
    """The envelope as it goes on to another exchange, and all keys to route it by.

    A routing key given here takes the place of all others; else those of CC and BCC count as at first.
    """
    if routing_key is None:
        return msgspec.structs.replace(envelope, exchange=exchange), tuple(_keys(envelope, (CC, BCC)))
    headers = {name: value for name, value in envelope.headers.items() if name not in (CC, BCC)}
    passed = msgspec.structs.replace(envelope, exchange=exchange, routing_key=routing_key, headers=headers)
    return passed, (routing_key,)


def _keys(envelope: Envelope, names: tuple[str, ...]) -> list[str]:
    """The routing key and those of some headers, each once; what an operator's edit made of those may be anything."""
    keys = [envelope.routing_key]
    for name in names:
        more = envelope.headers.get(name)
        if isinstance(more, list):
            keys += [key for key in more if isinstance(key, str) and key not in keys]
    return keys
