"""One member of a consumer group on one thread: it joins, looks what it owns, and handles that until the worker stops.

Between two transactions the thread looks (heartbeat of progress, release of what another shall have), chooses the next
partition that is neither waiting nor dry, and delivers. What it remembers of a partition is thrown away with the claim,
and with the connection.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from typing import Final

from django.db import DEFAULT_DB_ALIAS, connections

from brokers import groups
from brokers.errors import BrokerError, TopicNotFound, Unavailable, UnknownMember
from brokers.listeners.hints import Hints, PartitionHints
from brokers.listeners.keeper import Keeper, Pulse
from brokers.listeners.owned import Owned
from brokers.listeners.partition_deliverer import PartitionDeliverer
from brokers.listeners.partition_work import Membership
from brokers.listeners.registration import Listener
from brokers.listeners.threads import REFUSED_SECONDS, ListenerThread, introduce, worker_name
from brokers.listeners.work import ClaimLost
from brokers.settings import POLL_INTERVAL_SECONDS

log = logging.getLogger("waystation.listeners")

DOUBT_SECONDS: Final = 0.1
"""Looks that only a doubt asks for are so far apart."""


class Member(ListenerThread):
    """A thread of the worker; `number` counts the listener's threads from 1."""

    def __init__(
        self, listener: Listener, number: int, keeper: Keeper, hints: Hints, stopping: threading.Event
    ) -> None:
        heard = PartitionHints()
        super().__init__(listener, number, listener.group, keeper, hints, heard, stopping)
        self.listener = listener
        self._announced = heard
        self._session: _Session | None = None

    def is_stuck(self) -> bool:
        """Whether its handler has taken so long that its partitions are no longer its own: nothing frees the thread."""
        session = self._session
        pulse = None if session is None else session.pulse
        longest = self.listener.subscription.max_poll_interval_ms / 1000
        return pulse is not None and pulse.is_over and pulse.idle_seconds() > longest

    @property
    def has_looked(self) -> bool:
        """Whether it is a member that knows what it owns."""
        session = self._session
        return session is not None and session.owned.generation >= 0

    @property
    def is_paused(self) -> bool:
        """Whether its group was paused when it last looked."""
        session = self._session
        return session is not None and session.owned.is_paused

    @property
    def partitions(self) -> list[tuple[str, int]]:
        """Topics and numbers of the partitions owned, as last seen."""
        session = self._session
        return [] if session is None else session.owned.places()

    def _step(self) -> float:
        """Does one thing; answers the seconds until there may be another."""
        try:
            if self._session is not None and self._session.slot != self._keeper.slot:
                self._leave()  # another worker has the slot now, and with it this member's name
            if self._session is None:
                self._session = self._join()
            pause = 1.0 if self._session is None else self._session.step()
        except Unavailable as error:
            return self._be_away(error)
        except UnknownMember:
            log.warning("member fenced: its session was over", extra=self._facts())
            self._end_session()
            pause = 0.0
        except BrokerError as error:  # no such topic, a full group
            self._complain("cannot listen", error.detail)
            pause = REFUSED_SECONDS
            if not isinstance(error, TopicNotFound):
                self._leave()
        except BaseException:
            self._leave()
            raise
        self._away = 0.0
        return pause

    def _join(self) -> _Session | None:
        slot = self._keeper.wait_for_slot(1.0)
        if slot is None:
            return None
        instance_id = f"{self.listener.name}#{slot}.{self._number}"
        joined = groups.join(self.listener.group, self.listener.subscription._replace(instance_id=instance_id))
        self._complaint = ""
        log.info("member joined", extra=self._facts() | {"instance": instance_id, "partitions": len(joined.assignment)})
        return _Session(self.listener, joined.member_id, slot, self._keeper, self._announced, self._stopping)

    def _leave(self) -> None:
        """Gives the partitions to others at once, if the database is there to tell."""
        session = self._session
        self._end_session()
        if session is not None:
            try:
                groups.leave(self.listener.group, session.member_id)
            except (UnknownMember, Unavailable) as error:
                log.info("left without a word", extra=self._facts() | {"error": error.detail})

    def _end_session(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.end()

    def _forget_all(self) -> None:
        if self._session is not None:
            self._session.forget_all()

    def _facts(self) -> dict[str, object]:
        return {"handler": self.listener.name, "consumer_group": self.listener.group, "member": self._number}


class _Session:
    """One membership, from joining to leaving or the end of its session."""

    def __init__(
        self,
        listener: Listener,
        member_id: str,
        slot: int,
        keeper: Keeper,
        heard: PartitionHints,
        stopping: threading.Event,
    ) -> None:
        self.member_id = member_id
        self._listener = listener
        self.slot = slot
        self._keeper = keeper
        self._heard = heard
        self._stopping = stopping
        self.pulse: Pulse | None = None
        self._introduced: object = None
        self._search_path = ""
        self._deliverer: PartitionDeliverer | None = None
        self._looked_at = 0.0
        self._looks_at = 0.0
        """When to look again at the latest, of the monotonic clock."""
        self.owned = Owned(listener)

    def step(self) -> float:
        """Looks, or delivers once; answers the seconds until there is something to do again."""
        if self.pulse is not None:
            self.pulse.move()
            if self.pulse.is_over:
                self._looks_at = 0.0
        now = time.monotonic()
        if now >= self._looks_at:
            self._look()
            now = time.monotonic()
        self.owned.hear(*self._heard.take())
        assert self._deliverer is not None
        try:
            settled = self.owned.serve(self._deliverer)
        except ClaimLost:
            log.warning("claim lost: its transaction was rolled back", extra={"handler": self._listener.name})
            self.forget_all()
            return 0.0
        if self.owned.has_doubts:
            self._looks_at = min(self._looks_at, self._looked_at + DOUBT_SECONDS)
        if settled is None:
            return max(0.0, min(self._looks_at - now, self.owned.wait_seconds(now)))
        if settled.generation != self.owned.generation or settled.paused:
            self._looks_at = 0.0
        return 0.0

    def forget_all(self) -> None:
        """What is remembered may be wrong: the next step looks, and reads everything anew."""
        self.owned.forget()
        self._looks_at = 0.0

    def end(self) -> None:
        """The membership is over."""
        if self.pulse is not None:
            self._keeper.remove(self.pulse)
        if self._deliverer is not None:
            with contextlib.suppress(Unavailable):
                self._deliverer.withdraw_begun()

    def _look(self) -> None:
        raw = connections[DEFAULT_DB_ALIAS].connection
        if raw is None or raw is not self._introduced:
            self._introduce()
        if self._deliverer is not None:
            self._deliverer.withdraw_begun()
        view = self.owned.look(self.member_id)
        self._looked_at = time.monotonic()
        self._looks_at = self._looked_at + POLL_INTERVAL_SECONDS
        self._heard.watch([*(view.partition_ids or ()), *(view.awaited or ())])
        if self.pulse is None:
            self.pulse = Pulse(view.member, view.pace_ms / 1000)
            self._keeper.add(self.pulse)
        if self._deliverer is None:
            self._deliverer = PartitionDeliverer(
                Membership(self._listener, view.group_id, view.member),
                worker_name(self.slot),
                self._search_path,
                is_stopping=self._stopping.is_set,
                pause=self._stopping.wait,
            )

    def _introduce(self) -> None:
        """Whoever ends this member can end what its transaction holds, too, by the connection's name."""
        name = f"waystation-{self.member_id}"
        self._search_path = introduce(name, self._listener.subscription.max_poll_interval_ms)
        self._introduced = connections[DEFAULT_DB_ALIAS].connection
