"""The example's pages: the live departures board with exports and rates, and the daily reports.

The board shows what the database holds and goes on from there by live push. The rows and the position of the topic are
read in one snapshot. A listener writes a row and publishes its record in one transaction, so the stream begins with
exactly the first change that the page does not show.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from datetime import date
from functools import wraps
from typing import Any, Final, cast

from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from brokers.errors import InvalidValue, NotFound
from examples.flights import daily, exports, rates
from examples.flights.messaging import BOARD
from examples.flights.models import DailyReport, Departure
from messaging_site.console.permissions import authorize, may, requires
from realtime import position

SHOWN: Final = 40
"""Departures on the board: those scheduled last."""
REPORTS: Final = 30
"""Days in the list of reports."""

View = Callable[..., HttpResponse]


class ReportNotFound(NotFound):
    """There is no report of that day."""

    code = "report_not_found"


def _for_readers(view: View) -> View:
    """A page for whoever is signed in and may read the board's topic; never kept by browsers."""

    @wraps(view)
    def checked(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        authorize(request, "read", "topic", BOARD)
        return view(request, *args, **kwargs)

    return never_cache(login_required(requires("read", "topic", per_item=True)(checked)))


@_for_readers
@require_safe
def departures(request: HttpRequest) -> HttpResponse:
    """The board."""
    live = f"/topic/{rates.NAME}" if may(request, "read", "topic", rates.NAME) else None
    context = {
        "board": board() | {"rates": rates.shown(), "rates_from": live},
        "export": exports.latest(_user(request)),
        "export_key": secrets.token_urlsafe(16),
    }
    return render(request, "flights/departures.html", context)


def board() -> dict[str, Any]:
    """What the page shows, and where the stream is to go on; not inside another transaction."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("set transaction isolation level repeatable read, read only")
        rows = Departure.objects.values("id", "scheduled_at", "flight", "origin", "destination", "delay_minutes")
        return {"topic": BOARD, "shown": SHOWN, "departures": list(rows[:SHOWN]), "position": position(BOARD)}


@_for_readers
@require_safe
def departure_rates(request: HttpRequest) -> HttpResponse:
    """The rates alone, for a page that is not told of them."""
    return JsonResponse(rates.shown())


@_for_readers
@require_POST
def ask_for_export(request: HttpRequest) -> HttpResponse:
    """Has an export made, and leads back to the board, which shows how far it is."""
    try:
        exports.ask(_user(request), request.POST.get("key", ""))
    except InvalidValue as error:
        return HttpResponseBadRequest(error.detail, content_type="text/plain; charset=utf-8")
    return redirect("flights")


@_for_readers
@require_safe
def export_file(request: HttpRequest, export: str) -> HttpResponse:
    """The file of an export, for who has asked for it."""
    found = exports.finished(_user(request), export)
    answer = StreamingHttpResponse(exports.content(found), content_type="text/csv; charset=utf-8; header=present")
    answer["Content-Length"] = str(found.size)
    answer["Content-Disposition"] = f'attachment; filename="departures-{found.created_at:%Y-%m-%d}.csv"'
    return cast("HttpResponse", answer)


@_for_readers
@require_safe
def reports(request: HttpRequest, day: date | None = None) -> HttpResponse:
    """The report of a day, or the latest, and which others there are."""
    found = DailyReport.objects.all()
    report = found.first() if day is None else found.filter(day=day).first()
    if report is None and day is not None:
        raise ReportNotFound(f"there is no report of {day}")
    context: dict[str, Any] = {"days": found.values_list("day", flat=True)[:REPORTS], "zone": daily.ZONE}
    if report is not None:
        whole = {name: getattr(report, name) for name in ("flights", "delayed", "cancelled", "delay_minutes")}
        context |= {
            "report": report,
            "average": daily.average(whole),
            "tables": [("Carrier", _lines(report.by_carrier)), ("Airport", _lines(report.by_airport))],
        }
    return render(request, "flights/reports.html", context)


def _lines(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line | {"average": daily.average(line)} for line in lines]


def _user(request: HttpRequest) -> User:
    return cast("User", request.user)
