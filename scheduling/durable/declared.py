"""Durable background functions: what `@background(durable=True)` makes of a function, and what this process knows.

Importing declares; a worker finds the function again by its name. Called by `executors.background`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from functools import update_wrapper
from inspect import Signature
from typing import Any, Final, Generic, ParamSpec, TypeVar, overload

from asgiref.sync import sync_to_async

from brokers.errors import InvalidType, InvalidValue, shown
from brokers.retries.backoff import BackOff, ExponentialBackOff
from brokers.retries.decision import Policy
from scheduling import durations
from scheduling.durable import arguments, calls
from scheduling.durable.calls import DurableCall

P = ParamSpec("P")
T = TypeVar("T")

Duration = str | int | timedelta
"""ISO 8601 (`PT30S`), Spring's short form (`30s`), milliseconds or a `timedelta`."""

MAX_NAME: Final = 200
DEFAULT_RETRY: Final = ExponentialBackOff(
    initial_interval_ms=2000, multiplier=2.0, max_interval_ms=60_000, max_retries=7, jitter=0.1
)
"""Eight attempts within three minutes, about."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A durable background function."""

    name: str
    function: Callable[..., Any]
    policy: Policy
    timeout_ms: int | None
    signature: Signature

    @property
    def handler(self) -> str:
        """The function's own name, as failure groups know it."""
        return f"{self.function.__module__}.{self.function.__qualname__}"


_declared: dict[str, Declaration] = {}


class Durable(Generic[P, T]):
    """A durable background function; calling it returns once the call is written down."""

    __wrapped__: Callable[P, T]
    """The function itself, for whoever wants to call it here and now."""
    __name__: str

    def __init__(self, declaration: Declaration) -> None:
        update_wrapper(self, declaration.function)
        self.declaration = declaration

    @property
    def name(self) -> str:
        """By which workers, dead letters and permissions know it."""
        return self.declaration.name

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> DurableCall[T]:
        """Writes the call down, in the caller's transaction if there is one; workers are told after the commit.

        Raises `InvalidArguments`, which names the argument that JSON cannot hold, `ArgumentsTooLarge`, `Unavailable`.
        """
        text = arguments.as_json(self.name, self.declaration.signature, args, kwargs)
        return calls.submit(self.name, text)

    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> DurableCall[T]:
        """The same for asynchronous code; in a listener's asynchronous handler part of the handler's transaction."""
        text = arguments.as_json(self.name, self.declaration.signature, args, kwargs)
        return await sync_to_async(calls.submit)(self.name, text)

    def __repr__(self) -> str:
        return f"<durable background {self.name}>"


class DurableDecorator:
    """`@background(durable=True, ...)`, before it has its function."""

    def __init__(self, name: str | None, policy: Policy, timeout_ms: int | None) -> None:
        self._name, self._policy, self._timeout_ms = name, policy, timeout_ms

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]]) -> Durable[P, T]: ...
    @overload
    def __call__(self, function: Callable[P, T]) -> Durable[P, T]: ...
    def __call__(self, function: Callable[..., Any]) -> Durable[..., Any]:
        if not inspect.isfunction(function):
            raise InvalidType(f"@background(durable=True) decorates a function, not {shown(function)}")
        name = self._name or f"{function.__module__}.{function.__qualname__}"
        if not 0 < len(name) <= MAX_NAME or "\0" in name:
            raise InvalidValue(f"a durable function's name has 1 to {MAX_NAME} characters, not {len(name)}; give name=")
        found = Declaration(name, function, self._policy, self._timeout_ms, inspect.signature(function))
        there = _declared.get(name)
        if there is not None and there.handler != found.handler:
            raise InvalidValue(f"two durable functions are named {name!r}; give one of them another name=")
        _declared[name] = found
        return Durable(found)


def decorator(
    name: str | None, retry: BackOff | None, not_retryable: tuple[type[BaseException], ...], timeout: Duration | None
) -> DurableDecorator:
    """The decorator with these options; raises `InvalidType`, `InvalidValue` and `InvalidDuration`."""
    if name is not None and not isinstance(name, str):
        raise InvalidType(f"name is a text, not {shown(name)}")
    timeout_ms = None if timeout is None else durations.milliseconds(timeout)
    if timeout_ms == 0:
        raise InvalidValue("a timeout of nothing would end each attempt as it begins; leave it out for none")
    policy = Policy(DEFAULT_RETRY if retry is None else retry, not_retryable=not_retryable)
    return DurableDecorator(name, policy, timeout_ms)


def declaration(name: str) -> Declaration | None:
    """The durable function of that name, if this process has it."""
    return _declared.get(name)


def declarations() -> list[Declaration]:
    """All durable functions of this process, by name."""
    return sorted(_declared.values(), key=lambda each: each.name)
