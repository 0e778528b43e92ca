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
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from brokers.database import acquire, sync_cursor
from brokers.errors import AccessDenied, InvalidToken, Unauthenticated
from brokers.settings import CACHE_SECONDS
from brokers.sql import load

SQL = load("access")

OPERATIONS: Final = ("read", "write", "describe", "create", "alter", "delete", "replay", "view_payload")
RESOURCE_TYPES: Final = ("topic", "group", "exchange", "queue", "schedule", "lock", "token", "user", "server")
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

    def allows(self, operation: str) -> bool:
        """Whether it allows this on what it covers. Reading, writing and changing imply describing."""
        if self.effect == "deny":
            return False
        return self.operation == operation or (operation == "describe" and self.operation in _IMPLIES_DESCRIBE)

    def denies(self, operation: str) -> bool:
        """Whether it denies this on what it covers. Denying one operation says nothing about another."""
        return self.effect == "deny" and self.operation == operation

    def operations(self) -> tuple[str, ...]:
        """What an allowance lets its holder do."""
        return (self.operation, "describe") if self.operation in _IMPLIES_DESCRIBE else (self.operation,)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: a name for the audit record and what it was granted. A superuser may do everything."""

    name: str
    superuser: bool
    rules: tuple[GrantRule, ...] = ()
    token_id: str | None = None
    user_id: int | None = None
    expires_at: datetime | None = None
    """When the token ends that it came with, if it does."""

    def user_name(self) -> str:
        """The user who signed in, or who owns the token: one for all of that user's tokens and sessions."""
        return self.name.partition("/")[0] if self.token_id else self.name

    def actor_name(self) -> str:
        """How the audit record names it."""
        return f"{self.name} ({self.token_id})" if self.token_id else self.name


def allowed(principal: Principal, operation: str, resource_type: str, name: str) -> bool:
    """Whether a grant allows this and none denies it."""
    if principal.superuser:
        return True
    granted = False
    for rule in principal.rules:
        if rule.covers(resource_type, name):
            if rule.denies(operation):
                return False
            granted = granted or rule.allows(operation)
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
_NAME_LENGTH: Final = 180
_Entry = tuple[float, Principal]
_by_digest: dict[bytes, _Entry] = {}
_by_header: dict[bytes, _Entry] = {}
"""By whole values of the Authorization header, so that a caller heard of just now costs one look."""
_LONGEST_HEADER: Final = 256
_changes = 0
"""Counts what was forgotten: an answer read before that is not remembered after it."""


def checksum(body: str) -> str:
    """The six characters that end a token of ours: a mistyped one is refused without a look into the database."""
    return f"{zlib.crc32(body.encode()) & 0xFFFFFF:06x}"


def digest(token: str) -> bytes:
    """What is kept of a token. 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode()).digest()


def forget(token_id: str | None = None) -> None:
    """Drops what this process remembers of one token, or of all."""
    global _changes
    _changes += 1
    for cache in (_by_digest, _by_header):
        for key, (_, principal) in list(cache.items()):
            if token_id is None or principal.token_id == token_id:
                cache.pop(key, None)


def bearer(header: str | None) -> str:
    """The token of an Authorization header; raises `Unauthenticated`."""
    if not header:
        raise Unauthenticated("send an API token: Authorization: Bearer <token>")
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("the Authorization header must be: Bearer <token>")
    return token.strip()


def well_formed_digest(token: str) -> bytes:
    """The `digest` of something that could be a token; raises `InvalidToken` otherwise, without asking the database."""
    if not _SHAPE.fullmatch(token):
        raise _refused()
    if token.startswith("wst_"):
        parts = _OURS.fullmatch(token)
        if parts and not hmac.compare_digest(checksum(f"{parts[1]}_{parts[2]}"), parts[3]):
            raise _refused()
    return digest(token)


def _refused() -> InvalidToken:
    return InvalidToken("the token is not valid: it may be mistyped, expired or revoked")


def _remembered(cache: dict[bytes, _Entry], key: bytes) -> _Entry | None:
    entry = cache.get(key)
    return entry if entry is not None and entry[0] > time.monotonic() else None


def _remember(found: bytes, row: tuple[Any, ...] | None, changes: int) -> _Entry:
    if row is None:
        raise _refused()
    principal = _principal(row)
    seconds = CACHE_SECONDS
    if principal.expires_at is not None:
        seconds = min(seconds, (principal.expires_at - datetime.now(UTC)).total_seconds())
    entry = (time.monotonic() + seconds, principal)
    _keep(_by_digest, found, entry, changes)
    return entry


def _principal(row: tuple[Any, ...]) -> Principal:
    token_id, name, user_id, superuser, expires_at, rules = row
    if len(name) > _NAME_LENGTH:
        name = f"{name[: _NAME_LENGTH - 9]}-{token_id[:8]}"
    return Principal(name, superuser, tuple(GrantRule(*rule) for rule in rules), token_id, user_id, expires_at)


def _keep(cache: dict[bytes, _Entry], key: bytes, entry: _Entry, changes: int) -> None:
    if changes != _changes:
        return
    if len(cache) >= _CACHE_SIZE:
        cache.clear()
    cache[key] = entry


def authenticate(token: str) -> Principal:
    """Whose token this is; raises `InvalidToken`, alike for unknown, expired and revoked ones.

    An answer is remembered for `CACHE_SECONDS`, so that a revocation in another process takes at most that long.
    """
    found = well_formed_digest(token)
    entry = _remembered(_by_digest, found)
    if entry is None:
        changes = _changes
        with sync_cursor() as cursor:
            entry = _remember(found, cursor.execute(SQL.principal, (found,)).fetchone(), changes)
    return entry[1]


async def aauthenticate(token: str) -> Principal:
    """`authenticate` for asynchronous code, on the pool."""
    return (await _aentry(well_formed_digest(token)))[1]


async def aauthenticate_digest(found: bytes) -> Principal:
    """`aauthenticate` by the `digest` of a token: for whoever asks again and again, and need not keep the token."""
    return (await _aentry(found))[1]


async def aprincipals(found: Sequence[bytes]) -> dict[bytes, Principal]:
    """Whose the tokens with these digests are now, without those that are not valid any more; remembers nothing.

    For live connections, many of which are asked about at once.
    """
    async with acquire() as conn:
        rows = await (await conn.execute(SQL.principals, (list(found),))).fetchall()
    return {bytes(row[0]): _principal(row[1:]) for row in rows}


async def _aentry(found: bytes) -> _Entry:
    entry = _remembered(_by_digest, found)
    if entry is None:
        changes = _changes
        async with acquire() as conn:
            entry = _remember(found, await (await conn.execute(SQL.principal, (found,))).fetchone(), changes)
    return entry


def heard_of(header: bytes) -> Principal | None:
    """Who sent this value of the Authorization header just now, if anybody did."""
    entry = _by_header.get(header)
    return entry[1] if entry is not None and entry[0] > time.monotonic() else None


async def aauthenticate_header(header: bytes | None) -> Principal:
    """Whose token an Authorization header holds; raises `Unauthenticated` and `InvalidToken`."""
    changes = _changes
    entry = await _aentry(well_formed_digest(bearer(header.decode("latin-1") if header else None)))
    if header is not None and len(header) <= _LONGEST_HEADER:
        _keep(_by_header, header, entry, changes)
    return entry[1]


def principal_of_user(user: Any) -> Principal:
    """A signed-in person of the console: superusers may do everything, others what was granted to them."""
    if user.is_superuser and user.is_active:
        return Principal(user.get_username(), True, user_id=user.pk)
    rules: Iterable[GrantRule] = (
        GrantRule(grant.operation, grant.resource_type, grant.name, grant.match, grant.effect)
        for grant in user.grants.all()
    )
    return Principal(user.get_username(), False, tuple(rules) if user.is_active else (), user_id=user.pk)
