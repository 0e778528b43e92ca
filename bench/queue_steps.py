"""What the measurements of queues repeat: a call that publishes, a claim with its acknowledgement."""

from __future__ import annotations

from collections.abc import Callable

from bench.workload import bytes_value
from brokers.queues import claims, declaring, sending, topology
from brokers.queues.message import NewMessage
from brokers.record import JSON

LEASE_MS = 30_000
HOLDER = "bench"


def new_queue(name: str) -> topology.QueueInfo:
    """The queue, empty."""
    if topology.fresh().queue(name) is not None:
        declaring.delete_queue(name)
    declaring.declare_queue(name)
    return topology.queue(name)


def messages(count: int, queue: str) -> list[NewMessage]:
    """Messages of a hundred bytes, each another one."""
    return [NewMessage(bytes_value(number), JSON, queue) for number in range(count)]


def publishing(queue: str, size: int) -> Callable[[], int]:
    """A step: one call with so many messages."""
    ready = messages(size, queue)

    def step() -> int:
        sending.send_many("", ready)
        return size

    return step


def draining(info: topology.QueueInfo, size: int) -> Callable[[], int]:
    """A step: one claim of so many messages, and one call that acknowledges them."""

    def step() -> int:
        claimed = claims.claim(info, size, LEASE_MS, HOLDER)
        acked = claims.ack(info, [claims.Claim.of(message) for message in claimed])
        if len(acked) != size:
            raise RuntimeError(f"{len(acked)} of {size} messages were acknowledged")
        return size

    return step
