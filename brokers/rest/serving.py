"""Serves one declared operation: token, path, permission, query, body, handler, answer, in this order.

Any `BrokerError` becomes a problem document, anything else is logged and becomes a 500. Called by `app`, which has
found the operation by its path.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Receive, Scope, Send

from brokers import strict_json
from brokers.access import Principal, aauthenticate_header, authorize, heard_of
from brokers.errors import BrokerError, InvalidValue, Unauthenticated, UnknownField, shown
from brokers.names import validate
from brokers.rest.bodies import BodyReader, Disconnected, media_type
from brokers.rest.measuring import Meter
from brokers.rest.operation import Answer, Call, Operation, respond
from brokers.rest.problems import InternalError, body_of, headers_of

log = logging.getLogger("waystation.rest")

PROBLEM_TYPE = b"application/problem+json"
ANONYMOUS = Principal("anonymous", False)
_NAMED = frozenset({"topic", "group", "exchange", "queue", "policy"})
_IDENTIFIER = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SHAPES = {"lock": re.compile(r"[^\0]{1,64}"), "task": re.compile(r"[^\0]{1,200}")}
"""Of parameters that are neither names nor such identifiers: Java's applications name locks, and operators tasks."""
_CLIENT_CLOSED = 499
"""Counted for callers that went away before they had an answer, as nginx does."""


class Endpoint:
    """Serves one operation."""

    def __init__(self, operation: Operation, bodies: BodyReader) -> None:
        self.operation = operation
        self.meter = Meter(operation.name)
        self._bodies = bodies
        self._public = operation.public
        self._handler = operation.handler
        self._body = operation.body
        self._raw_body = operation.raw_body
        self._media_types = operation.media_types
        parameters = re.findall(r"\{(\w+)\}", operation.path)
        self._names = [name for name in parameters if name in _NAMED]
        self._identifiers = [name for name in parameters if name not in _NAMED and name != "partition"]
        self._needed = [(needed, needed.parameter) for needed in operation.access if not needed.why]
        self._query = Query(operation.query)

    async def __call__(self, path: Mapping[str, str], scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; never raises for what a caller sent."""
        started = time.perf_counter()
        try:
            answer = await self._answer(path, scope, receive)
        except BrokerError as error:
            answer = refusal(error)
        except Disconnected:
            self.meter.add(_CLIENT_CLOSED, time.perf_counter() - started)
            return
        except Exception:
            log.exception("operation failed", extra={"method": scope["method"], "operation": self.operation.path})
            answer = refusal(InternalError("something went wrong here; the server's log says what"))
        await respond(send, answer, head=scope["method"] == "HEAD")
        self.meter.add(answer.status, time.perf_counter() - started)

    async def _answer(self, path: Mapping[str, str], scope: Scope, receive: Receive) -> Answer:
        pairs = scope["headers"]
        headers = dict(pairs)
        if self._public:
            principal = ANONYMOUS
        else:
            if len(headers) != len(pairs):
                _refuse_two_tokens(pairs)
            authorization = headers.get(b"authorization")
            known = heard_of(authorization) if authorization else None
            principal = known or await aauthenticate_header(authorization)
        for name in self._names:
            validate(name, path[name], pointer=f"/{name}")
        for name in self._identifiers:
            if not _SHAPES.get(name, _IDENTIFIER).fullmatch(path[name]):
                raise InvalidValue(f"{shown(path[name])} is no {name}", pointer=f"/{name}")
        for needed, parameter in self._needed:
            resource = path[parameter] if parameter else needed.name
            authorize(principal, needed.operation, needed.resource_type, resource)
        query = self._query.read(scope["query_string"])
        if self._body is None:
            call = Call(principal, path, query, None, b"", "", headers)
            return await (_while_wanted(self._handler(call), receive) if _waits(query) else self._handler(call))
        kind = media_type(headers, self._media_types)
        raw = await self._bodies.read(headers, receive)
        body = None if self._raw_body else strict_json.decode(raw, self._body)
        call = Call(principal, path, query, body, raw, kind, headers)
        return await (_while_wanted(self._handler(call), receive) if _waits(body) else self._handler(call))


def _waits(asked: object) -> bool:
    return bool(getattr(asked, "wait_ms", 0))


async def _while_wanted(handling: Awaitable[Answer], receive: Receive) -> Answer:
    """The answer of a call that may be held; it ends as soon as its caller has gone away."""
    answer = asyncio.ensure_future(handling)
    gone = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            made = answer.result()
            if made.unsent is None or not gone.done():
                return made
            await made.unsent()
        raise Disconnected
    finally:
        for task in (answer, gone):
            task.cancel()
        await asyncio.gather(answer, gone, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


def _refuse_two_tokens(pairs: list[tuple[bytes, bytes]]) -> None:
    if sum(name == b"authorization" for name, _ in pairs) > 1:
        raise Unauthenticated("there is more than one Authorization header; send one")


def refusal(error: BrokerError) -> Answer:
    """The problem document of an error, as an answer."""
    status, body = body_of(error)
    return Answer(status, body, headers_of(error), PROBLEM_TYPE)


class Query:
    """Reads query strings of one shape, as strictly as bodies are read."""

    def __init__(self, shape: type[msgspec.Struct]) -> None:
        self._shape = shape
        kinds = {field.encode_name: str(field.type) for field in msgspec.structs.fields(shape)}
        self._names = frozenset(kinds)
        self._numbers = frozenset(name for name, kind in kinds.items() if "int" in kind and "str" not in kind)

    def read(self, text: bytes) -> Any:
        """The parameters; None where none are declared. Raises `UnknownField` and `InvalidValue`."""
        if not text and not self._names:
            return None
        try:
            pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
        except ValueError as error:
            raise InvalidValue("the query string is not valid UTF-8 after decoding, or too long") from error
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name not in self._names:
                raise UnknownField(f"there is no parameter {shown(name)}", pointer=f"/{name[:64]}")
            if name in found:
                raise InvalidValue(f"the parameter {name} is given twice", pointer=f"/{name}")
            if name in self._numbers:
                found[name] = strict_json.parse_integer(value, pointer=f"/{name}")
            elif "\0" in value:
                raise InvalidValue(f"the parameter {name} holds a NUL character", pointer=f"/{name}")
            else:
                found[name] = value
        try:
            return msgspec.convert(found, self._shape)
        except msgspec.ValidationError as error:
            detail, _, where = str(error).partition(" - at `$.")
            name = where.rstrip("`")
            raise InvalidValue(
                f"{name or 'the query'}: {detail[:1].lower()}{detail[1:]}", pointer=f"/{name}"
            ) from error
