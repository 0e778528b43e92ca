"""The administrator of a new server, and that administrator's API token.

Called by `up` once the schema is there. Does nothing where there is an administrator. Nothing here is printed
or logged: the caller shows it, once.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Final

from django.contrib.auth.models import User
from django.db import transaction

from brokers import tokens
from messaging_site.environment import Refusal

NAME: Final = "admin"
PASSWORD_BYTES: Final = 15
"""Give 20 characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstRun:
    """What the administrator needs to sign in; a secret that was given, not made up, is None."""

    name: str
    password: str | None = field(repr=False)
    token: str | None = field(repr=False)


def ensure_administrator(password: str | None, token: str | None) -> FirstRun | None:
    """Creates `admin` and a token unless there is a superuser; None when there was one.

    `password` and `token` are used as given, or made up where they are None. Opens a transaction.
    Raises: Refusal when the name belongs to a user without an administrator's rights.
    """
    if User.objects.filter(is_superuser=True).exists():
        return None
    if User.objects.filter(username=NAME).exists():
        raise Refusal(f"there is no administrator, and another user is called {NAME}; run createsuperuser")
    made_up = secrets.token_urlsafe(PASSWORD_BYTES)
    with transaction.atomic():
        user = User.objects.create_superuser(NAME, "", password or made_up)
        _, text = tokens.issue(user, "administrator", superuser=True, secret=token)
    return FirstRun(name=NAME, password=made_up if password is None else None, token=text if token is None else None)
