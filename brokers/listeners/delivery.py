"""One transaction of a listener: handlers, their failures, and what settles them, all of it or nothing.

It serves records of a partition and messages of a queue: what differs is their `Work`'s. What a handler did is undone
by its savepoint; what that cannot undo, by rolling the whole transaction back and beginning anew with what is known by
then. The settlement (the committed offset, or the acknowledgement) is the last statement, in one round trip with
COMMIT. This is the one module that catches whatever a handler raises, SystemExit too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Final, NamedTuple, cast

import django.db
from django.db import DEFAULT_DB_ALIAS, connections, transaction

from brokers import metrics
from brokers.database import store_errors
from brokers.listeners import integrity, settling
from brokers.listeners.calling import UNREADABLE, Keys, undecodable
from brokers.listeners.failing import Judge
from brokers.listeners.handlers import BatchListenerFailed, Handler, Item
from brokers.listeners.savepoints import Savepoints
from brokers.listeners.work import (
    UNDECODABLE,
    Again,
    ClaimLost,
    Failed,
    Settled,
    TransactionConflict,
    Unattributed,
    Verdict,
    Work,
)

log = logging.getLogger("waystation.listeners")

MAX_SAVEPOINTS: Final = 60
"""Of one transaction: from the 65th on PostgreSQL makes every session's snapshots dearer."""


class Setting(NamedTuple):
    """What all transactions of one thread have in common."""

    listener: Handler
    search_path: str
    call: Callable[[Any], None]
    judge: Judge
    is_stopping: Callable[[], bool]


class Transaction:
    """One try: `run` it once."""

    def __init__(self, setting: Setting, work: Work, may_conflict: bool) -> None:
        self._setting = setting
        self._listener = setting.listener
        self._work = work
        self._may_conflict = may_conflict
        self._connection = connections[DEFAULT_DB_ALIAS]
        self._savepoints = Savepoints(self._connection, eager=self._listener.savepoint == "eager")
        self._keys = Keys(self._listener, work) if self._listener.key is not None else None
        self._decode = work.decode
        self._verdicts: list[Verdict] = []
        self._through: list[int] = []
        """Indexes of what was handled or skipped."""
        self._skipped: set[int] = set()

    def run(self) -> Settled:
        """The transaction from its beginning to its commit."""
        answer, is_committed, passed = None, False, 0
        try:
            with store_errors(), transaction.atomic():
                try:
                    with self._connection.execute_wrapper(self._savepoints):
                        passed = self._handle()
                finally:
                    integrity.repair(self._connection)
                self._work.clear_up(self._through, self._skipped)
                self._harden_callbacks()
                settlement = self._work.settlement(passed, self._through)
                if settling.has_begun(self._connection):
                    answer = settling.commit(self._connection, settlement, self._setting.search_path)
                    is_committed = True
                elif self._connection.run_on_commit:
                    answer = settling.settle(settlement)
            if answer is None:  # nobody touched the database: then this is the transaction
                answer = settling.settle(settlement)
        except (Again, TransactionConflict, ClaimLost):
            raise
        except BaseException as error:
            if not is_committed:
                classified = self._classified(error)
                if classified is error:
                    raise
                raise classified from error
            log.exception("a callback after the commit failed", extra={"handler": self._listener.name})
        assert answer is not None
        settled = self._work.committed(answer, passed, self._verdicts)
        for verdict in self._verdicts:
            self._setting.judge.tell(self._work, verdict)
        metrics.records_handled.labels(self._listener.name).inc(len(self._through))
        return settled

    # -- handling -------------------------------------------------------------------------------------------------

    def _handle(self) -> int:
        """How many of them are through when the transaction is to be committed."""
        if self._keys is not None:
            self._name_keys()
            self._keys.claim()
        return self._handle_together() if self._listener.batch and not self._work.is_lane else self._handle_each()

    def _name_keys(self) -> None:
        assert self._keys is not None
        for index, item in enumerate(self._work.items):
            failed = undecodable(self._work, item)
            started = time.perf_counter()
            try:
                if failed is None:
                    self._keys.name(index)
            except BaseException as error:  # the key's function is the application's, too
                failed = Failed.since(started, error)
            if failed is not None:
                self._work.known.setdefault(index, failed)

    def _handle_each(self) -> int:
        work, keys, savepoints, through = self._work, self._keys, self._savepoints, self._through
        connection, is_stopping = self._connection, self._setting.is_stopping
        is_numbered = work.is_numbered
        held_back: set[bytes] = set()
        for index, item in enumerate(work.items):
            if index and (savepoints.opened >= MAX_SAVEPOINTS or is_stopping()):
                return self._stop_before(index)
            if held_back and work.order_key(index) in held_back:
                continue
            failed = work.known.get(index) if work.known else None
            if failed is None and keys is not None and keys.is_done(index):
                self._through.append(index)
                self._skipped.add(index)
                continue
            if failed is None:
                if is_numbered:
                    work.set_number(index)
                hooks = len(connection.run_on_commit)
                savepoints.begin()
                failed = self._call(item)
                savepoints.end()
                if failed is None:
                    through.append(index)
                    continue
                self._undo(index, failed, hooks)
                if keys is not None:
                    keys.give_back([index])
            verdict = self._setting.judge.judge(work, index, failed, keys.of(index) if keys is not None else None)
            self._verdicts.append(verdict)
            if verdict.waits:
                return self._stop_before(index, index + 1)
            if keys is not None:  # its key may stand again behind it, and is free now
                return self._stop_before(index + 1)
            if verdict.outcome.is_parked and (key := work.order_key(index)) is not None:
                held_back.add(key)
        return len(work.items)

    def _call(self, item: Item) -> Failed | None:
        """Calls the handler with one record or message; why it failed, if it did."""
        started = time.perf_counter()
        try:
            self._decode(item)
        except UNREADABLE as error:
            return Failed(error, UNDECODABLE)
        try:
            self._setting.call([item] if self._listener.batch else item)
        except BatchListenerFailed as error:
            return Failed.since(started, error.reason())
        except BaseException as error:
            return Failed.since(started, error)
        if self._savepoints.is_open or integrity.is_suspicious(self._connection):
            broken = integrity.broken(self._connection, self._savepoints)
            return None if broken is None else Failed.since(started, broken)
        return None

    def _handle_together(self) -> int:
        """Calls a batch handler, with what comes before the first that is known to have failed."""
        work, keys = self._work, self._keys
        for index, item in enumerate(work.items):
            if index not in work.known and (failed := undecodable(work, item)) is not None:
                work.known[index] = failed
        first = min(work.known, default=len(work.items))
        failed = work.known.get(first)
        if failed is not None and failed.together:
            self._stop_before(0)
            return self._judge_together(failed)
        places = [index for index in range(first) if keys is None or not keys.is_done(index)]
        if places:
            self._call_together(places, first)
        self._through += range(first)
        if len(places) < first:
            self._skipped.update(set(range(first)) - set(places))
        if failed is None:
            return first
        verdict = self._setting.judge.judge(work, first, failed, keys.of(first) if keys is not None else None)
        self._verdicts.append(verdict)
        return self._stop_before(first if verdict.waits else first + 1, first + 1)

    def _call_together(self, places: list[int], together: int) -> None:
        """One call, without a savepoint: what fails is known to the next try, which begins with the failure."""
        work = self._work
        called = [work.items[index] for index in places]
        if work.is_numbered:
            for index in places:
                work.set_number(index)
        raised: BaseException | None = None
        started = time.perf_counter()
        try:
            self._setting.call(called)
        except BaseException as error:
            raised = error
        raised = raised or integrity.broken(self._connection, self._savepoints)
        if raised is None:
            return
        first, failed = 0, Failed.since(started, raised, together)
        if isinstance(raised, BatchListenerFailed) and (at := raised.index_in(called)) is not None:
            first, failed = places[at], Failed.since(started, raised.reason())
        assert failed.error is not None
        integrity.refuse_faults_of_others(self._connection, failed.error, self._may_conflict)
        raise Again({first: failed}, prepare=self._setting.judge.will_give_up(work, first, failed))

    def _judge_together(self, failed: Failed) -> int:
        verdicts = self._setting.judge.judge_together(self._work, failed)
        self._verdicts += verdicts
        return self._stop_before(0 if verdicts[0].waits else failed.together, len(self._work.items))

    def _stop_before(self, index: int, unhandled: int | None = None) -> int:
        """The transaction ends before one of them; those from `unhandled` on were not looked at."""
        if self._keys is not None:
            self._keys.give_back(range(index if unhandled is None else unhandled, len(self._work.items)))
        return index

    def _undo(self, index: int, failed: Failed, hooks: int) -> None:
        """Rolls back what a failed call did, its callbacks included; `hooks` is how many there were before it."""
        assert failed.error is not None
        integrity.refuse_faults_of_others(self._connection, failed.error, self._may_conflict)
        integrity.repair(self._connection)
        del self._connection.run_on_commit[hooks:]
        if not self._savepoints.roll_back():
            raise Again({index: failed})
        self._connection.needs_rollback = False

    # -- committing -----------------------------------------------------------------------------------------------

    def _harden_callbacks(self) -> None:
        """One callback after the commit that fails must not keep the others from running: what is done is done."""
        callbacks = cast("list[Any]", self._connection.run_on_commit)
        callbacks[:] = [(within, partial(_call_back, function), False) for within, function, _ in callbacks]

    def _classified(self, error: BaseException) -> BaseException:
        """What a failure outside of any handler means; the transaction is rolled back."""
        if integrity.state_of(error) == integrity.CLAIM_LOST:
            return ClaimLost()
        if integrity.is_conflict(error):
            return TransactionConflict() if self._may_conflict else Unattributed(error)
        if isinstance(error, django.db.DatabaseError):  # a deferred constraint, for example
            return Unattributed(error)
        return error


def _call_back(function: Callable[[], object]) -> None:
    try:
        function()
    except BaseException:
        log.exception("a callback after the commit failed")


@contextmanager
def unforeseen(name: str) -> Iterator[None]:
    """Logs whatever escapes from the block, and lets the thread go on."""
    try:
        yield
    except BaseException:  # a thread must not die in silence: its member begins anew
        log.exception("a listener's thread met what nobody foresaw", extra={"handler": name})
