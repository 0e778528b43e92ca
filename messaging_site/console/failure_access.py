"""Who may see and do what with a dead letter: whose it is decides, and the topic it came from for its payload.

A dead letter belongs to the consumer that failed: a consumer group, or a queue or a task by name. `Reader` asks
`permissions` for the signed-in user; the texts it returns name the permission that is missing, for buttons and notices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from django.http import HttpRequest

from brokers.errors import AccessDenied
from brokers.replays.request import Check, Target
from brokers.selectors.dead_letter_filter import Consumer
from messaging_site.console.permissions import authorize, may

_OWNERS: Final = {"queue": "queue", "task": "schedule"}


def resource(consumer: Consumer) -> tuple[str, str]:
    """Type and name of what a permission on a consumer's dead letters is granted on."""
    if consumer.source_kind == "topic":
        return "group", consumer.group
    return _OWNERS[consumer.source_kind], consumer.source


def label(consumer: Consumer) -> str:
    """The consumer in words: `departures → delays`, `queue rebooking`."""
    if consumer.source_kind == "topic":
        return f"{consumer.source} → {consumer.group}"
    return f"{consumer.source_kind} {consumer.source}"


class Reader:
    """What the signed-in user may do with dead letters."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    def sees(self, source_kind: str, source: str, group: str) -> bool:
        """Whether the user may know of the dead letters of this consumer."""
        return may(self._request, "describe", *resource(Consumer(source_kind, source, group)))

    def require_replay(self, consumers: Iterable[Consumer]) -> None:
        """Raises `AccessDenied` unless the user may change and replay what these consumers gave up."""
        for consumer in consumers:
            authorize(self._request, "replay", *resource(consumer))

    def lacks_replay(self, consumers: Iterable[Consumer]) -> str:
        """The first permission missing to change and replay these; empty when none is."""
        for consumer in consumers:
            kind, name = resource(consumer)
            if not may(self._request, "replay", kind, name):
                return f"replay on {kind} {name}"
        return ""

    def views(self, source_kind: str, source: str) -> bool:
        """Whether the user may see keys, values, headers and stack traces of a source's dead letters."""
        kind = _OWNERS.get(source_kind, "topic")
        return may(self._request, "view_payload", kind, source) or may(self._request, "read", kind, source)

    def lacks_payload(self, consumer: Consumer) -> str:
        """The permission missing to see payloads; empty when none is."""
        if self.views(consumer.source_kind, consumer.source):
            return ""
        return f"view_payload on {_OWNERS.get(consumer.source_kind, 'topic')} {consumer.source}"

    def require_payload(self, consumer: Consumer) -> None:
        """Raises `AccessDenied` unless the user may see payloads."""
        lacking = self.lacks_payload(consumer)
        if lacking:
            raise AccessDenied(f"{lacking} is not granted to {self._request.user.get_username()}")

    def check_for(self, target: Target | None, *, edits: bool) -> Check:
        """What a replay needs: to replay everything selected, to see what it edits, to write where it leads."""

        def check(consumers: Sequence[Consumer]) -> None:
            self.require_replay(consumers)
            if target is not None:
                authorize(self._request, "write", *target.resource)
            for consumer in consumers if edits else ():
                self.require_payload(consumer)

        return check
