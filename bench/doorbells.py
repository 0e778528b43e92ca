"""Takes Celery's messages from Valkey in place of a worker, and notes when each of them came.

So what a beat does is measured without what a worker does. The runs of the messages are ended in the database now and
then, as a worker would have done, so that the beat does not find them undone. Called by `bench.jitter` and
`bench.take_overs`.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

from bench.task_processes import Connection
from bench.workers import WorkerFailed

AT_ONCE = 200
WAIT_SECONDS = 0.1
END_EACH_SECONDS = 1.0


@dataclass(frozen=True)
class Ring:
    """One run's id in a message, and when that came, by the system's clock in seconds."""

    at: float
    run: int


class Doorbell:
    """One reader of a queue of Celery; empties it first."""

    def __init__(self, conn: Connection, url: str, queue: str) -> None:
        self._conn = conn
        self._queue = queue
        self._client = redis.Redis.from_url(url)
        self._client.delete(queue)
        self._not_ended: list[int] = []
        self._ended_at = time.monotonic()

    def close(self) -> None:
        """Ends what is not ended, and gives the connection back."""
        self._end()
        self._client.close()

    def take(self) -> list[Ring]:
        """What has come, after a tenth of a second at most."""
        answer = self._client.blmpop(WAIT_SECONDS, 1, self._queue, direction="RIGHT", count=AT_ONCE)
        at = time.time()
        rings = [Ring(at, run) for text in answer[1] for run in runs_of(text)] if answer else []
        self._not_ended += [ring.run for ring in rings]
        if len(rings) < AT_ONCE // 10 and time.monotonic() - self._ended_at >= END_EACH_SECONDS:
            self._end()
        return rings

    def take_until(self, enough: Callable[[list[Ring]], bool], seconds: float, what: str) -> list[Ring]:
        """All that comes until it is enough; raises WorkerFailed when it is not within that time."""
        rings: list[Ring] = []
        deadline = time.monotonic() + seconds
        while not enough(rings):
            if time.monotonic() >= deadline:
                raise WorkerFailed(f"not within {seconds:.0f} s: {what}; there were {len(rings)}")
            rings += self.take()
        return rings

    def _end(self) -> None:
        if self._not_ended:
            self._conn.execute(
                "update scheduling_run set state = 'succeeded', ended_at = clock_timestamp()"
                " where id = any(%s) and state = 'ready'",
                [self._not_ended],
            )
        self._not_ended = []
        self._ended_at = time.monotonic()


def runs_of(text: Any) -> list[int]:
    """The arguments of a message as Celery and kombu write them."""
    arguments, _, _ = json.loads(base64.b64decode(json.loads(text)["body"]))
    return [int(argument) for argument in arguments]
