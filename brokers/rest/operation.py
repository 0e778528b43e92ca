"""What one REST operation declares: everything that callers and the OpenAPI document need to know of it.

Path, parameters, body, answers, errors and the access it takes; an operation without declared access cannot be
built. `serving` serves it, `openapi` describes it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from starlette.types import Send

from brokers import strict_json
from brokers.access import Principal
from brokers.audit import Actor
from brokers.errors import BrokerError

JSON_TYPE = "application/json"
NDJSON_TYPE = "application/x-ndjson"
_encode = msgspec.json.Encoder().encode
_NO_QUERY: type[msgspec.Struct] = msgspec.defstruct("NoQuery", [])


@dataclass(frozen=True, slots=True)
class Access:
    """What a caller must hold: an operation on the resource named by a path parameter, or on a fixed name.

    With `why` the handler itself decides by what it reads, and `why` says how.
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
    unsent: Callable[[], Awaitable[None]] | None = None
    """Takes back what it gives, when a held call's caller has gone before it could be sent."""


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
    """The declaration."""

    method: Method
    path: str
    summary: str
    access: tuple[Access, ...]
    handler: Handler
    tag: str
    public: bool = False
    token_optional: bool = False
    """It looks at who calls by itself: some need no token."""
    query: type[msgspec.Struct] = _NO_QUERY
    body: type[msgspec.Struct] | None = None
    media_types: tuple[str, ...] = (JSON_TYPE,)
    raw_body: bool = False
    """The handler reads `Call.raw` by itself."""
    answers: Mapping[int, type[msgspec.Struct] | None]
    problems: tuple[type[BrokerError], ...] = ()
    answer_type: str = JSON_TYPE
    mentioned: tuple[type[msgspec.Struct], ...] = ()
    """Further shapes that those of the answers refer to by name."""
    headers: tuple[tuple[str, str], ...] = ()
    """Request headers it reads, with their meaning."""
    answer_headers: tuple[tuple[str, str], ...] = ()
    """Headers that its answers may have beside the usual ones, with their meaning."""

    def __post_init__(self) -> None:
        if bool(self.access) == self.public:
            raise TypeError(f"{self.method} {self.path} must declare its access, or that it is public")

    @property
    def name(self) -> str:
        """The handler's name: the document's operationId, and the label of the metrics."""
        return self.handler.__name__

    @property
    def description(self) -> str:
        """The handler's docstring."""
        return inspect.getdoc(self.handler) or ""


async def respond(send: Send, answer: Answer, *, head: bool = False) -> None:
    """Sends an answer; to a HEAD request all of it but the body."""
    body = answer.body
    if body is None:
        body = b""
    elif not isinstance(body, bytes):
        body = _encode(body)
    if answer.status == 204:
        headers = [(b"cache-control", b"no-store"), *answer.headers]
    else:
        headers = [
            (b"content-length", b"%d" % len(body)),
            (b"content-type", answer.content_type),
            (b"cache-control", b"no-store"),
            *answer.headers,
        ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else body})
