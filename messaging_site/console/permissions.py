"""What each console page needs, declared at its view and checked before it runs.

`requires` is the only way a view of the console asks for permission; it also turns the broker's refusals into
pages. Views that show several resources filter them with `may`. Decisions are those of `brokers.access`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from brokers import access, audit
from brokers.errors import AccessDenied, BrokerError, NotFound, Unavailable

View = Callable[..., HttpResponse]


class Declared(NamedTuple):
    """The operation that a view declares; `operation` None means that any signed-in member of staff may."""

    operation: str | None
    resource_type: str | None
    per_item: bool = False
    """The view names several resources, or learns the name from a form, and checks each one itself."""


def requires(operation: str, resource_type: str, *, per_item: bool = False) -> Callable[[View], View]:
    """Declares the operation of a view whose URL names the resource by its type (`topic`).

    With `per_item` the view checks by `may` or `authorize` what it shows or changes.
    """

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            try:
                if not per_item:
                    authorize(request, operation, resource_type, kwargs[resource_type])
                return view(request, *args, **kwargs)
            except BrokerError as error:
                return _refused(request, error)

        guarded.declared = Declared(operation, resource_type, per_item)  # type: ignore[attr-defined]
        return guarded

    return decorate


def any_staff(view: View) -> View:
    """Declares a view that touches no resource of the broker."""
    view.declared = Declared(None, None)  # type: ignore[attr-defined]
    return view


def authorize(request: HttpRequest, operation: str, resource_type: str, name: str) -> None:
    """Raises `AccessDenied` unless the signed-in user may do this to that."""
    access.authorize(_principal(request), operation, resource_type, name)


def may(request: HttpRequest, operation: str, resource_type: str, name: str) -> bool:
    """Whether the signed-in user may do this to that."""
    return access.allowed(_principal(request), operation, resource_type, name)


def sees_everything(request: HttpRequest) -> bool:
    """Whether nothing is hidden from the signed-in user, so that totals need no filter."""
    return _principal(request).superuser


def actor(request: HttpRequest) -> audit.Actor:
    """The signed-in user as the audit record names them."""
    return audit.Actor(request.user.get_username(), "console")


def _principal(request: HttpRequest) -> access.Principal:
    known = getattr(request, "console_principal", None)
    if known is None:
        known = access.principal_of_user(cast("User", request.user))
        request.console_principal = known  # type: ignore[attr-defined]
    return cast("access.Principal", known)


_PAGES: tuple[tuple[type[BrokerError], int, str], ...] = (
    (AccessDenied, 403, "Not permitted"),
    (NotFound, 404, "Not found"),
    (Unavailable, 503, "The database cannot be reached"),
)


def _refused(request: HttpRequest, error: BrokerError) -> HttpResponse:
    for kind, status, title in _PAGES:
        if isinstance(error, kind):
            context = {"title": title, "status": status, "detail": error.detail, "crumbs": [(title, None)]}
            return render(request, "console/refused.html", context, status=status)
    raise error
