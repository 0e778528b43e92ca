"""The audit record: one entry for each change, in the change's own transaction.

Called by whatever changes something; surfaces say who acts by an `Actor`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from brokers.models import AuditEntry


@dataclass(frozen=True, slots=True)
class Actor:
    """Who made a change, and through which surface (`rest`, `console`, `command`, `system`)."""

    principal: str
    surface: str


SYSTEM = Actor("system", "system")
COMMAND = Actor("operator", "command")


def record(actor: Actor, operation: str, resource_type: str, resource: str, details: dict[str, Any]) -> None:
    """Adds one entry to the caller's transaction; `details` hold before and after, never a payload or a secret."""
    AuditEntry.objects.create(
        principal=actor.principal,
        surface=actor.surface,
        operation=operation,
        resource_type=resource_type,
        resource=resource,
        details=details,
    )


def record_each(
    actor: Actor, operation: str, resource_type: str, changes: Iterable[tuple[str, dict[str, Any]]]
) -> None:
    """`record` for many resources that change alike, each with details of its own, in one statement."""
    AuditEntry.objects.bulk_create(
        AuditEntry(
            principal=actor.principal,
            surface=actor.surface,
            operation=operation,
            resource_type=resource_type,
            resource=resource,
            details=details,
        )
        for resource, details in changes
    )
