"""Listeners for tests: a worker in the test's own process, with its members in threads of their own."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from brokers.errors import GroupNotFound
from brokers.listeners import registration
from brokers.listeners.handlers import Handler
from brokers.listeners.queue_registration import QueueListener, declared_queue_listeners, queue_listener
from brokers.listeners.registration import Listener, topic_listener
from brokers.listeners.worker import Worker
from brokers.selectors import groups
from tests.server import unique


def until(condition: Callable[[], bool], seconds: float = 20.0, what: str = "it") -> None:
    """Waits for a condition; fails when it has not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true in {seconds} s"
        time.sleep(0.01)


def listener(handler: Callable[[Any], Any], topics: Any, **options: Any) -> Listener:
    """Registers a handler under a name that no other test uses, for the time of its worker."""
    options.setdefault("name", unique("handler"))
    topic_listener(topics, **options)(handler)
    return next(found for found in registration.declared_listeners() if found.name == options["name"])


def consumer(handler: Callable[[Any], Any], queue: str, **options: Any) -> QueueListener:
    """The same for a queue."""
    options.setdefault("name", unique("handler"))
    queue_listener(queue, **options)(handler)
    return next(found for found in declared_queue_listeners() if found.name == options["name"])


class _Alarm(logging.Handler):
    """Remembers what was logged as an error that nobody foresaw."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "foresaw" in record.getMessage():
            self.heard.append(logging.Formatter().format(record))


@contextmanager
def serving(*listeners: Handler, drain_seconds: float = 10.0, joined: bool = True) -> Iterator[Worker]:
    """A worker for these listeners, whose members have joined; fails when it meets what nobody foresaw."""
    alarm, log = _Alarm(), logging.getLogger("waystation.listeners")
    log.addHandler(alarm)
    try:
        with Worker(listeners, drain_seconds) as worker:
            if joined:
                until(lambda: all(thread.has_looked for thread in worker.threads), what="all members have joined")
            yield worker
    finally:
        log.removeHandler(alarm)
        registration.forget(one.name for one in listeners)
    assert not alarm.heard, alarm.heard[0]


@contextmanager
def listening(handler: Callable[[Any], Any], topics: Any, **options: Any) -> Iterator[Worker]:
    """`serving` for one handler; options are those of `topic_listener`."""
    with serving(listener(handler, topics, **options)) as worker:
        yield worker


@contextmanager
def consuming(handler: Callable[[Any], Any], queue: str, *, joined: bool = True, **options: Any) -> Iterator[Worker]:
    """`serving` for one handler of a queue; options are those of `queue_listener`."""
    with serving(consumer(handler, queue, **options), joined=joined) as worker:
        yield worker


def lag(group: str) -> int:
    """Records that the group has not committed; of partitions without a committed offset all that are there.

    Of a group that divides nothing yet, or between two members, one at least.
    """
    try:
        found = groups.get(group).partitions
    except GroupNotFound:
        return 1
    if not found:
        return 1
    return sum(place.latest_offset - (place.committed_offset or 0) for place in found)


def caught_up(group: str, seconds: float = 20.0) -> None:
    """Waits until the group has committed everything."""
    until(lambda: lag(group) == 0, seconds, f"{group} has caught up")
