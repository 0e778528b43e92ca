"""Claiming, settling and looking at the messages of queues over REST.

A hot path: claims, acknowledgements, returns and extensions are statements on the pool, and JSON bodies are pasted into
answers; only what gives messages up, or looks at them, goes to a thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from functools import partial

from brokers.access import Principal, allowed, authorize
from brokers.errors import BatchTooLarge, InvalidValue, QueueNotFound
from brokers.queues import claims, consumers, dead_lettering, topology
from brokers.queues.claims import Claim
from brokers.queues.message import Message
from brokers.queues.message_json import claimed_json, seen_json
from brokers.queues.topology import QueueInfo
from brokers.rest import message_schemas as schemas
from brokers.rest.operation import Access, Answer, Call, Operation
from brokers.rest.threads import in_thread
from brokers.rest.topics import PageQuery
from brokers.settings import MAX_RECORDS_PER_REQUEST
from brokers.wakeup import Hub

_READ = Access("read", "queue", "queue")
_LOOK = Access("view_payload", "queue", why="on the queue (or `read`)")
_PAGE_BYTES = 8 * 1024 * 1024
_FIRST_STEP = 8


class QueueMessageRoutes:
    """The operations on messages in queues, over the hub that wakes claims that wait."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def post_claims(self, call: Call) -> Answer:
        """Takes messages by priority and age; they are the caller's until settled, or until their lease has run out.

        With `wait_ms` the call is held until there is a message.
        """
        body: schemas.ClaimRequest = call.body
        queue = await topology.aqueue(call.path["queue"])
        deadline = time.monotonic() + body.wait_ms / 1000
        while True:
            mark = self._hub.mark()
            claiming = _claimed(queue, body, call.principal.name)
            found = await (_kept(queue, claiming) if body.wait_ms else claiming)
            left = deadline - time.monotonic()
            if found or left <= 0 or self._hub.closing:
                answer = b'{"messages":[%b]}' % b",".join(map(claimed_json, found))
                return Answer(body=answer, unsent=partial(_give_back, queue, found) if found else None)
            await self._hub.wait_for((f"q{queue.id}",), left, mark)
            queue = await topology.aqueue(queue.name)

    async def post_acks(self, call: Call) -> Answer:
        """Removes handled messages. A claim that another has taken over since is `stale` and changes nothing."""
        body: schemas.AckRequest = call.body
        wanted = _claims(body.claims)
        queue = await topology.aqueue(call.path["queue"])
        done = await _settled(partial(claims.aack, queue), wanted)
        return Answer(body=schemas.Acked(len(done), _stale(wanted, done)))

    async def post_nacks(self, call: Call) -> Answer:
        """Gives messages back, at once or after a delay; without `requeue` they are dead-lettered.

        What goes back keeps its place, and does not count towards the delivery limit.
        """
        body: schemas.NackRequest = call.body
        wanted = _claims(body.claims)
        if not body.requeue and body.delay_ms:
            raise InvalidValue("a delay is for what is requeued", pointer="/delay_ms")
        if "\0" in body.reason:
            raise InvalidValue("the reason holds a NUL character", pointer="/reason")
        queue = await topology.aqueue(call.path["queue"])
        if body.requeue:
            done = await _settled(partial(claims.arequeue, queue, delay_ms=body.delay_ms), wanted)
        else:
            done = await _settled(partial(_rejected, queue, body.reason, call.principal.name), wanted)
        return Answer(body=schemas.Nacked(len(done), _stale(wanted, done)))

    async def post_leases(self, call: Call) -> Answer:
        """Lets leases end `lease_ms` from now."""
        body: schemas.LeaseRequest = call.body
        wanted = _claims(body.claims)
        queue = await topology.aqueue(call.path["queue"])
        done = await _settled(partial(claims.aextend, queue, lease_ms=body.lease_ms), wanted)
        if done:
            await consumers.akeep_active(queue, body.lease_ms)
        return Answer(body=schemas.Extended(len(done), _stale(wanted, done)))

    async def get_messages(self, call: Call) -> Answer:
        """Looks at messages: ready ones as they will be handed out, then delayed, then unacknowledged ones.

        Takes nothing and changes nothing. A page ends at `limit` or at about eight megabytes; go on with `next`.
        """
        query: PageQuery = call.query
        name = call.path["queue"]
        _may_look(call.principal, name)
        queue = await topology.aqueue(name)
        found, following = await in_thread(_page, queue, query.after or None, query.limit)
        encoded = b"null" if following is None else b'"%b"' % following.encode()
        return Answer(body=b'{"items":[%b],"next":%b}' % (b",".join(map(seen_json, found)), encoded))

    def operations(self) -> list[Operation]:
        """Declarations of all operations on messages in queues."""
        queue = "/api/v1/queues/{queue}"
        return [
            Operation(
                method="GET",
                path=f"{queue}/messages",
                summary="Look at the messages of a queue",
                tag="Messages",
                access=(_LOOK,),
                handler=self.get_messages,
                query=PageQuery,
                answers={200: schemas.QueuedMessagePage},
                problems=(QueueNotFound,),
            ),
            Operation(
                method="POST",
                path=f"{queue}/claims",
                summary="Claim messages",
                tag="Messages",
                access=(_READ,),
                handler=self.post_claims,
                body=schemas.ClaimRequest,
                answers={200: schemas.ClaimedMessages},
                problems=(QueueNotFound,),
            ),
            Operation(
                method="POST",
                path=f"{queue}/acks",
                summary="Acknowledge messages",
                tag="Messages",
                access=(_READ,),
                handler=self.post_acks,
                body=schemas.AckRequest,
                answers={200: schemas.Acked},
                problems=(QueueNotFound, BatchTooLarge),
            ),
            Operation(
                method="POST",
                path=f"{queue}/nacks",
                summary="Give messages back, or up",
                tag="Messages",
                access=(_READ,),
                handler=self.post_nacks,
                body=schemas.NackRequest,
                answers={200: schemas.Nacked},
                problems=(QueueNotFound, BatchTooLarge),
            ),
            Operation(
                method="POST",
                path=f"{queue}/leases",
                summary="Extend leases",
                tag="Messages",
                access=(_READ,),
                handler=self.post_leases,
                body=schemas.LeaseRequest,
                answers={200: schemas.Extended},
                problems=(QueueNotFound, BatchTooLarge),
            ),
        ]


# -- claiming and settling ----------------------------------------------------------------------------------------


async def _claimed(queue: QueueInfo, body: schemas.ClaimRequest, holder: str) -> list[Message]:
    """Registers the caller first where one consumer at a time gets messages."""
    await consumers.aused(queue)
    consumer = body.consumer or holder
    if queue.single_active_consumer:
        lapse_ms = max(consumers.LAPSE_MS, body.lease_ms)
        if not await consumers.aregister(queue, consumer, "rest", lapse_ms=lapse_ms):
            return []
    return await claims.aclaim(queue, body.limit, body.lease_ms, holder, consumer)


async def _kept(queue: QueueInfo, claiming: Awaitable[list[Message]]) -> list[Message]:
    """What is claimed; given back when the caller has gone away meanwhile."""
    task = asyncio.ensure_future(claiming)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _give_back(queue, await task)
        raise


async def _give_back(queue: QueueInfo, messages: Iterable[Message]) -> None:
    await claims.arequeue(queue, list(map(Claim.of, messages)))


def _claims(texts: list[str]) -> dict[str, Claim | None]:
    """The claims by their handles as given; None for what was never a handle of ours."""
    if not texts:
        raise InvalidValue("at least one claim is needed", pointer="/claims")
    if len(texts) > MAX_RECORDS_PER_REQUEST:
        raise BatchTooLarge(f"{len(texts)} claims are more than {MAX_RECORDS_PER_REQUEST} in one request")
    return {text: _parsed(text) for text in texts}


def _parsed(text: str) -> Claim | None:
    try:
        claim = Claim.parse(text)
    except InvalidValue:
        return None
    return claim if claim.row < 2**63 else None


async def _settled(
    settle: Callable[[Collection[Claim]], Awaitable[set[Claim]]], wanted: Mapping[str, Claim | None]
) -> set[Claim]:
    """The claims that held. Several claims of one message are tried one after the other: one of them may hold."""
    waiting = dict.fromkeys(claim for claim in wanted.values() if claim is not None)
    done: set[Claim] = set()
    while waiting:
        batch = list({claim.row: claim for claim in waiting}.values())
        done |= await settle(batch)
        for claim in batch:
            del waiting[claim]
    return done


async def _rejected(queue: QueueInfo, reason: str, holder: str, batch: Collection[Claim]) -> set[Claim]:
    return await in_thread(dead_lettering.reject, queue, batch, reason, holder)


def _stale(wanted: Mapping[str, Claim | None], done: set[Claim]) -> list[str]:
    return [text for text, claim in wanted.items() if claim is None or claim not in done]


# -- looking ------------------------------------------------------------------------------------------------------


def _may_look(principal: Principal, queue: str) -> None:
    if not allowed(principal, "read", "queue", queue):
        authorize(principal, "view_payload", "queue", queue)


def _page(queue: QueueInfo, after: str | None, limit: int) -> tuple[list[Message], str | None]:
    """Up to `limit` messages and about eight megabytes, and where to go on if there are more."""
    found: list[Message] = []
    size, step = 0, _FIRST_STEP
    while len(found) <= limit and size < _PAGE_BYTES:
        wanted = min(step, limit + 1 - len(found))
        more = claims.peek(queue, after, wanted)
        found += more
        if len(more) < wanted:
            return found, None
        size += sum(len(message.body_bytes) for message in more)
        room = (_PAGE_BYTES - size) * len(found) // max(size, 1)
        after, step = claims.place_of(more[-1]), max(1, min(step * 4, room))
    found = found[:limit]
    return found, claims.place_of(found[-1])
