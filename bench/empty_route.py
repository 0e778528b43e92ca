"""The reference of the REST measurements: a Starlette application whose one route does nothing.

Served by the same uvicorn flags as the product and called by the same client with the same bytes; it answers
a constant and never looks at the body.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


async def _empty(_: Request) -> Response:
    return Response(b"{}", media_type="application/json")


application = Starlette(routes=[Route("/{path:path}", _empty, methods=["GET", "POST"])])
