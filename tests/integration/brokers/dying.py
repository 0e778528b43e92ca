"""A queue of its own and messages that die in it: what tests of queues' dead letters begin with."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from brokers import dead_letters
from brokers.dead_letters import Origin, Payload
from brokers.models import DeadLetter
from brokers.queues import claims, sending, topology
from brokers.queues.claims import Claim
from brokers.queues.dead_lettering import reject
from brokers.queues.declaring import declare_queue
from brokers.queues.message import Message
from brokers.record import JSON
from brokers.selectors.dead_letter_filter import Filter
from tests.server import unique

HOLDER = "test"


class Mortuary:
    """A queue whose messages die by hand."""

    def __init__(self, name: str | None = None, **settings: Any) -> None:
        self.queue = name or unique("queue")
        declare_queue(self.queue, **settings)

    @property
    def info(self) -> topology.QueueInfo:
        return topology.queue(self.queue)

    @property
    def all(self) -> Filter:
        """Every dead letter of this queue."""
        return Filter(source_kind="queue", source=self.queue)

    def letter(self, body: Any = None, *, reason: str = "no seat", **properties: Any) -> int:
        """A message is published, claimed and rejected; its dead letter's id."""
        sending.send("", self.queue, {"n": 1} if body is None else body, **properties)
        return self.reject(reason)

    def bare(self, value: bytes = b'{"n":1}', headers: dict[str, Any] | None = None, **columns: Any) -> int:
        """A dead letter without the message's envelope; its id."""
        encoding = columns.pop("encoding", JSON)
        origin = Origin(source_kind="queue", source=self.queue, **{"exchange": "", "routing_key": "k", **columns})
        with transaction.atomic():
            return dead_letters.add(origin, Payload(None, value, encoding, headers or {}), "rejected", None)

    def claim(self, limit: int = 1) -> list[Message]:
        return claims.claim(self.info, limit, 30_000, HOLDER)

    def reject(self, reason: str = "no seat") -> int:
        """The next message dies; its dead letter's id."""
        [message] = self.claim()
        assert len(reject(self.info, [Claim.of(message)], reason, HOLDER)) == 1
        newest = DeadLetter.objects.filter(source_kind="queue", source=self.queue).order_by("-failed_at").first()
        assert newest is not None
        return newest.pk

    def ack(self, message: Message) -> None:
        assert claims.ack(self.info, [Claim.of(message)])

    def reject_all(self, messages: list[Message]) -> int:
        """These die; how many."""
        return len(reject(self.info, [Claim.of(message) for message in messages], "", HOLDER))
