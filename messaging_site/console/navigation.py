"""The shell around every page: navigation, theme, shortcuts and the environment's name.

`shell` is a context processor (see settings), so that Django's own admin pages get the same frame. A screen
joins the navigation by a line in GROUPS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse

from messaging_site.console import badges, preferences


@dataclass(frozen=True, slots=True)
class Entry:
    """One screen: its title, URL name, the key after `g`, and the model permission it needs, if any."""

    title: str
    url_name: str
    letter: str = ""
    permission: str = ""


GROUPS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    ("", (Entry("Overview", "admin:index", "o"),)),
    (
        "Messaging",
        (
            Entry("Topics", "admin:topics", "t"),
            Entry("Consumer groups", "admin:groups", "c"),
            Entry("Exchanges", "admin:exchanges", "e"),
            Entry("Queues", "admin:queues", "q"),
        ),
    ),
    (
        "Failures",
        (
            Entry("Dead letters", "admin:dead-letters", "d"),
            Entry("Replays", "admin:replays", "r"),
        ),
    ),
    (
        "Runtime",
        (
            Entry("Scheduled tasks", "admin:tasks", "s"),
            Entry("Locks", "admin:locks", "l"),
            Entry("Executors", "admin:executors", "x"),
            Entry("Connections", "admin:connections", "w"),
        ),
    ),
    (
        "Govern",
        (
            Entry("Alerts", "admin:alerts", "a"),
            Entry("Users", "admin:auth_user_changelist", "u", "auth.view_user"),
            Entry("User groups", "admin:auth_group_changelist", "", "auth.view_group"),
        ),
    ),
)


def shell(request: HttpRequest) -> dict[str, Any]:
    """What `base.html` needs on every page."""
    return {
        "navigation": _navigation(request),
        "theme": preferences.value(request, "theme"),
        "keys": preferences.value(request, "keys"),
        "environment_name": _environment_name(),
    }


def _navigation(request: HttpRequest) -> list[tuple[str, list[dict[str, Any]]]]:
    user = getattr(request, "user", None)
    if user is None or not user.is_active or not user.is_staff:
        return []
    shown = badges.badges(request)
    groups = []
    for title, entries in GROUPS:
        permitted = [entry for entry in entries if not entry.permission or user.has_perm(entry.permission)]
        if permitted:
            groups.append((title, [_link(entry, request.path, shown.get(entry.url_name)) for entry in permitted]))
    return groups


def _link(entry: Entry, path: str, badge: badges.Badge | None) -> dict[str, Any]:
    url = reverse(entry.url_name)
    is_here = path == url or (entry.url_name != "admin:index" and path.startswith(url))
    return {"title": entry.title, "url": url, "letter": entry.letter, "current": is_here, "badge": badge}


def _environment_name() -> str:
    if settings.DEBUG:
        return "debug"
    return "production" if settings.ENVIRONMENT.is_production else "local"
