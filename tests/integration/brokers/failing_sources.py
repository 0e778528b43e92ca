"""Failures for tests of alerts: failure groups with open dead letters, made as quickly as rows are."""

from __future__ import annotations

import uuid
from datetime import timedelta

from django.utils import timezone

from brokers.models import AlertRule, DeadLetter, FailureGroup


def failure_group(source: str, group: str = "billing", kind: str = "topic") -> FailureGroup:
    """A failure group without failures."""
    return FailureGroup.objects.create(
        fingerprint=uuid.uuid4().hex, version=1, source_kind=kind, source=source, group_name=group, reason="exception"
    )


def fail(source: str, count: int = 1, group: str = "billing", kind: str = "topic", seconds_ago: float = 0.0) -> None:
    """So many open dead letters of a source and consumer group, of a failure group of their own."""
    of = failure_group(source, group, kind)
    moment = timezone.now() - timedelta(seconds=seconds_ago)
    DeadLetter.objects.bulk_create(
        DeadLetter(
            reason="exception",
            failure_group=of,
            source_kind=kind,
            source=source,
            group_name=group,
            size=1,
            first_failed_at=moment,
            failed_at=moment,
        )
        for _ in range(count)
    )


def settle(source: str, state: str = "resolved") -> None:
    """Leaves no open dead letter of a source."""
    DeadLetter.objects.filter(source=source, state="open").update(state=state)


def rule(metric: str = "depth", threshold: float = 1, **fields: object) -> AlertRule:
    """An alert rule on all sources that writes to the log."""
    return AlertRule.objects.create(name=f"rule {uuid.uuid4().hex[:8]}", metric=metric, threshold=threshold, **fields)
