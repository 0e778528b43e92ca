"""Walks every route: each declares what its caller must hold, or stands in the list of public ones below."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import URLPattern, URLResolver, get_resolver

from brokers.access import OPERATIONS, RESOURCE_TYPES
from brokers.rest import openapi
from brokers.rest.operation import Access, Operation
from messaging_site import asgi
from messaging_site.console.permissions import Declared

PUBLIC_OPERATIONS = {"/api/openapi.json", "/api/docs", "/healthz", "/readyz"}
"""REST and health paths that take no token."""

UNDECLARED_VIEWS = {
    "": "leads to the console",
    "admin/": "the Overview's address; the view behind it declares itself",
    "admin/login/": "signing in",
    "admin/logout/": "signing out",
    "admin/jsi18n/": "Django's texts, of no resource",
    "admin/password_change/": "one's own password",
    "admin/password_change/done/": "one's own password",
    "admin/autocomplete/": "Django's: asks the model's own permissions",
    "admin/r/<path:content_type_id>/<path:object_id>/": "Django's: leads to an object's page",
    "admin/^(?P<app_label>auth|django_celery_beat|brokers)/$": "Django's: asks each model's permissions",
    "admin/(?P<url>.*)$": "Django's: what matched nothing, 404",
}
"""Routes of Django's that declare nothing to us, and why they need not."""

DJANGOS_MODELS = ("admin/auth/user/", "admin/auth/group/", "admin/brokers/alertrule/", "admin/django_celery_beat/")
"""Screens that Django makes of models, under its own permissions."""


def every_operation() -> list[Operation]:
    return [*asgi.rest.operations, *asgi.health.operations]


def every_view() -> Iterator[tuple[str, Any]]:
    def walk(patterns: list[URLPattern | URLResolver], prefix: str) -> Iterator[tuple[str, Any]]:
        for found in patterns:
            route = prefix + str(found.pattern)
            if isinstance(found, URLResolver):
                yield from walk(found.url_patterns, route)
            else:
                yield route, found.callback

    return walk(get_resolver().url_patterns, "")


@pytest.mark.parametrize("operation", every_operation(), ids=lambda found: f"{found.method} {found.path}")
def test_an_operation_declares_what_its_caller_must_hold(operation: Operation) -> None:
    assert operation.public == (operation.path in PUBLIC_OPERATIONS)
    assert bool(operation.access) != operation.public
    for access in operation.access:
        assert access.operation in OPERATIONS
        assert access.resource_type in RESOURCE_TYPES
        assert access.parameter is None or f"{{{access.parameter}}}" in operation.path
        named = access.parameter is not None or access.resource_type in ("token", "server")
        assert named or access.why, "nothing says which resource is meant"


@pytest.mark.parametrize("operation", every_operation(), ids=lambda found: f"{found.method} {found.path}")
def test_an_operation_is_described(operation: Operation) -> None:
    described = openapi.document(every_operation())["paths"][operation.path][operation.method.lower()]
    assert described["summary"]
    assert described["description"]
    assert described["security"] or operation.public
    statuses = set(described["responses"])
    assert {str(status) for status in operation.answers} <= statuses
    assert operation.public or {"401", "403"} <= statuses


def test_names_of_operations_are_unique() -> None:
    names = [operation.name for operation in every_operation()]
    assert sorted(names) == sorted(set(names))


def test_health_serves_what_it_declares() -> None:
    assert {operation.path for operation in asgi.health.operations} == asgi.health.PATHS


def test_only_public_operations_may_declare_nothing() -> None:
    def handler(call: Any) -> Any: ...

    for access, public in (((), False), ((Access("read", "topic", "topic"),), True)):
        with pytest.raises(TypeError, match="must declare its access"):
            Operation(
                method="GET",
                path="/api/v1/x",
                summary="",
                tag="",
                access=access,
                public=public,
                handler=handler,
                answers={200: None},
            )


def test_every_view_of_the_console_declares_its_operation() -> None:
    undeclared = [
        route
        for route, view in every_view()
        if not isinstance(getattr(view, "declared", None), Declared)
        and route not in UNDECLARED_VIEWS
        and not route.startswith(DJANGOS_MODELS)
    ]
    assert undeclared == []


def test_declared_views_name_operations_that_exist() -> None:
    declared = [(route, view.declared) for route, view in every_view() if hasattr(view, "declared")]
    assert len(declared) > 8
    for route, (operation, resource_type, per_item) in declared:
        if operation is not None:
            assert operation in OPERATIONS, route
            assert resource_type in RESOURCE_TYPES, route
            assert per_item or f"<{resource_type}:{resource_type}>" in route, route


def test_the_list_of_exceptions_holds_nothing_that_is_gone() -> None:
    routes = {route for route, _ in every_view()}
    assert set(UNDECLARED_VIEWS) - routes == set()
