"""One transaction of a listener: handlers, their failures, and the offset, all of it or nothing.

A record's effects are undone by its savepoint; what that cannot undo, by rolling the whole transaction back and
beginning anew with what is known by then. The committed offset is the last statement, under the member's claim, in one
round trip with COMMIT. This is the one module that catches whatever a handler raises, SystemExit too.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple, cast

import django.db
from django.db import DEFAULT_DB_ALIAS, connections, transaction

from brokers import deliveries, metrics, redeliveries
from brokers.database import store_errors
from brokers.deliveries import Attempt, Delivery
from brokers.listeners import integrity, settling
from brokers.listeners.calling import UNREADABLE, Keys, undecodable
from brokers.listeners.failing import Judge, Verdict
from brokers.listeners.registration import BatchListenerFailed, Listener
from brokers.listeners.savepoints import Savepoints
from brokers.listeners.settling import Settlement
from brokers.listeners.work import (
    UNDECODABLE,
    Again,
    ClaimLost,
    Failed,
    Settled,
    TransactionConflict,
    Unattributed,
    Work,
)
from brokers.record import Record

log = logging.getLogger("waystation.listeners")

MAX_SAVEPOINTS: Final = 60
"""Of one transaction: from the 65th on PostgreSQL makes every session's snapshots dearer."""


class Setting(NamedTuple):
    """What all transactions of one member have in common."""

    listener: Listener
    group_id: int
    member: int
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
        self._verdicts: list[Verdict] = []
        self._through: list[int] = []
        """Indexes of records that were handled or skipped."""
        self._skipped: set[int] = set()

    def run(self) -> Settled:
        """The transaction from its beginning to its commit."""
        settled, is_committed, passed = None, False, 0
        try:
            with store_errors(), transaction.atomic():
                try:
                    with self._connection.execute_wrapper(self._savepoints):
                        passed = self._handle()
                finally:
                    integrity.repair(self._connection)
                self._clear_up()
                self._harden_callbacks()
                settlement = self._settlement(passed)
                if settling.has_begun(self._connection):
                    settled = settling.commit(self._connection, settlement, self._setting.search_path)
                    is_committed = True
                elif self._connection.run_on_commit:
                    settled = settling.settle(settlement)
            if settled is None:  # nobody touched the database: then this is the transaction
                settled = settling.settle(settlement)
        except (Again, TransactionConflict, ClaimLost):
            raise
        except BaseException as error:
            if not is_committed:
                classified = self._classified(error)
                if classified is error:
                    raise
                raise classified from error
            log.exception("a callback after the commit failed", extra={"handler": self._listener.name})
        assert settled is not None
        has_parked = any(verdict.is_parked for verdict in self._verdicts)
        return self._after_commit(settled._replace(passed=passed, has_parked=has_parked), settlement)

    # -- handling -------------------------------------------------------------------------------------------------

    def _handle(self) -> int:
        """How many records are through when the transaction is to be committed."""
        if self._keys is not None:
            self._name_keys()
            self._keys.claim()
        return self._handle_together() if self._listener.batch and not self._work.is_lane else self._handle_each()

    def _name_keys(self) -> None:
        assert self._keys is not None
        for index, record in enumerate(self._work.records):
            failed = undecodable(record)
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
        held_back: set[bytes] = set()
        for index, record in enumerate(work.records):
            if index and (savepoints.opened >= MAX_SAVEPOINTS or is_stopping()):
                return self._stop_before(index)
            if held_back and record.key_bytes in held_back:
                continue
            failed = work.known.get(index) if work.known else None
            if failed is None and keys is not None and keys.is_done(index):
                self._through.append(index)
                self._skipped.add(index)
                continue
            if failed is None:
                if work.attempts or work.with_care:
                    record.attempt = work.number(index)
                hooks = len(connection.run_on_commit)
                savepoints.begin()
                failed = self._call(record)
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
            if work.is_lane and verdict.is_parked and record.key_bytes is not None:
                held_back.add(record.key_bytes)
        return len(work.records)

    def _call(self, record: Record) -> Failed | None:
        """Calls the handler with one record; why it failed, if it did."""
        started = time.perf_counter()
        try:
            record.value  # noqa: B018 - decodes it, and keeps what it decoded
        except UNREADABLE as error:
            return Failed(error, UNDECODABLE)
        try:
            self._setting.call([record] if self._listener.batch else record)
        except BatchListenerFailed as error:
            return Failed.since(started, error.reason())
        except BaseException as error:
            return Failed.since(started, error)
        if self._savepoints.is_open or integrity.is_suspicious(self._connection):
            broken = integrity.broken(self._connection, self._savepoints)
            return None if broken is None else Failed.since(started, broken)
        return None

    def _handle_together(self) -> int:
        """Calls a batch handler, with the records before the first that is known to have failed."""
        work, keys = self._work, self._keys
        for index, record in enumerate(work.records):
            if index not in work.known and (failed := undecodable(record)) is not None:
                work.known[index] = failed
        first = min(work.known, default=len(work.records))
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
        called = [work.records[index] for index in places]
        if work.attempts:
            for index in places:
                work.records[index].attempt = work.number(index)
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
        return self._stop_before(0 if verdicts[0].waits else failed.together, len(self._work.records))

    def _stop_before(self, index: int, unhandled: int | None = None) -> int:
        """The transaction ends before a record; those from `unhandled` on were not looked at."""
        if self._keys is not None:
            self._keys.give_back(range(index if unhandled is None else unhandled, len(self._work.records)))
        return index

    def _undo(self, index: int, failed: Failed, hooks: int) -> None:
        """Rolls back what a failed record did, its callbacks included; `hooks` is how many there were before it."""
        assert failed.error is not None
        integrity.refuse_faults_of_others(self._connection, failed.error, self._may_conflict)
        integrity.repair(self._connection)
        del self._connection.run_on_commit[hooks:]
        if not self._savepoints.roll_back():
            raise Again({index: failed})
        self._connection.needs_rollback = False

    # -- committing -----------------------------------------------------------------------------------------------

    def _clear_up(self) -> None:
        """What handled records leave behind goes with their effects: attempts, and rows of the lane."""
        work = self._work
        if work.is_lane:
            done = [self._delivery(index) for index in self._through]
            skipped = {work.redeliveries[index].id for index in self._skipped}
            if redeliveries.settle(done, skipped) != len(done):
                raise ClaimLost  # somebody has emptied the lane
        if work.attempts or work.with_care:
            tried = [index for index in self._through if work.with_care or work.earlier(index)]
            deliveries.forget([self._delivery(index) for index in tried])

    def _harden_callbacks(self) -> None:
        """One callback after the commit that fails must not keep the others from running: what is done is done."""
        callbacks = cast("list[Any]", self._connection.run_on_commit)
        callbacks[:] = [(within, partial(_call_back, function), False) for within, function, _ in callbacks]

    def _delivery(self, index: int) -> Delivery:
        return self._work.delivery(index, self._listener, self._setting.group_id)

    def _settlement(self, passed: int) -> Settlement:
        partition, setting = self._work.partition, self._setting
        following = partition.handled if self._work.is_lane else partition.end_of(passed)
        return Settlement(
            setting.group_id,
            setting.member,
            partition.lane.partition_id,
            partition.claim,
            following if following != partition.handled else None,
            partition.is_past_care(following),
        )

    def _classified(self, error: BaseException) -> BaseException:
        """What a failure outside of any handler means; the transaction is rolled back."""
        if integrity.state_of(error) == integrity.CLAIM_LOST:
            return ClaimLost()
        if integrity.is_conflict(error):
            return TransactionConflict() if self._may_conflict else Unattributed(error)
        if isinstance(error, django.db.DatabaseError):  # a deferred constraint, for example
            return Unattributed(error)
        return error

    def _after_commit(self, settled: Settled, settlement: Settlement) -> Settled:
        """The partition moves on, and people are told."""
        work, partition = self._work, self._work.partition
        for verdict in self._verdicts:
            if verdict.waits:
                self._keep_attempt(verdict)
            verdict.tell()
        if settlement.is_past_care:
            partition.is_marked = False
        if not work.is_lane:
            partition.pass_over(settled.passed)
            if partition.careful_until is not None and partition.handled >= partition.careful_until:
                partition.careful_until = None
        metrics.records_handled.labels(self._listener.name).inc(len(self._through))
        return settled

    def _keep_attempt(self, verdict: Verdict) -> None:
        """The partition waits for its head, and remembers the attempt."""
        partition, record, now = self._work.partition, verdict.delivery.record, datetime.now(UTC)
        assert verdict.retry_ms is not None
        assert verdict.failure is not None
        partition.waits_until = time.monotonic() + verdict.retry_ms / 1000
        attempt = Attempt(verdict.number, now, now, verdict.failure.exception_class, verdict.retry_ms)
        partition.attempts.setdefault(record.offset, []).append(attempt)


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
