"""A load client that costs little: prebuilt HTTP/1.1 requests over keep-alive connections.

Runs as a process of its own (`python -m bench.http_load`), reading a plan as JSON from standard input and
writing the outcome to standard output. It parses the status and Content-Length of an answer,
nothing else. One request is under way per connection, so n connections are n clients.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import subprocess
import sys
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import uvloop

from bench.rounds import percentile

_MARGIN_SECONDS = 30.0


@dataclass(frozen=True)
class Outcome:
    """What the clients saw together: requests a second, latencies in milliseconds, the slowest included."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    requests: int


class LoadFailed(Exception):
    """An answer was not 2xx, or a connection ended."""


def request(method: str, path: str, *, body: bytes = b"", token: str = "") -> bytes:
    """The bytes of one request, connection kept open."""
    head = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if token:
        head.append(f"Authorization: Bearer {token}")
    if body:
        head += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return ("\r\n".join(head) + "\r\n\r\n").encode() + body


class _Client(asyncio.Protocol):
    """One connection: sends the next request as soon as the last answer is complete."""

    def __init__(self, requests: Sequence[bytes], first: int, latencies: array[float]) -> None:
        self.requests = requests
        self.next = first
        self.latencies = latencies
        self.stopping = False
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.buffer = b""
        self.wanted = -1
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass of it

    def send(self) -> None:
        payload = self.requests[self.next % len(self.requests)]
        self.next += 1
        self.sent_at = time.perf_counter()
        self.transport.write(payload)

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        if self.wanted < 0 and not self._read_head():
            return
        if len(self.buffer) < self.wanted:
            return
        self.latencies.append(time.perf_counter() - self.sent_at)
        self.buffer = b""
        self.wanted = -1
        if self.stopping:
            self._end()
        else:
            self.send()

    def _read_head(self) -> bool:
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        head = self.buffer[:end].lower()
        if not head.startswith(b"http/1.1 2"):
            self._fail(self.buffer[:600].decode("latin-1"))
            return False
        at = head.find(b"content-length:")
        if at < 0:
            self._fail("an answer came without Content-Length: " + head.decode("latin-1"))
            return False
        line_end = head.find(b"\r\n", at)
        self.wanted = end + 4 + int(head[at + 15 : line_end if line_end >= 0 else len(head)])
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection ended: {exc}")

    def _fail(self, why: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(LoadFailed(why))
            self.transport.abort()

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        self.transport.close()


async def _drive(host: str, port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Outcome:
    loop = asyncio.get_running_loop()
    latencies = array("d")
    clients: list[_Client] = []
    for number in range(connections):
        first = number * len(requests) // connections
        connect = partial(_Client, requests, first, latencies)
        _, client = await loop.create_connection(connect, host, port)
        clients.append(client)
    gc.disable()
    for client in clients:
        client.send()
    ends = [client.ended for client in clients]
    await asyncio.wait(ends, timeout=min(0.25, seconds / 4), return_when=asyncio.FIRST_EXCEPTION)
    warm = len(latencies)
    started = time.perf_counter()
    await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    elapsed = time.perf_counter() - started
    counted = latencies[warm:]
    for client in clients:
        client.stopping = True
    await asyncio.wait_for(asyncio.gather(*ends), _MARGIN_SECONDS)
    if not counted:
        raise LoadFailed(f"no answer within {seconds} s")
    ordered = sorted(value * 1000 for value in counted)
    return Outcome(
        requests_per_second=len(counted) / elapsed,
        p50_ms=percentile(ordered, 0.5),
        p99_ms=percentile(ordered, 0.99),
        max_ms=ordered[-1],
        requests=len(counted),
    )


def load(port: int, requests: Sequence[bytes], connections: int, seconds: float) -> Outcome:
    """Drives 127.0.0.1:`port` for `seconds` from a process of its own.

    The connections walk round `requests`, each from another place. Raises LoadFailed with the first answer
    that was not 2xx.
    """
    plan = {
        "port": port,
        "requests": [base64.b64encode(one).decode() for one in requests],
        "connections": connections,
        "seconds": seconds,
    }
    done = subprocess.run(
        [sys.executable, "-m", "bench.http_load"],
        input=json.dumps(plan).encode(),
        capture_output=True,
        timeout=seconds + 2 * _MARGIN_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise LoadFailed(done.stderr.decode(errors="replace").strip()[-1500:])
    return Outcome(**json.loads(done.stdout))


def main() -> int:
    """Reads the plan, drives, writes the outcome; 1 and a line on standard error when an answer was wrong."""
    plan = json.loads(sys.stdin.buffer.read())
    requests = [base64.b64decode(one) for one in plan["requests"]]
    try:
        outcome = uvloop.run(_drive("127.0.0.1", plan["port"], requests, plan["connections"], plan["seconds"]))
    except (LoadFailed, OSError, TimeoutError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    json.dump(vars(outcome), sys.stdout)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
