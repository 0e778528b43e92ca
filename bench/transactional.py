"""Publishing inside a database transaction against direct appends in transactions of the same shape.

Both sides write the same ready-made records from one process over Django's connection: BEGIN, so many
batches, COMMIT. The subjects are `publish_many` and the staging below it (offsets are given at commit); the
references append at once and hold their partition's lock to the end, encoding included, or encoded before
and over a bare connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
from django.db import transaction

from bench import log_steps, stores
from bench.measurement import Measurement
from bench.rounds import Extent, speeds_of
from brokers import topic_log
from brokers.codec import EncodedBatch
from brokers.topics import TopicInfo

GOAL = 0.75
_BATCHES = (1, 10)
_SIZES = (100, 1000)
_REFERENCES = {
    "direct": "append (encodes) in atomic()",
    "bare": "BEGIN; select brokers_log_append; COMMIT, encoded before",
}


def _in_transactions(write: Callable[[], int], batches: int) -> Callable[[], int]:
    def step() -> int:
        done = 0
        with transaction.atomic():
            for _ in range(batches):
                done += write()
        return done

    return step


def _bare(
    conn: psycopg.Connection[tuple[object, ...]], info: TopicInfo, batch: EncodedBatch, batches: int
) -> Callable[[], int]:
    parameters = (info.partition_ids[0], *batch)

    def step() -> int:
        with conn.transaction():
            for _ in range(batches):
                conn.execute(topic_log.SQL.append, parameters, binary=True)
        return batches * batch.record_count

    return step


def measure(extent: Extent) -> Iterator[Measurement]:
    """1 and 10 batches a transaction, of 100 and of 1000 records."""
    stores.empty_log()
    info = log_steps.new_topic("bench-transactional")
    with stores.bare_connection() as conn:
        for size in _SIZES:
            records = log_steps.new_records(size)
            for batches in _BATCHES:
                steps = {
                    "publish_many": _in_transactions(log_steps.publishing(info.name, records), batches),
                    "stage (encodes)": _in_transactions(log_steps.staging(info, records), batches),
                    "direct": _in_transactions(log_steps.appending(info, records), batches),
                    "bare": _bare(conn, info, log_steps.encoded(size), batches),
                }
                speeds = speeds_of(steps, extent)
                shape = f"{size} a batch, {batches} a transaction"
                for subject in ("publish_many", "stage (encodes)"):
                    for name, reference in _REFERENCES.items():
                        yield Measurement(
                            group="transactional publish",
                            what=f"{subject} in atomic(), {shape}",
                            speeds=speeds[subject],
                            reference=reference,
                            reference_speeds=speeds[name],
                            goal=GOAL if size == 1000 and name == "direct" else None,
                        )
    stores.empty_log()
