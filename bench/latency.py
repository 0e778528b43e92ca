"""From publish to poll: 1,000 single records a second over REST, each timed until a waiting fetch has it.

The publisher is open-loop: a record's time starts when it was due, so a slow moment is not hidden by sending
less. One reader holds a fetch (`wait_ms`) on the topic's only partition. Publisher and reader share this
process and its clock; the server is a process of its own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import uvloop

from bench import log_steps, stores
from bench.http_load import LoadFailed, request
from bench.measurement import Measurement
from bench.rounds import Extent, percentile

RATE = 1000
CONNECTIONS = 16
TOPIC = "bench-latency"
_WAIT_MS = 1000
_TICK_SECONDS = 0.002
_MARGIN_SECONDS = 10.0


class _Connection:
    """One keep-alive connection with a single request under way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, port: int) -> _Connection:
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=16 * 1024 * 1024))

    async def call(self, payload: bytes) -> bytes:
        self.writer.write(payload)
        head = (await self.reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        if not head.startswith(b"http/1.1 2"):
            raise LoadFailed((head + body)[:600].decode("latin-1"))
        return body

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def _publish(
    connection: _Connection, due_times: asyncio.Queue[int | None], token: str, sent: list[float]
) -> None:
    path = f"/api/v1/topics/{TOPIC}/records"
    filler = "x" * 60
    while (due := await due_times.get()) is not None:
        record = {"key": f"k{due % 10**9:09d}", "value": {"due": due, "text": filler}}
        body = json.dumps({"records": [record]}, separators=(",", ":")).encode()
        await connection.call(request("POST", path, body=body, token=token))
        sent.append((time.perf_counter_ns() - due) / 1e6)


async def _read(connection: _Connection, token: str, expected: int, latencies: list[float]) -> None:
    offset = 0
    while len(latencies) < expected:
        path = f"/api/v1/topics/{TOPIC}/partitions/0/records?offset={offset}&limit=1000&wait_ms={_WAIT_MS}"
        answer: dict[str, Any] = msgspec.json.decode(await connection.call(request("GET", path, token=token)))
        arrived = time.perf_counter_ns()
        latencies.extend((arrived - record["value"]["due"]) / 1e6 for record in answer["records"])
        offset = answer["next_offset"]


async def _run(port: int, token: str, seconds: float) -> tuple[list[float], list[float]]:
    latencies: list[float] = []
    reader = await _Connection.open(port)
    try:
        async with asyncio.timeout(seconds + _MARGIN_SECONDS), asyncio.TaskGroup() as tasks:
            tasks.create_task(_read(reader, token, int(RATE * seconds), latencies))
            sent = await publish_only(port, token, seconds)
    finally:
        await reader.close()
    return latencies, sent


async def publish_only(port: int, token: str, seconds: float) -> list[float]:
    """Publishes at `RATE`; the milliseconds from when each record was due to its acknowledgement."""
    count = int(RATE * seconds)
    due_times: asyncio.Queue[int | None] = asyncio.Queue()
    sent: list[float] = []
    connections = [await _Connection.open(port) for _ in range(CONNECTIONS)]
    gc.collect()
    gc.disable()
    try:
        async with asyncio.timeout(seconds + _MARGIN_SECONDS), asyncio.TaskGroup() as tasks:
            for connection in connections:
                tasks.create_task(_publish(connection, due_times, token, sent))
            started = time.perf_counter_ns() + 50_000_000
            put = 0
            while put < count:
                now = time.perf_counter_ns()
                while put < count and (due := started + put * 1_000_000_000 // RATE) <= now:
                    due_times.put_nowait(due)
                    put += 1
                await asyncio.sleep(_TICK_SECONDS / 2)
            for _ in connections:
                due_times.put_nowait(None)
    finally:
        gc.enable()
        for connection in connections:
            await connection.close()
    return sent


def measure(extent: Extent) -> Iterator[Measurement]:
    """Times from when a record was due to its arrival at the reader, and to its acknowledgement."""
    stores.empty_log()
    token = stores.issue_token()
    log_steps.new_topic(TOPIC)
    with stores.web(stores.PRODUCT) as port:
        latencies, sent = uvloop.run(_run(port, token, extent.latency_seconds))
    stores.empty_log()
    for what, values in (("publish to poll", latencies), ("publish to acknowledgement", sent)):
        ordered = sorted(values[RATE // 2 :])
        yield Measurement(
            group="latency over REST",
            what=f"{what}, {RATE} single records/s for {extent.latency_seconds:.0f} s, p50",
            speeds=(percentile(ordered, 0.5),),
            unit="ms",
            details={
                "p99_ms": round(percentile(ordered, 0.99), 2),
                "p999_ms": round(percentile(ordered, 0.999), 2),
                "max_ms": round(ordered[-1], 2),
                "records": len(values),
            },
        )
