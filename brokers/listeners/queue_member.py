"""One consumer of a queue on one thread: it claims messages under a lease and handles them until the worker stops.

What one claim has brought is handled in one transaction, or as many as it takes; then comes the next claim. The
worker's keeper renews the leases meanwhile. A message is this thread's as long as its token is the claim's: whatever
was taken away meanwhile, a transaction that handled it is rolled back and begun anew without it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Final

from django.db import DEFAULT_DB_ALIAS, connections

from brokers.database import sync_cursor
from brokers.errors import BrokerError, QueueNotFound, Unavailable
from brokers.listeners.deliverer import Deliverer
from brokers.listeners.hints import Hints, QueueHints
from brokers.listeners.keeper import Keeper
from brokers.listeners.leases import CONSUMER_LAPSE_MS, SQL, Lease
from brokers.listeners.queue_registration import QueueListener
from brokers.listeners.queue_work import QueueWork
from brokers.listeners.threads import REFUSED_SECONDS, ListenerThread, introduce, worker_name
from brokers.listeners.work import ClaimLost
from brokers.queues import claims, consumers, tending, topology
from brokers.queues.claims import Claim
from brokers.queues.message import Message
from brokers.queues.topology import QueueInfo
from brokers.settings import POLL_INTERVAL_SECONDS

log = logging.getLogger("waystation.listeners")

SOON_SECONDS: Final = 0.05
"""Between two claims that find nothing while something is due: another one has it, or the queue is paused."""


class QueueMember(ListenerThread):
    """A thread of the worker; `number` counts the listener's threads from 1."""

    def __init__(
        self, listener: QueueListener, number: int, keeper: Keeper, hints: Hints, stopping: threading.Event
    ) -> None:
        heard = QueueHints()
        super().__init__(listener, number, listener.consumer_name, keeper, hints, heard, stopping)
        self.listener = listener
        self._announced = heard
        self._session: _Session | None = None

    def is_stuck(self) -> bool:
        """Whether its handler has taken so long that its messages are no longer its own: nothing frees the thread."""
        session = self._session
        return session is not None and session.lease.is_over

    @property
    def has_looked(self) -> bool:
        """Whether it is a consumer that has claimed, or has found nothing to claim."""
        session = self._session
        return session is not None and session.has_claimed

    def _step(self) -> float:
        try:
            if self._session is not None and self._session.slot != self._keeper.slot:
                self._leave()  # another worker has the slot now, and with it this consumer's name
            if self._session is None:
                self._session = self._begin()
            pause = 1.0 if self._session is None else self._session.step()
        except Unavailable as error:
            return self._be_away(error)
        except QueueNotFound as error:
            self._complain("waiting for the queue", error.detail)
            self._end_session()
            pause = REFUSED_SECONDS
        except BrokerError as error:
            self._complain("cannot listen", error.detail)
            self._leave()
            pause = REFUSED_SECONDS
        except BaseException:
            self._leave()
            raise
        self._away = 0.0
        return pause

    def _begin(self) -> _Session | None:
        slot = self._keeper.wait_for_slot(1.0)
        if slot is None:
            return None
        queue = topology.queue(self.listener.queue)
        holder = f"{self.listener.name}#{slot}.{self._number}"
        session = _Session(self.listener, queue, holder, slot, self._announced, self._stopping)
        session.begin()
        self._keeper.add_lease(session.lease)
        self._complaint = ""
        log.info("consumer began", extra=self._facts() | {"consumer": holder})
        return session

    def _leave(self) -> None:
        """Gives back what is not handled, if the database is there to tell."""
        session = self._session
        self._end_session()
        if session is not None:
            try:
                session.leave()
            except Unavailable as error:
                log.info("left without a word", extra=self._facts() | {"error": error.detail})

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            self._keeper.remove_lease(session.lease)

    def _forget_all(self) -> None:
        if self._session is not None:
            self._session.has_doubts = True

    def _facts(self) -> dict[str, object]:
        return {"handler": self.listener.name, "queue": self.listener.queue, "member": self._number}


class _Session:
    """Consuming one queue under one name, until the queue or the slot is another."""

    def __init__(
        self,
        listener: QueueListener,
        queue: QueueInfo,
        holder: str,
        slot: int,
        heard: QueueHints,
        stopping: threading.Event,
    ) -> None:
        self.slot = slot
        self.lease = Lease(queue.id, holder, listener.lease_ms, listener.max_handling_ms / 1000)
        self.has_claimed = False
        self.has_doubts = False
        """What is held may be another's by now, or settled."""
        self._listener = listener
        self._queue = queue
        self._holder = holder
        self._heard = heard
        self._stopping = stopping
        self._introduced: object = None
        self._deliverer: Deliverer | None = None
        self._messages: Sequence[Message] = ()
        """Claimed and not settled."""
        self._careful = 0
        """So many messages are claimed one at a time: one of them may have killed the predecessor."""
        self._looks_at = 0.0
        self._claims_at = 0.0
        """When to look for messages at the latest, of the monotonic clock."""
        self._facts = {"handler": listener.name, "queue": queue.name, "consumer": holder}

    def begin(self) -> None:
        """Becomes a consumer, and ends what a predecessor of this name has left behind."""
        self._heard.watch(self._queue.id)
        self._register()
        with sync_cursor() as cursor:
            taken = cursor.execute(SQL.take_back, (self._queue.id, self._holder)).rowcount
        if taken:
            log.warning("messages of a lost worker taken back", extra=self._facts | {"messages": taken})
            self._careful = taken
            tending.return_lapsed(self._queue)

    def step(self) -> float:
        """Looks, claims, and delivers once; answers the seconds until there is something to do again."""
        self.lease.move()
        is_announced = self._heard.take()
        if is_announced:
            self._claims_at = 0.0
        if time.monotonic() >= self._looks_at or self.has_doubts or (is_announced and self._queue.paused):
            self._look()
        if not self._messages and time.monotonic() >= self._claims_at:
            self._claim()
        if not self._messages:
            return max(0.0, min(self._looks_at, self._claims_at) - time.monotonic())
        self._serve()
        return 0.0

    def leave(self) -> None:
        """Gives back what was not begun, which does not count as a delivery, and is no consumer any more."""
        connections[DEFAULT_DB_ALIAS].close_if_unusable_or_obsolete()
        claims.requeue(self._queue, [Claim.of(message) for message in self._messages])
        self._messages = ()
        consumers.leave(self._queue, self._holder)

    def _look(self) -> None:
        raw = connections[DEFAULT_DB_ALIAS].connection
        if raw is None or raw is not self._introduced:
            self._introduce()
        found = topology.queue(self._queue.name)
        if found.id != self._queue.id:
            raise QueueNotFound(f"the queue {found.name} was deleted and declared anew")
        if found.paused and not self._queue.paused:
            log.info("queue paused", extra=self._facts)
        self._queue = found
        if self.lease.is_forgotten:
            self._register()
        if self.has_doubts:
            self._check()
        self._looks_at = time.monotonic() + POLL_INTERVAL_SECONDS

    def _register(self) -> None:
        consumers.register(
            self._queue, self._holder, "listener", prefetch=self._listener.prefetch, lapse_ms=CONSUMER_LAPSE_MS
        )
        self.lease.is_forgotten = False
        self.lease.beaten_at = time.monotonic()

    def _introduce(self) -> None:
        search_path = introduce(f"waystation-{self._holder}", self._listener.max_handling_ms)
        self._introduced = connections[DEFAULT_DB_ALIAS].connection
        self._deliverer = Deliverer(
            self._listener,
            worker_name(self.slot),
            search_path,
            is_stopping=self._stopping.is_set,
            pause=self._stopping.wait,
            before_call=self.lease.move,
        )

    def _claim(self) -> None:
        """Takes what is there; with nothing there, finds out when there will be."""
        self._take()
        if not self._messages and not self._queue.paused:
            with sync_cursor() as cursor:
                row = cursor.execute(SQL.next_due, (self._queue.id,)).fetchone()
            assert row is not None
            delayed, lapse = row
            wait = POLL_INTERVAL_SECONDS
            if delayed is not None and delayed <= 0:
                tending.promote(self._queue.id)
            if lapse is not None and lapse <= 0:
                tending.return_lapsed(self._queue)
            if any(seconds is not None and seconds <= 0 for seconds in row):
                self._take()
            wait = min((max(seconds, SOON_SECONDS) for seconds in row if seconds is not None), default=wait)
            self._claims_at = time.monotonic() + min(wait, POLL_INTERVAL_SECONDS)
        elif not self._messages:
            self._claims_at = time.monotonic() + POLL_INTERVAL_SECONDS
        self.has_claimed = True

    def _take(self) -> None:
        listener = self._listener
        limit = 1 if self._careful else listener.prefetch
        self._hold(claims.claim(self._queue, limit, listener.lease_ms, self._holder))

    def _hold(self, messages: Sequence[Message]) -> None:
        self._messages = messages
        self.lease.claimed([Claim.of(message) for message in messages])

    def _serve(self) -> None:
        assert self._deliverer is not None
        messages = self._messages[:1] if self._listener.ack_mode == "record" else self._messages
        try:
            settled = self._deliverer.deliver(QueueWork(self._queue, self._listener, messages))
        except ClaimLost:
            log.warning("claim lost: its transaction was rolled back", extra=self._facts)
            self._check()
            return
        self._messages = self._messages[settled.passed :]
        self._careful = max(0, self._careful - settled.passed)
        self.lease.claims = [Claim.of(message) for message in self._messages]

    def _check(self) -> None:
        """Goes on with what still is this consumer's."""
        wanted = [Claim.of(message) for message in self._messages]
        held = claims.extend(self._queue, wanted, self._listener.lease_ms)
        self._hold([message for message, claim in zip(self._messages, wanted, strict=True) if claim in held])
        self.has_doubts = False
