"""What calling a durable function answers, and how its calls are looked at: from any process, by their ids.

A call is known by a number; whoever has it may ask for state and result for as long as the row is kept, thirty days
after the end. Called by applications, and by REST and the console, which authorise.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar, cast

from django.db import transaction

from brokers import wakeup
from brokers.database import acquire, in_transaction
from brokers.errors import InvalidType, InvalidValue, shown
from brokers.settings import POLL_INTERVAL_SECONDS
from scheduling import runs
from scheduling.doorbell import doorbell
from scheduling.durable import current, store
from scheduling.durable.errors import CallFailed, CallNotCommitted, CallNotEnded, CallNotFound, ResultNotKept
from scheduling.durable.store import CallInfo

__all__ = ["CallInfo", "DurableCall", "get", "page", "submit"]

T = TypeVar("T")

READY: Final = "ready"
RUNNING: Final = "running"
STATES: Final = (READY, RUNNING, runs.SUCCEEDED, runs.DEAD)
MAX_ID: Final = 2**63 - 1
MAX_PAGE: Final = 1000
_SUBSCRIBING_SECONDS: Final = 0.01


class DurableCall(Generic[T]):
    """One call of a durable function. `DurableCall(id)` finds it again, in any process."""

    __slots__ = ("_is_committed", "id")

    def __init__(self, id: int) -> None:  # noqa: A002 - the call's, as everywhere
        if not isinstance(id, int) or isinstance(id, bool):
            raise InvalidType(f"a call's id is a whole number, not {shown(id)}")
        self.id = id
        self._is_committed = True

    def info(self) -> CallInfo:
        """All that is known of it now. Raises `CallNotFound`."""
        return get(self.id)

    def state(self) -> str:
        """`ready` (also between two attempts), `running`, `succeeded` or `dead`. Raises `CallNotFound`."""
        return self.info().state

    def attempt(self) -> int:
        """How many attempts have begun. Raises `CallNotFound`."""
        return self.info().attempts

    def error(self) -> str:
        """How the last attempt failed, with its stack trace; empty when it did not. Raises `CallNotFound`."""
        return self.info().error

    def result(self, timeout_seconds: float | None = None) -> T:
        """What the function has answered, as JSON gives it back; waits for it, without a timeout for ever.

        Raises `CallFailed` when it was given up, `CallNotEnded` (a `TimeoutError`) after the timeout, `ResultNotKept`,
        `CallNotFound`, and `CallNotCommitted` within the transaction that makes the call.
        """
        self._check_committed()
        until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        found = self.info()
        if found.ended_at is None:
            with wakeup.Subscription() as hints:
                pause = _SUBSCRIBING_SECONDS  # an end before the subscription is seen at once by this
                while found.ended_at is None:
                    hints.wait_for([_hint(self.id)], self._left(until, pause))
                    found, pause = self.info(), POLL_INTERVAL_SECONDS
        return cast("T", _result(found))

    async def ainfo(self) -> CallInfo:
        """`info` for asynchronous code; what is not committed is not there."""
        async with acquire() as connection:
            row = await (await connection.execute(store.SQL.call, (self.id,))).fetchone()
        if row is None:
            raise _not_found(self.id)
        return store.info(row)

    async def aresult(self, timeout_seconds: float | None = None) -> T:
        """`result` for asynchronous code."""
        self._check_committed()
        until = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        found = await self.ainfo()
        if found.ended_at is None:
            with wakeup.Subscription() as hints:
                pause = _SUBSCRIBING_SECONDS
                while found.ended_at is None:
                    await asyncio.to_thread(hints.wait_for, [_hint(self.id)], self._left(until, pause))
                    found, pause = await self.ainfo(), POLL_INTERVAL_SECONDS
        return cast("T", _result(found))

    def _left(self, until: float | None, pause: float) -> float:
        if until is None:
            return pause
        left = until - time.monotonic()
        if left <= 0:
            raise CallNotEnded(f"call {self.id} has not ended yet; it goes on")
        return min(left, pause)

    def _check_committed(self) -> None:
        if not self._is_committed and in_transaction():
            raise CallNotCommitted(f"call {self.id} begins when the transaction that makes it commits: wait after that")

    def _committed(self) -> None:
        self._is_committed = True
        doorbell.ring(self.id)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DurableCall) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<durable call {self.id}>"


def submit(function: str, arguments: str) -> DurableCall[Any]:
    """Writes a call down, in the caller's transaction if there is one; the workers are told after its commit."""
    call: DurableCall[Any] = DurableCall(store.submit(function, arguments, current.who()))
    call._is_committed = not in_transaction()
    transaction.on_commit(call._committed, robust=True)
    return call


def ring_after_commit(calls: Sequence[int]) -> None:
    """Tells workers of calls once the caller's transaction has committed."""
    transaction.on_commit(partial(doorbell.ring_all, list(calls)), robust=True)


def announce_end(call: int) -> None:
    """Wakes whoever waits for the call; what it waits for must be committed."""
    wakeup.announce_streams([_hint(call)])


def get(call: int) -> CallInfo:
    """One call. Raises `CallNotFound`."""
    found = store.get(call) if 0 < call <= MAX_ID else None
    if found is None:
        raise _not_found(call)
    return found


def page(
    *, function: str | None = None, state: str | None = None, before: int = MAX_ID, limit: int = 100
) -> list[CallInfo]:
    """Calls, latest first, with ids below `before`: of all durable functions or one, in any state or one.

    Raises `InvalidValue`.
    """
    if state is not None and state not in STATES:
        raise InvalidValue(f"a call's state is one of {', '.join(STATES)}, not {shown(state)}", pointer="/state")
    if not 1 <= limit <= MAX_PAGE or not 0 <= before <= MAX_ID:
        raise InvalidValue(f"a page has 1 to {MAX_PAGE} calls, before an id", pointer="/limit")
    return store.page(function, state, before, limit)


def _result(found: CallInfo) -> Any:
    if found.state == runs.DEAD:
        said = found.error.rstrip().rpartition("\n")[2]
        raise CallFailed(
            f"call {found.id} of {found.function} was given up: {said} (dead letter {found.dead_letter_id})"
        )
    if found.error:
        raise ResultNotKept(f"call {found.id} of {found.function} has succeeded, but {found.error}")
    return found.result


def _not_found(call: int) -> CallNotFound:
    return CallNotFound(f"there is no call {shown(call)}")


def _hint(call: int) -> str:
    return f"b{call}"
