"""Exchanges and queues with messages in every state, for tests of the console's screens of them."""

from __future__ import annotations

from dataclasses import dataclass

from brokers.models import Message as MessageRow
from brokers.queues import claims, declaring, sending, topology
from brokers.queues.message import Message

LONG = "a" * 240
EVIL = "<script>alert(1)</script>\u202e"


@dataclass(frozen=True, slots=True)
class Airport:
    """The exchange `flights` bound to `rebooking`, and on to the exchange `archive` with its queue `all-flights`."""

    exchange: str = "flights"
    queue: str = "rebooking"

    def send(self, *bodies: object, key: str = "flight.JFK.UA", **options: object) -> list[int]:
        """Publishes to the exchange; the messages' ids."""
        return [sending.send(self.exchange, key, body, **options).id for body in bodies]  # type: ignore[arg-type]

    def claim(self, limit: int = 1, lease_ms: int = 60_000, holder: str = "desk-1") -> list[Message]:
        """Claims from `rebooking`."""
        return claims.claim(topology.queue(self.queue), limit, lease_ms, holder)

    def row(self, message: int) -> int:
        """The row of a message in `rebooking`."""
        queue = topology.queue(self.queue).id
        return MessageRow.objects.get(queue_id=queue, pos=message).pk


def airport() -> Airport:
    """Declares it."""
    declaring.declare_exchange("flights", type="topic", alternate_exchange="strays")
    declaring.declare_exchange("archive", type="fanout")
    declaring.declare_exchange("strays", type="fanout")
    declaring.declare_queue("rebooking", max_priority=5, dead_letter_exchange="strays")
    declaring.declare_queue("all-flights")
    declaring.declare_queue("lost")
    declaring.bind("flights", queue="rebooking", routing_key="flight.*.UA")
    declaring.bind("flights", to_exchange="archive", routing_key="flight.#")
    declaring.bind("archive", queue="all-flights")
    declaring.bind("strays", queue="lost")
    return Airport()
