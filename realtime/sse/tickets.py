"""Tickets of streams: short-lived, used once, kept as digests; and the cookie that takes their place afterwards.

A ticket names its owner's token by a mark, which is also in the cookie's name: streams of several owners in one browser
keep apart, and each owner has one cookie for a path. The cookie is signed, good for that path alone, and worth nothing
without a ticket of the same mark beside it. Both lead to the token, which is asked each time whether it is still valid.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from http.cookies import CookieError, SimpleCookie
from typing import Final, NamedTuple
from urllib.parse import quote

from django.core import signing
from django.utils.crypto import salted_hmac
from starlette.types import Scope

from brokers.access import Principal
from brokers.database import acquire
from brokers.errors import AccessDenied, InvalidToken
from realtime.credentials import Credential, TokenCredential
from realtime.sql import load

SQL = load("tickets")

TICKET_SECONDS: Final = 30
"""How soon a ticket has to be used."""
COOKIE_SECONDS: Final = 12 * 3600
"""How long a browser may connect again by itself; each answer begins it anew."""
_TICKET: Final = re.compile(r"wsk_([0-9a-f]{12})_[A-Za-z0-9_-]{43}", re.ASCII)
_SALT: Final = "waystation.stream"
_LONGEST_COOKIES: Final = 8192


class Used(NamedTuple):
    """Whose stream it is, and the header that sets the cookie."""

    credential: Credential
    cookie: tuple[bytes, bytes]


async def create(principal: Principal) -> str:
    """A ticket for whoever owns this token; raises `AccessDenied` without one, and `Unavailable`."""
    if principal.token_id is None:
        raise AccessDenied("tickets are given to API tokens; a session of the console needs none")
    ticket = f"wsk_{_mark(principal.token_id)}_{secrets.token_urlsafe(32)}"
    async with acquire() as conn:
        parameters = {"digest": _digest(ticket), "token": principal.token_id, "seconds": TICKET_SECONDS}
        await conn.execute(SQL.create, parameters)
    return ticket


async def use(ticket: str, scope: Scope) -> Used:
    """Uses the ticket up, or goes by the cookie that an earlier use has set.

    Raises: InvalidToken, alike for a ticket that is malformed, unknown, used or late; Unavailable.
    """
    match = _TICKET.fullmatch(ticket)
    if match is None:
        raise _refused()
    async with acquire() as conn:
        row = await (await conn.execute(SQL.take, (_digest(ticket),))).fetchone()
    token_id = row[0] if row is not None and row[1] else _of_cookie(scope, match[1])
    async with acquire() as conn:
        found = await (await conn.execute(SQL.digest_of_token, (token_id,))).fetchone()
    if found is None:
        raise _refused()
    return Used(TokenCredential(bytes(found[0])), _cookie(scope, token_id))


def _of_cookie(scope: Scope, mark: str) -> str:
    for name, value in scope["headers"]:
        if name == b"cookie" and len(value) <= _LONGEST_COOKIES:
            try:
                found = SimpleCookie(value.decode("latin-1")).get(_name(mark))
            except CookieError:
                continue
            if found is None:
                continue
            try:
                path, token_id = signing.loads(found.value, salt=_SALT, max_age=COOKIE_SECONDS)
            except (signing.BadSignature, ValueError, TypeError):
                continue
            if path == scope["path"] and _mark(token_id) == mark:
                return str(token_id)
    raise _refused()


def _cookie(scope: Scope, token_id: str) -> tuple[bytes, bytes]:
    value = signing.dumps([scope["path"], token_id], salt=_SALT)
    secure = "; Secure" if scope.get("scheme") == "https" else ""
    path = quote(scope["path"])
    text = f"{_name(_mark(token_id))}={value}; Path={path}; Max-Age={COOKIE_SECONDS}; HttpOnly"
    return b"set-cookie", f"{text}; SameSite=Strict{secure}".encode()


def _name(mark: str) -> str:
    return f"waystation_stream_{mark}"


def _mark(token_id: str) -> str:
    return salted_hmac(_SALT, token_id).hexdigest()[:12]


def _digest(ticket: str) -> bytes:
    return hashlib.sha256(ticket.encode()).digest()


def _refused() -> InvalidToken:
    return InvalidToken("the ticket is not valid: it may be used already, or older than 30 seconds")
