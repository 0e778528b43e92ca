"""All executors of this process, by name, and their end.

Threads start with the first task, in the process that submits it; a child that is forked begins without any.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from scheduling.errors import ExecutorNotFound, InvalidExecutor
from scheduling.executors.care import ConnectionCare
from scheduling.executors.definition import Definition, Figures
from scheduling.executors.pool import Pool
from scheduling.executors.task import Task

log = logging.getLogger("waystation.executors")

DEFAULT: Final = "default"
"""The executor of work that names none; an application may declare it with other sizes."""
EXIT_SECONDS: Final = 10.0
"""How long an ending process waits for tasks, where nobody has called `shutdown`."""

FailureHandler = Callable[[BaseException, Callable[..., Any], tuple[Any, ...], dict[str, Any]], None]
"""Called with what a task raised, its function and its arguments (Spring's `AsyncUncaughtExceptionHandler`)."""

_default = Definition(DEFAULT, core=8, max=8, queue_capacity=1000, thread_name_prefix="background-", rejection="abort")
_lock = threading.Lock()
_definitions: dict[str, Definition] = {}
_pools: dict[str, Pool] = {}
_failure_handler: FailureHandler | None = None


def declare(definition: Definition) -> Definition:
    """Makes an executor known; raises `InvalidExecutor` for a second, different one of its name."""
    with _lock:
        before = _definitions.setdefault(definition.name, definition)
    if before != definition:
        raise InvalidExecutor(f"the executor {definition.name} is declared twice, and differently")
    return before


def pool(name: str) -> Pool:
    """The threads of an executor. Raises `ExecutorNotFound`."""
    found = _pools.get(name)
    if found is not None:
        return found
    with _lock:
        definition = _definitions.get(name)
        if definition is None and name == DEFAULT:
            definition = _default
        if definition is None:
            raise ExecutorNotFound(
                f"no executor is named {name!r}; declare it in a messaging.py: Executor({name!r}, core=2, max=4)"
            )
        return _pools.setdefault(name, Pool(definition, ConnectionCare(), _failed))


def declared() -> list[Definition]:
    """All executors that this process knows, by name, with the default one."""
    with _lock:
        return sorted(({DEFAULT: _default} | _definitions).values(), key=lambda each: each.name)


def figures() -> list[Figures]:
    """What each executor of this process does and did, by name."""
    return [pool(definition.name).figures() for definition in declared()]


def in_use() -> list[Figures]:
    """As `figures`, of the executors that this process has used; empty for most processes, and then free."""
    with _lock:
        pools = sorted(_pools.items())
    return [each.figures() for _, each in pools]


def on_failure(handler: FailureHandler | None) -> None:
    """Has a function called for each task that raises, instead of logging it; None: logs again.

    It is called in the task's thread, before the future is done, whether or not anybody looks at the future.
    """
    global _failure_handler
    _failure_handler = handler


def shutdown(deadline_seconds: float) -> int:
    """Ends all executors of this process once what is queued is done; answers how many tasks were not, and logs that.

    Called by whatever ends a process (`reporter.end`), in a thread that may wait; a second call waits for nothing.
    """
    until = time.monotonic() + deadline_seconds
    with _lock:
        pools = [each for each in _pools.values() if not each.is_over]
    for each in pools:
        each.close()
    left = sum(each.shutdown(max(0.0, until - time.monotonic())) for each in pools)
    if left:
        log.warning("background tasks were not done when the process ended", extra={"tasks": left})
    return left


def forget(names: Iterable[str]) -> None:
    """Takes executors out of the registry, and ends them without waiting."""
    with _lock:
        for name in names:
            _definitions.pop(name, None)
            ended = _pools.pop(name, None)
            if ended is not None:
                ended.close()


def _failed(task: Task, error: BaseException) -> None:
    handler = _failure_handler
    try:
        if handler is not None:
            handler(error, task.function, task.args, dict(task.kwargs))
            return
    except Exception:
        log.exception("the handler of failed background tasks failed", extra={"task": task.name})
    log.error("a background task failed", extra={"task": task.name}, exc_info=error)


def _begin_anew() -> None:
    """In a forked child the threads are gone, and locks may be held by them."""
    global _lock, _pools
    _lock = threading.Lock()
    _pools = {}


os.register_at_fork(after_in_child=_begin_anew)
atexit.register(shutdown, EXIT_SECONDS)
