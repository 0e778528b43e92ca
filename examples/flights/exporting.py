"""Makes the file of an export: piece by piece, each in a transaction with how far it is. Called by the durable task.

A worker that is killed leaves whole pieces, and the next attempt goes on behind them. Departures that change meanwhile
are in the file as they were when their piece was read; each is in it once. The pieces are rows, so that any web process
on any machine can hand them out.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Final

from django.db import transaction
from django.db.models.functions import Now

from brokers.errors import ProgressFinished, Unavailable
from examples.flights.models import Departure
from examples.flights.task_models import Export, ExportChunk
from realtime import Progress
from scheduling.durable.current import current_call

TITLE: Final = "Export of departures"
RETRIES: Final = 4
CHUNK: Final = 1000
"""Departures of one piece."""
COLUMNS: Final = ("scheduled_at", "flight", "origin", "destination", "status", "delay_minutes")

Row = tuple[str, datetime, str, str, str, int | None]


def write(number: str) -> dict[str, Any]:
    """Makes the export of that id, or the rest of it; says what is in it.

    One that has ended, was deleted, or is written by another at this moment is left alone.
    """
    export = Export.objects.select_related("user").filter(pk=number, ended_at=None).first()
    if export is None:
        return {"left_alone": True}
    progress = Progress(TITLE, user=export.user, total=Departure.objects.count(), id=export.id)
    with _told(progress):
        progress.update(current=export.departures)
        while export.ended_at is None:
            if not _write_chunk(export, progress):
                return {"left_alone": True}
    return {"departures": export.departures, "bytes": export.size}


def _write_chunk(export: Export, progress: Progress) -> bool:
    """Adds a piece; False when the export is not as this attempt knows it, so that somebody else is at it."""
    with transaction.atomic():
        found = Departure.objects.filter(id__gt=export.last).order_by("id")
        rows: list[Row] = list(
            found.values_list("id", "scheduled_at", "flight", "origin", "destination", "delay_minutes")[:CHUNK]
        )
        data = as_csv(rows, with_header=export.chunks == 0)
        is_last = len(rows) < CHUNK
        changes: dict[str, Any] = {
            "chunks": export.chunks + 1,
            "departures": export.departures + len(rows),
            "size": export.size + len(data),
            "last": rows[-1][0] if rows else export.last,
        }
        ours = Export.objects.filter(pk=export.pk, chunks=export.chunks, ended_at=None)
        if not ours.update(**changes, **({"ended_at": Now()} if is_last else {})):
            return False
        ExportChunk.objects.create(export=export, number=export.chunks, data=data)
        if is_last:
            progress.total = changes["departures"]
            progress.complete({"departures": changes["departures"], "bytes": changes["size"]})
    export.refresh_from_db()
    if not is_last:
        progress.update(current=export.departures)
    return True


def as_csv(rows: Sequence[Row], *, with_header: bool) -> bytes:
    """Lines as RFC 4180 has them, in UTF-8; times in UTC."""
    text = io.StringIO()
    lines = csv.writer(text)
    if with_header:
        lines.writerow(COLUMNS)
    for _, at, flight, origin, destination, delay in rows:
        status = "cancelled" if delay is None else "departed"
        lines.writerow((f"{at.astimezone(UTC):%Y-%m-%dT%H:%MZ}", flight, origin, destination, status, delay))
    return text.getvalue().encode()


@contextmanager
def _told(progress: Progress) -> Iterator[None]:
    """Tells whoever waits of a failure: that it is tried again, or after the last attempt that it is not."""
    try:
        yield
    except Exception as error:
        call = current_call()
        with suppress(ProgressFinished, Unavailable):
            if call is None or call.attempt > RETRIES:
                progress.fail(error)
            else:
                progress.update(message=f"Attempt {call.attempt} failed, another follows")
                progress.flush()
        raise
