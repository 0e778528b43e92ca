"""Numbers beside the navigation: failure groups with open dead letters, replays under way, firing alerts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from django.http import HttpRequest

from brokers.errors import Unavailable
from brokers.selectors import failure_board
from brokers.selectors.failure_board import Open
from messaging_site.console.failure_access import Reader
from messaging_site.console.permissions import may


@dataclass(frozen=True, slots=True)
class Badge:
    """A few words in a colour."""

    text: str
    tone: str


def badges(request: HttpRequest) -> dict[str, Badge]:
    """Badges by the URL name of their screen; none while the database cannot be reached."""
    try:
        found = still_open(request)
        firing = found.alerts if may(request, "describe", "server", "") else 0
    except Unavailable:
        return {}
    shown = {}
    if found.groups:
        shown["admin:dead-letters"] = Badge(f"{found.groups:,} group{'' if found.groups == 1 else 's'}", "bad")
    if found.replays:
        shown["admin:replays"] = Badge(f"{len(found.replays)} running", "info")
    if firing:
        shown["admin:alerts"] = Badge(f"{firing:,} firing", "bad")
    return shown


def still_open(request: HttpRequest) -> Open:
    """What is open and under way among what the user may see; read once for a request."""
    known = getattr(request, "console_open", None)
    if known is None:
        known = failure_board.still_open(Reader(request).sees)
        request.console_open = known  # type: ignore[attr-defined]
    return cast("Open", known)
