"""The Connections screens: who is connected for live push, one connection, ending one or all of a token.

What is shown comes from `realtime.connection_reports`: a summary of each web process, some seconds old at most; and of
one connection that is looked at from `realtime.connection_details`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from brokers.errors import NotFound
from messaging_site.console import connection_charts, connection_frames, connection_words
from messaging_site.console.failure_words import Word
from messaging_site.console.fields import Form
from messaging_site.console.permissions import actor, authorize, may, requires
from realtime import connection_details, connection_reports, disconnecting
from realtime.connection_details import ConnectionDetail
from realtime.connection_reports import ConnectionReport, Look, ProcessReport
from realtime.destinations import MAX_LENGTH as MAX_DESTINATION

RESOURCE: Final = ("server", "connections")
"""What a permission on live connections is granted on."""
PAGE_SIZE: Final = 50
FILTER_LENGTH: Final = 200
SHOWN_OF_TOKEN: Final = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One connection as a line of the list."""

    connection: ConnectionReport
    state: Word
    protocol: str
    short: str
    """The protocol in a word."""
    connected_at: datetime
    destination: str
    """What it subscribed to first, in words."""
    further: int
    """How many subscriptions there are besides."""
    pid: int
    """The web process that holds it."""
    heard_at: datetime | None
    """When its client was last heard; None for a stream, whose clients say nothing."""


@dataclass(frozen=True, slots=True)
class Process:
    """One web process as a line above the list."""

    id: str
    pid: int
    reported_at: datetime
    total: int
    subscriptions: int
    rate: float
    """Messages sent per second over all of its connections."""
    waiting: int
    dropped: int
    chosen: bool
    """The list shows its connections only."""


class ReasonForm(Form):
    """Why all connections of a token are ended."""

    reason = forms.CharField(
        max_length=500, help_text="Kept in the audit record.", widget=forms.TextInput(attrs={"spellcheck": "true"})
    )

    def clean_reason(self) -> str:
        """The reason in one line."""
        return str(self.cleaned_data["reason"]).replace("\0", "").strip()


@require_safe
@requires("describe", "server", per_item=True)
def listing(request: HttpRequest) -> HttpResponse:
    """All live connections, the newest first, narrowed by what is known of them."""
    authorize(request, "describe", *RESOURCE)
    text = request.GET.get("q", "").strip()[:FILTER_LENGTH]
    only = request.GET.get("only", "")
    after = request.GET.get("after", "")
    chosen = request.GET.get("process", "")
    look = connection_reports.look()
    everything = list(look.connections())
    listed = [each for process in look.processes if chosen in ("", process.process) for each in process.connections]
    found = [each for each in listed if connection_words.matches(each, text.lower(), only)]
    found.sort(key=_place, reverse=True)
    left = [each for each in found if not after or _place(each) < after]
    shown = left[:PAGE_SIZE]
    total = sum(process.total for process in look.processes)
    context = {
        "title": "Connections",
        "crumbs": [("Runtime", None), ("Connections", None)],
        "rows": _rows(look, shown),
        "per_process": [_process(each, chosen) for each in sorted(look.processes, key=lambda each: each.pid)],
        "process": chosen,
        "text": text,
        "only": only,
        "after": after,
        "filters": connection_words.FILTERS,
        "found": len(found),
        "total": total,
        "is_cut": _is_cut(look),
        "following": _place(shown[-1]) if len(left) > PAGE_SIZE else None,
        **_known(look),
        **_figures(everything),
    }
    return render(request, "console/connections/list.html", context)


def _known(look: Look) -> dict[str, Any]:
    """Whether anything is known at all, and since when: the processes answer within a second of being asked."""
    return {
        "available": look.available,
        "processes": len(look.processes),
        "as_of": min((datetime.fromtimestamp(each.at, UTC) for each in look.processes), default=None),
    }


def _figures(connections: Sequence[ConnectionReport]) -> dict[str, float]:
    return {
        "rate": sum(each.rate or 0.0 for each in connections),
        "streams": sum(each.protocol == "sse" for each in connections),
        "users": len({each.user for each in connections if each.user is not None}),
        "subscriptions": sum(len(each.subscriptions) for each in connections),
        "waiting": sum(each.buffered for each in connections),
        "lagging": sum(each.buffered >= connection_words.BEHIND_BYTES for each in connections),
        "dropped": sum(each.dropped for each in connections),
    }


def _place(connection: ConnectionReport) -> str:
    """Where a connection stands in the list: by when it began, and its id."""
    return f"{connection.connected_at:017.6f}-{connection.id}"


def _rows(look: Look, connections: Sequence[ConnectionReport]) -> list[Row]:
    holders = {each.id: process for process in look.processes for each in process.connections}
    return [_row(each, holders[each.id].pid, holders[each.id].at) for each in connections]


def _row(connection: ConnectionReport, pid: int, at: float) -> Row:
    heard_at = None if connection.silent_s is None else at - connection.silent_s
    return Row(
        connection=connection,
        state=connection_words.state(connection),
        protocol=connection_words.protocol(connection),
        short=connection_words.short(connection),
        connected_at=connection_words.connected_at(connection),
        destination=next(iter(connection.subscriptions.values()), ""),
        further=max(len(connection.subscriptions) - 1, 0),
        pid=pid,
        heard_at=None if heard_at is None else datetime.fromtimestamp(heard_at, UTC),
    )


def _process(process: ProcessReport, chosen: str) -> Process:
    return Process(
        id=process.process,
        pid=process.pid,
        reported_at=datetime.fromtimestamp(process.at, UTC),
        total=process.total,
        subscriptions=sum(len(each.subscriptions) for each in process.connections),
        rate=sum(each.rate or 0.0 for each in process.connections),
        waiting=sum(each.buffered for each in process.connections),
        dropped=sum(each.dropped for each in process.connections),
        chosen=process.process == chosen,
    )


@require_safe
@requires("describe", "server", per_item=True)
def detail(request: HttpRequest, connection: str) -> HttpResponse:
    """One connection: whose it is, where its subscriptions stand, its last frames. Says so when it is over."""
    authorize(request, "describe", *RESOURCE)
    look = connection_reports.look()
    examined = connection_details.examine(connection)
    known = examined.detail
    found = _find(look, connection, known)
    is_over = known is not None and known.is_over
    if found is None and look.processes and not examined.is_first:  # it may be too young, or too many, to be listed
        is_over = True
    of_token = _of_token(look, found.token_id) if found is not None and found.token_id else []
    context = {
        "title": f"Connection {connection[:8]}",
        "crumbs": [("Connections", reverse("admin:connections")), (connection[:8], None)],
        "id": connection,
        "row": None if found is None else _row_of(look, found, known),
        "is_over": is_over,
        "last": known.connection if known is not None and found is None else None,
        "detail": known,
        "subscriptions": [] if found is None else connection_words.subscriptions(found, known),
        "frames": [] if known is None else connection_frames.rows(request, known.frames),
        "backpressure": None if known is None else connection_charts.backpressure(known.samples, known.at),
        "recorded_since": None if known is None else datetime.fromtimestamp(known.since, UTC),
        "ended_at": datetime.fromtimestamp(known.at, UTC) if known is not None and known.is_over else None,
        "more_of_token": max(len(of_token) - 1, 0),
        "limit": connection_words.LIMIT_BYTES,
        "share": 0 if found is None else min(100, round(100 * found.buffered / connection_words.LIMIT_BYTES)),
        "may_alter": may(request, "alter", *RESOURCE),
        **_known(look),
    }
    return render(request, "console/connections/detail.html", context, status=404 if is_over else 200)


def _find(look: Look, connection: str, known: ConnectionDetail | None) -> ConnectionReport | None:
    """The connection, unless it is over; one that is looked at may be missing in the list of its process."""
    if known is not None:
        return None if known.is_over else known.connection
    return next((each for each in look.connections() if each.id == connection), None)


def _is_cut(look: Look) -> bool:
    """Whether a process holds more connections than it lists."""
    return any(process.total > len(process.connections) for process in look.processes)


def _row_of(look: Look, connection: ConnectionReport, known: ConnectionDetail | None) -> Row:
    if known is not None:
        return _row(connection, known.pid, known.at)
    return _rows(look, [connection])[0]


def _of_token(look: Look, token_id: str) -> list[ConnectionReport]:
    found = [each for each in look.connections() if each.token_id == token_id]
    return sorted(found, key=_place, reverse=True)


@require_safe
@requires("describe", "server", per_item=True)
def client(request: HttpRequest) -> HttpResponse:
    """A client in the page, which connects as the signed-in user: what it may read and send is decided at `/ws`."""
    authorize(request, "describe", *RESOURCE)
    context = {
        "title": "Test client",
        "crumbs": [("Connections", reverse("admin:connections")), ("Test client", None)],
        "destination": request.GET.get("destination", "")[:MAX_DESTINATION],
        "limit": MAX_DESTINATION,
    }
    return render(request, "console/connections/client.html", context)


@require_POST
@requires("alter", "server", per_item=True)
def disconnect(request: HttpRequest, connection: str) -> HttpResponse:
    """Ends one connection and goes back to the list."""
    authorize(request, "alter", *RESOURCE)
    look = connection_reports.look()
    found = _find(look, connection, connection_details.examine(connection).detail)
    if not look.available:
        messages.error(
            request, "Redis cannot be reached, so the connection cannot be told to end. Nothing was changed."
        )
        return HttpResponseRedirect(reverse("admin:connection", args=[connection]))
    if found is None:
        messages.info(request, "The connection is over already. Nothing was changed.")
    else:
        disconnecting.disconnect(found, actor=actor(request))
        messages.success(request, f"Connection {connection[:8]} was told to end. Its client may connect again.")
    return HttpResponseRedirect(reverse("admin:connections"))


@require_http_methods(["GET", "HEAD", "POST"])
@requires("alter", "server", per_item=True)
def disconnect_token(request: HttpRequest, token: str) -> HttpResponse:
    """Lists the connections that came with a token, and ends them once a reason has been given."""
    authorize(request, "alter", *RESOURCE)
    look = connection_reports.look()
    found = _of_token(look, token)
    if not found and look.processes:
        raise NotFound(f"no live connection came with the token {token}")
    form = ReasonForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and look.processes:
        count = disconnecting.disconnect_token(token, found, actor=actor(request), reason=form.cleaned_data["reason"])
        told = "1 connection was" if count == 1 else f"{count:,} connections were"
        messages.success(request, f"{told} told to end. The token {token} is still valid.")
        return HttpResponseRedirect(reverse("admin:connections"))
    context = {
        "title": f"Disconnect token {token}",
        "crumbs": [("Connections", reverse("admin:connections")), (f"Token {token}", None)],
        "token": token,
        "owner": found[0].principal if found else None,
        "rows": _rows(look, found[:SHOWN_OF_TOKEN]),
        "count": len(found),
        "subscriptions": sum(len(each.subscriptions) for each in found),
        "more": max(len(found) - SHOWN_OF_TOKEN, 0),
        "form": form,
        **_known(look),
    }
    return render(request, "console/connections/token.html", context, status=422 if form.errors else 200)
