"""The Celery beat's scheduler: fires what is due, if this beat is the one that leads.

Any number of beats run. Each looks after the lock `waystation:beat`; who holds it fires, the others wait for its lease
to lapse. The lock only saves work: that a due time has one run is the firing statement's doing (`tasks.store.fire`).
Of `DatabaseScheduler` stay its models and how Celery starts it; its heap, its queries at each tick and its signals are
not used, since they run things twice after a crash and drift. Told to stop, it does so between two ticks, so that no
statement is cut off. Started by `celery beat -S`.
"""

from __future__ import annotations

import logging
import math
import signal
import time
from datetime import datetime, timedelta
from typing import Any, Final

from django_celery_beat.schedulers import DatabaseScheduler

from brokers.errors import Unavailable
from brokers.processes import RENEW_SECONDS, Heartbeat
from scheduling import announcing, metrics, runs
from scheduling.beat import mirror, sweeping
from scheduling.beat.clock import DatabaseClock
from scheduling.beat.leadership import Leadership
from scheduling.connections import OwnConnection
from scheduling.doorbell import doorbell
from scheduling.tasks import store
from scheduling.tasks.store import Due

log = logging.getLogger("waystation.beat")

READ_SECONDS: Final = 0.5
"""How often the table is looked at for what comes."""
AHEAD: Final = timedelta(seconds=1)
QUIET_SECONDS: Final = 0.02
"""How long nothing must be due for what can wait: looks at the table, and sweeping."""
MAX_FIRED: Final = 200
"""Tasks that are fired in one statement."""
MAX_READ: Final = 2_000
FOLLOW_SECONDS: Final = 0.5
"""How often a beat that does not lead tries to."""
AWAY_SECONDS: Final = 1.0
STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


class Scheduler(DatabaseScheduler):  # type: ignore[misc]  # the library has no types
    """What `celery beat` calls `tick` of, again and again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        self._connection = OwnConnection("waystation-beat")
        self._leads = Leadership()
        self._clock = DatabaseClock()
        self._next: list[Due] = []
        self._spread: list[tuple[datetime, int]] = []
        """Runs that jitter has put off, soonest first."""
        self._unnoted: list[int] = []
        """Operators' periodic tasks that were fired, whose pages do not say so yet."""
        self._read_at = 0.0
        self._swept_at = 0.0
        self._mirror = mirror.Mirror()
        self._is_away = False
        self._heartbeat = Heartbeat("beat")
        self._said_at = 0.0
        super().__init__(*args, **kwargs)
        self.max_interval = 1.0

    def setup_schedule(self) -> None:
        """Nothing: declarations come from `up`."""

    def sync(self) -> None:
        """Nothing: the table is the truth, and there is nothing else to write."""

    def close(self) -> None:
        """Lets another beat lead at once."""
        try:
            self._leads.resign()
            with self._connection.cursor() as cursor:
                self._heartbeat.end_by(cursor)
        except Unavailable:
            log.warning("the database is away, another beat leads when the lease has lapsed")
        self._connection.close()

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Fires what is due, and waits until there is something to do again; Celery need not wait then.

        Raises `SystemExit` when the process was told to stop.
        """
        try:
            seconds = self._tick()
            self._is_away = False
            metrics.beat_ticks(self._leads.holds)
        except Unavailable as error:
            if not self._is_away:
                log.warning("the database is away", extra={"error": error.detail})
            self._is_away, self._next, self._read_at, self._swept_at = True, [], 0.0, 0.0
            seconds = AWAY_SECONDS
        told = signal.sigtimedwait(STOPPING, seconds)
        if told is not None and told.si_signo in STOPPING:  # Python answers nonsense after SIGSTOP and SIGCONT
            raise SystemExit
        return 0.0

    def _tick(self) -> float:
        was_leading = self._leads.holds
        if time.monotonic() >= self._said_at + RENEW_SECONDS:
            self._said_at = time.monotonic()
            with self._connection.cursor() as cursor:
                self._heartbeat.beat_by(cursor)
        if not self._leads.hold():
            self._next, self._spread = [], []
            return FOLLOW_SECONDS
        if not was_leading:
            log.info("this beat leads", extra={"holder": self._leads.me})
            self._read_at = self._swept_at = 0.0
            self._mirror = mirror.Mirror()
        if self._is_time(self._read_at, READ_SECONDS):
            self._read()
        self._fire()
        self._ring()
        if self._unnoted:
            noted, self._unnoted = self._unnoted, []
            mirror.note_fired(noted, self._clock.now())
        if self._is_time(self._swept_at, sweeping.SECONDS):
            self._swept_at = time.monotonic()
            sweeping.sweep(self._connection)
        return self._rest()

    def _read(self) -> None:
        self._clock.read(self._connection)
        self._mirror.look(self._connection, self._clock.now())
        self._read_at = time.monotonic()
        self._next = store.due_before(self._connection, self._clock.now() + AHEAD, MAX_READ)

    def _fire(self) -> None:
        now = self._clock.now()
        due = [each for each in self._next if each.due <= now][:MAX_FIRED]
        if not due:
            return
        firings = [store.firing(each, now) for each in due]
        fired = store.fire(self._connection, self._leads.me, firings)
        announcing.tasks_changed()
        self._next = self._next[len(due) :]  # they are in the order of their due times
        if len(fired) < len(firings):  # changed by others, or this beat leads no more
            self._read_at = 0.0
            self._leads.doubt()
        names = {each.id: each.name for each in due}
        for each in fired:
            if each.is_skipped:
                metrics.run_skipped(names[each.task])
        made = {each.task for each in fired}
        self._unnoted += [each.periodic_task for each in due if each.periodic_task is not None and each.id in made]
        self._spread = sorted([*self._spread, *((each.start, each.run) for each in fired if not each.is_skipped)])
        if any(each.later is not None and each.later <= now + AHEAD for each in firings):
            self._read_at = 0.0

    def _ring(self) -> None:
        now = self._clock.now()
        begun = [run for start, run in self._spread if start <= now]
        if begun:
            self._spread = self._spread[len(begun) :]
            runs.rung(self._connection, doorbell.ring_all(begun))

    def _is_time(self, last: float, period: float) -> bool:
        """Whether something is to be done again that is done each `period` seconds, if no due time is about to come.

        It waits for that up to another `period`, so that what is due is not late for it.
        """
        waited = time.monotonic() - last
        return waited >= 2 * period or (waited >= period and self._until_due() >= QUIET_SECONDS)

    def _until_due(self) -> float:
        """Seconds until something is to be fired or rung for; infinite without anything."""
        soonest = (*(each.due for each in self._next[:1]), *(start for start, _ in self._spread[:1]))
        return (min(soonest) - self._clock.now()).total_seconds() if soonest else math.inf

    def _rest(self) -> float:
        """Seconds until the next of: a due time, a look at the table, the lease."""
        until_look = self._read_at + READ_SECONDS - time.monotonic()
        if until_look <= 0 and not self._is_time(self._read_at, READ_SECONDS):
            until_look = math.inf  # after what is due
        return max(min(until_look, self._until_due(), self._leads.rest()), 0.0)
