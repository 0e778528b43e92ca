"""How errors of the domain become HTTP: the whole table of statuses, and the body of RFC 9457.

No other module knows a status code of an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus

import msgspec

from brokers import errors
from brokers.errors import BrokerError


class MethodNotAllowed(BrokerError):
    """The path exists and does not know the method; the Allow header lists those it knows."""

    code = "method_not_allowed"


class RequestTimeout(BrokerError):
    """The body did not arrive within thirty seconds."""

    code = "request_timeout"


class InternalError(BrokerError):
    """A fault of the server; its log has the trace."""

    code = "internal_error"


_STATUSES: dict[type[BrokerError], int] = {
    errors.Malformed: 400,
    errors.Unauthenticated: 401,
    errors.AccessDenied: 403,
    errors.NotFound: 404,
    MethodNotAllowed: 405,
    RequestTimeout: 408,
    errors.Conflict: 409,
    errors.OffsetOutOfRange: 410,
    errors.TooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.InvalidValue: 422,
    errors.UnencodableValue: 422,
    errors.QueueFull: 429,
    errors.TooManyStreams: 429,
    errors.Unavailable: 503,
    InternalError: 500,
}


def status_of(error: type[BrokerError]) -> int:
    """The HTTP status of an error's class: that of the nearest ancestor in the table."""
    for ancestor in error.__mro__:
        if ancestor in _STATUSES:
            return _STATUSES[ancestor]
    return 500


class ErrorDetail(msgspec.Struct, omit_defaults=False):
    """One thing that is wrong."""

    pointer: str
    """JSON pointer into the request's body, or the name of a parameter."""
    detail: str


class Problem(msgspec.Struct, omit_defaults=True):
    """A problem document (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[ErrorDetail] = []
    earliest_offset: int | None = None
    latest_offset: int | None = None


_encode = msgspec.json.Encoder().encode


def body_of(error: BrokerError) -> tuple[int, bytes]:
    """Status and problem+json body for an error."""
    status = status_of(type(error))
    problem = Problem(
        type=f"/api/docs#{error.code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=error.detail,
        code=error.code,
        errors=[ErrorDetail(pointer, detail) for pointer, detail in error.errors],
        earliest_offset=error.facts.get("earliest_offset"),
        latest_offset=error.facts.get("latest_offset"),
    )
    return status, _encode(problem)


def headers_of(error: BrokerError) -> list[tuple[bytes, bytes]]:
    """What an error adds to the answer's headers."""
    if isinstance(error, errors.Unauthenticated):
        return [(b"www-authenticate", b'Bearer realm="waystation"')]
    if isinstance(error, errors.Unavailable | errors.IdempotencyInProgress | errors.QueueFull | errors.TooManyStreams):
        return [(b"retry-after", b"1")]
    if isinstance(error, MethodNotAllowed):
        return [(b"allow", str(error.facts["allow"]).encode())]
    if isinstance(error, errors.TooLarge | RequestTimeout):
        return [(b"connection", b"close")]
    return []


def _tree(root: type[BrokerError]) -> Iterator[type[BrokerError]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


def catalogue() -> list[tuple[str, int, str]]:
    """Every code with its status and meaning, for the documentation; errors of commands alone are no part of it."""
    found = {
        error.code: (status_of(error), (error.__doc__ or "").strip())
        for error in _tree(BrokerError)
        if error is not BrokerError and error.__module__ in (errors.__name__, __name__)
    }
    return sorted((code, status, text) for code, (status, text) in found.items())
