"""Subscribers for the measurements of live push: many WebSocket connections in a process of their own.

`python -m bench.live_load` reads a plan as JSON from its first line, connects, subscribes, and says `ready`. Then each
line `count N` is answered when every subscriber has N more messages, with the moment of the last one on the machine's
monotonic clock. It counts marks in the bytes that arrive and reads times of sending out of a part of them; it does not
parse frames, so that it costs less than what is measured.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import resource
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import IO, cast

import uvloop

MARK = b"^@^"
"""Stands once in each body."""
_SENT = re.compile(rb'"sent":([0-9]{10,})')
_TEXT, _PING, _PONG = 0x81, 0x89, 0x8A
_AT_ONCE = 200
_READY_SECONDS = 60.0
_COUNT_SECONDS = 60.0


@dataclass(frozen=True)
class Plan:
    """What to connect to: frames to send after the handshake, where `{n}` is the connection's number."""

    port: int
    path: str
    connections: int
    frames: tuple[str, ...]
    ready: str
    """What the server's answer to the last frame holds."""
    reads: bool = True
    """Whether it goes on reading once it is ready."""
    sampled: int = 1
    """One connection of so many reads the times of sending."""


class LoadFailed(Exception):
    """A connection was refused or ended."""


def client_frame(first: int, payload: bytes) -> bytes:
    """A client's WebSocket frame; a mask of zeros is legal, and leaves the payload as it is."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0xFE]) + size.to_bytes(2, "big")
    return bytes([first]) + length + bytes(4) + payload


class _Subscriber(asyncio.Protocol):
    """One connection: handshake, frames, then marks are counted."""

    def __init__(self, load: _Load, number: int) -> None:
        self.load, self.number = load, number
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.upgraded = False
        self.tail = self.last = b""
        self.count = 0
        self.samples = number % load.plan.sampled == 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        host = f"127.0.0.1:{self.load.plan.port}"
        lines = [
            f"GET {self.load.plan.path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
            "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}",
        ]  # fmt: skip
        self.transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    def data_received(self, data: bytes) -> None:
        if not self.upgraded:
            data = self.tail + data
            head, found, rest = data.partition(b"\r\n\r\n")
            if not found:
                self.tail = data
                return
            if b" 101 " not in head:
                self._fail(head[:200])
                return
            self.upgraded, self.tail = True, b""
            for frame in self.load.plan.frames:
                self.transport.write(client_frame(_TEXT, frame.replace("{n}", str(self.number)).encode()))
            data = rest
        if not self.ready.done():
            self.tail = (self.tail + data)[-4096:]
            if b"ERROR" in self.tail:
                self._fail(self.tail)
            elif self.load.plan.ready.encode() in self.tail:
                self.tail = b""
                self.ready.set_result(None)
                if not self.load.plan.reads:
                    self.transport.pause_reading()
            return
        if data[0] == _PING:  # a server that hears nothing ends the connection; one pong too many is legal
            self.transport.write(client_frame(_PONG, data[2 : 2 + (data[1] & 0x7F)]))
        self.last = data
        whole = self.tail + data
        found_marks = whole.count(MARK)
        self.tail = whole[-(len(MARK) - 1) :]
        if found_marks:
            self.count += found_marks
            if self.samples:
                now = time.perf_counter_ns()
                self.load.latencies.extend((now - int(sent)) / 1e6 for sent in _SENT.findall(data))
            if self.count >= self.load.wanted:
                self.load.reached(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(b"the connection ended (%r) after %b" % (exc, self.last[-300:]))

    def _fail(self, why: bytes) -> None:
        if not self.ready.done():
            self.ready.set_exception(LoadFailed(why.decode("latin-1")))
        else:
            self.load.lose(why)


class _Load:
    """All connections of this process."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.subscribers: list[_Subscriber] = []
        self.wanted = 1 << 62
        self.latencies = array("d")
        self.lost = 0
        self._left: set[_Subscriber] = set()
        self._all: asyncio.Future[float] | None = None

    def lose(self, why: bytes) -> None:
        """A connection ended: nobody waits for what it will not get."""
        self.lost += 1
        if self._all is not None and not self._all.done():
            self._all.set_exception(LoadFailed(why.decode("latin-1")))

    async def connect(self) -> float:
        """Connects everybody, some at a time; connects per second."""
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        for first in range(0, self.plan.connections, _AT_ONCE):
            numbers = range(first, min(first + _AT_ONCE, self.plan.connections))
            made = [
                loop.create_connection(partial(_Subscriber, self, number), "127.0.0.1", self.plan.port)
                for number in numbers
            ]
            new = [protocol for _, protocol in await asyncio.gather(*made)]
            await asyncio.gather(*(subscriber.ready for subscriber in new))
            self.subscribers += new
        return self.plan.connections / (time.perf_counter() - started)

    def reached(self, subscriber: _Subscriber) -> None:
        """One more has all that is wanted."""
        self._left.discard(subscriber)
        if not self._left and self._all is not None and not self._all.done():
            self._all.set_result(time.perf_counter())

    def want(self, count: int) -> None:
        """From now on `count` more are awaited by each."""
        self.wanted = count
        self.latencies = array("d")
        for subscriber in self.subscribers:
            subscriber.count = 0
        self._left = set(self.subscribers)
        self._all = asyncio.get_running_loop().create_future()

    async def wait(self) -> float:
        """The moment at which the last of them had all."""
        assert self._all is not None
        return await asyncio.wait_for(self._all, _COUNT_SECONDS)


def _percentiles(values: array[float]) -> dict[str, float]:
    ordered = sorted(values)
    if not ordered:
        return {}
    return {"p50_ms": ordered[len(ordered) // 2], "p99_ms": ordered[int(len(ordered) * 0.99)], "max_ms": ordered[-1]}


async def _run(plan: Plan) -> None:
    load = _Load(plan)
    rate = await asyncio.wait_for(load.connect(), _READY_SECONDS)
    print(json.dumps({"ready": True, "connects_per_second": rate}), flush=True)
    loop = asyncio.get_running_loop()
    while True:
        line = await loop.run_in_executor(None, sys.stdin.readline)
        word, _, number = line.strip().partition(" ")
        if word != "count":
            return
        load.want(int(number))
        print(json.dumps({"awaiting": int(number)}), flush=True)
        ended = await load.wait()
        print(json.dumps({"ended": ended, "lost": load.lost, **_percentiles(load.latencies)}), flush=True)


class Subscribers:
    """The process as the measuring side sees it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.connects_per_second = float(self._answer()["connects_per_second"])

    def _answer(self) -> dict[str, float]:
        line = cast("IO[bytes]", self._process.stdout).readline()
        if not line:
            raise LoadFailed(cast("IO[bytes]", self._process.stderr).read().decode(errors="replace")[-1500:])
        answer: dict[str, float] = json.loads(line)
        return answer

    def expect(self, count: int) -> None:
        """Lets each subscriber await `count` messages from now on."""
        stdin = cast("IO[bytes]", self._process.stdin)
        stdin.write(f"count {count}\n".encode())
        stdin.flush()
        self._answer()

    def outcome(self) -> dict[str, float]:
        """Waits until all came: `ended` on the monotonic clock, and latencies in milliseconds where times were sent."""
        return self._answer()


@contextmanager
def subscribers(plan: Plan) -> Iterator[Subscribers]:
    """Connected and subscribed clients until the end of the block. Raises LoadFailed."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.live_load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            stdin = cast("IO[bytes]", process.stdin)
            stdin.write(json.dumps(asdict(plan)).encode() + b"\n")
            stdin.flush()
            yield Subscribers(process)
        finally:
            process.kill()


def main() -> int:
    """Reads the plan and serves the lines that follow."""
    given = json.loads(sys.stdin.readline())
    given["frames"] = tuple(given["frames"])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    try:
        uvloop.run(_run(Plan(**given)))
    except (LoadFailed, OSError, TimeoutError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
