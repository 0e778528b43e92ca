"""`Progress` and `notify` in listeners' handlers, which run in a transaction and may be called again."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from brokers import FixedBackOff, publish, topics
from realtime import Progress, anotify, notify
from realtime.models import Notification, ProgressRow
from tests.listening import caught_up, listening, until

pytestmark = pytest.mark.django_db(transaction=True)
ONCE_MORE = FixedBackOff(interval_ms=0, max_retries=1)


@pytest.fixture(autouse=True)
def _topic() -> None:
    topics.create("reports", partitions=1)


def state(task: Progress) -> tuple[str, int, str | None]:
    row = ProgressRow.objects.get(pk=task.id)
    return row.state, row.current, row.error


def test_a_handler_that_is_called_again_takes_its_task_up_and_completes_it_with_its_commit() -> None:
    begun, go_on = threading.Event(), threading.Event()
    attempts: list[str] = []
    task = Progress("Report", user="ann", total=2)

    def on_report(record: Any) -> None:
        with Progress.of(record.value) as mine:
            attempts.append(ProgressRow.objects.get(pk=mine.id).state)
            mine.advance()
            notify("ann", f"attempt {len(attempts)}")
            if len(attempts) == 1:
                raise ValueError("not yet")
            mine.flush()
            begun.set()
            assert go_on.wait(10)

    publish("reports", task.id)
    with listening(on_report, "reports", group="reports", retry=ONCE_MORE):
        until(begun.is_set)
        assert state(task) == ("running", 2, None)
        assert not Notification.objects.exists()
        go_on.set()
        caught_up("reports")
    assert attempts == ["running", "running"]
    assert state(task) == ("completed", 2, None)
    assert list(Notification.objects.values_list("payload", flat=True)) == ['"attempt 2"']


def test_a_handler_that_is_given_up_leaves_a_failed_task() -> None:
    task = Progress("Report", user="ann")

    def on_report(record: Any) -> None:
        with Progress.of(record.value):
            raise ValueError("never")

    publish("reports", task.id)
    with listening(on_report, "reports", group="reports", retry=ONCE_MORE):
        caught_up("reports")
    assert state(task) == ("failed", 0, "ValueError: never")


def test_an_asynchronous_handler_does_the_same() -> None:
    async def on_report(record: Any) -> None:
        async with await Progress.abegin("Report", user="ann", id=record.value) as mine:
            await mine.aupdate(current=1)
            await anotify("ann", "done")

    publish("reports", "report-1")
    with listening(on_report, "reports", group="reports"):
        caught_up("reports")
    row = ProgressRow.objects.get()
    assert (row.id, row.state, row.current) == ("report-1", "completed", 1)
    assert Notification.objects.count() == 1
