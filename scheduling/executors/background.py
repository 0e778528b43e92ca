"""`@background`: a function whose calls run in an executor, and answer a future (Spring's `@Async`)."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from types import MethodType
from typing import Any, Generic, ParamSpec, TypeVar, overload

from brokers.errors import InvalidType, shown
from scheduling.executors.executor import asubmit, submit
from scheduling.executors.registry import DEFAULT

P = ParamSpec("P")
T = TypeVar("T")


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
        return Background(_checked(function), self._executor)


@overload
def background(function: Callable[P, Coroutine[Any, Any, T]], /) -> Background[P, T]: ...
@overload
def background(function: Callable[P, T], /) -> Background[P, T]: ...
@overload
def background(*, executor: str = DEFAULT) -> Decorator: ...
def background(function: Callable[..., Any] | None = None, /, *, executor: str = DEFAULT) -> Any:
    """Makes each call of a function a task of an executor; the call answers a `concurrent.futures.Future`.

    With or without arguments. The executor is looked for at the call. An `async def` function runs in an event loop of
    its own, in the executor's thread. What it raises is the future's, and is logged, since often nobody looks at that.
    Inside of a transaction the function may run before the commit: use `transaction.on_commit` where it matters.
    From asynchronous code `await function.asubmit(...)` waits for room. Raises `InvalidType`.
    """
    if not isinstance(executor, str):
        raise InvalidType(f"executor is the name of one, not {shown(executor)}")
    decorator = Decorator(executor)
    return decorator if function is None else decorator(function)


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    if not callable(function):
        raise InvalidType(f"@background decorates a function, not {shown(function)}")
    return function


def _in_own_loop(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return asyncio.run(function(*args, **kwargs))

    return call
