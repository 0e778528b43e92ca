"""One REST operation: its declaration, and the ASGI callable that serves it.

A declaration says everything that callers and the OpenAPI document need: path, parameters, body, answers, errors and
the access it takes. Serving goes: token, path, permission, query, body, handler, answer; any `BrokerError` becomes a
problem document. An operation without declared access cannot be built.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qsl

import msgspec
from starlette.types import Message, Receive, Scope, Send

from brokers import strict_json
from brokers.access import Principal, aauthenticate, authorize, bearer
from brokers.audit import Actor
from brokers.errors import (
    BrokerError,
    EmptyBody,
    InvalidValue,
    TooLarge,
    UnknownField,
    UnsupportedMediaType,
    shown,
)
from brokers.names import validate
from brokers.rest.problems import InternalError, RequestTimeout, body_of, headers_of
from brokers.settings import MAX_BODY_BYTES

log = logging.getLogger("waystation.rest")

BODY_SECONDS = 30.0
"""How long a request's body may take to arrive."""
JSON_TYPE = "application/json"
NDJSON_TYPE = "application/x-ndjson"
_encode = msgspec.json.Encoder().encode
_NAMED = {"topic": "topic", "group": "group"}
_NO_QUERY: type[msgspec.Struct] = msgspec.defstruct("NoQuery", [])


@dataclass(frozen=True, slots=True)
class Access:
    """What a caller must hold: an operation on the resource named by a path parameter, or on a fixed name.

    `parameter` None means that the handler decides by the body, and `why` says how.
    """

    operation: str
    resource_type: str
    parameter: str | None = None
    name: str = ""
    why: str = ""


PUBLIC: tuple[Access, ...] = ()
"""Access of an operation that takes no token."""


@dataclass(slots=True)
class Answer:
    """What a handler answers: a body that is JSON bytes already, or a value to encode."""

    status: int = 200
    body: bytes | msgspec.Struct | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    content_type: bytes = b"application/json"


@dataclass(slots=True)
class Call:
    """One request on its way through an operation."""

    principal: Principal
    path: Mapping[str, str]
    query: Any
    body: Any
    raw: bytes
    media_type: str
    headers: Mapping[bytes, bytes]

    def actor(self) -> Actor:
        """Who acts, for the audit record."""
        return Actor(self.principal.actor_name(), "rest")

    def integer(self, parameter: str) -> int:
        """A path parameter that is a number; raises `InvalidValue`."""
        return strict_json.parse_integer(self.path[parameter], pointer=f"/{parameter}", minimum=0)


Handler = Callable[[Call], Awaitable[Answer]]
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """The declaration; as an ASGI application it serves requests of its method and path."""

    method: Method
    path: str
    summary: str
    access: tuple[Access, ...]
    handler: Handler
    tag: str
    public: bool = False
    query: type[msgspec.Struct] = _NO_QUERY
    body: type[msgspec.Struct] | None = None
    media_types: tuple[str, ...] = (JSON_TYPE,)
    raw_body: bool = False
    """The handler reads `Call.raw` by itself."""
    answers: Mapping[int, type[msgspec.Struct] | None]
    problems: tuple[type[BrokerError], ...] = ()
    answer_type: str = JSON_TYPE
    headers: tuple[tuple[str, str], ...] = ()
    """Request headers it reads, with their meaning."""

    def __post_init__(self) -> None:
        if bool(self.access) == self.public:
            raise TypeError(f"{self.method} {self.path} must declare its access, or that it is public")

    @property
    def description(self) -> str:
        """The handler's docstring."""
        return inspect.getdoc(self.handler) or ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; never raises for what a caller sent."""
        try:
            answer = await self._serve(scope, receive)
        except BrokerError as error:
            status, body = body_of(error)
            answer = Answer(status, body, headers_of(error), b"application/problem+json")
        except Disconnected:
            return
        except Exception:
            log.exception("operation failed", extra={"method": self.method, "path": self.path})
            status, body = body_of(InternalError("something went wrong here; the server's log says what"))
            await respond(send, Answer(status, body, [], b"application/problem+json"))
            return
        await respond(send, answer)

    async def _serve(self, scope: Scope, receive: Receive) -> Answer:
        headers = dict(scope["headers"])
        principal = ANONYMOUS if self.public else await _principal(scope["headers"], headers)
        path = scope["path_params"]
        for name, kind in _NAMED.items():
            if name in path:
                validate(kind, path[name])
        for needed in self.access:
            if needed.parameter is not None:
                authorize(principal, needed.operation, needed.resource_type, path[needed.parameter])
            elif not needed.why:
                authorize(principal, needed.operation, needed.resource_type, needed.name)
        query = self._query(scope["query_string"])
        raw, media_type, body = b"", "", None
        if self.body is not None:
            media_type = _media_type(headers, self.media_types)
            raw = await _read(headers, receive)
            if not self.raw_body:
                body = strict_json.decode(raw, self.body)
        return await self.handler(Call(principal, path, query, body, raw, media_type, headers))

    def _query(self, text: bytes) -> Any:
        if not text and self.query is _NO_QUERY:
            return None
        fields = {field.name: field for field in msgspec.structs.fields(self.query)}
        found: dict[str, Any] = {}
        try:
            pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
        except ValueError as error:
            raise InvalidValue("the query string is not valid UTF-8 after decoding, or too long") from error
        for name, value in pairs:
            if name not in fields:
                raise UnknownField(f"there is no parameter {shown(name)}", pointer=f"/{name[:64]}")
            if name in found:
                raise InvalidValue(f"the parameter {name} is given twice", pointer=f"/{name}")
            found[name] = value
        return _convert(found, self.query, fields)


class Disconnected(Exception):
    """The caller went away before its body had arrived."""


ANONYMOUS = Principal("anonymous", False)


def _convert(found: dict[str, Any], query: type[msgspec.Struct], fields: Mapping[str, Any]) -> Any:
    for name, value in found.items():
        kinds = str(fields[name].type)
        if "int" in kinds and "str" not in kinds:
            found[name] = strict_json.parse_integer(value, pointer=f"/{name}")
        elif "\0" in value:
            raise InvalidValue(f"the parameter {name} holds a NUL character", pointer=f"/{name}")
    try:
        return msgspec.convert(found, query)
    except msgspec.ValidationError as error:
        text, _, where = str(error).partition(" - at `$.")
        name = where.rstrip("`")
        raise InvalidValue(f"{name or 'the query'}: {text[:1].lower()}{text[1:]}", pointer=f"/{name}") from error


async def _principal(pairs: list[tuple[bytes, bytes]], headers: Mapping[bytes, bytes]) -> Principal:
    text = headers.get(b"authorization")
    if len(pairs) != len(headers) and sum(name == b"authorization" for name, _ in pairs) > 1:
        text = None
    return await aauthenticate(bearer(text.decode("latin-1") if text else None))


def _media_type(headers: Mapping[bytes, bytes], accepted: tuple[str, ...]) -> str:
    text = headers.get(b"content-type", b"").decode("latin-1")
    if text == accepted[0] and b"content-encoding" not in headers:
        return text
    kind, _, parameters = text.partition(";")
    kind = kind.strip().lower()
    if kind not in accepted:
        raise UnsupportedMediaType(f"Content-Type must be {' or '.join(accepted)}, not {shown(kind)}")
    for parameter in filter(None, (part.strip().lower() for part in parameters.split(";"))):
        if parameter.startswith("charset=") and parameter[8:].strip('"') not in ("utf-8", "utf8"):
            raise UnsupportedMediaType(f"the body must be UTF-8, not {shown(parameter[8:])}")
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
    if encoding != "identity":
        raise UnsupportedMediaType(f"Content-Encoding {shown(encoding)} is not understood; send the body as it is")
    return kind


async def _read(headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
    """The body, refused before it is read or as soon as it passes the limit."""
    declared = headers.get(b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise TooLarge(f"the body has {int(declared)} bytes; {MAX_BODY_BYTES} are allowed")
    message = await _receive(receive)
    body: bytes = message.get("body", b"")
    if message.get("more_body", False):
        body = await _read_on(body, receive)
    if len(body) > MAX_BODY_BYTES:
        raise TooLarge(f"the body has more than {MAX_BODY_BYTES} bytes")
    if not body:
        raise EmptyBody("a body is needed")
    return body


async def _read_on(first: bytes, receive: Receive) -> bytes:
    parts, size = [first], len(first)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await _receive(receive)
                part: bytes = message.get("body", b"")
                parts.append(part)
                size += len(part)
                if size > MAX_BODY_BYTES:
                    raise TooLarge(f"the body has more than {MAX_BODY_BYTES} bytes")
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError as error:
        raise RequestTimeout(f"the body did not arrive within {BODY_SECONDS:.0f} seconds") from error


async def _receive(receive: Receive) -> Message:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Disconnected
    return message


async def respond(send: Send, answer: Answer) -> None:
    """Sends an answer."""
    body = answer.body
    if body is None:
        body = b""
    elif not isinstance(body, bytes):
        body = _encode(body)
    headers = [(b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store"), *answer.headers]
    if answer.status != 204:
        headers.append((b"content-type", answer.content_type))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
