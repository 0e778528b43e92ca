"""The figures that alert rules look at: open dead letters, their growth and age, the lag of consumer groups, and what
waits in queues.

One bounded statement for each look. A rule's scope is a source, or with a consumer group one group of a source; a name
may end in `*` and then stands for every name that begins so, and an empty one for all.
"""

from __future__ import annotations

from typing import Any, Final

from brokers.database import sync_cursor
from brokers.errors import InvalidValue, shown
from brokers.models import AlertRule
from brokers.sql import load

SQL = load("alert_figures")

MOST_SCOPES: Final = 500
"""Scopes of one rule that are looked at: those with an alert, then the highest figures."""

OF_QUEUES: Final = ("queue_depth", "queue_age")
"""Metrics whose source is a queue, and which no consumer group has a part in."""

_STATEMENTS: Final = {
    "depth": SQL.depth,
    "growth": SQL.growth,
    "oldest_age": SQL.oldest_age,
    "group_lag": SQL.group_lag,
    "queue_depth": SQL.queue_depth,
    "queue_age": SQL.queue_age,
}


def figures(rule: AlertRule, watched: list[str]) -> dict[str, float]:
    """What a rule measures for each scope that it covers, the watched ones before the highest.

    Part of the caller's transaction if there is one. Raises `InvalidValue` for a metric that does not exist.
    """
    statement = _STATEMENTS.get(rule.metric)
    if statement is None:
        raise InvalidValue(f"there is no metric {shown(rule.metric)}")
    with sync_cursor() as cursor:
        cursor.execute(statement, _covered(rule) | {"watched": watched, "most": MOST_SCOPES})
        return dict(cursor.fetchall())


def firings_of_a_day(rule: AlertRule) -> int | None:
    """How often a rule would have been raised in the last 24 hours; None where the past cannot be told.

    Only growth is kept by the minute: a run of minutes at the threshold is one alert. What is not folded yet is not
    counted.
    """
    if rule.metric != "growth":
        return None
    with sync_cursor() as cursor:
        wanted = _covered(rule) | {"threshold": rule.threshold, "for_seconds": rule.for_seconds}
        row = cursor.execute(SQL.past_growth, wanted).fetchone()
    return int(row[0]) if row else 0


def _covered(rule: AlertRule) -> dict[str, Any]:
    source, any_source = _beginning(rule.source)
    group, any_group = _beginning(rule.group_name)
    return {
        "source": source,
        "any_source": any_source,
        "group": group,
        "any_group": any_group,
        "by_group": bool(rule.group_name),
    }


def _beginning(pattern: str) -> tuple[str, bool]:
    """A name, and whether it is only a beginning."""
    return pattern.removesuffix("*"), not pattern or pattern.endswith("*")
