"""The dead letters of the group `delays`: which there are, why, and their replay as cancelled flights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Final

from brokers import audit
from brokers.models import DeadLetter
from brokers.replays import creation, plans
from brokers.replays.plans import Plan
from brokers.selectors import replays
from brokers.selectors.dead_letters import Filter
from brokers.selectors.replays import ReplaySummary
from examples.flights.counting import NoAircraft, NoDepartureTime
from examples.flights.messaging import DELAYS, DEPARTURES
from examples.flights.publication import Place

PATCH: Final = b'{"cancelled": true}'
"""A merge patch (RFC 7396): what mends a flight without a departure time."""
AT_ONCE: Final = 1000
"""Dead letters of one replay that are named by their ids."""
_MENDABLE: Final = tuple(f"{kind.__module__}.{kind.__qualname__}" for kind in (NoDepartureTime, NoAircraft))


def newest() -> int:
    """The id of the newest dead letter; 0 where there is none."""
    found = DeadLetter.objects.order_by("-id").values_list("id", flat=True).first()
    return found or 0


def of_records(places: Collection[Place], after: int) -> list[int]:
    """Ids of the dead letters, newer than `after`, of records at these places."""
    rows = DeadLetter.objects.filter(group_name=DELAYS, source=DEPARTURES, id__gt=after).order_by("id")
    found = rows.values_list("id", "partition", "record_offset")
    return [number for number, partition, offset in found if (partition, offset) in places]


def left_open() -> list[int]:
    """Ids of all open dead letters of the group that the patch mends."""
    rows = DeadLetter.objects.filter(
        group_name=DELAYS, source=DEPARTURES, state="open", exception_class__in=_MENDABLE
    ).order_by("id")
    return list(rows.values_list("id", flat=True))


def in_replay() -> int:
    """How many dead letters of the group are given back and have no outcome yet."""
    return DeadLetter.objects.filter(group_name=DELAYS, source=DEPARTURES, state="replaying").count()


def replays_under_way() -> list[ReplaySummary]:
    """Replays of the group's dead letters that are not through, without those that somebody has paused."""
    found, _ = replays.page(None, 100, lambda *consumer: True, ("waiting", "canary", "running"))
    return [replay for replay in found if any(consumer.group == DELAYS for consumer in replay.consumers)]


def failure_groups(ids: Sequence[int]) -> list[tuple[str, str, int]]:
    """Exception, message without its particulars and number of dead letters of each failure group, largest first."""
    rows = DeadLetter.objects.filter(id__in=ids).values_list("failure_group__exception_class", "failure_group__message")
    counted = Counter(rows)
    return sorted(((*group, count) for group, count in counted.items()), key=lambda row: (-row[2], row))


def plan(ids: Sequence[int]) -> Plan:
    """What a replay of them with the patch would do; writes nothing."""
    return plans.plan(Filter(ids=tuple(ids)), merge_patch=PATCH)


def replay(ids: Sequence[int]) -> int:
    """Begins to give them back, patched, to the group that failed; answers the replay's id."""
    return creation.create(
        Filter(ids=tuple(ids)),
        merge_patch=PATCH,
        reason="flights without a departure time were cancelled",
        actor=audit.COMMAND,
    )
