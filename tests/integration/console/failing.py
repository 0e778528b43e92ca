"""Dead letters as listeners leave them, with attempts and stack traces, for tests of the console's failure screens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import psycopg
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from brokers.models import DeadLetter, DeadLetterAttempt, Grant
from tests.integration.brokers.replaying import Stage, failure

HOSTILE = "</pre><script>document.title='taken over'</script><img src=x onerror=alert(1)>\u202e\x1b[2J"
MOST_STATEMENTS = 12

Staff = Callable[..., Client]


def stage(topic: str = "departures", group: str = "delays") -> Stage:
    """A topic of three partitions and a consumer group that fails on it."""
    return Stage(topic=None, group=group) if topic is None else Stage(_topic(topic), group)


def _topic(name: str) -> str:
    from brokers import topics

    return topics.create(name, partitions=3).name


def attempt(letter: int, number: int, *, is_lost: bool = False, **changes: Any) -> None:
    """One failed attempt at a dead letter, a second after the one before."""
    described = failure()
    began = timezone.now() - timedelta(seconds=60 - number)
    given: dict[str, Any] = {
        "ended_at": None if is_lost else began + timedelta(milliseconds=3),
        "error": "" if is_lost else described.message,
        "exception_class": "" if is_lost else described.exception_class,
        "stacktrace": "" if is_lost else described.stacktrace,
        "frames": [] if is_lost else [frame._asdict() for frame in described.frames],
        "delay_ms": 1000,
        "worker": "listen-1",
    }
    DeadLetterAttempt.objects.create(dead_letter_id=letter, number=number, started_at=began, **given | changes)
    DeadLetter.objects.filter(pk=letter).update(attempts=number)


def signed_in(*grants: str) -> Client:
    """The client of a member of staff with grants `operation:type/name` or `operation:type/prefix*`."""
    user = User.objects.create_user(f"staff{User.objects.count()}", password="none", is_staff=True)
    for grant in grants:
        operation, _, resource = grant.partition(":")
        kind, _, name = resource.partition("/")
        match = "prefix" if name.endswith("*") else "literal"
        Grant.objects.create(user=user, operation=operation, resource_type=kind, name=name.rstrip("*"), match=match)
    client = Client()
    client.force_login(user)
    return client


@contextmanager
def counted_statements() -> Iterator[list[str]]:
    """Notes every statement that this process sends, Django's and the data plane's."""
    sent: list[str] = []
    original = psycopg.Cursor.execute

    def execute(self: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        sent.append(query if isinstance(query, str) else repr(query))
        return original(self, query, *arguments, **options)

    psycopg.Cursor.execute = execute  # type: ignore[method-assign]
    try:
        yield sent
    finally:
        psycopg.Cursor.execute = original  # type: ignore[method-assign]


def text(client: Client, path: str, status: int = 200) -> str:
    """A page's HTML."""
    response = client.get(path)
    assert response.status_code == status, response.content.decode()[:2000]
    return response.content.decode()
