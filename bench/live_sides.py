"""The servers that live push is measured on, as one thing that is subscribed to and published through.

Each side publishes over one connection and fans out in its own server. Called by `bench.live`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

from websockets.sync.client import ClientConnection, connect

from bench.live_load import MARK, Plan, subscribers

_ANSWER_SECONDS = 60.0
_FIRST_DELIVERIES = 1000
"""Of the first run."""
_MOST_RUNS = 6
"""The first is cold; each tells how much fits into the time, the last one counts."""
_GROWTH = 8
"""From one to the next at most: few messages say little of many."""
_UNREAD = 1000
"""Messages on their way to one subscriber: the clients, on the same two cores, are not to be cut off as too slow."""
_MOST_SENDS = 18_000
"""A connection may send 20,000 messages without a pause."""


def body(size: int = 100) -> str:
    """A JSON text of `size` bytes with the mark in it."""
    frame = json.dumps({"mark": MARK.decode(), "filler": ""}, separators=(",", ":"))
    return frame[:-2] + "x" * (size - len(frame)) + frame[-2:]


def stomp(command: str, headers: Mapping[str, str], text: str = "") -> str:
    """A STOMP frame."""
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    return f"{command}\n{lines}\n{text}\0"


@dataclass(frozen=True)
class Side:
    """One server to subscribe to and to publish through."""

    name: str
    plan: Plan
    publish: Callable[[ClientConnection, int], None]
    one_each: bool = False
    """Every subscriber has a destination of its own."""

    @contextmanager
    def publisher(self) -> Iterator[ClientConnection]:
        """A connection that has said the frames that sign it in."""
        with connect(f"ws://127.0.0.1:{self.plan.port}{self.plan.path}", compression=None, max_size=None) as connection:
            for frame in self.plan.frames[:1]:
                connection.send(frame)
                connection.recv(_ANSWER_SECONDS)
            yield connection

    def fan_out(self, count: int, seconds: float) -> float:
        """Deliveries a second to `count` subscribers."""
        rate = 0.0
        with subscribers(replace(self.plan, connections=count)) as clients, self.publisher() as publisher:
            most = _MOST_SENDS // (count if self.one_each else 1)
            messages = max(1, _FIRST_DELIVERIES // count)
            for run in range(_MOST_RUNS):
                took = 0.0
                for first in range(0, messages, _UNREAD):
                    window = min(_UNREAD, messages - first)
                    clients.expect(window)
                    started = time.perf_counter()
                    self.publish(publisher, window * (count if self.one_each else 1))
                    took += clients.outcome()["ended"] - started
                rate = messages * count / took
                most -= messages
                wanted = min(int(messages * min(_GROWTH, seconds / took)), most)
                if run and (took >= seconds / 2 or wanted <= messages):
                    break
                messages = max(1, wanted)
        return rate


def _connect_frame(token: str) -> str:
    return stomp("CONNECT", {"accept-version": "1.2", "host": "/", "login": "guest", "passcode": token})


def stomp_plan(port: int, token: str, destination: str) -> Plan:
    """One connection that subscribes to the destination and waits for its receipt."""
    subscribe = stomp("SUBSCRIBE", {"id": "s", "destination": destination, "receipt": "ready"})
    return Plan(port=port, path="/ws", connections=1, frames=(_connect_frame(token), subscribe), ready="RECEIPT")


def sends(destination: str, connection: ClientConnection, count: int, at_once: int = 50) -> None:
    """SENDs through one STOMP connection; the last one's receipt is waited for."""
    headers = {"destination": destination, "content-type": "application/json"}
    one, text = stomp("SEND", headers, body()), body()
    left = count
    while left > at_once:
        connection.send(one * at_once)
        left -= at_once
    connection.send(one * (left - 1) + stomp("SEND", headers | {"receipt": "sent"}, text))
    while "RECEIPT" not in str(connection.recv(_ANSWER_SECONDS)):
        continue


def sends_round(connection: ClientConnection, count: int, destinations: int) -> None:
    """The same, one to each of many destinations in turn."""
    text = body()
    one_round = [
        stomp("SEND", {"destination": f"/topic/bench.{number}", "content-type": "application/json"}, text)
        for number in range(destinations)
    ]
    for _ in range(count // destinations):
        for first in range(0, destinations, 50):
            connection.send("".join(one_round[first : first + 50]))


def publish_to_channels(connection: ClientConnection, count: int) -> None:
    """Has the consumer of `channels_peer` publish."""
    connection.send(f"publish {count} {body()}")


def our_side(port: int, token: str, destination: str) -> Side:
    """The product."""
    return Side("ours", stomp_plan(port, token, destination), partial(sends, destination))


def paced(action: Callable[[int], None], count: int, rate: float) -> None:
    """Calls `action` at a steady rate with the moment when it was due, in nanoseconds; what is late is not left out."""
    start = time.perf_counter_ns()
    for number in range(count):
        due = start + int(number * 1e9 / rate)
        time.sleep(max(0.0, (due - time.perf_counter_ns()) / 1e9))
        action(due)
