"""Who asks for a stream: an API token, a ticket with the cookie that follows it, or the console's session.

A browser's `EventSource` can set no header. A ticket in the address opens the stream once, and the answer sets a cookie
for this path and owner, by which the browser connects again by itself with the same address.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.types import Scope

from brokers.access import Principal
from brokers.errors import OriginNotAllowed, Unauthenticated
from realtime import credentials, origins
from realtime.credentials import Credential
from realtime.origins import cross_origin
from realtime.sse import tickets


@dataclass(frozen=True, slots=True)
class Admitted:
    """Who may have the stream, how that is asked again, and headers by which it is had again."""

    principal: Principal
    credential: Credential
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)


async def admit(scope: Scope, ticket: str | None) -> Admitted:
    """Who asks.

    Raises: OriginNotAllowed for a page from elsewhere; Unauthenticated and InvalidToken; Unavailable.
    """
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if not origins.is_allowed(headers):
        raise OriginNotAllowed("pages of this origin may not open streams (WAYSTATION_ALLOWED_ORIGINS)")
    if sum(name == b"authorization" for name, _ in headers) > 1:
        raise Unauthenticated("there is more than one Authorization header; send one")
    credential: Credential | None = credentials.of_authorization(headers)
    if credential is None and ticket is not None:
        used = await tickets.use(ticket, scope)
        return Admitted(await used.credential.principal(), used.credential, [used.cookie])
    if credential is None and origins.is_page(headers):
        credential = credentials.of_cookies(headers)
    if credential is None:
        raise Unauthenticated("send an API token: Authorization: Bearer <token>, or a ticket: ?ticket=<ticket>")
    return Admitted(await credential.principal(), credential)


def preflight(headers: list[tuple[bytes, bytes]], method: str) -> list[tuple[bytes, bytes]]:
    """What lets a page of an allowed origin send a token; nothing to others (Fetch, CORS-preflight request)."""
    allowed = cross_origin(headers)
    if not allowed or origins.header(headers, b"access-control-request-method") != method:
        return []
    return [
        *allowed,
        (b"access-control-allow-methods", method.encode()),
        (b"access-control-allow-headers", b"authorization, last-event-id, cache-control"),
        (b"access-control-max-age", b"600"),
    ]
