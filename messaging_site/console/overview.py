"""The Overview: one sentence on the state of things, figures, the last hour's rate, parts, busiest topics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from brokers.selectors import failure_board, parts
from brokers.selectors import queues as queue_reads
from brokers.selectors import topics as topic_reads
from brokers.selectors.topics import TopicSummary, Totals
from messaging_site.console import badges, charts, failure_groups
from messaging_site.console.failure_access import Reader
from messaging_site.console.permissions import may, requires, sees_everything

SHOWN_TOPICS = 10
SHOWN_FAILURES = 5
QUEUES_ADDED = 200
"""Queues that are added up for a reader who does not see all."""
PART_TONES = {"healthy": "ok", "degraded": "warn", "down": "bad"}


@dataclass(frozen=True, slots=True)
class Figures:
    """The tiles."""

    publish_rate: float
    peak_rate: float
    records: int
    topics: int
    partitions: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """What queues hold together."""

    queues: int
    ready: int
    unacknowledged: int
    oldest_ready_at: datetime | None


@require_safe
@requires("describe", "topic", per_item=True)
def overview(request: HttpRequest) -> HttpResponse:
    """The page; also the answer to its own refresh."""
    found = [topic for topic in topic_reads.overview() if may(request, "describe", "topic", topic.name)]
    totals = topic_reads.totals() if sees_everything(request) else _totals_of(found)
    # The minute that is still running would look like a drop in the rate.
    chart = charts.rate_chart(totals.minutes[:-1])
    figures = Figures(
        publish_rate=totals.publish_rate,
        peak_rate=chart.peak if chart is not None else 0.0,
        records=sum(topic.records for topic in found) if len(found) == totals.topics else totals.records,
        topics=totals.topics,
        partitions=sum(topic.partitions for topic in found),
        bytes=sum(topic.bytes for topic in found),
    )
    health = parts.health()
    busiest = sorted(found, key=lambda topic: (-sum(topic.sparkline), topic.name))[:SHOWN_TOPICS]
    context = {
        "title": "Overview",
        "crumbs": [("Overview", None)],
        "figures": figures,
        "problems": [part for part in health if part.state != "healthy"],
        "chart": chart,
        "parts": [(part, PART_TONES.get(part.state, "mute")) for part in health],
        "topics": sorted(busiest, key=lambda topic: topic.name),
        "still_open": badges.still_open(request),
        "failures": _failures(request),
        "waiting": _waiting(request),
    }
    return render(request, "console/overview.html", context)


def _failures(request: HttpRequest) -> list[failure_groups.Row]:
    """The failure groups with the most open dead letters."""
    if not badges.still_open(request).groups:
        return []
    reader = Reader(request)
    found = [group for group in failure_board.groups(reader.sees) if group.open]
    found.sort(key=lambda group: (-group.open, -group.last_failed_at.timestamp()))
    return failure_groups.rows(reader, found[:SHOWN_FAILURES])


def _waiting(request: HttpRequest) -> Waiting:
    """Over all queues, or the first `QUEUES_ADDED` that the reader may see."""
    if sees_everything(request):
        totals = queue_reads.totals()
        return Waiting(totals.queues, totals.ready, totals.unacknowledged, totals.oldest_ready_at)
    found, _ = queue_reads.page("", QUEUES_ADDED, lambda name: may(request, "describe", "queue", name))
    return Waiting(
        queues=len(found),
        ready=sum(queue.ready for queue in found),
        unacknowledged=sum(queue.unacknowledged for queue in found),
        oldest_ready_at=min((at for queue in found if (at := queue.oldest_ready_at) is not None), default=None),
    )


def _totals_of(summaries: Sequence[TopicSummary]) -> Totals:
    """The totals over the topics that a reader may see."""
    length = max((len(topic.sparkline) for topic in summaries), default=0)
    newest = datetime.now(UTC).replace(second=0, microsecond=0)
    return Totals(
        topics=len(summaries),
        records=sum(topic.records for topic in summaries),
        publish_rate=sum(topic.publish_rate for topic in summaries),
        minutes=[
            (newest - timedelta(minutes=length - 1 - at), sum(topic.sparkline[at] for topic in summaries))
            for at in range(length)
        ],
    )
