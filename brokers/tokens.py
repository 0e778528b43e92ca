"""API tokens: issuing, listing and revoking them.

Called by REST, the `tokens` command, the console and the first start. A token's text is shown once and never kept.
"""

from __future__ import annotations

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
from brokers.names import validate

_ALPHABET = string.ascii_letters + string.digits
_ID_ALPHABET = string.ascii_lowercase + string.digits
MAX_GRANTS = 200


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
        if grant.name or grant.match != "prefix":
            try:
                if grant.resource_type not in ("token", "server"):
                    validate("name", grant.name)
            except InvalidValue as error:
                errors.append((f"/grants/{index}/name", error.detail))
    if errors:
        raise InvalidValue("the grants are not valid", errors=errors)


def _require_no_more_than(creator: Principal, grants: Sequence[GrantRule]) -> None:
    """Nobody hands out what they do not hold: each allowance must be covered by one of the creator's as wide."""
    if creator.superuser:
        return
    for grant in grants:
        if grant.effect == "deny":
            continue
        held = any(
            rule.effect == "allow"
            and rule.operation == grant.operation
            and rule.resource_type == grant.resource_type
            and (grant.name.startswith(rule.name) if rule.match == "prefix" else rule == grant)
            for rule in creator.rules
        )
        if not held or any(rule.effect == "deny" for rule in creator.rules):
            raise AccessDenied(f"{creator.name} does not hold {grant.operation} on {grant.resource_type} {grant.name}")


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

    `secret` gives the text instead of a random one. A `creator` cannot grant more than it holds. Raises
    `InvalidValue` and `AccessDenied`. Opens a transaction.
    """
    if not 1 <= len(name) <= 200 or not name.isprintable():
        raise InvalidValue(f"a token's name has 1 to 200 printable characters, not {shown(name)}", pointer="/name")
    check_grants(grants)
    if creator is not None:
        _require_no_more_than(creator, grants)
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
    """Ends a token, at once in this process and within two seconds in the others; raises `TokenNotFound`."""
    with transaction.atomic():
        found = ApiToken.objects.filter(token_id=token_id, revoked_at__isnull=True)
        if owner_id is not None:
            found = found.filter(owner_id=owner_id)
        if not found.update(revoked_at=Now()):
            raise TokenNotFound(f"there is no live token {shown(token_id)}")
        audit.record(actor, "delete", "token", token_id, {})

    def tell() -> None:
        access.forget(token_id)
        wakeup.announce_change("k", token_id)

    access.forget(token_id)
    transaction.on_commit(tell)
