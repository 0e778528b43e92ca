"""Fetch in Python, in order, against a SELECT of the same rows whose payloads are not decoded.

A fetch yields Record objects; every key and offset is touched. 1000 records a call (and fewer, for the
shape).
"""

from __future__ import annotations

from collections.abc import Iterator

from bench import bare, log_steps, stores
from bench.measurement import Measurement
from bench.rounds import Extent, speeds_of

GOAL = 0.3
_SHAPES = ((100, 100), (100, 1000), (1000, 1000))
"""Records a stored batch, records a call."""


def measure(extent: Extent) -> Iterator[Measurement]:
    """Stored batches of 100 and 1000, read 100 and 1000 a call."""
    stores.empty_log()
    for stored, limit in _SHAPES:
        info = log_steps.new_topic(f"bench-fetch-{stored}-{limit}")
        log_steps.fill(info, extent.fetch_records, stored)
        past = extent.fetch_records // stored * stored
        with stores.bare_connection() as conn:
            read = log_steps.reading(info, limit, 0, past)
            select = bare.selecting(conn, info.partition_ids[0], limit // stored, stored, 0, past)
            speeds = speeds_of({"fetch": read, "select": select}, extent)
        yield Measurement(
            group="fetch in Python",
            what=f"{limit} a call, stored {stored} a batch",
            speeds=speeds["fetch"],
            reference="SELECT of the same rows, not decoded",
            reference_speeds=speeds["select"],
            goal=GOAL if limit == 1000 else None,
        )
    stores.empty_log()
