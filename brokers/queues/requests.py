"""Request and reply: a message that asks, and the wait for the one that answers.

Each thread that asks has a temporary queue for its answers, which expires some minutes after the last request. Who
answers sends to the message's `reply_to` through the default exchange, with its `correlation_id`.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final
from uuid import uuid4

from django.db import connection
from django.db.transaction import TransactionManagementError

from brokers.database import in_transaction
from brokers.errors import InvalidValue, QueueNotFound, Unavailable, shown
from brokers.queues import claims, declaring, topology
from brokers.queues.claims import Claim
from brokers.queues.message import Message
from brokers.queues.message_input import MAX_DELAY_MS
from brokers.queues.sending import send
from brokers.queues.topology import QueueInfo
from brokers.wakeup import Subscription

EXPIRES_MS: Final = 600_000
"""A thread's queue for answers goes when it was not asked for so long."""
_LEASE_MS: Final = 30_000
_AT_ONCE: Final = 100
_SUBSCRIBE_SECONDS: Final = 0.001
_THREADS: Final = 32
_WAITING_LIMIT: Final = 64
_executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="request")
_own = threading.local()


def request(exchange: str, routing_key: str, body: Any, timeout: float, **properties: Any) -> Message:
    """Sends a message and waits for its answer, at most `timeout` seconds.

    `properties` are those of `send`; the request expires when nobody waits for the answer any more, unless they say
    otherwise. Raises TimeoutError without an answer in time, `Unroutable` when no queue is reached, what `send` raises,
    and Django's TransactionManagementError inside a transaction: nobody could see the request.
    """
    if in_transaction():
        raise TransactionManagementError("a request is seen only after the commit: make it outside of a transaction")
    if not isinstance(timeout, int | float) or not 0 < timeout * 1000 <= MAX_DELAY_MS:
        raise InvalidValue(f"a timeout is a number of seconds above 0, not {shown(timeout)}", pointer="/timeout")
    deadline = time.monotonic() + timeout
    correlation = properties.pop("correlation_id", None) or uuid4().hex
    properties.setdefault("expiration_ms", math.ceil(timeout * 1000))
    queue = _answers()
    hints = [f"q{queue.id}"]
    with Subscription() as subscription:
        subscription.wait_for(hints, _SUBSCRIBE_SECONDS)
        properties |= {"reply_to": queue.name, "correlation_id": correlation, "mandatory": True}
        send(exchange, routing_key, body, **properties)
        while (left := deadline - time.monotonic()) > 0:
            subscription.wait_for(hints, left)
            answer = _answer(queue, correlation)
            if answer is not None:
                return answer
    raise TimeoutError(f"no answer came within {timeout:g} seconds")


async def arequest(
    exchange: str,
    routing_key: str,
    body: Any,
    timeout: float,  # noqa: ASYNC109 - how long the answer is waited for, in a thread
    **properties: Any,
) -> Message:
    """`request` for asynchronous code, waiting in one of a few threads; never part of a handler's transaction.

    Raises `Unavailable` when too many requests wait already.
    """
    if _executor._work_queue.qsize() > _WAITING_LIMIT:
        raise Unavailable("too many requests wait for their answers; try again in a second")
    asking = partial(_in_thread, partial(request, exchange, routing_key, body, timeout, **properties))
    return await asyncio.get_running_loop().run_in_executor(_executor, asking)


def _in_thread(asking: partial[Message]) -> Message:
    try:
        return asking()
    finally:
        connection.close()


def _answers() -> QueueInfo:
    """This thread's queue for answers."""
    name = getattr(_own, "queue", None)
    if name is not None:
        try:
            return topology.queue(name)
        except QueueNotFound:
            pass
    _own.queue = name = f"answers.{uuid4().hex}"
    declaring.declare_queue(name, temporary=True, expires_ms=EXPIRES_MS, dead_letters="none")
    return topology.queue(name)


def _answer(queue: QueueInfo, correlation: str) -> Message | None:
    """The answer, if it has come; late ones to former requests are thrown away."""
    while found := claims.claim(queue, _AT_ONCE, _LEASE_MS, queue.name):
        claims.ack(queue, [Claim.of(message) for message in found])
        for message in found:
            if message.correlation_id == correlation:
                return message
    return None
