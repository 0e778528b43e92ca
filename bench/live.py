"""Live push: deliveries a second, publish to receive, idle connections and a subscriber that does not read.

The same clients subscribe to this product, to RabbitMQ's Web-STOMP plugin and to a plain Channels consumer, in turn.
Each side publishes over one connection and fans out in its own server; publisher, server and clients share the machine.
"""

from __future__ import annotations

import http.client
import json
import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import psutil

from bench import pika_peer, stores
from bench.live_load import MARK, LoadFailed, Plan, subscribers
from bench.live_sides import Side, our_side, paced, publish_to_channels, sends, sends_round, stomp, stomp_plan
from bench.measurement import Measurement
from bench.rounds import Extent, Subject, interleaved, median

COUNTS = (20, 200, 2000)
GOALS = {"RabbitMQ's Web-STOMP": 8.0, "a plain Channels consumer": 40.0}
GOAL_COUNT = 200
LATENCY_RATE = 100
LATENCY_GOAL_MS = 10.0
IDLE_CONNECTIONS = 10_000
IDLE_GOAL_MIB = 350.0
STALLED_RATE = 200
STALLED_BYTES = 20_000
STALLED_GOAL_KIB = 512.0
_GROUP = "live push"
_CHANNELS = "bench.channels_peer:application"
_SPARE_DESCRIPTORS = 500


def measure(extent: Extent, data_dir: Path) -> Iterator[Measurement]:
    """Everything on this page, one after the other."""
    from brokers import topics

    topics.create("bench-live", partitions=6)
    with ExitStack() as stack:
        port = stack.enter_context(stores.web(stores.PRODUCT))
        token = stores.issue_token()
        sides = {
            "ours": our_side(port, token, "/topic/bench-broadcast"),
            "record": our_side(port, token, "/topic/bench-live"),
        }
        if missing := pika_peer.missing():
            print(f"no comparison with RabbitMQ: {missing}", file=sys.stderr)
        else:
            web = stack.enter_context(pika_peer.web_stomp(data_dir / "rabbitmq-live"))
            plan = stomp_plan(web, "guest", "/topic/bench")
            sides["RabbitMQ's Web-STOMP"] = Side("Web-STOMP", plan, partial(sends, "/topic/bench"))
        channels = stack.enter_context(stores.web(_CHANNELS))
        plan = Plan(port=channels, path="/", connections=1, frames=("hello",), ready="ready")
        sides["a plain Channels consumer"] = Side("Channels", plan, publish_to_channels)
        yield from _fan_out(sides, extent)
        yield from _destinations(sides["ours"], extent)
        yield _latency(port, token, extent)
    yield from _idle(extent)
    yield from _stalled(extent)


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
            publish=partial(sends_round, destinations=count),
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
    """From when a record was due over REST to the last byte at the client, 200 subscribers and 100 records a second."""
    plan = replace(stomp_plan(port, token, "/topic/bench-live"), connections=GOAL_COUNT, sampled=10)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def publish(due_ns: int) -> None:
        value = {"mark": MARK.decode(), "sent": due_ns}
        data = json.dumps({"records": [{"value": value}]}, separators=(",", ":"))
        client.request("POST", "/api/v1/topics/bench-live/records", data, headers)
        answer = client.getresponse()
        answer.read()
        if answer.status >= 300:
            raise LoadFailed(f"publishing was answered with {answer.status}")

    with closing(client), subscribers(plan) as clients:
        for seconds in (1.0, extent.latency_seconds):  # the first one warms up
            count = int(seconds * LATENCY_RATE)
            clients.expect(count)
            paced(publish, count, LATENCY_RATE)
            outcome = clients.outcome()
    return Measurement(
        group=_GROUP,
        what=f"publish over REST to receive, {GOAL_COUNT} subscribers, {LATENCY_RATE} records/s, p99",
        speeds=(LATENCY_GOAL_MS,),
        unit="ms wanted",
        reference="measured, ms",
        reference_speeds=(outcome["p99_ms"],),
        goal=1.0,
        details={name: round(outcome[name], 2) for name in ("p50_ms", "p99_ms", "max_ms")},
    )


def _web_process() -> psutil.Process:
    """The web process that serves the product."""
    for process in psutil.Process().children(recursive=True):
        if stores.PRODUCT in process.cmdline():
            return process
    raise stores.WebFailed("there is no web process")


def _idle(extent: Extent) -> Iterator[Measurement]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = IDLE_CONNECTIONS if hard == resource.RLIM_INFINITY else min(IDLE_CONNECTIONS, hard - _SPARE_DESCRIPTORS)
    with stores.web(stores.PRODUCT) as port:
        process = _web_process()
        plan = replace(stomp_plan(port, stores.issue_token(), "/topic/bench-idle"), connections=count)
        with subscribers(replace(plan, connections=100)):
            pass  # what is made for the first connections is no memory of the others
        before = process.memory_info().rss
        with subscribers(plan) as clients:
            after = process.memory_info().rss
            started, spent = time.perf_counter(), _cpu(process)
            time.sleep(max(1.0, extent.seconds))
            busy = (_cpu(process) - spent) / (time.perf_counter() - started)
        yield Measurement(
            group=_GROUP,
            what=f"{count} idle connections with a subscription each, MiB of the process",
            speeds=(IDLE_GOAL_MIB,),
            unit="MiB wanted",
            reference="measured, MiB",
            reference_speeds=(after / 2**20,),
            goal=1.0 if count == IDLE_CONNECTIONS else None,
            details={
                "base_mib": round(before / 2**20, 1),
                "kib_each": round((after - before) / count / 1024, 2),
                "connects_per_second": round(clients.connects_per_second),
                "idle_cpu_percent": round(100 * busy, 1),
            },
        )


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _stalled(extent: Extent) -> Iterator[Measurement]:
    """Frames of 20 KB at a steady rate to ten subscribers, with and without one more that has stopped reading."""
    count = int(STALLED_RATE * max(3.0, extent.latency_seconds / 3))
    with stores.web(stores.PRODUCT) as port:
        process = _web_process()
        ours = our_side(port, stores.issue_token(), "/topic/bench-stalled")
        plan = replace(ours.plan, connections=10)
        speeds: dict[str, list[float]] = {"alone": [], "beside": []}
        latencies: dict[str, list[float]] = {"alone": [], "beside": []}
        most: dict[str, list[float]] = {"alone": [], "beside": []}
        for number in range(extent.rounds + 1):
            for name in speeds:
                with ExitStack() as stack:
                    if name == "beside":
                        stack.enter_context(subscribers(replace(plan, connections=1, reads=False)))
                    clients = stack.enter_context(subscribers(plan))
                    publisher = stack.enter_context(ours.publisher())
                    memory = [process.memory_info().rss]

                    def publish(due_ns: int) -> None:
                        text = json.dumps({"mark": MARK.decode(), "sent": due_ns, "filler": "x" * STALLED_BYTES})
                        headers = {"destination": "/topic/bench-stalled", "content-type": "application/json"}
                        publisher.send(stomp("SEND", headers, text.replace(" ", "")))  # noqa: B023 - called here
                        memory.append(process.memory_info().rss)  # noqa: B023

                    clients.expect(count)
                    started = time.perf_counter()
                    paced(publish, count, STALLED_RATE)
                    outcome = clients.outcome()
                    if number:  # the first round only brings the process to its size
                        speeds[name].append(count * plan.connections / (outcome["ended"] - started))
                        latencies[name].append(outcome["p99_ms"])
                        most[name].append((max(memory) - memory[0]) / 1024)
        yield Measurement(
            group=_GROUP,
            what=f"deliveries of 20 KB to ten subscribers beside one that does not read, {STALLED_RATE} messages/s",
            speeds=tuple(speeds["beside"]),
            unit="deliveries/s",
            reference="without it",
            reference_speeds=tuple(speeds["alone"]),
            goal=0.95,
            details={f"{name}_p99_ms": round(median(taken), 2) for name, taken in latencies.items()},
        )
        yield Measurement(
            group=_GROUP,
            what="memory that the process takes for it at most, KiB",
            speeds=(STALLED_GOAL_KIB,),
            unit="KiB wanted",
            reference="measured, KiB",
            reference_speeds=(max(1.0, median(most["beside"]) - median(most["alone"])),),
            goal=1.0,
            details={f"{name}_kib": round(median(taken)) for name, taken in most.items()},
        )
