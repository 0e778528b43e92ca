"""Calls the handler of what a client sent to `/app/...`, and sends its answer on.

Synchronous handlers run in a few threads of their own, with Django connections that are given back afterwards;
asynchronous ones on the event loop. What a handler raises is logged and the connection stays, as in Spring; only a body
that does not fit is the client's error. Called by SEND.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Mapping as Headers
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol

import msgspec
from django.db import close_old_connections

from brokers import strict_json
from brokers.access import Principal
from brokers.errors import InvalidType, InvalidUnicode, Malformed, Unavailable
from realtime import broadcasting, mappings, patterns
from realtime.announcing import user_destination
from realtime.mappings import Mapping

log = logging.getLogger("waystation.mappings")

THREADS: Final = 16
MAX_WAITING: Final = 256
"""Calls that may wait for a thread; more are refused."""
_executor = ThreadPoolExecutor(THREADS, thread_name_prefix="mapping")


class Frame(Protocol):
    """What a client sent."""

    @property
    def headers(self) -> Headers[str, str]:
        """The first value of each."""

    @property
    def body(self) -> bytes:
        """As it came."""


async def invoke(route: str, frame: Frame, principal: Principal, session_id: str) -> None:
    """Calls the handler of a route, and sends its answer, before it returns. Without a handler nothing happens.

    Raises `InvalidType`, `InvalidValue` and `Malformed` for a body or variable that does not fit, and `Unavailable`
    when too many calls wait.
    """
    path = route if route.startswith("/") else f"/{route}"
    found = mappings.find(path)
    if found is None:
        log.debug("no message mapping", extra={"route": path})
        return
    mapping, variables = found
    arguments = _arguments(mapping, variables, frame, principal, session_id)
    if mapping.is_async:
        await _call_async(mapping, arguments, _destinations(mapping, path, variables, principal))
        return
    if _executor._work_queue.qsize() >= MAX_WAITING:
        raise Unavailable("too many messages wait for their handlers; try again in a second")
    call = contextvars.copy_context().run
    await asyncio.get_running_loop().run_in_executor(
        _executor, call, _call, mapping, arguments, _destinations(mapping, path, variables, principal)
    )


def _call(mapping: Mapping, arguments: dict[str, Any], destinations: list[str]) -> None:
    close_old_connections()
    try:
        answer = mapping.function(**arguments)
        if answer is not None:
            for destination in destinations:
                broadcasting.broadcast(destination, answer)
    except Exception:
        log.exception("a message mapping failed", extra={"handler": mapping.name})
    finally:
        close_old_connections()


async def _call_async(mapping: Mapping, arguments: dict[str, Any], destinations: list[str]) -> None:
    try:
        answer = await mapping.function(**arguments)
        if answer is not None:
            for destination in destinations:
                await broadcasting.abroadcast(destination, answer)
    except Exception:
        log.exception("a message mapping failed", extra={"handler": mapping.name})


def _destinations(mapping: Mapping, path: str, variables: dict[str, str], principal: Principal) -> list[str]:
    templates = mapping.destinations()
    if not templates:
        return [f"/topic{path}"]
    own = user_destination(principal.user_name(), "")
    filled = [patterns.expand(template, variables) for template in templates]
    return [
        f"{own}{text.removeprefix('/user')}" if text.startswith(("/user/queue/", "/user/topic/")) else text
        for text in filled
    ]


def _arguments(
    mapping: Mapping, variables: dict[str, str], frame: Frame, principal: Principal, session_id: str
) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, wanted in mapping.arguments.items():
        if name in variables:
            arguments[name] = _converted(name, variables[name], wanted)
        elif name == "headers":
            arguments[name] = dict(frame.headers)
        elif name == "user":
            arguments[name] = principal if mappings.wants_principal(mapping) else principal.user_name()
        elif name == "principal":
            arguments[name] = principal
        elif name == "session_id":
            arguments[name] = session_id
    if mapping.body is not None:
        arguments[mapping.body] = body_of(frame, mapping.body_type)
    return arguments


def _converted(name: str, text: str, wanted: Any) -> Any:
    if wanted is Any or wanted is str:
        return text
    try:
        return msgspec.convert(text, wanted, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidType(f"the destination's {name} does not fit: {error}") from None


def body_of(frame: Frame, wanted: Any) -> Any:
    """The body as its handler takes it; raises what `strict_json.decode` raises."""
    content_type = frame.headers.get("content-type", "").partition(";")[0].strip().lower()
    if wanted is bytes:
        return frame.body
    if wanted is str:
        return _text(frame.body)
    if wanted is not Any:
        return strict_json.decode(frame.body, wanted)
    if content_type == "application/json" or content_type.endswith("+json"):
        return strict_json.loads(frame.body)
    if content_type.startswith("text/"):
        return _text(frame.body)
    if not content_type:
        try:
            return strict_json.loads(frame.body)
        except Malformed:
            return frame.body
    return frame.body


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise InvalidUnicode(f"the body is not text in UTF-8: {error.reason} at {error.start}") from None
