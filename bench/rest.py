"""REST: publish and fetch over keep-alive connections, against an empty Starlette route and against Python.

One product process, one process with an empty route under the same uvicorn flags, one client process; they
share the machine's cores, so requests/s are of all three together. A publish is answered once its records
are on disk.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from bench import http_load, log_steps, stores
from bench.http_load import Outcome
from bench.measurement import Measurement
from bench.rounds import Extent, Subject, interleaved, per_second
from bench.workload import BATCH_SIZES, CLIENT_COUNTS, request_body
from brokers.record import JSON

SINGLE_GOAL = 0.4
BATCH_GOAL = 0.5
GOAL_CLIENTS = 32
TOPIC = "bench-rest"
PARTITIONS = 3
_EMPTY = "empty Starlette route, same requests"
_PYTHON = "append (encodes) from Python, 1000 a batch"
_DISTINCT = 64
"""Different requests that the clients walk through, so that keys spread over the partitions."""


@dataclass
class _Load:
    """A subject that keeps the latencies of each of its rounds."""

    port: int
    requests: Sequence[bytes]
    clients: int
    seconds: float
    outcomes: list[Outcome] = field(default_factory=list)

    def __call__(self) -> float:
        outcome = http_load.load(self.port, self.requests, self.clients, self.seconds)
        self.outcomes.append(outcome)
        return outcome.requests_per_second

    def latencies(self) -> dict[str, float]:
        """Medians over the rounds, in milliseconds."""
        return {
            "p50_ms": round(median(one.p50_ms for one in self.outcomes), 2),
            "p99_ms": round(median(one.p99_ms for one in self.outcomes), 2),
        }


def _publishes(count: int, token: str) -> list[bytes]:
    distinct = _DISTINCT if count < 100 else 4
    path = f"/api/v1/topics/{TOPIC}/records"
    return [
        http_load.request("POST", path, body=request_body(count, number * count), token=token)
        for number in range(distinct)
    ]


def _fetches(limit: int, past: int, token: str) -> list[bytes]:
    distinct = max(1, min(200, past // limit))
    path = f"/api/v1/topics/{TOPIC}-fetch/partitions/0/records"
    return [
        http_load.request("GET", f"{path}?offset={number * limit}&limit={limit}", token=token)
        for number in range(distinct)
    ]


def _times(factor: int, subject: Subject) -> Subject:
    return lambda: factor * subject()


def _single(extent: Extent, product: int, empty: int, token: str) -> Iterator[Measurement]:
    requests = _publishes(1, token)
    for clients in CLIENT_COUNTS:
        publish = _Load(product, requests, clients, extent.seconds)
        nothing = _Load(empty, requests, clients, extent.seconds)
        speeds = interleaved({"publish": publish, "empty": nothing}, extent.rounds)
        yield Measurement(
            group="REST publish",
            what=f"single records, {clients} connections",
            speeds=speeds["publish"],
            unit="requests/s",
            reference=_EMPTY,
            reference_speeds=speeds["empty"],
            goal=SINGLE_GOAL if clients == GOAL_CLIENTS else None,
            details={**publish.latencies(), "empty_p99_ms": nothing.latencies()["p99_ms"]},
        )


def _batches(extent: Extent, product: int, token: str) -> Iterator[Measurement]:
    info = log_steps.new_topic("bench-rest-python")
    append = log_steps.appending(info, log_steps.new_records(1000))
    python = partial(per_second, append, extent.seconds)
    for size in BATCH_SIZES[1:]:
        requests = _publishes(size, token)
        for clients in CLIENT_COUNTS:
            publish = _Load(product, requests, clients, extent.seconds)
            speeds = interleaved({"publish": _times(size, publish), "python": python}, extent.rounds)
            yield Measurement(
                group="REST publish",
                what=f"{size} a call, {clients} connections",
                speeds=speeds["publish"],
                reference=_PYTHON,
                reference_speeds=speeds["python"],
                goal=BATCH_GOAL if size == 1000 and clients == GOAL_CLIENTS else None,
                details=publish.latencies(),
            )


def _reads(extent: Extent, product: int, empty: int, token: str) -> Iterator[Measurement]:
    info = log_steps.new_topic(f"{TOPIC}-fetch")
    past = min(200_000, extent.fetch_records)
    log_steps.fill(info, past, 100, encoding=JSON)
    for limit in BATCH_SIZES:
        requests = _fetches(limit, past, token)
        for clients in CLIENT_COUNTS:
            fetch = _Load(product, requests, clients, extent.seconds)
            nothing = _Load(empty, requests, clients, extent.seconds)
            speeds = interleaved({"fetch": fetch, "empty": nothing}, extent.rounds)
            yield Measurement(
                group="REST fetch",
                what=f"limit {limit}, {clients} connections",
                speeds=speeds["fetch"],
                unit="requests/s",
                reference=_EMPTY,
                reference_speeds=speeds["empty"],
                details={**fetch.latencies(), "records_per_second": round(limit * median(speeds["fetch"]))},
            )


def measure(extent: Extent) -> Iterator[Measurement]:
    """Publish of 1, 10, 100, 1000 records a call, fetch at the same limits; 1, 8 and 32 connections."""
    stores.empty_log()
    log_steps.new_topic(TOPIC, partitions=PARTITIONS)
    token = stores.issue_token()
    with stores.web(stores.PRODUCT) as product, stores.web(stores.EMPTY_ROUTE) as empty:
        yield from _single(extent, product, empty, token)
        yield from _batches(extent, product, token)
        yield from _reads(extent, product, empty, token)
    stores.empty_log()
