"""`/api/openapi.json` and `/api/docs`: the reference, served without any outside host and without a token.

The document is made once, at the first request, when all operations are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from brokers.rest import openapi
from brokers.rest.operation import PUBLIC, Answer, Call, Handler, Operation
from brokers.rest.reference_page import render

_CSP = (
    b"default-src 'none'; style-src 'self'; img-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_PAGE_HEADERS = [
    (b"content-security-policy", _CSP),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
]


class ApiDocument(msgspec.Struct):
    """An OpenAPI 3.1 document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


_elsewhere: dict[str, Operation] = {}


def describe(operations: Iterable[Operation]) -> None:
    """Adds operations that are served outside of `/api/` to the document, such as `/healthz`."""
    _elsewhere.update((operation.path, operation) for operation in operations)


def operations(described: Sequence[Operation]) -> list[Operation]:
    """Declarations of both, over the operations that they describe (and themselves)."""
    everything = list(described)

    @lru_cache(maxsize=1)
    def document() -> dict[str, Any]:
        return openapi.document([*everything, *_elsewhere.values()])

    async def get_openapi(call: Call) -> Answer:
        """This document."""
        return Answer(body=msgspec.json.encode(document()))

    async def get_docs(call: Call) -> Answer:
        """This document for people."""
        page = render(document()).encode()
        return Answer(body=page, content_type=b"text/html; charset=utf-8", headers=_PAGE_HEADERS)

    everything += [
        _operation("/api/openapi.json", "The OpenAPI document", get_openapi, {200: ApiDocument}),
        _operation("/api/docs", "The browsable reference", get_docs, {200: None}, "text/html"),
    ]
    return everything[-2:]


def _operation(
    path: str, summary: str, handler: Handler, answers: dict[int, Any], answer_type: str = "application/json"
) -> Operation:
    return Operation(
        method="GET",
        path=path,
        summary=summary,
        tag="Reference",
        access=PUBLIC,
        public=True,
        handler=handler,
        answers=answers,
        answer_type=answer_type,
    )
