"""The durable call that runs in this thread, for the function that was called; and who calls, for those it makes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from brokers.processed import current_consumer

MAX_WHO: Final = 200


@dataclass(frozen=True, slots=True)
class CurrentCall:
    """One attempt at a call, seen from within the function."""

    id: int
    """The call's: the same for each attempt, and so a key for what must happen once elsewhere."""
    function: str
    attempt: int
    """From 1."""
    is_lost: Callable[[], bool]
    """Whether the call was taken from this process, which was stopped for too long: what it answers is dropped."""


_current: ContextVar[CurrentCall | None] = ContextVar("waystation_call", default=None)


def current_call() -> CurrentCall | None:
    """The durable call that the caller is part of; None outside of one."""
    return _current.get()


@contextmanager
def entered(call: CurrentCall) -> Iterator[None]:
    """The block is part of that call."""
    token = _current.set(call)
    try:
        yield
    finally:
        _current.reset(token)


def who() -> str:
    """Who makes a call now: another call, a consumer whose handler runs, or else this process."""
    call, consumer = _current.get(), current_consumer.get()
    if call is not None:
        found = f"{call.function} {call.id}"
    elif consumer is not None:
        found = f"consumer {consumer}"
    else:
        found = f"{socket.gethostname()}:{os.getpid()}"
    return found[:MAX_WHO]
