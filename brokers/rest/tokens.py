"""Issuing, listing and revoking API tokens over REST."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from django.contrib.auth.models import User
from msgspec import Meta

from brokers import tokens
from brokers.access import GrantRule
from brokers.errors import AccessDenied, InvalidValue, TokenNotFound
from brokers.instants import rfc3339
from brokers.models import ApiToken
from brokers.rest import schemas
from brokers.rest.instants import instant
from brokers.rest.operation import Access, Answer, Call, Operation
from brokers.rest.threads import in_thread

_CREATE = Access("create", "token")
_DESCRIBE = Access("describe", "token")
_DELETE = Access("delete", "token")


def _shown(token: ApiToken) -> schemas.Token:
    return schemas.Token(
        id=token.token_id,
        name=token.name,
        grants=[
            schemas.Grant(grant.operation, grant.resource_type, grant.name, grant.match, grant.effect)  # type: ignore[arg-type]
            for grant in token.grants.all()
        ],
        created_at=rfc3339(token.created_at) or "",
        expires_at=rfc3339(token.expires_at),
        last_used_at=rfc3339(token.last_used_at),
    )


def _expiry(text: str | None) -> datetime | None:
    moment = None if text is None else instant(text, "/expires_at")
    if moment is not None and moment <= datetime.now(UTC):
        raise InvalidValue("expires_at has passed already", pointer="/expires_at")
    return moment


async def post_token(call: Call) -> Answer:
    """Issues a token that acts with the given grants; its text is in this answer and nowhere else.

    Nobody can grant what they do not hold themselves.
    """
    body: schemas.TokenRequest = call.body
    grants = [GrantRule(g.operation, g.resource_type, g.name, g.match, g.effect) for g in body.grants]
    expires_at = _expiry(body.expires_at)

    def issue() -> schemas.IssuedToken:
        owner = User.objects.filter(pk=call.principal.user_id or 0).first()
        if owner is None:
            raise AccessDenied("the token's owner is gone")
        token, text = tokens.issue(
            owner, body.name, grants, expires_at=expires_at, creator=call.principal, actor=call.actor()
        )
        plain = _shown(token)
        return schemas.IssuedToken(
            plain.id, plain.name, plain.grants, plain.created_at, plain.expires_at, plain.last_used_at, text
        )

    return Answer(201, await in_thread(issue))


def _owner(call: Call) -> int | None:
    return None if call.principal.superuser else call.principal.user_id or 0


class TokenPageQuery(msgspec.Struct):
    """Which part of the list."""

    limit: Annotated[int, Meta(ge=1, le=1000)] = 100
    after: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    """The `next` of the page before."""


async def get_tokens(call: Call) -> Answer:
    """Live tokens: all of them for an administrator, else those of the caller's owner."""
    after, limit = call.query.after, call.query.limit

    def read() -> tuple[list[schemas.Token], str | None]:
        rows = tokens.page(after, limit, _owner(call))
        following = str(rows[limit - 1].pk) if len(rows) > limit else None
        return [_shown(row) for row in rows[:limit]], following

    items, following = await in_thread(read)
    return Answer(body=schemas.TokenPage(items, following))


async def delete_token(call: Call) -> Answer:
    """Revokes a token: at once in the process that answers, within two seconds in others.

    Tokens that it issued live on.
    """
    await in_thread(tokens.revoke, call.path["id"], owner_id=_owner(call), actor=call.actor())
    return Answer(204)


def operations() -> list[Operation]:
    """Declarations of all operations on tokens."""
    return [
        Operation(
            method="POST",
            path="/api/v1/tokens",
            summary="Issue a token",
            tag="Tokens",
            access=(_CREATE,),
            handler=post_token,
            body=schemas.TokenRequest,
            answers={201: schemas.IssuedToken},
        ),
        Operation(
            method="GET",
            path="/api/v1/tokens",
            summary="List tokens",
            tag="Tokens",
            access=(_DESCRIBE,),
            handler=get_tokens,
            query=TokenPageQuery,
            answers={200: schemas.TokenPage},
        ),
        Operation(
            method="DELETE",
            path="/api/v1/tokens/{id}",
            summary="Revoke a token",
            tag="Tokens",
            access=(_DELETE,),
            handler=delete_token,
            answers={204: None},
            problems=(TokenNotFound,),
        ),
    ]
