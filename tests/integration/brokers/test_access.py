"""Decisions of `brokers.access`, and authentication against the database: who is refused, and how soon."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st

from brokers import access, database, tokens
from brokers.access import GrantRule, Principal, allowed
from brokers.errors import AccessDenied, InvalidToken, Unauthenticated
from brokers.models import ApiToken, AuditEntry


def grant(operation: str, name: str, effect: str = "allow", resource_type: str = "topic") -> GrantRule:
    """`orders` is a literal name, `orders*` a prefix."""
    return GrantRule(operation, resource_type, name.rstrip("*"), "prefix" if name.endswith("*") else "literal", effect)


def principal(*rules: GrantRule) -> Principal:
    return Principal("someone", False, rules)


@pytest.fixture
def owner(transactional_db: None) -> User:
    return User.objects.create_user("owner")


@pytest.mark.parametrize(
    ("rules", "operation", "name", "expected"),
    [
        ((), "read", "orders", False),
        ((grant("read", "orders"),), "read", "orders", True),
        ((grant("read", "orders"),), "write", "orders", False),
        ((grant("read", "orders"),), "read", "orders2", False),
        ((grant("read", "orders"),), "read", "old-orders", False),
        ((grant("read", "orders"),), "read", "Orders", False),
        ((grant("read", "orders.*"),), "read", "orders.eu", True),
        ((grant("read", "orders.*"),), "read", "orders", False),
        ((grant("read", "orders.*"),), "read", "old-orders.eu", False),
        ((grant("read", "orders.*"),), "read", "ordersXeu", False),
        ((grant("read", "*"),), "read", "anything", True),
        ((grant("read", "*"), grant("read", "secret", "deny")), "read", "secret", False),
        ((grant("read", "secret", "deny"), grant("read", "secret")), "read", "secret", False),
        ((grant("read", "*"), grant("read", "secret*", "deny")), "read", "secrets", False),
        ((grant("read", "*"), grant("read", "secret", "deny")), "read", "public", True),
        ((grant("read", "*"), grant("write", "*", "deny")), "read", "public", True),
        ((grant("read", "secret", "deny"),), "read", "public", False),
        ((grant("read", "orders"),), "describe", "orders", True),
        ((grant("write", "orders"),), "describe", "orders", True),
        ((grant("create", "orders"),), "describe", "orders", False),
        ((grant("describe", "orders"),), "read", "orders", False),
        ((grant("read", "orders"), grant("describe", "orders", "deny")), "describe", "orders", False),
        ((grant("read", "orders"), grant("describe", "orders", "deny")), "read", "orders", True),
        ((grant("read", "orders", resource_type="group"),), "read", "orders", False),
    ],
)
def test_a_decision(rules: tuple[GrantRule, ...], operation: str, name: str, expected: bool) -> None:
    assert allowed(principal(*rules), operation, "topic", name) is expected


_names = st.sampled_from(["", "a", "ab", "abc", "b", "."])
_rules = st.builds(
    GrantRule,
    st.sampled_from(["read", "describe"]),
    st.just("topic"),
    _names,
    st.sampled_from(["literal", "prefix"]),
    st.sampled_from(["allow", "deny"]),
)


@given(st.lists(_rules, max_size=6), _rules, _names)
def test_more_denials_never_allow_more_and_the_order_does_not_matter(
    rules: list[GrantRule], more: GrantRule, name: str
) -> None:
    before = allowed(principal(*rules), "read", "topic", name)
    assert allowed(principal(*reversed(rules)), "read", "topic", name) is before
    after = allowed(principal(*rules, more), "read", "topic", name)
    assert before or not after or more.effect == "allow"
    assert after or not before or more.effect == "deny"


def test_a_refusal_is_the_same_whether_the_resource_exists_or_not() -> None:
    with pytest.raises(AccessDenied, match="read on topic orders is not granted to someone"):
        access.authorize(principal(), "read", "topic", "orders")


@pytest.mark.parametrize("header", [None, "", "Basic abc", "Bearer", "Bearer ", "token-without-a-scheme"])
def test_a_header_without_a_bearer_token_is_unauthenticated(header: str | None) -> None:
    with pytest.raises(Unauthenticated) as refused:
        access.bearer(header)
    assert refused.value.code == "unauthenticated"


def test_the_scheme_is_read_in_any_case() -> None:
    assert access.bearer("bEARER  some-token ") == "some-token"


# -- against the database -----------------------------------------------------------------------------------------


def refused(text: str) -> InvalidToken:
    with pytest.raises(InvalidToken) as error:
        access.authenticate(text)
    return error.value


def asked(header: bytes) -> Principal:
    """The answer of the asynchronous form, on a loop and a pool of its own."""

    async def ask() -> Principal:
        try:
            return await access.aauthenticate_header(header)
        finally:
            await database.close()

    return asyncio.run(ask())


def test_a_token_is_who_it_was_issued_to(owner: User) -> None:
    token, text = tokens.issue(owner, "reader", [grant("read", "orders.*")])
    found = access.authenticate(text)
    assert (found.name, found.user_id, found.superuser) == ("owner/reader", owner.pk, False)
    assert found.rules == (grant("read", "orders.*"),)
    assert found.actor_name() == f"owner/reader ({token.token_id})"


def test_unknown_expired_revoked_and_mistyped_tokens_are_refused_alike(owner: User) -> None:
    expired, expired_text = tokens.issue(owner, "expired")
    ApiToken.objects.filter(pk=expired.pk).update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    revoked, revoked_text = tokens.issue(owner, "revoked")
    tokens.revoke(revoked.token_id)
    _, disabled_text = tokens.issue(User.objects.create_user("left", is_active=False), "disabled")
    _, good = tokens.issue(owner, "good")
    mistyped = good[:-1] + ("0" if good[-1] != "0" else "1")
    never = "wst_" + "a" * 8 + "_" + "b" * 43
    bad = [expired_text, revoked_text, disabled_text, mistyped, f"{never}_{access.checksum(never[4:])}", "x" * 30, "é"]
    details = {refused(text).detail for text in bad}
    assert len(details) == 1
    assert not any(text[10:] and text in details.copy().pop() for text in bad)
    assert access.authenticate(good).name == "owner/good"


@pytest.mark.parametrize("text", ["short", "x" * 201, "with space in the middle of it", "nul\0" * 8, "a" * 19])
def test_text_that_no_token_looks_like_is_refused_without_the_database(text: str) -> None:
    refused(text)


def test_a_mistyped_token_is_refused_without_the_database() -> None:
    body = "a" * 8 + "_" + "b" * 43
    refused(f"wst_{body}_000000" if access.checksum(body) != "000000" else f"wst_{body}_000001")


def test_a_revocation_holds_at_once_in_this_process(owner: User) -> None:
    token, text = tokens.issue(owner, "t")
    access.authenticate(text)
    tokens.revoke(token.token_id)
    refused(text)


def test_an_expiry_is_not_outlived_by_the_cache(owner: User, monkeypatch: pytest.MonkeyPatch) -> None:
    _, text = tokens.issue(owner, "t", expires_at=datetime.now(UTC) + timedelta(milliseconds=300))
    monkeypatch.setattr(access, "CACHE_SECONDS", 60.0)
    found = access.authenticate(text)
    assert found.expires_at is not None
    while datetime.now(UTC) < found.expires_at:
        pass
    refused(text)


def test_an_answer_read_before_a_revocation_is_not_remembered_after_it(
    owner: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The revocation comes while the row is on its way."""
    _, text = tokens.issue(owner, "t")
    kept = access._remember

    def interrupted(*arguments: Any) -> Any:
        access.forget()
        return kept(*arguments)

    monkeypatch.setattr(access, "_remember", interrupted)
    header = f"Bearer {text}".encode()
    assert asked(header).name == "owner/t"
    assert access.heard_of(header) is None
    assert access._by_digest == {}


def test_a_header_heard_of_is_known_until_it_is_forgotten(owner: User) -> None:
    token, text = tokens.issue(owner, "t")
    header = f"Bearer {text}".encode()
    assert access.heard_of(header) is None
    asked(header)
    known = access.heard_of(header)
    assert known is not None
    assert known.token_id == token.token_id
    access.forget("another")
    assert access.heard_of(header) is known
    access.forget(token.token_id)
    assert access.heard_of(header) is None


def test_a_use_is_noted_at_most_once_a_minute(owner: User) -> None:
    token, text = tokens.issue(owner, "t")
    access.authenticate(text)
    first = ApiToken.objects.get(pk=token.pk).last_used_at
    access.forget()
    access.authenticate(text)
    assert first is not None
    assert ApiToken.objects.get(pk=token.pk).last_used_at == first
    ApiToken.objects.filter(pk=token.pk).update(last_used_at=first - timedelta(minutes=2))
    access.forget()
    access.authenticate(text)
    found = ApiToken.objects.get(pk=token.pk).last_used_at
    assert found is not None
    assert found > first


def test_long_names_fit_into_the_audit_record(transactional_db: None) -> None:
    owner = User.objects.create_user("u" * 150)
    _, text = tokens.issue(owner, "n" * 200)
    found = access.authenticate(text)
    assert len(found.actor_name()) <= AuditEntry._meta.get_field("principal").max_length  # type: ignore[operator]
    _, other = tokens.issue(owner, "n" * 200)
    assert access.authenticate(other).name != found.name


def test_only_the_hash_of_a_token_is_kept(owner: User) -> None:
    token, text = tokens.issue(owner, "t")
    assert bytes(token.secret_sha256) == hashlib.sha256(text.encode()).digest()
    row = ApiToken.objects.filter(pk=token.pk).values().get()
    assert text not in repr(row)
