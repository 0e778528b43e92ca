"""Reads of policies of queues: a page of them, and one."""

from __future__ import annotations

from brokers.errors import PolicyNotFound, shown
from brokers.models import QueuePolicy


def get(name: str) -> QueuePolicy:
    """One policy; raises `PolicyNotFound`."""
    found = QueuePolicy.objects.filter(name=name).first()
    if found is None:
        raise PolicyNotFound(f"there is no policy {shown(name)}")
    return found


def page(after: str = "", limit: int = 50) -> tuple[list[QueuePolicy], str | None]:
    """Up to `limit` policies by name after `after`; and the name to go on after."""
    rows = list(QueuePolicy.objects.filter(name__gt=after).order_by("name")[: limit + 1])
    return rows[:limit], rows[limit - 1].name if len(rows) > limit else None
