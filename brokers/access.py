"""Who may do what: the one place below all surfaces that decides.

Takes Kafka's shape: a grant allows or denies one operation on the resources of one type whose name is equal to the
grant's, or begins with it. Nothing is allowed without a grant, a denial wins over any allowance, and there are no
patterns that could match more than they seem to. Surfaces authenticate, then call `authorize`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from brokers.database import acquire, sync_cursor
from brokers.errors import AccessDenied, InvalidToken, Unauthenticated
from brokers.settings import CACHE_SECONDS
from brokers.sql import load

SQL = load("access")

OPERATIONS: Final = ("read", "write", "describe", "create", "alter", "delete", "replay", "view_payload")
RESOURCE_TYPES: Final = ("topic", "group", "exchange", "queue", "schedule", "lock", "token", "server")
_IMPLIES_DESCRIBE: Final = frozenset({"read", "write", "alter", "delete", "replay"})


@dataclass(frozen=True, slots=True)
class GrantRule:
    """One grant, as it is decided on."""

    operation: str
    resource_type: str
    name: str
    match: str
    effect: str

    def covers(self, resource_type: str, name: str) -> bool:
        """Whether the grant speaks of this resource."""
        if self.resource_type != resource_type:
            return False
        return name.startswith(self.name) if self.match == "prefix" else name == self.name


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: a name for the audit record and what it was granted. A superuser may do everything."""

    name: str
    superuser: bool
    rules: tuple[GrantRule, ...] = ()
    token_id: str | None = None
    user_id: int | None = None

    def actor_name(self) -> str:
        """How the audit record names it."""
        return f"{self.name} ({self.token_id})" if self.token_id else self.name


def allowed(principal: Principal, operation: str, resource_type: str, name: str) -> bool:
    """Whether a grant allows this and none denies it. Reading, writing and changing imply describing."""
    if principal.superuser:
        return True
    granted = False
    for rule in principal.rules:
        if not rule.covers(resource_type, name):
            continue
        if rule.effect == "deny":
            if rule.operation == operation:
                return False
        elif rule.operation == operation or (operation == "describe" and rule.operation in _IMPLIES_DESCRIBE):
            granted = True
    return granted


def authorize(principal: Principal, operation: str, resource_type: str, name: str) -> None:
    """Raises `AccessDenied` unless `allowed`; the answer does not tell whether the resource exists."""
    if not allowed(principal, operation, resource_type, name):
        raise AccessDenied(
            f"{operation} on {resource_type} {name} is not granted to {principal.name}".replace("  ", " ")
        )


# -- authentication -----------------------------------------------------------------------------------------------

_OURS = re.compile(r"wst_([a-z0-9]{8})_([A-Za-z0-9]{43})_([0-9a-f]{6})", re.ASCII)
_SHAPE = re.compile(r"[A-Za-z0-9._-]{20,200}", re.ASCII)
_CACHE_SIZE: Final = 10_000
_cache: dict[bytes, tuple[float, Principal]] = {}


def checksum(body: str) -> str:
    """The six characters that end a token of ours: a mistyped one is refused without a look into the database."""
    return f"{zlib.crc32(body.encode()) & 0xFFFFFF:06x}"


def digest(token: str) -> bytes:
    """What is kept of a token. 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode()).digest()


def forget(token_id: str | None = None) -> None:
    """Drops what this process remembers of one token, or of all."""
    for found, (_, principal) in list(_cache.items()):
        if token_id is None or principal.token_id == token_id:
            _cache.pop(found, None)


def bearer(header: str | None) -> str:
    """The token of an Authorization header; raises `Unauthenticated`."""
    if not header:
        raise Unauthenticated("send an API token: Authorization: Bearer <token>")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("the Authorization header must be: Bearer <token>")
    return token.strip()


def _well_formed(token: str) -> bytes:
    if not _SHAPE.fullmatch(token):
        raise _refused()
    if token.startswith("wst_"):
        parts = _OURS.fullmatch(token)
        if parts and not hmac.compare_digest(checksum(f"{parts[1]}_{parts[2]}"), parts[3]):
            raise _refused()
    return digest(token)


def _refused() -> InvalidToken:
    return InvalidToken("the token is not valid: it may be mistyped, expired or revoked")


def _remembered(found: bytes) -> Principal | None:
    entry = _cache.get(found)
    return entry[1] if entry is not None and entry[0] > time.monotonic() else None


def _remember(found: bytes, row: tuple[Any, ...] | None) -> Principal:
    if row is None:
        raise _refused()
    token_id, name, user_id, superuser, rules = row
    principal = Principal(name, superuser, tuple(GrantRule(*rule) for rule in rules), token_id, user_id)
    if len(_cache) >= _CACHE_SIZE:
        _cache.clear()
    _cache[found] = (time.monotonic() + CACHE_SECONDS, principal)
    return principal


def authenticate(token: str) -> Principal:
    """Whose token this is; raises `InvalidToken`, alike for unknown, expired and revoked ones.

    An answer is remembered for `CACHE_SECONDS`, so that a revocation in another process takes at most that long.
    """
    found = _well_formed(token)
    principal = _remembered(found)
    if principal is None:
        with sync_cursor() as cursor:
            principal = _remember(found, cursor.execute(SQL.principal, (found,)).fetchone())
    return principal


async def aauthenticate(token: str) -> Principal:
    """`authenticate` for asynchronous code, on the pool."""
    found = _well_formed(token)
    principal = _remembered(found)
    if principal is None:
        async with acquire() as conn:
            principal = _remember(found, await (await conn.execute(SQL.principal, (found,))).fetchone())
    return principal


def principal_of_user(user: Any) -> Principal:
    """A signed-in person of the console: superusers may do everything, others what was granted to them."""
    if user.is_superuser and user.is_active:
        return Principal(user.get_username(), True, user_id=user.pk)
    rules: Iterable[GrantRule] = (
        GrantRule(grant.operation, grant.resource_type, grant.name, grant.match, grant.effect)
        for grant in user.grants.all()
    )
    return Principal(user.get_username(), False, tuple(rules) if user.is_active else (), user_id=user.pk)
