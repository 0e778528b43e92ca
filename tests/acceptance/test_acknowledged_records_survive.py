"""SIGKILL of every process while records are published: what was acknowledged is there, and nothing else appears.

Writers of each kind note what they sent and what they were told; a reader follows along. At the end the whole log is
read and compared. The checks are functions of notes and log, and are themselves tested with logs that are wrong.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from tests.acceptance.embedded_server import (
    LISTENER,
    POSTGRESQL,
    WEB,
    EmbeddedServer,
    embedded_server,
    until,
)
from tests.server import ROOT

PARTITIONS = 3
BETWEEN_KILLS = 40
"""Acknowledged requests between one kill and the next."""

Log = dict[tuple[int, int], str]
"""Value by partition and offset."""


@dataclass
class Sent:
    """One attempt to publish, all or nothing, and how it ended: `ok`, `refused` or `unknown`."""

    values: list[str]
    outcome: str
    places: list[tuple[int, int]] = field(default_factory=list)
    once: bool = False
    """It was repeated under an Idempotency-Key until it was answered."""


def problems(sent: list[Sent], log: Log) -> list[str]:
    """What is wrong with a log, given what was sent and answered."""
    found: list[str] = []
    stored = Counter(log.values())
    for partition in range(PARTITIONS):
        offsets = sorted(offset for number, offset in log if number == partition)
        if offsets != list(range(len(offsets))):
            found.append(f"partition {partition} is not dense")
    known = {value for attempt in sent for value in attempt.values}
    found += [f"{value} was never sent" for value in stored if value not in known]
    for attempt in sent:
        counts = [stored[value] for value in attempt.values]
        if attempt.outcome == "ok":
            found += [
                f"{v} was acknowledged and is stored {n} times"
                for v, n in zip(attempt.values, counts, strict=True)
                if n != 1
            ]
            for value, place in zip(attempt.values, attempt.places, strict=False):
                if log.get(place) != value:
                    found.append(f"{value} was acknowledged at {place}, where {log.get(place)} is")
        elif attempt.outcome == "refused":
            found += [f"{value} was refused and is stored" for value in attempt.values if stored[value]]
        else:
            if max(counts) > 1:
                found.append(f"{attempt.values} is stored more than once")
            if len(set(counts)) > 1:
                found.append(f"{attempt.values} is stored in part: {counts}")
    return found


@pytest.mark.parametrize(
    ("sent", "log", "expected"),
    [
        ([Sent(["a"], "ok", [(0, 0)])], {(0, 0): "a"}, 0),
        ([Sent(["a"], "ok", [(0, 0)])], {}, 2),
        ([Sent(["a"], "ok", [(0, 0)]), Sent(["b"], "unknown")], {(0, 0): "b", (0, 1): "a"}, 1),
        ([Sent(["a"], "ok", [(0, 0)])], {(0, 0): "a", (0, 2): "a"}, 2),
        ([Sent(["a"], "refused")], {(0, 0): "a"}, 1),
        ([Sent(["a", "b"], "unknown")], {(0, 0): "a"}, 1),
        ([Sent(["a", "b"], "unknown")], {(0, 0): "a", (0, 1): "b"}, 0),
        ([Sent(["a"], "unknown")], {(0, 0): "a", (1, 0): "a"}, 1),
        ([Sent(["a"], "unknown")], {(0, 0): "z"}, 1),
    ],
)
def test_the_checks_see_what_is_wrong(sent: list[Sent], log: Log, expected: int) -> None:
    assert len(problems(sent, log)) == expected, problems(sent, log)


class Writers:
    """Threads that publish over REST without a pause, and note what they were told."""

    def __init__(self, server: EmbeddedServer, topic: str) -> None:
        self.sent: list[Sent] = []
        self.acknowledged = 0
        self._server = server
        self._path = f"/api/v1/topics/{topic}/records"
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._write, args=(number, kind))
            for number, kind in enumerate([self._single, self._single, self._batch, self._idempotent, self._wrong])
        ]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, number: int, kind: Callable[[httpx.Client, str], Sent | None]) -> None:
        client = self._server.client()
        n = 0
        while not self._stop.is_set():
            n += 1
            attempt = kind(client, f"w{number}-{n}")
            if attempt is not None:
                self.sent.append(attempt)
                self.acknowledged += attempt.outcome == "ok"
                if attempt.outcome == "unknown":  # a broken connection is not used again
                    client.close()
                    client = self._server.client()
                    self._stop.wait(0.02)
            self._stop.wait(0.002)
        client.close()

    def _post(self, client: httpx.Client, values: list[str], key: str | None = None, **more: Any) -> Sent:
        records: list[dict[str, Any]] = [{"value": value} for value in values]
        records[-1] |= more
        headers = {} if key is None else {"Idempotency-Key": key}
        try:
            answer = client.post(self._path, json={"records": records}, headers=headers)
        except httpx.TransportError:
            return Sent(values, "unknown")
        if answer.status_code == 200:
            return Sent(values, "ok", [(place["partition"], place["offset"]) for place in answer.json()["offsets"]])
        return Sent(values, "refused" if answer.status_code < 500 and answer.status_code != 409 else "unknown")

    def _single(self, client: httpx.Client, name: str) -> Sent:
        return self._post(client, [name], key=None)

    def _batch(self, client: httpx.Client, name: str) -> Sent:
        return self._post(client, [f"{name}-{n}" for n in range(20)])

    def _idempotent(self, client: httpx.Client, name: str) -> Sent:
        """The same again and again until it is answered."""
        key = uuid.uuid4().hex
        values = [f"{name}-{n}" for n in range(3)]
        while True:
            attempt = self._post(client, values, key=key)
            attempt.once = True
            if attempt.outcome != "unknown" or self._stop.is_set():
                return attempt
            self._stop.wait(0.02)

    def _wrong(self, client: httpx.Client, name: str) -> Sent:
        """A batch whose last record names a partition that is not there."""
        return self._post(client, [f"{name}-good", f"{name}-bad"], partition=PARTITIONS)


class Follower:
    """Reads one partition all the time; what it saw must never change."""

    def __init__(self, server: EmbeddedServer, topic: str, partition: int) -> None:
        self.seen: Log = {}
        self.failures: list[str] = []
        self._server, self._partition = server, partition
        self._path = f"/api/v1/topics/{topic}/partitions/{partition}/records"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _follow(self) -> None:
        offset = 0
        client = self._server.client()
        while not self._stop.is_set():
            try:
                answer = client.get(self._path, params={"offset": offset, "limit": 1000, "wait_ms": 200})
            except httpx.TransportError:
                client.close()
                client = self._server.client()
                self._stop.wait(0.02)
                continue
            if answer.status_code >= 500:
                self._stop.wait(0.02)
                continue
            for record in answer.json()["records"]:
                if record["offset"] != offset:
                    self.failures.append(f"{record['offset']} came where {offset} was expected")
                self.seen[self._partition, record["offset"]] = record["value"]
                offset = record["offset"] + 1
        client.close()


def read_log(server: EmbeddedServer, topic: str) -> Log:
    log: Log = {}
    with server.client() as client:
        for partition in range(PARTITIONS):
            offset = 0
            while True:
                path = f"/api/v1/topics/{topic}/partitions/{partition}/records"
                page = client.get(path, params={"offset": offset, "limit": 1000}).json()
                log |= {(partition, record["offset"]): record["value"] for record in page["records"]}
                offset = page["next_offset"]
                if offset >= page["latest_offset"]:
                    break
    return log


@contextmanager
def transactional_writer(server: EmbeddedServer, topic: str, sent: list[Sent]) -> Iterator[dict[str, str]]:
    """The writer in a process of its own; its outcomes by the name of its rows are there when the block ends."""
    outcomes: dict[str, str] = {}
    program = Path(__file__).with_name("transactional_writer.py")
    environment = server.environment | {"DJANGO_SETTINGS_MODULE": "messaging_site.settings", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, str(program), topic, "tx"],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lambda output: lines.extend(output), args=(process.stdout,))
    reader.start()
    try:
        yield outcomes
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0
        reader.join()
        process.stdout.close()
    for line in lines:
        noted = json.loads(line)
        outcomes[noted["name"]] = noted["outcome"]
        sent.append(Sent(noted["values"], noted["outcome"]))


def kill(server: EmbeddedServer, part: str) -> None:
    if part == "everything":
        server.kill_everything()
        server.start()
    else:
        server.kill(part)
        server.wait_until_ready()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_acknowledged_record_survives_sigkill_of_every_process() -> None:
    topic = "kept"
    with embedded_server() as server:
        with server.client() as client:
            assert client.post("/api/v1/topics", json={"name": topic, "partitions": PARTITIONS}).status_code == 201
        sent: list[Sent] = []
        with (
            Follower(server, topic, 0) as follower,
            transactional_writer(server, topic, sent) as outcomes,
            Writers(server, topic) as writers,
        ):
            for part in (WEB, POSTGRESQL, LISTENER, "everything", WEB, POSTGRESQL, "everything"):
                goal = writers.acknowledged + BETWEEN_KILLS
                until(lambda goal=goal: writers.acknowledged >= goal, 20, "publishing goes on")  # type: ignore[misc]
                kill(server, part)
            goal = writers.acknowledged + BETWEEN_KILLS
            until(lambda: writers.acknowledged >= goal, 20, "publishing goes on after the last kill")
        server.wait_until_ready()
        log = read_log(server, topic)
        with psycopg.connect(server.database_url) as database:
            rows = {name for (name,) in database.execute("select name from auth_group where name like 'tx-%'")}
            staged = database.execute("select count(*) from brokers_log_batch where base_offset < 0").fetchone()
    sent += writers.sent
    kinds = Counter((attempt.outcome, attempt.once) for attempt in sent)
    assert kinds["ok", False] > 300
    assert kinds["ok", True] > 30
    assert kinds["refused", False] > 50
    assert not problems(sent, log)
    assert not follower.failures
    assert follower.seen.items() <= log.items(), "a record that was read has changed"
    assert staged == (0,)
    stored = {value.rpartition("-")[0] for value in log.values() if value.startswith("tx-")}
    assert rows == stored, "rows and records of a transaction differ"
    assert {name for name, outcome in outcomes.items() if outcome == "ok"} <= rows
    assert Counter(outcomes.values())["ok"] > 50
