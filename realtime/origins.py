"""Which web pages may open live connections: a browser says in `Origin` where the page came from.

Asked by every surface before it answers. Browsers send cookies along with any page's WebSocket, so this is what stands
between a foreign page and the console's session (OWASP ASVS 4.4.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

from django.conf import settings
from django.http.request import validate_host

_ORIGIN: Final = re.compile(r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?", re.ASCII)
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?", re.ASCII)
_PORTS: Final = {"http": 80, "https": 443}


class _Origin(NamedTuple):
    scheme: str
    host: str
    port: int


def _parsed(origin: str) -> _Origin | None:
    """Scheme, host and port; None for `null` and whatever a browser would not send (RFC 6454, section 6.2)."""
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return None
    scheme, host, port = match.groups()
    return _Origin(scheme, host, int(port) if port else _PORTS[scheme])


def header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The one value of a header (named in lower case); None when it is missing, empty text when it is repeated."""
    values = [value for key, value in headers if key == name]
    if not values:
        return None
    return values[0].decode("latin-1") if len(values) == 1 else ""


def is_allowed(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a page may connect: without Origin (no browser), from this very server, or from a listed origin.

    This server is the request's own `Host`, where that is one of `ALLOWED_HOSTS`: the scheme is left to the proxy. A
    listed origin (`WAYSTATION_ALLOWED_ORIGINS`) has to be equal in scheme, host and port.
    """
    pairs = list(headers)
    text = header(pairs, b"origin")
    if text is None:
        return True
    origin = _parsed(text)
    if origin is None:
        return False
    if any(origin == _parsed(listed) for listed in getattr(settings, "LIVE_ALLOWED_ORIGINS", ())):
        return True
    return _is_same(origin, header(pairs, b"host") or "")


def cross_origin(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """What lets a page of an allowed origin read the answer (Fetch, CORS protocol); nothing for others."""
    pairs = list(headers)
    origin = header(pairs, b"origin")
    if not origin or not is_allowed(pairs):
        return []
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-allow-credentials", b"true"),
        (b"vary", b"Origin"),
    ]


def is_page(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a page that may connect sent this, so that the console's cookie among its headers is to be believed.

    Browsers always send Origin with a WebSocket; with a page's GET to its own server they send Sec-Fetch-Site instead.
    """
    pairs = list(headers)
    if header(pairs, b"origin") is not None:
        return is_allowed(pairs)
    return header(pairs, b"sec-fetch-site") == "same-origin"


def is_own_page(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether nothing says that a page of another origin sent this: for what the console's own pages ask for.

    Over plain HTTP browsers send neither header with a GET; a cookie that is SameSite comes with own pages only.
    """
    pairs = list(headers)
    origin = header(pairs, b"origin")
    parsed = _parsed(origin or "")
    own = origin is None or (parsed is not None and _is_same(parsed, header(pairs, b"host") or ""))
    return own and header(pairs, b"sec-fetch-site") in (None, "same-origin")


def _is_same(origin: _Origin, host: str) -> bool:
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name, port = match[1].lower(), match[2]
    if name != origin.host or (int(port) if port else _PORTS[origin.scheme]) != origin.port:
        return False
    return validate_host(name, settings.ALLOWED_HOSTS)
