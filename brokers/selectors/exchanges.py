"""Reads of exchanges and bindings for people and for REST: lists, one of them, and what went through.

Everything here is bounded; rates come from the minutes that housekeeping folds, never from messages.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from brokers.database import sync_cursor
from brokers.errors import BindingNotFound, ExchangeNotFound, shown
from brokers.models import ExchangeMinute
from brokers.sql import load

SQL = load("exchange_reads")

MINUTES = 60


@dataclass(frozen=True, slots=True)
class ExchangeDetail:
    """An exchange. Rates are messages a second in the last whole minute; `sparkline` those of each of 60 minutes."""

    id: int
    name: str
    type: str
    alternate_exchange: str | None
    created_at: datetime
    bindings: int
    """Bindings from it."""
    publish_rate: float
    unrouted_rate: float
    """Of those that reached no queue."""
    sparkline: list[int]


@dataclass(frozen=True, slots=True)
class BindingDetail:
    """A binding: one of `queue` and `to_exchange` is given."""

    id: int
    exchange: str
    queue: str | None
    to_exchange: str | None
    routing_key: str
    arguments: dict[str, Any]
    created_at: datetime


def get(name: str) -> ExchangeDetail:
    """One exchange; raises `ExchangeNotFound`."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.one, (name,)).fetchone()
    if row is None:
        raise ExchangeNotFound(f"there is no exchange {shown(name)}")
    return _details([row])[0]


def page(
    after: str = "", limit: int = 50, may: Callable[[str], bool] = lambda name: True, *, prefix: str = ""
) -> tuple[list[ExchangeDetail], str | None]:
    """Up to `limit` exchanges by name after `after`, those that `may` lets through; and the name to go on after.

    With `prefix` only those whose names begin with it. The default exchange, which has no row, is none of them.
    """
    rows: list[tuple[Any, ...]] = []
    more = True
    while more and len(rows) <= limit:
        with sync_cursor() as cursor:
            found = cursor.execute(SQL.page, (after, like(prefix), limit + 1)).fetchall()
        rows += [row for row in found if may(row[1])]
        more = len(found) > limit
        after = found[-1][1] if found else after
    following = rows[limit - 1][1] if len(rows) > limit else None
    return _details(rows[:limit]), following


def like(prefix: str) -> str:
    """A pattern of SQL's for texts that begin with this."""
    return prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"


def _details(rows: Sequence[tuple[Any, ...]]) -> list[ExchangeDetail]:
    minutes = _minutes([row[0] for row in rows])
    nothing = ([0] * MINUTES, [0] * MINUTES)
    found = []
    for row in rows:
        published, unrouted = minutes.get(row[0], nothing)
        number, name, kind, alternate, created_at, bindings = row
        rates = (published[-2] / 60, unrouted[-2] / 60)
        found.append(ExchangeDetail(number, name, kind, alternate, created_at, bindings, *rates, published))
    return found


def _minutes(exchange_ids: Sequence[int]) -> dict[int, tuple[list[int], list[int]]]:
    """What was published and what of it reached no queue, for each of the last 60 minutes, this one last."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    first = now - timedelta(minutes=MINUTES - 1)
    found: dict[int, tuple[list[int], list[int]]] = {}
    rows = ExchangeMinute.objects.filter(exchange_id__in=exchange_ids, minute__gte=first, minute__lte=now)
    for exchange_id, minute, published, unrouted in rows.values_list("exchange_id", "minute", "published", "unrouted"):
        series = found.setdefault(exchange_id, ([0] * MINUTES, [0] * MINUTES))
        index = int((minute - first).total_seconds() // 60)
        series[0][index], series[1][index] = published, unrouted
    return found


# -- bindings -----------------------------------------------------------------------------------------------------


def binding(binding_id: int) -> BindingDetail:
    """One binding; raises `BindingNotFound`."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.binding, (binding_id,)).fetchone()
    if row is None:
        raise no_binding(binding_id)
    return _binding(row)


def no_binding(binding_id: int) -> BindingNotFound:
    """The error for a binding that is not there, or that a caller may not know of."""
    return BindingNotFound(f"there is no binding {binding_id}")


def bindings(
    *,
    exchange: str | None = None,
    queue: str | None = None,
    to_exchange: str | None = None,
    after: int = 0,
    limit: int = 50,
    may: Callable[[BindingDetail], bool] = lambda binding: True,
) -> tuple[list[BindingDetail], int | None]:
    """Up to `limit` bindings by id after `after`, those that `may` lets through; and the id to go on after.

    Of one exchange, to one queue or to one exchange where these are given.
    """
    wanted = {"exchange": exchange, "queue": queue, "to_exchange": to_exchange}
    found: list[BindingDetail] = []
    more = True
    while more and len(found) <= limit:
        with sync_cursor() as cursor:
            if any(value is not None for value in wanted.values()):
                cursor.execute(SQL.bindings_of, {**wanted, "after": after, "limit": limit + 1})
            else:
                cursor.execute(SQL.bindings_page, (after, limit + 1))
            rows = cursor.fetchall()
        found += [one for one in map(_binding, rows) if may(one)]
        more = len(rows) > limit
        after = rows[-1][0] if rows else after
    following = found[limit - 1].id if len(found) > limit else None
    return found[:limit], following


def _binding(row: tuple[Any, ...]) -> BindingDetail:
    binding_id, exchange, queue, to_exchange, routing_key, arguments, created_at = row
    return BindingDetail(binding_id, exchange, queue, to_exchange, routing_key, json.loads(arguments), created_at)
