"""The live departures board: a page that shows what the database holds and goes on from there by live push.

The rows and the position of the topic are read in one snapshot. A listener writes a row and publishes its record in one
transaction, so the stream begins with exactly the first change that the page does not show.
"""

from __future__ import annotations

from typing import Any, Final

from django.contrib.auth.decorators import login_required
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from examples.flights.messaging import BOARD
from examples.flights.models import Departure
from messaging_site.console.permissions import authorize, requires
from realtime import position

SHOWN: Final = 40
"""Departures on the board: those scheduled last."""


@never_cache
@login_required
@requires("read", "topic", per_item=True)
@require_safe
def departures(request: HttpRequest) -> HttpResponse:
    """The page, for whoever is signed in and may read the board's topic."""
    authorize(request, "read", "topic", BOARD)
    return render(request, "flights/departures.html", {"board": board()})


def board() -> dict[str, Any]:
    """What the page shows, and where the stream is to go on; not inside another transaction."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("set transaction isolation level repeatable read, read only")
        rows = Departure.objects.values("id", "scheduled_at", "flight", "origin", "destination", "delay_minutes")
        return {"topic": BOARD, "shown": SHOWN, "departures": list(rows[:SHOWN]), "position": position(BOARD)}
