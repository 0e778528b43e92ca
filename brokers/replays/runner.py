"""Moves replays: a thread of each worker that sends items as fast as each replay may.

Any number of workers share the replays; a replay is moved by whoever holds its row. A step is one transaction, so a
worker that dies in it has sent nothing, and what is sent is sent once. Outcomes are written by the consumers' own
transactions; a replay that has sent all waits here for the last of them.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Final, NamedTuple, Self

import django.db
from django.db import close_old_connections, connection, transaction

from brokers import audit
from brokers.database import sync_cursor
from brokers.errors import BrokerError, ExchangeNotFound, QueueNotFound, TopicNotFound, Unavailable
from brokers.replays import controls, pacing
from brokers.replays.plans import SQL
from brokers.replays.request import Target
from brokers.replays.sending import Order, send
from brokers.settings import POLL_INTERVAL_SECONDS
from brokers.wakeup import Subscription

log = logging.getLogger("waystation.replays")

JOIN_SECONDS: Final = 5.0
"""How long the end waits for a step that is under way."""
_LIVE: Final = 1000
"""Replays looked at in one pass."""
_OUTCOMES_SECONDS: Final = 0.2
"""How soon a replay that waits for outcomes is looked at again."""

KeepGoing = Callable[[], bool]


class _Replay(NamedTuple):
    id: int
    state: str
    target: str | None
    """As JSON text."""
    patch: str | None
    rate_per_second: float | None
    canary_count: int | None
    min_success: float | None
    stop_share: float | None
    created_by: str
    next_position: int
    budget_at: datetime | None
    starts_at: datetime
    now: datetime

    @property
    def careful(self) -> bool:
        return self.canary_count is not None or self.stop_share is not None


class _Standing(NamedTuple):
    sent: int
    succeeded: int
    failed_again: int
    under_way: int
    unsent: bool


def advance(keep_going: KeepGoing = lambda: True) -> float:
    """Moves all replays as far as they go now, in turns; answers the seconds after which to look again, at most one.

    A replay whose step fails is logged, and tried again by the next call. Raises `Unavailable` when the connection is
    lost. Transactions of its own.
    """
    wait = POLL_INTERVAL_SECONDS
    with sync_cursor() as cursor:
        moving = [row[0] for row in cursor.execute(SQL.live, (_LIVE,)).fetchall()]
    while moving:
        again = []
        for replay_id in moving:
            if not keep_going():
                return 0.0
            try:
                seconds = step(replay_id)
            except (BrokerError, django.db.DatabaseError) as error:
                close_old_connections()
                if isinstance(error, Unavailable) and connection.connection is None:
                    raise
                log.warning("a step of a replay failed", extra={"replay": replay_id, "error": str(error)})
                continue
            if seconds == 0.0:
                again.append(replay_id)
            wait = min(wait, seconds or wait)
        moving = again
    return wait


def step(replay_id: int) -> float:
    """One step of a replay, one transaction: the seconds until the next can do something, 0.0 for at once."""
    with transaction.atomic():
        with sync_cursor() as cursor:
            cursor.execute(SQL.by_index)
            row = cursor.execute(SQL.take, (replay_id,)).fetchone()
        if row is None:  # another worker is at it, or it is gone
            return POLL_INTERVAL_SECONDS
        return _step(_Replay(*row))


def _step(replay: _Replay) -> float:
    if replay.state in ("cancelled", "stopped"):
        return _sweep(replay)
    if replay.state == "waiting":
        if replay.now < replay.starts_at:
            return (replay.starts_at - replay.now).total_seconds()
        replay = _begin(replay, "running" if replay.canary_count is None else "canary")
    if replay.state not in ("canary", "running"):
        return POLL_INTERVAL_SECONDS
    standing = _standing(replay)
    broken = _broken_rule(replay)
    if broken is not None:
        return _stop(replay, broken)
    if replay.state == "canary" and (standing.sent >= (replay.canary_count or 0) or not standing.unsent):
        if standing.under_way:
            return _OUTCOMES_SECONDS
        if not pacing.canary_passes(standing.succeeded, standing.failed_again, replay.min_success or 0.0):
            return _stop(replay, f"of the canary's {standing.sent}, {standing.succeeded} succeeded")
        replay = _begin(replay, "running")
    if not standing.unsent:
        return _OUTCOMES_SECONDS if standing.under_way else _complete(replay)
    return _send(replay, standing)


def _send(replay: _Replay, standing: _Standing) -> float:
    budget = pacing.budget(replay.rate_per_second, replay.budget_at, replay.now)
    room = pacing.room(standing.under_way, replay.careful)
    if replay.state == "canary":
        room = min(room, (replay.canary_count or 0) - standing.sent)
    if not room:
        return _OUTCOMES_SECONDS
    if not budget.items:
        return budget.seconds_to_next()
    patch = None if replay.patch is None else replay.patch.encode()
    target = None if replay.target is None else Target(**json.loads(replay.target))
    order = Order(replay.id, replay.created_by, target, patch)
    try:
        sent = send(order, replay.next_position, min(room, budget.items, pacing.CHUNK))
    except (TopicNotFound, QueueNotFound, ExchangeNotFound) as error:
        return _stop(replay, error.detail)
    with sync_cursor() as cursor:
        cursor.execute(SQL.moved, (sent.next_position, budget.spent(sent.items), replay.id))
    return 0.0


def _sweep(replay: _Replay) -> float:
    if not controls.sweep(replay.id):
        return 0.0
    with sync_cursor() as cursor:
        cursor.execute(SQL.swept, (replay.id,))
    return POLL_INTERVAL_SECONDS


def _begin(replay: _Replay, state: str) -> _Replay:
    with sync_cursor() as cursor:
        cursor.execute(SQL.begin, (state, replay.id))
    if replay.state == "canary":
        _note(replay, "pass_canary", state)
    return replay._replace(state=state)


def _complete(replay: _Replay) -> float:
    controls.close(replay.id, "completed")
    _note(replay, "complete", "completed")
    return POLL_INTERVAL_SECONDS


def _stop(replay: _Replay, cause: str) -> float:
    swept = controls.close(replay.id, "stopped", cause)
    _note(replay, "stop", "stopped", cause)
    log.warning("a replay was stopped", extra={"replay": replay.id, "cause": cause})
    return POLL_INTERVAL_SECONDS if swept else 0.0


def _note(replay: _Replay, operation: str, state: str, cause: str = "") -> None:
    details = {"state": [replay.state, state]} | ({"cause": cause} if cause else {})
    audit.record(audit.SYSTEM, operation, "replay", str(replay.id), details)


def _standing(replay: _Replay) -> _Standing:
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.standing, (pacing.UNDER_WAY + pacing.CHUNK, replay.id)).fetchone()
    assert row is not None
    return _Standing(*row)


def _broken_rule(replay: _Replay) -> str | None:
    if replay.stop_share is None:
        return None
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.newest_outcomes, (replay.id, pacing.WINDOW)).fetchone()
    assert row is not None
    outcomes, failed_again = row
    if pacing.stops(outcomes, failed_again, replay.stop_share):
        return f"of the last {outcomes}, {failed_again} failed again"
    return None


class Runner:
    """Runs `advance` in a thread with a connection of its own, from entry to exit of a `with` block.

    It looks each second, and at once when a replay is announced. At the exit it ends after the step that it is at.
    """

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waystation-replays", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(JOIN_SECONDS)

    def is_alive(self) -> bool:
        """Whether the thread runs; when it does not, it met what nobody foresaw and has logged it."""
        return self._thread.is_alive()

    def _run(self) -> None:
        away = False
        try:
            with Subscription() as hints:
                while not self._stopping.is_set():
                    try:
                        wait, away = advance(lambda: not self._stopping.is_set()), False
                    except Unavailable as error:
                        if not away:
                            log.warning("the database is away", extra={"error": error.detail})
                        wait, away = POLL_INTERVAL_SECONDS, True
                        close_old_connections()
                    if not self._stopping.is_set():
                        hints.wait_for(["r"], wait)
        finally:
            connection.close()
