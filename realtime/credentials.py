"""What a live connection was let in with, asked again while it lives: a token may be revoked, a session signed out.

Made by the handshake and by CONNECT; the registry asks all of them again every few seconds. Of a token only its digest
is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from typing import Any, Final, TypeVar

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from brokers import access
from brokers.access import Principal
from brokers.errors import InvalidToken, Unauthenticated
from realtime.threads import in_thread

_LONGEST_COOKIES: Final = 8192
_ASKED_AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class TokenCredential:
    """An API token, of an Authorization header or of CONNECT's passcode."""

    digest: bytes

    async def principal(self) -> Principal:
        """The token's owner, remembered for `CACHE_SECONDS` by `access`; raises `InvalidToken` and `Unavailable`."""
        return await access.aauthenticate_digest(self.digest)


@dataclass(frozen=True, slots=True, repr=False)
class SessionCredential:
    """A session of the console. Believed only from an allowed origin: a browser sends its cookie from anywhere."""

    key: str
    of_staff: bool = False
    """It counts only while its user may use the console."""

    async def principal(self) -> Principal:
        """The user who signed in, as Django would know it by the cookie; raises `InvalidToken` and `Unavailable`."""
        found = (await in_thread(_of_sessions, [self])).get(self)
        if found is None:
            raise InvalidToken("the session has ended")
        return found


T = TypeVar("T")
Credential = TokenCredential | SessionCredential


async def current(credentials: Collection[Credential]) -> dict[Credential, Principal]:
    """Whose these are now, asked in as few statements as possible; those that are not valid any more are missing.

    Raises: Unavailable when nobody can tell.
    """
    answers: dict[Credential, Principal] = {}
    tokens = [each for each in credentials if isinstance(each, TokenCredential)]
    sessions = [each for each in credentials if isinstance(each, SessionCredential)]
    for some in _pieces(tokens):
        of_digests = await access.aprincipals([each.digest for each in some])
        answers |= {each: of_digests[each.digest] for each in some if each.digest in of_digests}
    for few in _pieces(sessions):
        of_sessions = await in_thread(_of_sessions, few)
        answers |= {each: principal for each, principal in of_sessions.items()}  # noqa: C416 - a wider type of keys
    return answers


def _pieces(items: Sequence[T]) -> Iterable[Sequence[T]]:
    for start in range(0, len(items), _ASKED_AT_ONCE):
        yield items[start : start + _ASKED_AT_ONCE]


def _of_sessions(credentials: Sequence[SessionCredential]) -> dict[SessionCredential, Principal]:
    """What `django.contrib.auth.get_user` does with a request, for many sessions, in three queries."""
    keys = {each.key for each in credentials}
    store = import_module(settings.SESSION_ENGINE).SessionStore
    rows = store.get_model_class().objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
    sessions: dict[str, dict[str, Any]] = {row.session_key: store().decode(row.session_data) for row in rows}
    ids = {session[SESSION_KEY] for session in sessions.values() if SESSION_KEY in session}
    users = {
        str(user.pk): user for user in get_user_model()._default_manager.filter(pk__in=ids).prefetch_related("grants")
    }
    found: dict[SessionCredential, Principal] = {}
    for credential in credentials:
        session = sessions.get(credential.key, {})
        user = users.get(str(session.get(SESSION_KEY)))
        known = session.get(HASH_SESSION_KEY, "")
        # A new password ends the sessions that were begun with the old one.
        if user is None or not user.is_active or not constant_time_compare(known, user.get_session_auth_hash()):
            continue
        if user.is_staff or not credential.of_staff:
            found[credential] = access.principal_of_user(user)
    return found


def of_token(token: str) -> TokenCredential:
    """The credential of a token, whose owner is not asked for yet; raises `InvalidToken` for what can be none."""
    return TokenCredential(access.well_formed_digest(token))


def of_cookies(headers: Iterable[tuple[bytes, bytes]], *, of_staff: bool = False) -> SessionCredential | None:
    """The console's session among a request's cookies, if any. Look at the request's origin first."""
    for name, value in headers:
        if name == b"cookie" and len(value) <= _LONGEST_COOKIES:
            try:
                cookies = SimpleCookie(value.decode("latin-1"))
            except CookieError:
                continue
            if found := cookies.get(settings.SESSION_COOKIE_NAME):
                return SessionCredential(found.value, of_staff)
    return None


def of_authorization(headers: Iterable[tuple[bytes, bytes]]) -> TokenCredential | None:
    """The token of a request's Authorization header, if any; raises `Unauthenticated` when it holds something else."""
    values = [value for name, value in headers if name == b"authorization"]
    if len(values) > 1:
        raise Unauthenticated("there is more than one Authorization header; send one")
    return of_token(access.bearer(values[0].decode("latin-1"))) if values else None
