"""Rings for many runs: in order, tried again where nobody knows whether they were sent, and handed on by workers."""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest
import redis
from django.conf import settings
from kombu.exceptions import BatchPublishError, OperationalError

from scheduling import doorbell
from scheduling.doorbell import TOGETHER, Doorbell
from scheduling.worker import several
from scheduling.worker.several import PATIENCE_SECONDS, Several


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[int]]]:
    """What the workers of a queue of the test's own were told of, first to last."""
    queue = f"test-{uuid.uuid4().hex}"
    monkeypatch.setattr(doorbell, "queue_name", lambda: queue)
    client = redis.Redis.from_url(settings.REDIS_URL)

    def read() -> list[int]:
        messages = [json.loads(text) for text in client.lrange(queue, 0, -1)[::-1]]
        return [run for message in messages for run in json.loads(base64.b64decode(message["body"]))[0]]

    yield read
    client.delete(queue)
    client.close()


def failing(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> None:
    """Has sending fail in these ways, one after the other, and then work."""
    real, waiting = doorbell._send_together, list(errors)

    def send(runs: Sequence[int], in_message: int) -> None:
        if waiting:
            raise waiting.pop(0)
        real(runs, in_message)

    monkeypatch.setattr(doorbell, "_send_together", send)


def test_workers_are_told_of_many_runs_in_order(rung: Callable[[], list[int]]) -> None:
    runs = list(range(2 * TOGETHER + 50))
    assert Doorbell().ring_all(runs) == runs
    assert rung() == runs


def test_nobody_is_told_of_no_runs(rung: Callable[[], list[int]]) -> None:
    assert Doorbell().ring_all([]) == []
    assert rung() == []


def test_a_connection_that_was_lost_is_made_anew(
    rung: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, BatchPublishError("gone"))
    assert Doorbell().ring_all([1, 2, 3]) == [1, 2, 3]
    assert rung() == [1, 2, 3]


@pytest.mark.parametrize(
    "errors", [(OperationalError("away"),), (BatchPublishError("gone"), OperationalError("away"))], ids=["away", "gone"]
)
def test_while_redis_is_away_nobody_tries_for_a_while(
    rung: Callable[[], list[int]], monkeypatch: pytest.MonkeyPatch, errors: tuple[Exception, ...]
) -> None:
    failing(monkeypatch, *errors)
    bell = Doorbell()
    assert bell.ring_all([1, 2, 3]) == []
    assert bell.ring_all([1, 2, 3]) == []
    assert not bell.ring(4)
    assert rung() == []


def test_what_waits_behind_a_long_run_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    handed_on: list[int] = []
    is_handed_on = threading.Event()
    done: list[int] = []

    class Rings:
        def ring(self, run: int) -> bool:
            handed_on.append(run)
            if run == 4:
                is_handed_on.set()
            return True

    def perform(run: int) -> None:
        done.append(run)
        if run == 2:
            assert is_handed_on.wait(PATIENCE_SECONDS + 10)

    monkeypatch.setattr(several, "doorbell", Rings())
    Several((1, 2, 3, 4)).perform(perform)
    assert (done, handed_on) == ([1, 2], [3, 4])


def test_short_runs_of_a_message_are_done_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(several, "doorbell", None)
    done: list[int] = []
    Several((1, 2, 3)).perform(done.append)
    assert done == [1, 2, 3]
