"""What Waystation counts, by Prometheus names.

| name | kind | labels | meaning |
| --- | --- | --- | --- |
| waystation_records_published_total | counter | | records appended by this process |
| waystation_messages_published_total | counter | | messages sent to exchanges by this process, once each |
| waystation_messages_claimed_total | counter | | messages of queues handed out by this process |
| waystation_messages_acknowledged_total | counter | | messages of queues acknowledged through this process |
| waystation_requests_total | counter | operation, status | REST answers |
| waystation_request_seconds | histogram | operation | time from request to answer |
| waystation_records_handled_total | counter | handler | records that a listener's transaction has settled |
| waystation_handler_failures_total | counter | handler | calls of a handler that failed |
| waystation_dead_letters_total | counter | handler | records that a listener gave up |
| waystation_topics | gauge | | topics |
| waystation_topic_records_total | counter | topic | records counted by the roll-ups |
| waystation_topic_bytes | gauge | topic | stored bytes |
| waystation_processes | gauge | kind | live processes |
| waystation_database_up | gauge | | 1 when the database answered |

Labels are bounded: operations and handlers are declared in code, and at most 500 topics are listed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from brokers.database import sync_cursor
from brokers.sql import load

SQL = load("metrics")
TOPICS_LISTED = 500

records_published = Counter("waystation_records_published", "Records appended by this process")
messages_published = Counter("waystation_messages_published", "Messages sent to exchanges by this process")
messages_claimed = Counter("waystation_messages_claimed", "Messages of queues handed out by this process")
messages_acknowledged = Counter("waystation_messages_acknowledged", "Messages of queues acknowledged")
requests = Counter("waystation_requests", "REST answers", ["operation", "status"])
records_handled = Counter("waystation_records_handled", "Records settled by listeners", ["handler"])
handler_failures = Counter("waystation_handler_failures", "Calls of a handler that failed", ["handler"])
dead_letters = Counter("waystation_dead_letters", "Records given up by listeners", ["handler"])
request_seconds = Histogram(
    "waystation_request_seconds",
    "Time from request to answer",
    ["operation"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30),
)


class StoreCollector(Collector):
    """Reads the figures that the database holds for all processes."""

    def collect(self) -> Iterator[Metric]:
        """One family after another, for the registry."""
        with sync_cursor() as cursor:
            topics = cursor.execute(SQL.topics, (TOPICS_LISTED,)).fetchall()
            processes = cursor.execute(SQL.processes).fetchall()
            count = cursor.execute(SQL.count).fetchone()
        yield GaugeMetricFamily("waystation_topics", "Topics", value=count[0] if count else 0)
        records = CounterMetricFamily("waystation_topic_records", "Records stored", labels=["topic"])
        size = GaugeMetricFamily("waystation_topic_bytes", "Stored bytes", labels=["topic"])
        for name, stored, held in topics:
            records.add_metric([name], stored)
            size.add_metric([name], held)
        live = GaugeMetricFamily("waystation_processes", "Live processes", labels=["kind"])
        for kind, number in processes:
            live.add_metric([kind], number)
        yield from (records, size, live)


class Collected(Collector):
    """Families that were read already."""

    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """The families, for the registry."""
        return iter(self._families)
