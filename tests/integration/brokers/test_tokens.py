"""Issuing and revoking tokens: grants that make sense, and nobody handing out what they do not hold."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st

from brokers import access, tokens
from brokers.access import OPERATIONS, GrantRule, Principal, allowed
from brokers.errors import AccessDenied, InvalidValue, TokenNotFound
from brokers.models import ApiToken, AuditEntry


def grant(operation: str, name: str, effect: str = "allow", resource_type: str = "topic") -> GrantRule:
    """`orders` is a literal name, `orders*` a prefix."""
    return GrantRule(operation, resource_type, name.rstrip("*"), "prefix" if name.endswith("*") else "literal", effect)


@pytest.fixture
def owner(transactional_db: None) -> User:
    return User.objects.create_user("owner")


def test_a_token_has_the_form_that_scanners_can_find(owner: User) -> None:
    token, text = tokens.issue(owner, "t")
    found = re.fullmatch(r"wst_([a-z0-9]{8})_([A-Za-z0-9]{43})_([0-9a-f]{6})", text)
    assert found is not None
    assert found[1] == token.token_id
    assert found[3] == access.checksum(f"{found[1]}_{found[2]}")


def test_issuing_and_revoking_leave_an_audit_record_without_the_text(owner: User) -> None:
    token, text = tokens.issue(owner, "t", [grant("read", "orders")])
    tokens.revoke(token.token_id)
    entries = list(AuditEntry.objects.order_by("id").values())
    assert [(entry["operation"], entry["resource"]) for entry in entries] == [
        ("create", token.token_id),
        ("delete", token.token_id),
    ]
    assert text not in repr(entries)


@pytest.mark.parametrize("name", ["", "x" * 201, "a\0b", "line\nfeed", "\x1b[31m"])
def test_a_name_that_cannot_be_shown_is_refused(owner: User, name: str) -> None:
    with pytest.raises(InvalidValue, match="printable"):
        tokens.issue(owner, name)


@pytest.mark.parametrize(
    ("rule", "pointer"),
    [
        (GrantRule("own", "topic", "a", "literal", "allow"), "operation"),
        (GrantRule("read", "planet", "a", "literal", "allow"), "resource_type"),
        (GrantRule("read", "topic", "a", "regex", "allow"), "match"),
        (GrantRule("read", "topic", "a", "literal", "maybe"), "effect"),
        (grant("read", ""), "name"),
        (grant("read", "a/b"), "name"),
        (grant("read", "a\0"), "name"),
        (grant("read", ".."), "name"),
        (grant("read", "a/*"), "name"),
        (grant("read", "x" * 250), "name"),
        (grant("read", "x" * 250 + "*"), "name"),
        (grant("create", "a\0", resource_type="token"), "name"),
        (grant("describe", "some", resource_type="server"), "name"),
    ],
)
def test_a_grant_that_makes_no_sense_is_pointed_at(owner: User, rule: GrantRule, pointer: str) -> None:
    with pytest.raises(InvalidValue) as error:
        tokens.issue(owner, "t", [grant("read", "fine"), rule])
    assert [where for where, _ in error.value.errors] == [f"/grants/1/{pointer}"]
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize(
    "rule",
    [
        grant("read", "*"),
        grant("read", ".*"),
        grant("read", "x" * 249),
        grant("read", "x" * 249 + "*"),
        grant("create", "", resource_type="token"),
        grant("create", "*", resource_type="token"),
    ],
)
def test_a_grant_that_makes_sense_is_kept(owner: User, rule: GrantRule) -> None:
    _, text = tokens.issue(owner, "t", [rule])
    assert access.authenticate(text).rules == (rule,)


def test_two_hundred_grants_are_the_most(owner: User) -> None:
    tokens.issue(owner, "t", [grant("read", f"t{n}") for n in range(200)])
    with pytest.raises(InvalidValue, match="the grants are not valid"):
        tokens.issue(owner, "t", [grant("read", f"t{n}") for n in range(201)])


# -- handing out ----------------------------------------------------------------------------------------------------

HANDED_OUT = [
    ([grant("read", "orders")], [grant("read", "orders")], True),
    ([grant("read", "orders")], [grant("describe", "orders")], True),
    ([grant("read", "orders")], [grant("write", "orders")], False),
    ([grant("read", "orders")], [grant("read", "orders*")], False),
    ([grant("read", "orders")], [grant("read", "orders2")], False),
    ([grant("read", "orders.*")], [grant("read", "orders.eu")], True),
    ([grant("read", "orders.*")], [grant("read", "orders.eu.*")], True),
    ([grant("read", "orders.*")], [grant("read", "orders*")], False),
    ([grant("read", "orders.*")], [grant("read", "orders")], False),
    ([grant("read", "orders.*")], [grant("read", "old-orders.eu")], False),
    ([grant("read", "*")], [grant("read", "*")], True),
    ([grant("read", "*")], [grant("read", "orders", resource_type="group")], False),
    ([grant("describe", "*")], [grant("read", "*")], False),
    ([], [grant("read", "orders", "deny")], True),
    ([], [], True),
    # A denial of the creator's counts only where the new grant reaches it.
    ([grant("read", "*"), grant("read", "secret", "deny")], [grant("read", "orders")], True),
    ([grant("read", "*"), grant("read", "secret", "deny")], [grant("read", "secret")], False),
    ([grant("read", "*"), grant("read", "secret", "deny")], [grant("read", "s*")], False),
    ([grant("read", "*"), grant("read", "secret*", "deny")], [grant("read", "secret.eu")], False),
    ([grant("read", "*"), grant("read", "secret*", "deny")], [grant("read", "s*")], False),
    ([grant("read", "*"), grant("write", "secret", "deny")], [grant("read", "*")], True),
    # ... or the new token denies as much itself.
    ([grant("read", "*"), grant("read", "x", "deny")], [grant("read", "*"), grant("read", "x", "deny")], True),
    ([grant("read", "*"), grant("read", "secret", "deny")], [grant("read", "*"), grant("read", "s*", "deny")], True),
    ([grant("read", "*"), grant("read", "s*", "deny")], [grant("read", "*"), grant("read", "secret", "deny")], False),
    # Reading implies describing, so a denied description must stay denied.
    ([grant("read", "*"), grant("describe", "a", "deny")], [grant("read", "a")], False),
    ([grant("read", "*"), grant("describe", "a", "deny")], [grant("read", "a"), grant("describe", "a", "deny")], True),
]


@pytest.mark.parametrize(("held", "wanted", "possible"), HANDED_OUT)
def test_nobody_hands_out_what_they_do_not_hold(
    owner: User, held: list[GrantRule], wanted: list[GrantRule], possible: bool
) -> None:
    creator = Principal("creator", False, tuple(held), user_id=owner.pk)
    if possible:
        tokens.issue(owner, "t", wanted, creator=creator)
    else:
        with pytest.raises(AccessDenied, match="creator cannot grant"):
            tokens.issue(owner, "t", wanted, creator=creator)
        assert not ApiToken.objects.exists()


def test_an_administrator_hands_out_anything(owner: User) -> None:
    tokens.issue(owner, "t", [grant(operation, "*") for operation in OPERATIONS], creator=Principal("root", True))


_name = st.text(alphabet="ab.", max_size=3).filter(lambda name: name not in (".", ".."))
_rule = st.builds(
    GrantRule,
    st.sampled_from(["read", "write", "describe", "create"]),
    st.sampled_from(["topic", "group"]),
    _name,
    st.sampled_from(["literal", "prefix"]),
    st.sampled_from(["allow", "allow", "deny"]),
)


@given(st.lists(_rule, max_size=5), st.lists(_rule, max_size=4), st.lists(_name, min_size=1, max_size=8))
def test_a_token_that_could_be_issued_may_nothing_that_its_creator_may_not(
    held: list[GrantRule], wanted: list[GrantRule], names: list[str]
) -> None:
    """Whatever the grants are: also where prefixes, literal names and denials overlap."""
    creator = Principal("creator", False, tuple(held))
    try:
        tokens._require_no_more_than(creator, wanted, None)
    except AccessDenied:
        return
    issued = Principal("issued", False, tuple(wanted))
    for name in {*names, *(rule.name for rule in held), *(rule.name + "a" for rule in held)}:
        for resource_type in ("topic", "group"):
            for operation in ("read", "write", "describe", "create"):
                if allowed(issued, operation, resource_type, name):
                    assert allowed(creator, operation, resource_type, name), (operation, resource_type, name)


def test_a_token_ends_with_its_creators(owner: User) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    for creator in (
        Principal("creator", False, (grant("read", "a"),), user_id=owner.pk, expires_at=soon),
        Principal("root", True, expires_at=soon),
    ):
        made, _ = tokens.issue(owner, "t", creator=creator)
        assert made.expires_at == soon
        with pytest.raises(AccessDenied, match="cannot outlive it"):
            tokens.issue(owner, "t", creator=creator, expires_at=soon + timedelta(seconds=1))
        sooner, _ = tokens.issue(owner, "t", creator=creator, expires_at=soon - timedelta(minutes=1))
        assert sooner.expires_at == soon - timedelta(minutes=1)


# -- listing and revoking -----------------------------------------------------------------------------------------


def test_pages_hold_live_tokens_of_one_owner_or_of_all(owner: User) -> None:
    other = User.objects.create_user("other")
    mine = [tokens.issue(owner, f"t{n}")[0].token_id for n in range(3)]
    theirs = tokens.issue(other, "x")[0].token_id
    gone = tokens.issue(owner, "gone")[0].token_id
    tokens.revoke(gone)
    assert [token.token_id for token in tokens.page(None, 10)] == [*mine, theirs]
    assert [token.token_id for token in tokens.page(None, 10, owner.pk)] == mine
    first = tokens.page(None, 1, owner.pk)
    assert [token.token_id for token in first] == mine[:2]
    assert [token.token_id for token in tokens.page(first[0].pk, 10, owner.pk)] == mine[1:]


def test_only_a_live_token_can_be_revoked(owner: User) -> None:
    token, _ = tokens.issue(owner, "t")
    tokens.revoke(token.token_id)
    for token_id in (token.token_id, "unknown0"):
        with pytest.raises(TokenNotFound):
            tokens.revoke(token_id)


def test_an_owner_revokes_its_own_tokens_but_not_an_administrators(owner: User) -> None:
    other, _ = tokens.issue(User.objects.create_user("other"), "t")
    everything, _ = tokens.issue(owner, "root", superuser=True)
    for token_id in (other.token_id, everything.token_id):
        with pytest.raises(TokenNotFound):
            tokens.revoke(token_id, owner_id=owner.pk)
    mine, _ = tokens.issue(owner, "t")
    tokens.revoke(mine.token_id, owner_id=owner.pk)
