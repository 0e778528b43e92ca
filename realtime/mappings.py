"""`@message_mapping` and `@send_to`: which function answers what clients send to `/app/...`, and where its answer goes.

Declared in an application's `messaging.py`, as Spring's @MessageMapping and @SendTo. Everything that can be wrong with
a declaration is refused at import. `invoking` calls the handlers.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from brokers.access import Principal
from brokers.errors import InvalidType, InvalidValue, shown
from realtime import patterns
from realtime.patterns import Route

Function = TypeVar("Function", bound=Callable[..., Any])

OF_MESSAGE: Final = ("headers", "user", "principal", "session_id")
"""Arguments that a handler may name, besides the route's variables."""
_ANSWERS_TO: Final = "waystation_send_to"
_PROBE: Final = msgspec.json.Decoder


@dataclass(frozen=True, slots=True)
class Mapping:
    """A handler and how it is called."""

    route: Route
    function: Callable[..., Any]
    is_async: bool
    body: str | None
    """The argument that takes the body."""
    body_type: Any
    arguments: dict[str, Any]
    """Other arguments, with the types that variables are converted to."""

    @property
    def name(self) -> str:
        """The function's dotted name."""
        return _dotted(self.function)

    def destinations(self) -> tuple[str, ...]:
        """Where the answer goes, with variables in braces; empty for `/topic` and the path called."""
        return answers_to(self.function)


_mappings: dict[str, Mapping] = {}
"""By the shape of their routes."""
_ordered: list[Mapping] = []


def message_mapping(route: str) -> Callable[[Function], Function]:
    """Makes a function the handler of what is sent to `/app{route}`; the function itself stays as it is.

    The route may have wildcards and variables (`/chat/{room}`, `{id:[0-9]+}`); the most specific one is called. Its
    arguments are told apart by name: the route's variables, `headers`, `user` (the name), `principal`, `session_id`;
    the first other one is the body, converted to its annotation. What it answers, unless None, goes as JSON to where
    `send_to` says, else to `/topic` and the path (Spring's SendToMethodReturnValueHandler). It may be `async def`.

    Raises `InvalidValue` and `InvalidType` for what cannot be, and for a second handler of a route.
    """
    read = patterns.route(route)

    def register(function: Function) -> Function:
        mapping = _described(read, function)
        before = _mappings.get(read.shape)
        if before is not None and before.name != mapping.name:
            raise InvalidValue(f"the route {route} is mapped twice: by {before.name} and by {mapping.name}")
        check_answers(mapping)
        _mappings[read.shape] = mapping
        _ordered[:] = sorted(_mappings.values(), key=lambda found: found.route.rank)
        return function

    return register


def send_to(*destinations: str) -> Callable[[Function], Function]:
    """Says where the answer of a mapped function goes: `/topic/{room}`, or `/user/queue/x` for the sender's own.

    Variables of the route may stand in braces. Raises `InvalidValue` for what cannot be.
    """
    for destination in destinations:
        if not isinstance(destination, str) or not destination.startswith(("/topic/", "/user/")):
            raise InvalidValue(f"an answer goes to /topic/... or /user/queue/..., not {shown(destination)}")
    if not destinations:
        raise InvalidValue("send_to names at least one destination")

    def mark(function: Function) -> Function:
        setattr(function, _ANSWERS_TO, destinations)
        for mapping in _ordered:
            if mapping.function is function:
                check_answers(mapping)
        return function

    return mark


def answers_to(function: Callable[..., Any]) -> tuple[str, ...]:
    """What `send_to` said of a function."""
    found: tuple[str, ...] = getattr(function, _ANSWERS_TO, ())
    return found


def check_answers(mapping: Mapping) -> None:
    """Raises `InvalidValue` when an answer is to go to a variable that the route does not have."""
    for template in mapping.destinations():
        for name in patterns.names_in(template):
            if name not in mapping.route.variables:
                raise InvalidValue(f"{mapping.name} answers to {template}; {mapping.route.text} has no {{{name}}}")


def find(path: str) -> tuple[Mapping, dict[str, str]] | None:
    """The most specific mapping of a path, which begins with a slash, and the values of its variables."""
    for mapping in _ordered:
        values = mapping.route.match(path)
        if values is not None:
            return mapping, values
    return None


def declared() -> list[Mapping]:
    """All mappings of this process, the most specific first."""
    return list(_ordered)


def forget(routes: Iterable[str]) -> None:
    """Takes mappings out of the registry."""
    for text in routes:
        _mappings.pop(patterns.route(text).shape, None)
    _ordered[:] = sorted(_mappings.values(), key=lambda found: found.route.rank)


def _dotted(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{function.__qualname__}"


def _described(route: Route, function: Callable[..., Any]) -> Mapping:
    if not inspect.isfunction(function):
        raise InvalidType(f"a message mapping is a function, not {shown(function)}")
    name = _dotted(function)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidType(f"{name} is a generator: a call of it would handle nothing")
    try:
        annotated = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise InvalidType(f"{name} has an annotation that is not there at run time: {error}") from None
    hints = {argument: Any if wanted is object else wanted for argument, wanted in annotated.items()}
    body: str | None = None
    arguments: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise InvalidType(f"{name} takes any arguments: name those that it needs")
        if parameter.kind is parameter.POSITIONAL_ONLY:
            raise InvalidType(f"{name} has an argument without a name: {parameter.name}")
        if parameter.name in route.variables or parameter.name in OF_MESSAGE:
            arguments[parameter.name] = hints.get(parameter.name, Any)
        elif body is None and (parameter.kind is not parameter.KEYWORD_ONLY or parameter.name == "body"):
            body = parameter.name
        elif parameter.default is parameter.empty:
            raise InvalidType(f"{name} has an argument {parameter.name}, which {route.text} has no variable for")
    body_type = hints.get(body, Any) if body is not None else Any
    for argument, wanted in [(body, body_type), *arguments.items()]:
        if argument not in OF_MESSAGE:
            _check_type(name, argument, wanted)
    return Mapping(route, function, inspect.iscoroutinefunction(function), body, body_type, arguments)


def _check_type(name: str, argument: str | None, wanted: Any) -> None:
    try:
        kinds = msgspec.inspect.type_info(wanted)
        _PROBE(wanted)
    except TypeError as error:
        raise InvalidType(f"{name} cannot be given {argument}: {error}") from None
    if isinstance(kinds, msgspec.inspect.CustomType):
        raise InvalidType(f"{name} cannot be given {argument}: nothing converts JSON to {shown(wanted)}")


def wants_principal(mapping: Mapping) -> bool:
    """Whether `user` is to be the principal rather than the name."""
    return mapping.arguments.get("user") is Principal
