"""Who may do what with dead letters and replays over REST: whose failures they are decides.

A dead letter is its consumer group's (or its queue's, or its task's); payloads are also the source's. What a caller may
not know of is as if it were not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from brokers.access import Principal, allowed, authorize
from brokers.errors import AccessDenied
from brokers.rest.operation import Access
from brokers.selectors.dead_letters import Consumer

_SOURCES = {"topic": "topic", "queue": "queue", "task": "schedule"}
_OWNERS = ("group", "queue", "schedule")

SEEN = Access(
    "describe", "group", why="the list holds what consumer groups (or queues) gave up that the caller may describe"
)
SEE = Access("describe", "group", why="on the consumer group (or queue) that failed; else it is not found")
REPLAY = Access("replay", "group", why="on each consumer group (or queue) that failed")
WRITE = Access("write", "topic", why="on the topic (or queue, or exchange) of a target")
VIEW = Access("view_payload", "topic", why="on the source topic or queue (or `read`) for payloads, and to edit")


def owner(consumer: Consumer) -> tuple[str, str]:
    """Type and name of the resource that the consumer's failures belong to."""
    if consumer.source_kind == "topic":
        return "group", consumer.group
    return _SOURCES[consumer.source_kind], consumer.source


class Reader:
    """What one principal may do with dead letters."""

    def __init__(self, principal: Principal) -> None:
        self.principal = principal

    def sees(self, source_kind: str, source: str, group: str) -> bool:
        """Whether it may know of the consumer's dead letters."""
        return allowed(self.principal, "describe", *owner(Consumer(source_kind, source, group)))

    def sees_all(self, consumers: Iterable[Consumer]) -> bool:
        """Whether it may know of all of these consumers' dead letters."""
        return all(self.sees(*consumer) for consumer in consumers)

    def views(self, source_kind: str, source: str) -> bool:
        """Whether it may view keys, values, headers and stack traces of what came from the source."""
        kind = _SOURCES[source_kind]
        return any(allowed(self.principal, operation, kind, source) for operation in ("view_payload", "read"))

    def require_replay(self, consumers: Iterable[Consumer]) -> None:
        """Raises `AccessDenied` unless it may change and replay what each of these gave up."""
        for consumer in consumers:
            authorize(self.principal, "replay", *owner(consumer))

    def require_some(self, operation: str) -> None:
        """Raises `AccessDenied` for one to whom the operation is granted on no consumer at all, whatever there is."""
        rules = self.principal.rules
        if not self.principal.superuser and not any(
            rule.allows(operation) and rule.resource_type in _OWNERS for rule in rules
        ):
            raise AccessDenied(f"{operation} is granted on no consumer group to {self.principal.name}")

    def check(self, *, edits: bool) -> Callable[[Sequence[Consumer]], None]:
        """The check of a replay's selection, with `edits` for one that changes payloads."""

        def check(consumers: Sequence[Consumer]) -> None:
            self.require_replay(consumers)
            for consumer in consumers if edits else ():
                if not self.views(consumer.source_kind, consumer.source):
                    authorize(self.principal, "view_payload", _SOURCES[consumer.source_kind], consumer.source)

        return check
