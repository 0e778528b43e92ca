"""One call that an executor was given, and its future, which refuses the wait that could never end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextvars import Context
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


class TaskFuture(Future[T]):
    """What a call will have answered.

    `before_wait` is asked before a wait without a timeout, and raises `ExecutorDeadlock` in a thread of the same
    executor: with all its threads waiting so, none is left for what they wait for.
    """

    def __init__(self, before_wait: Callable[[], None]) -> None:
        super().__init__()
        self._before_wait = before_wait

    def result(self, timeout: float | None = None) -> T:
        """As `concurrent.futures.Future.result`; raises `ExecutorDeadlock` too."""
        if timeout is None and not self.done():
            self._before_wait()
        return super().result(timeout)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As `concurrent.futures.Future.exception`; raises `ExecutorDeadlock` too."""
        if timeout is None and not self.done():
            self._before_wait()
        return super().exception(timeout)


@dataclass(slots=True, eq=False)
class Task:
    """A call."""

    future: TaskFuture[Any]
    context: Context
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    @property
    def name(self) -> str:
        """What is called, for logs."""
        return f"{self.function.__module__}.{getattr(self.function, '__qualname__', repr(self.function))}"
