"""What of the caller's context a task gets: all context variables but those that belong to the caller's own work.

A task may outlive the request or the handler that gave it away. What it must not see is dropped: the broker handler
whose transaction is another thread's, and the threads that a request's asynchronous code had.
"""

from __future__ import annotations

from contextvars import Context, ContextVar, copy_context
from typing import Any, Final

from brokers.database import in_handler
from brokers.processed import current_consumer

_dropped: set[ContextVar[Any]] = {in_handler, current_consumer}
_DROPPED_NAMES: Final = frozenset(
    {"asgiref.local", "async_single_thread_context", "thread_sensitive_context", "deadlock_context"}
)
"""Of asgiref, where most are not reachable otherwise: Django's urlconf and language, and who serves `sync_to_async`."""


def drop(variable: ContextVar[Any]) -> None:
    """Tasks of executors do not get this variable any more; for state of a request."""
    _dropped.add(variable)


def inherited() -> Context:
    """A context for a task that is given away now."""
    context = copy_context()
    if not any(map(_is_dropped, context)):
        return context
    kept = Context()
    kept.run(_set_all, [(variable, value) for variable, value in context.items() if not _is_dropped(variable)])
    return kept


def _is_dropped(variable: ContextVar[Any]) -> bool:
    return variable in _dropped or variable.name in _DROPPED_NAMES


def _set_all(values: list[tuple[ContextVar[Any], Any]]) -> None:
    for variable, value in values:
        variable.set(value)
