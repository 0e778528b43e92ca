"""Dead-lettering: takes messages out of a queue that have died there, and passes them on.

One transaction, the caller's: the history is written, a copy goes to each queue that the dead-letter exchange leads
to, the operator's dead letter is written where it is due, and the message leaves its queue. So it is in one place at
any time, whoever is killed. The rules of RabbitMQ are in `deaths`; unlike there, what would be dropped silently becomes
a dead letter. Called by claims, listeners and tending.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final, NamedTuple

from django.db import transaction

from brokers import dead_letters, wakeup
from brokers.database import sync_cursor
from brokers.dead_letter_headers import unmarked
from brokers.dead_letter_origins import Origin, Payload
from brokers.dead_letter_texts import ID_CHARACTERS
from brokers.errors import QueueFull, Unavailable
from brokers.failure import Failure, storable
from brokers.queues import claims as queue_claims
from brokers.queues import deaths, topology
from brokers.queues.claims import Claim
from brokers.queues.message import Envelope, Message, delivered_headers, encode
from brokers.queues.storing import Copies, Target, store_copies, target
from brokers.queues.topology import ExchangeInfo, QueueInfo, Topology
from brokers.sql import load

SQL = load("dead_lettering")

AT_ONCE: Final = 100
"""Messages dead-lettered in one transaction, where it is not the caller's."""
_ROUTINGS: Final = 10
"""How often messages are routed anew while the topology keeps changing."""
_X_DEATH: Final = "x-death"


class _Dead(NamedTuple):
    """A message that has died, and its envelope with that death."""

    message: Message
    envelope: Envelope


def reject(queue: QueueInfo, claims: Collection[Claim], reason: str = "", holder: str = "") -> set[Claim]:
    """Dead-letters messages whose consumer wants them neither now nor later; answers the claims that still held.

    Transactions of its own, a bounded number of messages each. `reason` is the consumer's text, `holder` who it is.
    """
    rejected: set[Claim] = set()
    wanted = list(claims)
    for start in range(0, len(wanted), AT_ONCE):
        with transaction.atomic():
            messages = queue_claims.locked(queue, wanted[start : start + AT_ONCE])
            dead_letter(queue, messages, deaths.REJECTED, handler=holder, note=reason)
        rejected.update(Claim(message.row, message.token) for message in messages if message.token is not None)
    return rejected


def dead_letter(
    queue: QueueInfo,
    messages: Sequence[Message],
    reason: str,
    *,
    letter_reason: str | None = None,
    failure: Failure | None = None,
    handler: str = "",
    note: str = "",
    idempotency_key: str | None = None,
) -> list[int | None]:
    """Takes messages of a queue, locked by the caller's open transaction, out of it: they died for `reason`.

    Answers the id of each one's dead letter, None where none is due. One that was `rejected` always has one; one that
    the queue gave up has one if it reached no other queue, unless the queue wants none; one that a replay gave back
    opens the same dead letter again. `letter_reason` is the dead letter's where it differs, `failure` and `handler`
    say who could not handle it, `note` what a consumer said. Raises `Unavailable`.
    """
    if not messages:
        return []
    now = int(time.time())
    dead = [_Dead(each, deaths.record_death(unmarked(each.envelope), queue.name, reason, now)) for each in messages]
    reached = _pass_on(queue, dead, reason)
    due = [reason == deaths.REJECTED or (not found and queue.dead_letters != "none") for found in reached]
    origins = [_origin(queue, each, handler, note, idempotency_key) for each in dead]
    letters = _letters(dead, origins, due, letter_reason or reason, failure)
    with sync_cursor() as cursor:
        cursor.execute(SQL.remove, (queue.id, [message.row for message in messages]))
    return letters


# -- passing on -------------------------------------------------------------------------------------------------


def _pass_on(queue: QueueInfo, dead: Sequence[_Dead], reason: str) -> list[bool]:
    """Stores the copies; says of each message whether it reached a queue."""
    try:
        reached = _store(queue, dead, reason)
    except QueueFull:
        reached = [_store_one(queue, each, reason) for each in dead]
    queues = {to.queue.id for targets in reached for to in targets}
    if queues:
        transaction.on_commit(partial(wakeup.announce_queues, queues), robust=True)
    return [bool(targets) for targets in reached]


def _store_one(queue: QueueInfo, dead: _Dead, reason: str) -> Sequence[Target]:
    """Leaves out queues that are full and refuse it."""
    full: set[str] = set()
    while True:
        try:
            return _store(queue, [dead], reason, full)[0]
        except QueueFull as error:
            full.add(error.facts["queue"])


def _store(queue: QueueInfo, dead: Sequence[_Dead], reason: str, full: Collection[str] = ()) -> list[Sequence[Target]]:
    """Where each went. Raises `QueueFull`, and the caller's transaction is as it was."""
    known = topology.current()
    for _ in range(_ROUTINGS):
        now = known.queue_by_id(queue.id) or queue
        exchange = _exchange(known, now)
        if exchange is None and known.version != (newest := topology.fresh()).version:
            known = newest
            continue
        if exchange is None:
            break
        copies = [_copies(known, now, exchange, each, reason, full) for each in dead]
        with transaction.atomic() if _may_refuse(copies) else contextlib.nullcontext():
            ids = store_copies(known.version, copies, exchange=exchange.id or None)
        if ids is not None:
            return [each.targets for each in copies]
        known = topology.fresh()
    else:
        raise Unavailable("exchanges, bindings or queues change faster than messages are routed; try again")
    return [()] * len(dead)


def _exchange(known: Topology, queue: QueueInfo) -> ExchangeInfo | None:
    return None if queue.dead_letter_exchange is None else known.exchange(queue.dead_letter_exchange)


def _copies(
    known: Topology, queue: QueueInfo, exchange: ExchangeInfo, dead: _Dead, reason: str, full: Collection[str]
) -> Copies:
    envelope, keys = deaths.forwarded(dead.envelope, exchange.name, queue.dead_letter_routing_key)
    headers = delivered_headers(envelope)
    headers.pop(_X_DEATH, None)
    reached = known.route(exchange.name, keys, headers)
    targets = [
        target(each, envelope.priority, None)
        for each in reached
        if each.name not in full and not deaths.is_cycle(envelope, each.name, reason)
    ]
    return Copies(encode(envelope), dead.message.body_bytes, dead.message.encoding, targets)


def _may_refuse(copies: Sequence[Copies]) -> bool:
    return any(to.queue.overflow == "reject-publish" for each in copies for to in each.targets)


# -- the operator's dead letters ----------------------------------------------------------------------------------


def _letters(
    dead: Sequence[_Dead], origins: Sequence[Origin], due: Sequence[bool], reason: str, failure: Failure | None
) -> list[int | None]:
    letters: list[int | None] = [None] * len(dead)
    new: list[int] = []
    for index, ((message, _), origin) in enumerate(zip(dead, origins, strict=True)):
        if message.dead_letter_id is not None:
            letters[index] = dead_letters.reopen(
                message.dead_letter_id, message.replay_item_id, message.revision, origin, reason, failure
            )
        if letters[index] is None and (due[index] or message.dead_letter_id is not None):
            new.append(index)
    if new:
        given_up = [(origins[index], _payload(*dead[index])) for index in new]
        for index, number in zip(new, dead_letters.add_all(given_up, reason, failure), strict=True):
            letters[index] = number
    return letters


def _id(text: str | None) -> str | None:
    return None if text is None else storable(text, 4 * ID_CHARACTERS)[:ID_CHARACTERS]


def _origin(queue: QueueInfo, dead: _Dead, handler: str, note: str, idempotency_key: str | None) -> Origin:
    message, envelope = dead
    return Origin(
        source_kind="queue",
        source=queue.name,
        handler=handler,
        exchange=envelope.exchange,
        routing_key=envelope.routing_key,
        message_id=_id(envelope.message_id),
        correlation_id=_id(envelope.correlation_id),
        message_row=message.row,
        envelope=encode(envelope),
        priority=message.priority if envelope.priority is None else envelope.priority,
        error=note,
        idempotency_key=idempotency_key,
    )


def _payload(message: Message, envelope: Envelope) -> Payload:
    return Payload(None, message.body_bytes, message.encoding, envelope.headers)
