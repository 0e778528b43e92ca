"""API tokens: issuing, listing and revoking them.

Called by REST, the `tokens` command, the console and the first start. A token's text is shown once and never kept.
"""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Sequence
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Prefetch
from django.db.models.functions import Now

from brokers import access, audit, wakeup
from brokers.access import OPERATIONS, RESOURCE_TYPES, GrantRule, Principal
from brokers.errors import AccessDenied, InvalidValue, TokenNotFound, shown
from brokers.models import ApiToken, Grant
from brokers.names import MAX_LENGTH, validate

_ALPHABET = string.ascii_letters + string.digits
_ID_ALPHABET = string.ascii_lowercase + string.digits
MAX_GRANTS = 200
_USER_NAME = re.compile(r"[\w.@+-]{1,150}")
"""As Django has them."""
WITHOUT_NAMES = frozenset({"token", "server"})
"""Types of resource of which there is one: a grant on them has no name."""


def _new_text() -> tuple[str, str]:
    token_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))
    body = f"{token_id}_{''.join(secrets.choice(_ALPHABET) for _ in range(43))}"
    return token_id, f"wst_{body}_{access.checksum(body)}"


def check_grants(grants: Sequence[GrantRule]) -> None:
    """Raises `InvalidValue` with a pointer to each grant that makes no sense."""
    errors: list[tuple[str, str]] = []
    if len(grants) > MAX_GRANTS:
        errors.append(("/grants", f"{len(grants)} grants are more than {MAX_GRANTS}; use prefixes"))
    known = {
        "operation": OPERATIONS,
        "resource_type": RESOURCE_TYPES,
        "match": ("literal", "prefix"),
        "effect": ("allow", "deny"),
    }
    for index, grant in enumerate(grants[:MAX_GRANTS]):
        for field, values in known.items():
            if getattr(grant, field) not in values:
                detail = f"must be one of {', '.join(values)}, not {shown(getattr(grant, field))}"
                errors.append((f"/grants/{index}/{field}", detail))
        if wrong := _wrong_name(grant):
            errors.append((f"/grants/{index}/name", wrong))
    if errors:
        raise InvalidValue("the grants are not valid", errors=errors)


def _wrong_name(grant: GrantRule) -> str:
    """What is wrong with a grant's name, or nothing. A prefix may be `.` or `..`, since names may begin so."""
    if grant.resource_type in WITHOUT_NAMES:
        return f"a grant on {grant.resource_type} is on all of it: leave the name empty" if grant.name else ""
    if grant.resource_type == "user":
        fits = _USER_NAME.fullmatch(grant.name) or (grant.match == "prefix" and not grant.name)
        return "" if fits else f"{shown(grant.name)} is no user name: 1 to 150 letters, digits and @ . + - _"
    try:
        open_ended = grant.match == "prefix" and len(grant.name) < MAX_LENGTH
        validate("name", f"{grant.name}x" if open_ended else grant.name)
    except InvalidValue as error:
        return error.detail
    return ""


# -- nobody hands out what they do not hold ------------------------------------------------------------------------


def _includes(wide: GrantRule, narrow: GrantRule) -> bool:
    """Whether every name that `narrow` covers is covered by `wide`."""
    if wide.resource_type != narrow.resource_type:
        return False
    if wide.match == "prefix":
        return narrow.name.startswith(wide.name)
    return narrow.match == "literal" and narrow.name == wide.name


def _overlap(one: GrantRule, other: GrantRule) -> GrantRule | None:
    """The one that covers exactly the names that both cover, if there are any: sets of names never cross."""
    if _includes(one, other):
        return other
    return one if _includes(other, one) else None


def _holds(creator: Principal, grant: GrantRule, denials: Sequence[GrantRule]) -> bool:
    """Whether the creator may do all that `grant`, beside `denials`, would let its holder do.

    Each operation must be allowed by one grant of the creator's that is as wide; where a denial of the creator's
    cuts into it, the new token must carry a denial as wide.
    """
    for operation in grant.operations():
        if not any(rule.allows(operation) and _includes(rule, grant) for rule in creator.rules):
            return False
        for rule in creator.rules:
            shared = _overlap(rule, grant) if rule.denies(operation) else None
            if shared and not any(denial.denies(operation) and _includes(denial, shared) for denial in denials):
                return False
    return True


def _require_no_more_than(creator: Principal, grants: Sequence[GrantRule], expires_at: datetime | None) -> None:
    """Raises `AccessDenied` where the token would do what its creator may not, or when it no longer may."""
    if creator.expires_at is not None and (expires_at is None or expires_at > creator.expires_at):
        ends = creator.expires_at.isoformat()
        raise AccessDenied(f"{creator.name} expires at {ends}; what it makes cannot outlive it")
    if creator.superuser:
        return
    denials = [grant for grant in grants if grant.effect == "deny"]
    for grant in grants:
        if grant.effect == "allow" and not _holds(creator, grant, denials):
            named = f"{grant.resource_type} {grant.name}{'*' if grant.match == 'prefix' else ''}".strip()
            raise AccessDenied(f"{creator.name} cannot grant {grant.operation} on {named}: it does not hold all of it")


def issue(
    owner: User,
    name: str,
    grants: Sequence[GrantRule] = (),
    *,
    superuser: bool = False,
    secret: str | None = None,
    expires_at: datetime | None = None,
    creator: Principal | None = None,
    actor: audit.Actor = audit.SYSTEM,
) -> tuple[ApiToken, str]:
    """Makes a token for `owner` and answers it with its text, which is not kept.

    `secret` gives the text instead of a random one. A `creator` cannot grant more than it holds, nor for longer
    than it lasts itself; without `expires_at` the token ends with its creator's. Raises `InvalidValue` and
    `AccessDenied`. Opens a transaction.
    """
    if not 1 <= len(name) <= 200 or not name.isprintable():
        raise InvalidValue(f"a token's name has 1 to 200 printable characters, not {shown(name)}", pointer="/name")
    check_grants(grants)
    if creator is not None:
        expires_at = expires_at or creator.expires_at
        _require_no_more_than(creator, grants, expires_at)
    token_id, text = _new_text()
    if secret is not None:
        text = secret
    with transaction.atomic():
        token = ApiToken.objects.create(
            token_id=token_id,
            name=name,
            owner=owner,
            secret_sha256=access.digest(text),
            superuser=superuser,
            expires_at=expires_at,
            created_by=actor.principal,
        )
        Grant.objects.bulk_create(
            Grant(
                token=token,
                operation=grant.operation,
                resource_type=grant.resource_type,
                name=grant.name,
                match=grant.match,
                effect=grant.effect,
            )
            for grant in grants
        )
        audit.record(actor, "create", "token", token_id, {"name": name, "grants": len(grants)})
    token.refresh_from_db()
    return token, text


def page(after: int | None, limit: int, owner_id: int | None = None) -> list[ApiToken]:
    """Live tokens by id, of one owner or of all; one more than `limit` when there are more."""
    found = ApiToken.objects.filter(revoked_at__isnull=True, id__gt=after or 0)
    if owner_id is not None:
        found = found.filter(owner_id=owner_id)
    ordered = found.order_by("id").prefetch_related(Prefetch("grants", Grant.objects.order_by("id")))
    return list(ordered[: limit + 1])


def revoke(token_id: str, *, owner_id: int | None = None, actor: audit.Actor = audit.SYSTEM) -> None:
    """Ends a token, at once in this process and within two seconds in the others; raises `TokenNotFound`.

    With `owner_id` only one of that owner's, and none that may do everything. Opens a transaction.
    """
    with transaction.atomic():
        found = ApiToken.objects.filter(token_id=token_id, revoked_at__isnull=True)
        if owner_id is not None:
            found = found.filter(owner_id=owner_id, superuser=False)
        if not found.update(revoked_at=Now()):
            raise TokenNotFound(f"there is no live token {shown(token_id)}")
        audit.record(actor, "delete", "token", token_id, {})

    def tell() -> None:
        access.forget(token_id)
        wakeup.announce_change("k", token_id)

    access.forget(token_id)
    transaction.on_commit(tell)
