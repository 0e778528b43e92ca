"""`@background`: a function whose calls run in an executor, and answer a future (Spring's `@Async`).

With `durable=True` they are rows instead, which any worker may do: see `scheduling.durable`.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, overload

from brokers.errors import InvalidType, InvalidValue, shown
from brokers.retries.backoff import BackOff
from scheduling.executors.executor import asubmit, submit
from scheduling.executors.registry import DEFAULT

if TYPE_CHECKING:
    from scheduling.durable.declared import DurableDecorator, Duration

P = ParamSpec("P")
T = TypeVar("T")

_named: dict[str, set[str]] = {}
"""Functions in the background, by the executor that they name."""


class Background(Generic[P, T]):
    """A function in the background; calling it returns at once."""

    __wrapped__: Callable[P, T]
    """The function itself, for whoever wants to call it here and now."""
    __name__: str

    def __init__(self, function: Callable[P, T], executor: str) -> None:
        functools.update_wrapper(self, function)
        self.executor = executor
        self._call: Callable[..., T] = _in_own_loop(function) if inspect.iscoroutinefunction(function) else function

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Submits the call to the executor. Raises `TaskRejected` and `ExecutorNotFound`."""
        return submit(self.executor, self._call, args, kwargs)

    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """For asynchronous code: waits for room in the executor, and answers a future that can be awaited."""
        return await asubmit(self.executor, self._call, args, kwargs)

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<background {self.__wrapped__.__module__}.{self.__wrapped__.__qualname__} in {self.executor}>"


class Decorator:
    """`@background(executor=...)`, before it has its function."""

    def __init__(self, executor: str) -> None:
        self._executor = executor

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]]) -> Background[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, T]) -> Background[P, T]: ...
    def __call__(self, function: Callable[..., Any]) -> Background[..., Any]:
        found = Background(_checked(function), self._executor)
        name = getattr(function, "__qualname__", type(function).__qualname__)
        _named.setdefault(self._executor, set()).add(f"{function.__module__}.{name}")
        return found


@overload
def background(function: Callable[P, Coroutine[Any, Any, T]], /) -> Background[P, T]: ...
@overload
def background(function: Callable[P, T], /) -> Background[P, T]: ...
@overload
def background(*, executor: str = DEFAULT, durable: Literal[False] = False) -> Decorator: ...
@overload
def background(
    *,
    durable: Literal[True],
    name: str | None = None,
    retry: BackOff | None = None,
    not_retryable: tuple[type[BaseException], ...] = (),
    timeout: Duration | None = None,
) -> DurableDecorator: ...
def background(
    function: Callable[..., Any] | None = None,
    /,
    *,
    executor: str | None = None,
    durable: bool = False,
    name: str | None = None,
    retry: BackOff | None = None,
    not_retryable: tuple[type[BaseException], ...] = (),
    timeout: Duration | None = None,
) -> Any:
    """Makes each call of a function a task of an executor; the call answers a `concurrent.futures.Future`.

    With or without arguments. The executor is looked for at the call, and at the start by a system check. An
    `async def` function runs in an event loop of its own, in the executor's thread. What it raises is the future's, and
    is logged, since often nobody looks at that. Inside of a transaction the function may run before the commit: use
    `transaction.on_commit` where it matters. From asynchronous code `await function.asubmit(...)` waits for room.
    Raises `InvalidType` and `InvalidValue`.

    With `durable=True` a call is a row of the caller's transaction, done by a worker of any server after the commit,
    and answers a `DurableCall`. Arguments and result are JSON. What fails is tried again as `retry` says (by default
    eight times within three minutes), but for `not_retryable` exceptions, and becomes a dead letter after that; so
    does a call that takes longer than `timeout` each time, or kills three workers. `name` is the function's dotted path
    unless given: calls are found by it, so keep it over releases.
    """
    if durable:
        from scheduling.durable.declared import decorator as durable_decorator  # loads Celery, for who needs it

        if executor is not None or function is not None:
            raise InvalidValue("a durable function runs in a worker: it has no executor=")
        return durable_decorator(name, retry, not_retryable, timeout)
    if (name, retry, not_retryable, timeout) != (None, None, (), None):
        raise InvalidValue("name, retry, not_retryable and timeout are of durable functions; add durable=True")
    if executor is not None and not isinstance(executor, str):
        raise InvalidType(f"executor is the name of one, not {shown(executor)}")
    decorator = Decorator(DEFAULT if executor is None else executor)
    return decorator if function is None else decorator(function)


def named_executors() -> dict[str, list[str]]:
    """Executors that functions of this process name, each with these functions."""
    return {executor: sorted(functions) for executor, functions in _named.items()}


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    if not callable(function):
        raise InvalidType(f"@background decorates a function, not {shown(function)}")
    return function


def _in_own_loop(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return call
