"""Giving a durable call up: its run is dead and a dead letter is written, or opened again, in one transaction.

The dead letter has the arguments as its payload, the attempts with their stack traces, and can be edited and replayed
like that of any message. On Django's connection. Called by workers and, for calls that kill their workers, by the beat.
"""

from __future__ import annotations

import logging
import uuid
from typing import Final

from django.db import DatabaseError, close_old_connections, transaction

from brokers import dead_letters, task_calls
from brokers.database import store_errors
from brokers.dead_letter_origins import Origin, Payload, Try
from brokers.failure import Failure
from brokers.record import JSON
from scheduling import runs
from scheduling.connections import OwnConnection
from scheduling.durable import calls, declared, store
from scheduling.durable.store import Locked
from scheduling.runs import Attempt

log = logging.getLogger("waystation.scheduling")

WORKER_LOST: Final = "worker_lost"
"""The reason of a dead letter whose call has cost too many workers."""
_LOST: Final = "its worker was gone"


def give_up(attempt: Attempt, failure: Failure, reason: str) -> bool:
    """Makes a dead letter of a call after an attempt that failed; False when the attempt had lost the call.

    Raises `Unavailable`. A transaction of its own.
    """
    with store_errors(), transaction.atomic():
        locked = store.lock(attempt.id, attempt.token)
        if locked is None:
            return False
        _bury(locked, failure, reason)
    calls.announce_end(attempt.id)
    return True


def give_up_poison(connection: OwnConnection) -> int:
    """Makes dead letters of calls that have lost their last worker; says how many.

    Each in a transaction of its own. Raises `Unavailable`.
    """
    found = runs.poison(connection)
    if not found:
        return 0
    with store_errors():
        close_old_connections()
    return sum(_give_up_lost(run, token) for run, token in found)


def _give_up_lost(run: int, token: uuid.UUID) -> bool:
    try:
        with store_errors(), transaction.atomic():
            locked = store.lock(run, token, has_lapsed=True)
            if locked is None:
                return False
            _bury(locked, None, WORKER_LOST)
    except DatabaseError:  # one that cannot be written must not keep the beat from all others
        log.exception("a call could not be given up", extra={"run": run})
        return False
    calls.announce_end(run)
    return True


def _bury(locked: Locked, failure: Failure | None, reason: str) -> None:
    declaration = declared.declaration(locked.function)
    origin = Origin(
        source_kind=task_calls.KIND,
        source=locked.function,
        handler=locked.function if declaration is None else declaration.handler,
        tries=(*store.take_attempts(locked.id), _last(locked, failure)),
    )
    number = None
    if locked.dead_letter_id is not None:
        revision = locked.revision or 1
        number = dead_letters.reopen(locked.dead_letter_id, locked.replay_item_id, revision, origin, reason, failure)
    if number is None:
        payload = Payload(None, task_calls.value_of(*locked.arguments), JSON, {})
        number = dead_letters.add(origin, payload, reason, failure)
    error = _LOST if failure is None else failure.stacktrace
    name = "" if failure is None else failure.exception_class
    store.give_up(locked.id, number, error, name, is_lost=failure is None)


def _last(locked: Locked, failure: Failure | None) -> Try:
    """The attempt after which it is given up."""
    if failure is None:
        return Try(locked.attempts, locked.began_at, None, _LOST, "", "", (), None, locked.process[:200])
    return Try(
        number=locked.attempts,
        started_at=locked.began_at,
        ended_at=locked.now,
        error=failure.message,
        exception_class=failure.exception_class,
        stacktrace=failure.stacktrace,
        frames=[frame._asdict() for frame in failure.frames],
        delay_ms=None,
        worker=locked.process[:200],
    )
