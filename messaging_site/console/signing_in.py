"""Signing in to the console: Django's admin login, slowed after failures; asking again before danger.

Failures are counted for a user name and address together, in the process's cache: a server of several web
processes allows that many times more tries, which still is no guessing speed.
"""

from __future__ import annotations

import hashlib
import time
from typing import Any, Final

from django import forms
from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.http import HttpRequest

MAX_FAILURES: Final = 5
FAILURE_SECONDS: Final = 15 * 60
"""How long failures count."""
FRESH_SECONDS: Final = 15 * 60
"""How long a password given counts for dangerous changes."""
_SESSION_KEY: Final = "console_password_given_at"


class LoginForm(AdminAuthenticationForm):
    """Refuses further tries after MAX_FAILURES, known user or not, with one message for both."""

    def clean(self) -> dict[str, Any]:
        """As Django's, counting failures."""
        key = self._failures_key()
        if cache.get(key, 0) >= MAX_FAILURES:
            raise ValidationError("Too many failed attempts. Try again in 15 minutes.", code="too_many_failures")
        try:
            cleaned = super().clean()
        except ValidationError:
            cache.add(key, 0, FAILURE_SECONDS)
            cache.incr(key)
            raise
        cache.delete(key)
        return cleaned or {}

    def _failures_key(self) -> str:
        address = self.request.META.get("REMOTE_ADDR", "") if self.request is not None else ""
        subject = f"{address}\n{self.data.get('username', '')}"
        return f"console-login-{hashlib.sha256(subject.encode(errors='replace')).hexdigest()}"


def remember_password_given(request: HttpRequest) -> None:
    """Notes in the session that the user has just given their password."""
    request.session[_SESSION_KEY] = int(time.time())


def password_is_fresh(request: HttpRequest) -> bool:
    """Whether the user gave their password in this session within FRESH_SECONDS."""
    given_at = request.session.get(_SESSION_KEY, 0)
    return isinstance(given_at, int) and 0 <= time.time() - given_at < FRESH_SECONDS


class PasswordField(forms.CharField):
    """The current user's password, asked again before a dangerous change."""

    def __init__(self) -> None:
        super().__init__(
            label="Your password",
            strip=False,
            widget=forms.PasswordInput(attrs={"autocomplete": "current-password"}),
            help_text="Asked again because you signed in more than 15 minutes ago.",
        )
