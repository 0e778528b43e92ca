"""Rings for many runs: sent together, in order, and tried once more where nobody knows whether they were sent."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest
import redis
from django.conf import settings
from kombu.exceptions import BatchPublishError, OperationalError

from scheduling import doorbell
from scheduling.doorbell import TOGETHER, Doorbell


@pytest.fixture
def rung(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[int]]]:
    """What the workers of a queue of the test's own were told of, first to last."""
    queue = f"test-{uuid.uuid4().hex}"
    monkeypatch.setattr(doorbell, "queue_name", lambda: queue)
    client = redis.Redis.from_url(settings.REDIS_URL)

    def read() -> list[int]:
        messages = [json.loads(text) for text in client.lrange(queue, 0, -1)[::-1]]
        return [json.loads(base64.b64decode(message["body"]))[0][0] for message in messages]

    yield read
    client.delete(queue)
    client.close()


def failing(monkeypatch: pytest.MonkeyPatch, *errors: Exception) -> None:
    """Has sending fail in these ways, one after the other, and then work."""
    real, waiting = doorbell._send_together, list(errors)

    def send(runs: Sequence[int]) -> None:
        if waiting:
            raise waiting.pop(0)
        real(runs)

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
