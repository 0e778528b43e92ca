"""`manage.py tokens`: lists, creates and revokes API tokens. A new token's text goes to standard output, once."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.contrib.auth.models import User
from django.db.models import prefetch_related_objects

from brokers import audit, terminal, tokens
from brokers.access import GrantRule
from brokers.errors import InvalidValue, NotFound, shown
from brokers.instants import rfc3339
from brokers.models import ApiToken
from brokers.terminal import Output, TerminalCommand

_PAGE: Final = 1000
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_WITHOUT_NAMES: Final = ("token", "server")


class Command(TerminalCommand):
    """Without a subcommand: `list`."""

    help = "Lists, creates and revokes API tokens."

    def arguments(self, parser: ArgumentParser) -> None:
        """The subcommands and their arguments."""
        actions = parser.add_subparsers(dest="action", metavar="list|create|revoke")
        parser.set_defaults(action="list")
        listing = actions.add_parser("list", help="Tokens that are not revoked (the default)")
        create = actions.add_parser("create", help="Makes a token and prints its text, this once")
        revoke = actions.add_parser("revoke", help="Ends a token")
        for action in (listing, create, revoke):
            terminal.add_json_option(action)
        create.add_argument("name")
        create.add_argument(
            "--grant",
            action="append",
            default=[],
            metavar="[!]OPERATION:TYPE:NAME[*]",
            help="what it may do, such as write:topic:orders.*; * at the end means all names that begin so, ! denies",
        )
        create.add_argument("--admin", action="store_true", help="it may do everything")
        create.add_argument("--expires", metavar="90d|TIME", help="in m, h, d or w, or an RFC 3339 time; else never")
        create.add_argument("--user", default="admin", help="whose it is (admin)")
        revoke.add_argument("id")

    def run(self, output: Output, options: dict[str, Any]) -> None:
        """Does the subcommand."""
        match options["action"]:
            case "create":
                self._create(output, options)
            case "revoke":
                tokens.revoke(options["id"], actor=audit.COMMAND)
                output.line(f"token {options['id']} is revoked")
                output.json({"revoked": options["id"]})
            case _:
                _list(output)

    def _create(self, output: Output, options: dict[str, Any]) -> None:
        owner = User.objects.filter(username=options["user"]).first()
        if owner is None:
            raise NotFound(f"there is no user {shown(options['user'])}")
        grants = [parse_grant(text) for text in options["grant"]]
        if options["admin"] and grants:
            raise InvalidValue("--admin may do everything: --grant adds nothing to it")
        token, text = tokens.issue(
            owner,
            options["name"],
            grants,
            superuser=options["admin"],
            expires_at=parse_expiry(options["expires"]),
            actor=audit.COMMAND,
        )
        if not output.as_json:
            self.note(f"token {token.token_id} for {owner.username}, expires {_expiry(token)}; shown this once:")
        output.line(text)
        output.json(_as_json(token) | {"token": text})


def parse_grant(text: str) -> GrantRule:
    """`[!]operation:resource_type:name[*]`; raises `InvalidValue`."""
    parts = text.removeprefix("!").split(":")
    if len(parts) == 2 and parts[1] in _WITHOUT_NAMES:
        parts.append("")
    if len(parts) != 3:
        raise InvalidValue(f"a grant is [!]OPERATION:TYPE:NAME[*], such as write:topic:orders.*, not {shown(text)}")
    operation, resource_type, name = parts
    prefix = name.endswith("*")
    if not name and resource_type not in _WITHOUT_NAMES:
        raise InvalidValue(f"the grant {shown(text)} names nothing: a name, or * for all of them")
    return GrantRule(
        operation,
        resource_type,
        name.removesuffix("*"),
        "prefix" if prefix else "literal",
        "deny" if text.startswith("!") else "allow",
    )


def grant_text(operation: str, resource_type: str, name: str, match: str, effect: str) -> str:
    """A grant as `parse_grant` reads it."""
    return f"{'!' if effect == 'deny' else ''}{operation}:{resource_type}:{name}{'*' if match == 'prefix' else ''}"


def parse_expiry(text: str | None) -> datetime | None:
    """`90d` from now on, or an instant with its zone; raises `InvalidValue` for another text or the past."""
    if text is None:
        return None
    length = re.fullmatch(r"([0-9]{1,5})([mhdw])", text, re.ASCII)
    if length:
        moment = datetime.now(UTC) + timedelta(**{_UNITS[length[2]]: int(length[1])})
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise InvalidValue(f"--expires is like 90d or 2030-01-31T00:00:00Z, not {shown(text)}") from error
    if moment.tzinfo is None:
        raise InvalidValue("--expires needs a zone, such as Z")
    if moment <= datetime.now(UTC):
        raise InvalidValue("--expires has passed already")
    return moment


def _list(output: Output) -> None:
    found: list[ApiToken] = []
    after: int | None = None
    while page := tokens.page(after, _PAGE):
        found.extend(page)
        after = page[-1].pk
    prefetch_related_objects(found, "owner")
    for token in found:
        output.json(_as_json(token))
    output.table(
        ("Id", "Name", "User", "Grants", "Created", "Expires", "Last used"),
        [
            (
                token.token_id,
                token.name,
                token.owner.username,
                _grants(token),
                terminal.instant(token.created_at),
                _expiry(token),
                terminal.instant(token.last_used_at),
            )
            for token in found
        ],
        "There are no tokens; `manage.py tokens create NAME` makes one",
    )


def _expiry(token: ApiToken) -> str:
    return "never" if token.expires_at is None else terminal.instant(token.expires_at)


def _grants(token: ApiToken) -> str:
    if token.superuser:
        return "everything"
    texts = [grant_text(g.operation, g.resource_type, g.name, g.match, g.effect) for g in token.grants.all()]
    return " ".join(texts) or "nothing"


def _as_json(token: ApiToken) -> dict[str, Any]:
    return {
        "id": token.token_id,
        "name": token.name,
        "user": token.owner.username,
        "admin": token.superuser,
        "grants": [
            {
                "operation": grant.operation,
                "resource_type": grant.resource_type,
                "name": grant.name,
                "match": grant.match,
                "effect": grant.effect,
            }
            for grant in token.grants.all()
        ],
        "created_at": rfc3339(token.created_at),
        "expires_at": rfc3339(token.expires_at),
        "last_used_at": rfc3339(token.last_used_at),
    }
