"""Exports as the pages see them: asking for one, how it stands, and its file. Called by `views`."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import F, Q

from brokers.database import acquire
from brokers.errors import InvalidValue, NotFound, shown
from examples.flights.exporting import TITLE
from examples.flights.messaging import export_departures
from examples.flights.task_models import Export
from realtime import Progress
from scheduling.durable import calls
from scheduling.durable.errors import CallNotFound

KEPT: Final = 3
"""Exports of one user."""
_ID: Final = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)
CHUNK: Final = "select data from flights_export_chunk where export_id = %s and number = %s"


class ExportNotFound(NotFound):
    """There is no such export of this user's."""

    code = "export_not_found"


@dataclass(frozen=True, slots=True)
class Standing:
    """An export, and how it stands."""

    export: Export
    is_dead: bool = False
    """Whether its call was given up: asking again goes on with it."""

    @property
    def is_under_way(self) -> bool:
        """Whether something is still to come by itself."""
        return self.export.ended_at is None and not self.is_dead


def ask(user: User, key: str) -> Export:
    """An export for a user: a new one under that key, unless there is one of the key, or one that has not ended.

    So a form that is sent twice makes one. One that was given up goes on. Opens a transaction of its own, and workers
    are told after its commit. Raises `InvalidValue`, and `ExportNotFound` for a key that is somebody else's.
    """
    if not _ID.fullmatch(key):
        raise InvalidValue(f"{shown(key)} is no key of an export", pointer="/key")
    with transaction.atomic():
        Export.objects.bulk_create([Export(id=key, user=user)], ignore_conflicts=True)
        mine = Export.objects.select_for_update().filter(Q(pk=key) | Q(ended_at=None), user=user)
        export = mine.order_by(F("ended_at").desc(nulls_last=True)).first()
        if export is None:
            raise ExportNotFound(f"there is no export {shown(key)} of yours")
        if export.ended_at is None and (export.call is None or _is_dead(export.call)):
            Progress(TITLE, user=user, id=export.id)
            export.call = export_departures(export.id).id
            export.save(update_fields=["call"])
            _forget_old(user)
    return export


def latest(user: User) -> Standing | None:
    """The user's latest export; None without one."""
    export = Export.objects.filter(user=user).order_by(F("ended_at").desc(nulls_first=True)).first()
    if export is None:
        return None
    return Standing(export, export.ended_at is None and (export.call is None or _is_dead(export.call)))


def finished(user: User, number: str) -> Export:
    """An export of the user's that has ended. Raises `ExportNotFound`."""
    export = Export.objects.filter(pk=number, user=user, ended_at__isnull=False).first()
    if export is None:
        raise ExportNotFound(f"there is no finished export {shown(number)} of yours; only the last {KEPT} are kept")
    return export


async def content(export: Export) -> AsyncIterator[bytes]:
    """The file, piece by piece."""
    for number in range(export.chunks):
        async with acquire() as connection:
            row = await (await connection.execute(CHUNK, (export.id, number))).fetchone()
        if row is None:
            raise ExportNotFound(f"the export {export.id} was deleted while it was sent")
        yield row[0]


def _is_dead(call: int) -> bool:
    """Whether a call will not be tried any more."""
    try:
        return calls.get(call).ended_at is not None
    except CallNotFound:
        return True


def _forget_old(user: User) -> None:
    ended = Export.objects.filter(user=user, ended_at__isnull=False).order_by("-ended_at")
    Export.objects.filter(pk__in=list(ended.values_list("pk", flat=True)[KEPT - 1 :])).delete()
