"""Append from Python, one process, against a bare INSERT of the same bytes as one row a batch.

Three levels are shown: `append` encodes records and writes them, `publish_many` also checks them and chooses
their partitions (given ready-made records, or mappings as users write them), and the append of an encoded
batch is what the statement alone costs.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench import bare, log_steps, stores
from bench.measurement import Measurement
from bench.rounds import Extent, speeds_of
from bench.workload import BATCH_SIZES, bytes_records, json_records

GOAL = 0.7
_JUDGED = ("append (encodes)", "publish_many of ready records")


def measure(extent: Extent) -> Iterator[Measurement]:
    """Every level at 1, 10, 100 and 1000 records a batch."""
    stores.empty_log()
    info = log_steps.new_topic("bench-append")
    with stores.bare_connection() as conn:
        bare.create(conn)
        for number, size in enumerate(BATCH_SIZES):
            records = log_steps.new_records(size)
            batch = log_steps.encoded(size)
            steps = {
                "append (encodes)": log_steps.appending(info, records),
                "append of an encoded batch": log_steps.appending_encoded(info, batch),
                "publish_many of ready records": log_steps.publishing(info.name, records),
                "publish_many of mappings, bytes": log_steps.publishing(info.name, bytes_records(size)),
                "publish_many of mappings, JSON": log_steps.publishing(info.name, json_records(size)),
                "bare": bare.inserting(conn, batch, number + 1),
            }
            speeds = speeds_of(steps, extent)
            reference = speeds.pop("bare")
            for name, values in speeds.items():
                yield Measurement(
                    group="append from Python",
                    what=f"{name}, {size} a batch",
                    speeds=values,
                    reference="bare INSERT of the same bytes",
                    reference_speeds=reference,
                    goal=GOAL if size == 1000 and name in _JUDGED else None,
                )
    stores.empty_log()
