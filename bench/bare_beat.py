"""The least that handing out a task takes, as a process: it waits for a due time, inserts a row and pushes a message.

`python -m bench.bare_beat DUES QUEUE REDIS DATABASE` reads due times from a file, one in a line, ascending, in seconds
since 1970. No lock, no table of due times, one message each. `bench.other_beats` runs it beside the real beats, so that
one sees what of their lateness is the machine's.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from pathlib import Path

import psycopg
import redis


def message(number: int) -> bytes:
    """What `bench.doorbells` reads: of a message of Celery the body alone."""
    return json.dumps({"body": base64.b64encode(json.dumps([[number], {}, {}]).encode()).decode()}).encode()


def main() -> None:
    """Hands them all out."""
    file, queue, redis_url, database = sys.argv[1:]
    dues = [float(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    client = redis.Redis.from_url(redis_url)
    client.ping()
    with psycopg.connect(database, autocommit=True, prepare_threshold=0) as conn:
        for number, due in enumerate(dues):
            if (left := due - time.time()) > 0:
                time.sleep(left)
            conn.execute("insert into bench_bare_run (id, due) values (%s, %s)", [number, due])
            client.lpush(queue, message(number))


if __name__ == "__main__":
    main()
