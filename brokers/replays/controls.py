"""What people do to a replay that is there: apply its plan, pause, resume, cancel, change its rate.

```
planned --apply--> waiting --> canary --> running --> completed
   |                  |           |          |`-----> stopped   (by its rules)
   |                  +----- pause / resume -+
   `-----------------------> cancelled
```

Each function locks the replay's row, so two callers, or a caller and the runner, take turns. Asking for what is so
already changes nothing. All are audited, and each opens a transaction.
"""

from __future__ import annotations

from typing import Final, LiteralString, NamedTuple

from django.db import transaction

from brokers import audit, wakeup
from brokers.database import sync_cursor
from brokers.errors import InvalidValue, ReplayFinished, ReplayNotFound, shown
from brokers.replays.plans import SQL
from brokers.replays.request import MAX_RATE, MIN_RATE, within

GRACE_SECONDS: Final = 10.0
"""How long an applied plan waits before it starts, so that it can be taken back."""
SWEPT_AT_ONCE: Final = 5000
"""Unsent items marked in one transaction; the runner marks the others of a larger replay."""
_UNDER_WAY: Final = ("waiting", "canary", "running")


class _Locked(NamedTuple):
    state: str
    resumes_as: str | None
    expired: bool | None
    rate_per_second: float | None
    finished: bool


def apply(replay_id: int, *, grace_seconds: float = GRACE_SECONDS, actor: audit.Actor) -> str:
    """Starts a plan after a moment of grace; answers the state.

    Raises `ReplayNotFound`, and `ReplayFinished` for one that has expired or was cancelled.
    """
    with transaction.atomic():
        replay = _lock(replay_id)
        if replay.state in (*_UNDER_WAY, "paused"):
            return replay.state
        if replay.state != "planned" or replay.expired:
            raise ReplayFinished(f"replay {replay_id} cannot be applied: {_why(replay)}; make a new plan")
        _execute(SQL.apply, grace_seconds, replay_id)
        return _changed(actor, "apply", replay_id, replay.state, "waiting")


def pause(replay_id: int, *, actor: audit.Actor) -> str:
    """Sends nothing more until `resume`; what is sent goes on. Raises `ReplayNotFound` and `ReplayFinished`."""
    with transaction.atomic():
        replay = _lock(replay_id)
        if replay.state == "paused":
            return replay.state
        if replay.state not in _UNDER_WAY:
            raise ReplayFinished(f"replay {replay_id} cannot be paused: {_why(replay)}")
        _execute(SQL.pause, replay_id)
        return _changed(actor, "pause", replay_id, replay.state, "paused")


def resume(replay_id: int, *, actor: audit.Actor) -> str:
    """Goes on as before the pause. Raises `ReplayNotFound` and `ReplayFinished`."""
    with transaction.atomic():
        replay = _lock(replay_id)
        if replay.state in _UNDER_WAY:
            return replay.state
        if replay.state != "paused" or replay.resumes_as is None:
            raise ReplayFinished(f"replay {replay_id} cannot be resumed: {_why(replay)}")
        _execute(SQL.resume, replay_id)
        return _changed(actor, "resume", replay_id, replay.state, replay.resumes_as)


def cancel(replay_id: int, *, actor: audit.Actor) -> str:
    """Sends nothing more, for good: items not sent are skipped as `cancelled`, those sent stay sent.

    Up to 5,000 items are marked at once, the others of a larger replay in the seconds after. Raises `ReplayNotFound`,
    and `ReplayFinished` for one that has ended otherwise.
    """
    with transaction.atomic():
        replay = _lock(replay_id)
        if replay.state == "cancelled":
            return replay.state
        if replay.state in ("stopped", "completed"):
            raise ReplayFinished(f"replay {replay_id} cannot be cancelled: {_why(replay)}")
        close(replay_id, "cancelled")
        return _changed(actor, "cancel", replay_id, replay.state, "cancelled")


def change_rate(replay_id: int, rate_per_second: float | None, *, actor: audit.Actor) -> None:
    """Sets how many items are sent in a second, None for as many as can be.

    Raises `InvalidValue`, `ReplayNotFound` and `ReplayFinished`.
    """
    if rate_per_second is not None and not within(rate_per_second, MIN_RATE, MAX_RATE):
        raise InvalidValue(
            f"the rate must be {MIN_RATE} to {MAX_RATE:g} per second, not {shown(rate_per_second)}",
            pointer="/rate_per_second",
        )
    with transaction.atomic():
        replay = _lock(replay_id)
        if replay.finished or replay.state not in ("planned", "paused", *_UNDER_WAY):
            raise ReplayFinished(f"the rate of replay {replay_id} cannot be changed: {_why(replay)}")
        if replay.rate_per_second == rate_per_second:
            return
        _execute(SQL.change_rate, rate_per_second, replay_id)
        details = {"rate_per_second": [replay.rate_per_second, rate_per_second]}
        audit.record(actor, "change_rate", "replay", str(replay_id), details)
        transaction.on_commit(wakeup.announce_replays, robust=True)


def close(replay_id: int, state: str, cause: str = "") -> bool:
    """Ends a replay that the caller has locked, in the caller's transaction; says whether all unsent items are marked
    as skipped, or `sweep` has to go on.
    """
    swept = sweep(replay_id)
    _execute(SQL.close, state, cause, swept, replay_id)
    return swept


def sweep(replay_id: int) -> bool:
    """Marks some of the unsent items of a replay that the caller has locked; says whether those were all."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.skip_unsent, {"replay": replay_id, "limit": SWEPT_AT_ONCE}).fetchone()
    assert row is not None
    return bool(row[0] < SWEPT_AT_ONCE)


def _lock(replay_id: int) -> _Locked:
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.lock, (replay_id,)).fetchone()
    if row is None:
        raise ReplayNotFound(f"there is no replay {replay_id}")
    return _Locked(*row)


def _why(replay: _Locked) -> str:
    return "its plan has expired" if replay.expired and replay.state == "planned" else f"it is {replay.state}"


def _execute(statement: LiteralString, *parameters: object) -> None:
    with sync_cursor() as cursor:
        cursor.execute(statement, parameters)


def _changed(actor: audit.Actor, operation: str, replay_id: int, before: str, after: str) -> str:
    audit.record(actor, operation, "replay", str(replay_id), {"state": [before, after]})
    transaction.on_commit(wakeup.announce_replays, robust=True)
    return after
