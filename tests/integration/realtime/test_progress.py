"""`Progress` on the real database: what is seen of a task, when, and by whom it may be changed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, connections, transaction

from brokers import wakeup
from brokers.database import close
from brokers.errors import InvalidType, InvalidValue, ProgressFinished, ProgressNotFound, TooLarge, UnencodableValue
from realtime import Progress, progress
from realtime.models import ProgressRow

pytestmark = pytest.mark.django_db(transaction=True)


class Undone(Exception):
    """Rolls a transaction back."""


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Hints as they are announced."""
    found: list[str] = []
    monkeypatch.setattr(wakeup, "announce_streams", found.extend)
    return found


def seen(task: Progress) -> ProgressRow:
    """The task as others see it: over a connection of its own."""
    row: ProgressRow = elsewhere(lambda: ProgressRow.objects.get(pk=task.id))
    return row


def elsewhere(function: Callable[[], Any]) -> Any:
    """What a function gives on another connection."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(function())
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    return found[0]


def unthrottled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "WRITE_SECONDS", 0.0)


# -- a task's life --------------------------------------------------------------------------------------------------


def test_a_task_begins_goes_on_and_completes(monkeypatch: pytest.MonkeyPatch, announced: list[str]) -> None:
    unthrottled(monkeypatch)
    task = Progress("Import", user=User.objects.create_user("ann"), total=3)
    begun = seen(task)
    assert (begun.user_name, begun.title, begun.state, begun.current, begun.total) == ("ann", "Import", "running", 0, 3)
    task.advance(message="one")
    task.update(current=2, message="two")
    row = seen(task)
    assert (row.state, row.number, row.current, row.message) == ("running", 3, 2, "two")
    task.complete({"rows": 3})
    row = seen(task)
    assert (row.state, row.number, row.current, row.result) == ("completed", 4, 3, '{"rows":3}')
    assert announced == [f"u{task.id}"] * 4


def test_changes_in_quick_succession_are_written_once(announced: list[str]) -> None:
    task = Progress("Import", user="ann")
    for _ in range(1000):
        task.advance()
    row = seen(task)
    assert (row.number, row.current) == (1, 0)
    task.flush()
    row = seen(task)
    assert (row.number, row.current) == (2, 1000)


def test_the_last_change_comes_with_the_end() -> None:
    with Progress("Import", user="ann") as task:
        task.update(current=7, message="almost")
    row = seen(task)
    assert (row.state, row.current, row.message, row.result) == ("completed", 7, "almost", "null")


def test_an_exception_fails_the_task_and_goes_on() -> None:
    with pytest.raises(KeyError), Progress("Import", user="ann") as task:
        raise KeyError("dep_time")
    row = seen(task)
    assert (row.state, row.error) == ("failed", "KeyError: 'dep_time'")


def test_what_has_ended_cannot_change() -> None:
    task = Progress("Import", user="ann")
    task.fail("no file")
    for change in (task.complete, task.advance, task.flush, lambda: task.fail("again")):
        with pytest.raises(ProgressFinished):
            change()
    assert seen(task).error == "no file"


def test_another_process_goes_on_with_it() -> None:
    task = Progress("Import", user="ann", total=10)
    task.update(current=4)
    task.flush()
    other = Progress.of(task.id)
    assert (other.current, other.total) == (4, 10)
    other.complete()
    with pytest.raises(ProgressFinished):
        task.flush()
    with pytest.raises(ProgressFinished, match="has completed"):
        Progress.of(task.id)
    for unknown in ("unknown", "", "a\0"):
        with pytest.raises(ProgressNotFound):
            Progress.of(unknown)


def test_a_task_that_failed_is_taken_up_where_it_was(announced: list[str]) -> None:
    first = Progress("Import", user="ann", total=5)
    first.update(current=3)
    first.fail("disk full")
    announced.clear()
    again = Progress.of(first.id)
    row = seen(again)
    assert (row.state, row.number, row.current, row.error) == ("running", 3, 3, None)
    assert (again.current, announced) == (3, [f"u{first.id}"])
    again.complete()


def test_the_id_of_a_task_that_did_not_complete_begins_anew_for_its_user() -> None:
    first = Progress("Import", user="ann", total=5, id="import-1")
    first.fail("disk full")
    again = Progress("Import", user="ann", id="import-1")
    row = seen(again)
    assert (row.state, row.number, row.total, row.error) == ("running", 3, None, None)
    with pytest.raises(InvalidValue, match="taken"):
        Progress("Import", user="bob", id="import-1")
    again.complete()
    with pytest.raises(InvalidValue, match="taken"):
        Progress("Import", user="ann", id="import-1")


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"id": "a/b"}, InvalidValue),
        ({"id": ""}, InvalidValue),
        ({"id": "x" * 65}, InvalidValue),
        ({"user": ""}, InvalidValue),
        ({"user": 7}, InvalidType),
        ({"user": "a\0"}, InvalidValue),
        ({"total": -1}, InvalidValue),
        ({"total": True}, InvalidValue),
        ({"total": 2**63}, InvalidValue),
    ],
)
def test_what_a_task_cannot_be_is_refused(wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Progress("Import", **({"user": "ann"} | wrong))
    assert not ProgressRow.objects.exists()


def test_texts_are_made_to_fit_and_results_are_bounded() -> None:
    task = Progress("t\0" * 200, user="ann")
    task.update(message="\ud800" + "m" * 1000)
    with pytest.raises(UnencodableValue):
        task.complete(object())
    with pytest.raises(TooLarge):
        task.complete("x" * progress.MAX_RESULT_BYTES)
    task.fail(ValueError("e" * 1000))
    row = seen(task)
    assert (row.title, row.message) == ("t\ufffd" * 100, "?" + "m" * 499)
    assert row.error == f"ValueError: {'e' * 488}"


# -- inside of transactions ---------------------------------------------------------------------------------------


def test_changes_are_seen_while_the_callers_transaction_is_open(monkeypatch: pytest.MonkeyPatch) -> None:
    unthrottled(monkeypatch)
    with transaction.atomic():
        task = Progress("Import", user="ann")
        task.advance(3)
        assert seen(task).current == 3


def test_a_completion_is_seen_with_the_commit(announced: list[str]) -> None:
    with transaction.atomic():
        with Progress("Import", user="ann") as task:
            pass
        assert seen(task).state == "running"
        announced.clear()
    assert seen(task).state == "completed"
    assert announced == [f"u{task.id}"]
    with pytest.raises(ProgressFinished):
        task.flush()


def test_a_completion_that_is_rolled_back_was_none_and_the_task_may_fail_then(announced: list[str]) -> None:
    task = Progress("Import", user="ann")
    announced.clear()
    with pytest.raises(Undone), transaction.atomic():
        task.complete()
        raise Undone
    assert (seen(task).state, announced) == ("running", [])
    task.fail("rolled back")
    assert seen(task).state == "failed"


def test_a_failure_is_seen_although_the_transaction_rolls_back() -> None:
    with pytest.raises(Undone), transaction.atomic(), Progress("Import", user="ann") as task:
        raise Undone
    assert seen(task).state == "failed"


def test_an_open_transaction_that_completes_it_lets_nothing_else_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LOCK_WAIT", "50ms")
    task = Progress("Import", user="ann")
    with transaction.atomic():
        task.complete()
        for change in (task.flush, lambda: task.fail("late")):
            with pytest.raises(ProgressFinished, match="still open"):
                change()
    assert seen(task).state == "completed"


def test_an_exception_after_the_completion_goes_on_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LOCK_WAIT", "50ms")
    with pytest.raises(Undone), transaction.atomic(), Progress("Import", user="ann") as task:
        task.complete()
        raise Undone
    assert seen(task).state == "running"


# -- from asynchronous code -------------------------------------------------------------------------------------------


async def test_asynchronous_code_reports_too(monkeypatch: pytest.MonkeyPatch) -> None:
    unthrottled(monkeypatch)
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)  # threads keep none beyond the test
    try:
        async with await Progress.abegin("Import", user="ann", total=2) as task:
            await task.aupdate(current=1, message="half")
            assert (await progress.find(task.id)).message == "half"
        assert (await progress.find(task.id)).state == "completed"
        failed = await Progress.abegin("Import", user="ann")
        await failed.afail("no")
        assert (await progress.find(failed.id)).error == "no"
        done = await Progress.abegin("Import", user="ann")
        await done.acomplete(7)
        assert (await progress.find(done.id)).result == "7"
        assert await progress.numbers([task.id, failed.id, "x"]) == {f"u{task.id}": 3, f"u{failed.id}": 2}
    finally:
        await close()
