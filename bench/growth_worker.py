"""One database of the growth measurement, in a process of its own: `python -m bench.growth_worker`.

Reads one JSON command a line from standard input and answers one JSON line each. `DATABASE_URL` says which
database it works on: `growth` starts one worker on an empty log and one on a grown log, and lets them take
turns.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import django

from bench.rounds import once, per_second

STORED = 100
"""Records a stored batch in the loaded log, and in the small log that stands for an empty one."""
LIMIT = 1000
"""Records a fetch."""
SMALL_RECORDS = 100_000
_CHUNK_BATCHES = 10_000

_LOAD = """insert into brokers_log_batch
  (partition_id, base_offset, offset_span, base_ts, last_ts, max_ts, stored_at, codec, payload)
  select %s::int, n::bigint * %s::int, %s::int, %s::bigint, %s::bigint, %s::bigint, %s::bigint,
    %s::smallint, %b::bytea
  from generate_series(%s::int, %s::int) n"""


class Worker:
    """Does what a command says; each command is a method that takes its arguments and returns the answer."""

    def __init__(self) -> None:
        from bench import log_steps, stores

        self.steps = log_steps
        self.bare = stores.bare_connection()
        self.info = log_steps.new_topic("bench-growth")

    def load(self, records: int) -> int:
        """Fills the topic with `records` in batches of 100, straight into the table, all the same bytes."""
        batch = self.steps.encoded(STORED)
        count, base_ts, last_ts, codec, payload = batch
        partition = self.info.partition_ids[0]
        batches = records // STORED
        for first in range(0, batches, _CHUNK_BATCHES):
            last = min(batches, first + _CHUNK_BATCHES) - 1
            parameters = (
                partition, count, count, base_ts, last_ts, last_ts, last_ts, codec, payload, first, last,
            )  # fmt: skip
            self.bare.execute(_LOAD, parameters)
        return batches * STORED

    def settle(self) -> int:
        """Vacuums and writes everything out, so that no later figure pays for the load; bytes on disk."""
        self.bare.execute("set statement_timeout = 0")
        self.bare.execute("vacuum (analyze) brokers_log_batch")
        self.bare.execute("checkpoint")
        return int(str(self.bare.execute("select pg_total_relation_size('brokers_log_batch')").fetchall()[0][0]))

    def empty(self) -> int:
        """Removes every batch and leaves the small log that is read."""
        self.bare.execute("truncate brokers_log_batch")
        return 0

    def append(self, size: int, seconds: float) -> float:
        """Appends to the end of the loaded partition; records a second."""
        return per_second(self.steps.appending(self.info, self.steps.new_records(size)), seconds)

    def fetch(self, first: int, past: int, seconds: float) -> float:
        """Reads [first, past) in order, 1000 a call: for `seconds` round and round, or once when 0."""
        return _speed(self.steps.reading(self.info, LIMIT, first, past), past - first, seconds)

    def select(self, first: int, past: int, seconds: float) -> float:
        """The same rows by a bare SELECT without decoding."""
        from bench import bare

        step = bare.selecting(self.bare, self.info.partition_ids[0], LIMIT // STORED, STORED, first, past)
        return _speed(step, past - first, seconds)


def _speed(step: Callable[[], int], records: int, seconds: float) -> float:
    def all_once() -> int:
        done = 0
        while done < records:
            done += step()
        return done

    return per_second(step, seconds) if seconds else once(all_once)


def main() -> int:
    """Migrates the database, says so, and answers commands until standard input ends."""
    from django.core.management import call_command

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "messaging_site.settings")
    django.setup()
    call_command("migrate", verbosity=0, interactive=False)
    worker = Worker()
    commands: dict[str, Callable[..., Any]] = {
        one.__name__: one
        for one in (worker.load, worker.settle, worker.empty, worker.append, worker.fetch, worker.select)
    }
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        name, arguments = json.loads(line)
        print(json.dumps(commands[name](**arguments)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
