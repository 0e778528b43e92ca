"""Live push: deliveries a second, publish to receive, idle connections and a subscriber that does not read.

The same clients subscribe to this product, to RabbitMQ's Web-STOMP plugin and to a plain Channels consumer, in turn.
Each side publishes over one connection and fans out in its own server; publisher, server and clients share the machine.
"""

from __future__ import annotations

import json
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import psutil
from websockets.sync.client import ClientConnection, connect

from bench import pika_peer, stores
from bench.live_load import MARK, Plan, subscribers
from bench.measurement import Measurement
from bench.rounds import Extent, Subject, interleaved, median

COUNTS = (20, 200, 2000)
GOALS = {"RabbitMQ's Web-STOMP": 8.0, "a plain Channels consumer": 40.0}
GOAL_COUNT = 200
LATENCY_RATE = 100
LATENCY_GOAL_MS = 10.0
IDLE_GOAL_MIB = 350.0
STALLED_GOAL_KIB = 512.0
_GROUP = "live push"
_CHANNELS = "bench.channels_peer:application"
_DELIVERIES = 200_000
"""Of one round and second, to begin with; fewer for the slow."""


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
    deliveries: int
    one_each: bool = False
    """Every subscriber has a destination of its own."""

    @contextmanager
    def publisher(self) -> Iterator[ClientConnection]:
        """A connection that has said the frames that sign it in."""
        with connect(f"ws://127.0.0.1:{self.plan.port}{self.plan.path}", compression=None, max_size=None) as connection:
            for frame in self.plan.frames[:1]:
                connection.send(frame)
                connection.recv()
            yield connection

    def fan_out(self, count: int, seconds: float) -> float:
        """Deliveries a second to `count` subscribers."""
        with subscribers(replace(self.plan, connections=count)) as clients, self.publisher() as publisher:
            each = max(1, int(self.deliveries * seconds) // count)
            for messages in (max(1, each // 10), each):
                clients.expect(messages)
                started = time.perf_counter()
                self.publish(publisher, messages * (count if self.one_each else 1))
                ended = clients.outcome()["ended"]
            return each * count / (ended - started)


def _connect_frame(token: str) -> str:
    return stomp("CONNECT", {"accept-version": "1.2", "host": "/", "login": "guest", "passcode": token})


def _stomp_plan(port: int, token: str, destination: str) -> Plan:
    subscribe = stomp("SUBSCRIBE", {"id": "s", "destination": destination, "receipt": "ready"})
    return Plan(port=port, path="/ws", connections=1, frames=(_connect_frame(token), subscribe), ready="RECEIPT")


def _sends(destination: str, connection: ClientConnection, count: int, at_once: int = 50) -> None:
    """SENDs through one STOMP connection; the last one's receipt is waited for."""
    headers = {"destination": destination, "content-type": "application/json"}
    one, text = stomp("SEND", headers, body()), body()
    left = count
    while left > at_once:
        connection.send(one * at_once)
        left -= at_once
    connection.send(one * (left - 1) + stomp("SEND", headers | {"receipt": "sent"}, text))
    while "RECEIPT" not in str(connection.recv()):
        continue


def _sends_round(connection: ClientConnection, count: int, destinations: int) -> None:
    """The same, one to each of many destinations in turn."""
    text = body()
    one_round = [
        stomp("SEND", {"destination": f"/topic/bench.{number}", "content-type": "application/json"}, text)
        for number in range(destinations)
    ]
    for _ in range(count // destinations):
        for first in range(0, destinations, 50):
            connection.send("".join(one_round[first : first + 50]))


def _channels(connection: ClientConnection, count: int) -> None:
    connection.send(f"publish {count} {body()}")


def _ours(port: int, token: str, destination: str) -> Side:
    return Side("ours", _stomp_plan(port, token, destination), partial(_sends, destination), _DELIVERIES)


def measure(extent: Extent, data_dir: Path) -> Iterator[Measurement]:
    """Everything on this page, one after the other."""
    from brokers import topics

    topics.create("bench-live", partitions=6)
    with ExitStack() as stack:
        port = stack.enter_context(stores.web(stores.PRODUCT))
        token = stores.issue_token()
        sides = {
            "ours": _ours(port, token, "/topic/bench-broadcast"),
            "record": _ours(port, token, "/topic/bench-live"),
        }
        if missing := pika_peer.missing():
            print(f"no comparison with RabbitMQ: {missing}", file=sys.stderr)
        else:
            web = stack.enter_context(pika_peer.web_stomp(data_dir / "rabbitmq-live"))
            plan = _stomp_plan(web, "guest", "/topic/bench")
            sides["RabbitMQ's Web-STOMP"] = Side("Web-STOMP", plan, partial(_sends, "/topic/bench"), 20_000)
        channels = stack.enter_context(stores.web(_CHANNELS))
        plan = Plan(port=channels, path="/", connections=1, frames=("hello",), ready="ready")
        sides["a plain Channels consumer"] = Side("Channels", plan, _channels, 4_000)
        yield from _fan_out(sides, extent)
        yield from _destinations(sides["ours"], extent)
        yield _latency(port, token, extent)
    yield from _idle(extent)
    yield from _stalled()


def _fan_out(sides: Mapping[str, Side], extent: Extent) -> Iterator[Measurement]:
    for count in COUNTS:
        subjects: dict[str, Subject] = {
            name: partial(side.fan_out, count, extent.seconds) for name, side in sides.items()
        }
        speeds = interleaved(subjects, extent.rounds)
        for name in sides:
            if name in ("ours", "record"):
                continue
            yield Measurement(
                group=_GROUP,
                what=f"a broadcast to {count} subscribers",
                speeds=speeds["ours"],
                unit="deliveries/s",
                reference=name,
                reference_speeds=speeds[name],
                goal=GOALS[name] if count == GOAL_COUNT else None,
            )
        yield Measurement(
            group=_GROUP,
            what=f"records of a topic to {count} subscribers, each SEND stored",
            speeds=speeds["record"],
            unit="deliveries/s",
            reference="ours, a broadcast",
            reference_speeds=speeds["ours"],
        )


def _destinations(ours: Side, extent: Extent) -> Iterator[Measurement]:
    for count in COUNTS:
        subscribe = stomp("SUBSCRIBE", {"id": "s", "destination": "/topic/bench.{n}", "receipt": "ready"})
        side = replace(
            ours,
            plan=replace(ours.plan, frames=(ours.plan.frames[0], subscribe)),
            publish=partial(_sends_round, destinations=count),
            deliveries=10_000,
            one_each=True,
        )
        speeds = interleaved({"ours": partial(side.fan_out, count, extent.seconds)}, extent.rounds)
        yield Measurement(
            group=_GROUP,
            what=f"{count} destinations with a subscriber each, one SEND a delivery",
            speeds=speeds["ours"],
            unit="deliveries/s",
        )


def _latency(port: int, token: str, extent: Extent) -> Measurement:
    """Publish over REST to the last byte at the client, 200 subscribers and 100 records a second."""
    plan = replace(_stomp_plan(port, token, "/topic/bench-live"), connections=200, sampled=10)
    count = int(extent.latency_seconds * LATENCY_RATE)
    address = f"http://127.0.0.1:{port}/api/v1/topics/bench-live/records"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with subscribers(plan) as clients:
        clients.expect(count)
        due = time.perf_counter()
        for _ in range(count):
            value = {"mark": MARK.decode(), "sent": time.perf_counter_ns()}
            data = json.dumps({"records": [{"value": value}]}, separators=(",", ":")).encode()
            request = urllib.request.Request(address, data=data, headers=headers)
            with urllib.request.urlopen(request, timeout=10):
                pass
            due += 1 / LATENCY_RATE
            time.sleep(max(0.0, due - time.perf_counter()))
        outcome = clients.outcome()
    return Measurement(
        group=_GROUP,
        what=f"publish over REST to receive, 200 subscribers, {LATENCY_RATE} records/s, p99",
        speeds=(LATENCY_GOAL_MS,),
        unit="ms wanted",
        reference="measured, ms",
        reference_speeds=(outcome["p99_ms"],),
        goal=1.0,
        details={name: round(outcome[name], 2) for name in ("p50_ms", "p99_ms", "max_ms")},
    )


def _memory(port: int) -> int:
    """Resident bytes of the web process that listens on this port."""
    for process in psutil.Process().children(recursive=True):
        if any(part == stores.PRODUCT for part in process.cmdline()):
            return int(process.memory_info().rss)
    raise stores.WebFailed(f"there is no web process of port {port}")


def _idle(extent: Extent) -> Iterator[Measurement]:
    count = 10_000 if extent.rounds and extent.seconds >= 1 else 2000
    with stores.web(stores.PRODUCT) as port:
        plan = replace(_stomp_plan(port, stores.issue_token(), "/topic/bench-idle"), connections=count)
        before = _memory(port)
        with subscribers(plan) as clients:
            after = _memory(port)
            yield Measurement(
                group=_GROUP,
                what=f"{count} idle connections with a subscription each, MiB of the process",
                speeds=(IDLE_GOAL_MIB,),
                unit="MiB wanted",
                reference="measured, MiB",
                reference_speeds=(after / 2**20,),
                goal=1.0 if count == 10_000 else None,
                details={
                    "base_mib": round(before / 2**20, 1),
                    "kib_each": round((after - before) / count / 1024, 2),
                    "connects_per_second": round(clients.connects_per_second),
                },
            )


def _stalled() -> Iterator[Measurement]:
    """200 subscribers with and without one that has stopped reading, frames of 20 KiB."""
    with stores.web(stores.PRODUCT) as port:
        token = stores.issue_token()
        plan = replace(_stomp_plan(port, token, "/topic/bench-stalled"), connections=10)
        large = stomp("SEND", {"destination": "/topic/bench-stalled"}, body(20_000))
        speeds: dict[str, list[float]] = {"alone": [], "beside": []}
        grown: list[float] = []
        for _ in range(3):
            for name in speeds:
                with ExitStack() as stack:
                    if name == "beside":
                        stack.enter_context(subscribers(replace(plan, connections=1, reads=False)))
                    clients = stack.enter_context(subscribers(plan))
                    publisher = stack.enter_context(_ours(port, token, "/topic/bench-stalled").publisher())
                    before = _memory(port)
                    clients.expect(1000)
                    started = time.perf_counter()
                    for _ in range(1000):
                        publisher.send(large)
                    speeds[name].append(10_000 / (clients.outcome()["ended"] - started))
                    if name == "beside":
                        grown.append((_memory(port) - before) / 1024)
        yield Measurement(
            group=_GROUP,
            what="deliveries of 20 KiB to ten subscribers beside one that does not read",
            speeds=tuple(speeds["beside"]),
            unit="deliveries/s",
            reference="without it",
            reference_speeds=tuple(speeds["alone"]),
            goal=0.95,
            details={"process_grew_kib": round(median(grown))},
        )
