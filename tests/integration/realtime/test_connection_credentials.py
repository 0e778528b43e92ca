"""Who may keep a live connection: tokens revoked, grants changed and sessions signed out while it is open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connections
from django.test import Client

from brokers import access, database, tokens, wakeup
from brokers.access import GrantRule, Principal
from brokers.errors import AccessDenied, BrokerError, InvalidToken, Unavailable
from brokers.models import ApiToken, Grant
from realtime import credentials, registry
from realtime.connections import Connection
from realtime.credentials import Credential, SessionCredential
from realtime.registry import Registry
from tests.web_process import eventually

READ = GrantRule("read", "topic", "orders", "literal", "allow")


class Sink:
    """A transport that remembers its end."""

    kind = "test"

    def __init__(self) -> None:
        self.wrap = bytes
        self.code: int | None = None

    def put(self, frame: bytes) -> bool:
        return True

    def buffered(self) -> int:
        return 0

    async def space(self) -> None:
        return None

    def end(self, payloads: Sequence[bytes], code: int, reason: str) -> None:
        self.code = code


@pytest.fixture
def owner(transactional_db: None) -> User:
    return User.objects.create_user("owner", password="a-password-of-the-tests")


@pytest.fixture
async def kept(owner: User, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Registry]:
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)  # threads keep none beyond the test
    made = Registry(wakeup.Hub(lambda kind, name: access.forget(name) if kind == "k" else None))
    yield made
    await made.stop()
    await database.close()
    await sync_to_async(connections.close_all)()


async def opened(where: Registry, credential: Credential) -> Connection:
    return where.open("stomp", Sink(), principal=await credential.principal(), credential=credential)


async def issued(owner: User, name: str, *rules: GrantRule) -> tuple[ApiToken, Credential]:
    token, text = await sync_to_async(tokens.issue)(owner, name, list(rules))
    return token, credentials.of_token(text)


def signed_in(user: User) -> SessionCredential:
    browser = Client()
    browser.force_login(user)
    return SessionCredential(browser.cookies[settings.SESSION_COOKIE_NAME].value)


async def test_a_revoked_token_ends_its_connections_at_the_hint(kept: Registry, owner: User) -> None:
    token, credential = await issued(owner, "one", READ)
    _, other = await issued(owner, "other")
    mine, theirs = await opened(kept, credential), await opened(kept, other)
    await sync_to_async(tokens.revoke)(token.token_id)
    kept._hear(f"k{token.token_id}")
    await eventually(lambda: mine.ended)
    assert (mine.last_error, mine.transport.code) == ("token_revoked", 1008)  # type: ignore[attr-defined]
    assert not theirs.ended


async def test_it_ends_them_without_a_hint_too(kept: Registry, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "REVALIDATE_SECONDS", 0.05)
    token, credential = await issued(owner, "one")
    connection = await opened(kept, credential)
    kept.start()
    await ApiToken.objects.filter(pk=token.pk).aupdate(expires_at=token.created_at)
    await eventually(lambda: connection.ended)
    assert connection.last_error == "token_revoked"


async def test_a_changed_grant_reaches_the_session(kept: Registry, owner: User) -> None:
    token, credential = await issued(owner, "one", READ)
    connection = await opened(kept, credential)
    told: list[Principal] = []
    connection.on_principal = told.append
    await Grant.objects.filter(token=token).adelete()
    kept._hear("")
    await eventually(lambda: bool(told))
    assert connection.principal is told[0]
    assert told[0].rules == ()
    assert not connection.ended

    def refuse(principal: Principal) -> None:
        raise AccessDenied("read on topic orders is not granted any more")

    connection.on_principal = refuse
    await Grant.objects.acreate(token=token, operation="write", resource_type="topic", name="x")
    kept._hear(f"k{token.token_id}")
    await eventually(lambda: connection.ended)
    assert connection.last_error == "forbidden"


async def test_signing_out_or_a_new_password_ends_the_session(kept: Registry, owner: User) -> None:
    first, second, third = [await sync_to_async(signed_in)(owner) for _ in range(3)]
    open_ones = [await opened(kept, each) for each in (first, second, third)]
    assert [each.principal.name for each in open_ones if each.principal] == ["owner"] * 3
    from django.contrib.sessions.models import Session

    await Session.objects.filter(session_key=first.key).adelete()
    await kept._ask(open_ones)
    assert [each.ended for each in open_ones] == [True, False, False]
    await Session.objects.filter(session_key=second.key).aupdate(expire_date="2020-01-01T00:00:00Z")
    await kept._ask(open_ones)
    assert [each.ended for each in open_ones] == [True, True, False]
    owner.set_password("another-password-of-the-tests")
    await owner.asave()
    await kept._ask(open_ones)
    assert [each.ended for each in open_ones] == [True, True, True]
    with pytest.raises(InvalidToken):
        await third.principal()


async def test_an_inactive_user_is_nobody(kept: Registry, owner: User) -> None:
    session, (_, token) = await sync_to_async(signed_in)(owner), await issued(owner, "one")
    open_ones = [await opened(kept, session), await opened(kept, token)]
    owner.is_active = False
    await owner.asave()
    await kept._ask(open_ones)
    assert [each.ended for each in open_ones] == [True, True]


async def test_all_are_asked_in_few_statements(kept: Registry, owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_ASKED_AT_ONCE", 4)
    asked: list[int] = []
    ask = access.aprincipals

    async def counted(found: Sequence[bytes]) -> dict[bytes, Principal]:
        asked.append(len(found))
        return await ask(found)

    monkeypatch.setattr(access, "aprincipals", counted)
    all_credentials = [(await issued(owner, f"t{number}"))[1] for number in range(10)]
    open_ones = [await opened(kept, each) for each in all_credentials for _ in range(3)]
    await kept._ask(open_ones)
    assert asked == [4, 4, 2]
    assert not any(each.ended for each in open_ones)


async def test_a_database_that_is_away_ends_nothing(
    kept: Registry, owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, credential = await issued(owner, "one")
    connection = await opened(kept, credential)

    async def away(found: Any) -> Any:
        raise Unavailable("away")

    monkeypatch.setattr(access, "aprincipals", away)
    await kept._ask([connection])
    assert not connection.ended


def test_cookies_and_headers_are_read_with_care() -> None:
    name = settings.SESSION_COOKIE_NAME
    found = credentials.of_cookies([(b"cookie", f"other=1; {name}=its-secret".encode())])
    assert found == SessionCredential("its-secret")
    assert "its-secret" not in repr(found)  # no hexadecimal text: an address may be in it
    assert credentials.of_cookies([(b"cookie", b"x" * 10_000)]) is None
    assert credentials.of_cookies([(b"cookie", b"=;=;\xff")]) is None
    assert credentials.of_authorization([]) is None
    for wrong in ([b"Basic abc"], [b"Bearer short"], [b"Bearer " + b"x" * 30] * 2):
        with pytest.raises(BrokerError):
            credentials.of_authorization([(b"authorization", value) for value in wrong])
