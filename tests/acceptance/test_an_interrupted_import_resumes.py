"""`manage.py publish --file` beside a running server, killed again and again: nothing is lost, nothing comes twice."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.server import ROOT, Server, unique

RECORDS = 60_000
KILLS = 4
DEADLINE_SECONDS = 40.0


def make_file(path: Path) -> list[dict[str, str]]:
    """A CSV file whose every seventh value has a line break."""
    rows = [
        {"tail": f"N{number % 97}", "number": str(number), "note": "two\nlines" if number % 7 == 0 else "x" * 40}
        for number in range(RECORDS)
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return rows


class Import:
    """The command under test, as a process."""

    def __init__(self, server: Server, topic: str, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "publish", topic, "--file", str(path), "--key", "tail"],
            cwd=ROOT,
            env=server.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end_when(self, condition: Callable[[], bool], number: signal.Signals) -> tuple[int, str, str]:
        """Sends a signal as soon as the condition holds; its status and output."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.process.poll() is None and not condition():
            assert time.monotonic() < deadline
        self.process.send_signal(number)
        return self.end()

    def end(self) -> tuple[int, str, str]:
        """Waits for the end; its status and output."""
        output, errors = self.process.communicate(timeout=DEADLINE_SECONDS)
        return self.process.returncode, output, errors


def count(api: httpx.Client, topic: str) -> int:
    partitions = api.get(f"/api/v1/topics/{topic}/partitions").json()["items"]
    return sum(partition["latest_offset"] for partition in partitions)


def resumed_after(output: str) -> int:
    found = re.search(r"resuming after ([0-9,]+) records", output)
    assert found, output
    return int(found[1].replace(",", ""))


@pytest.mark.slow
def test_an_import_that_is_killed_goes_on_where_it_stopped(server: Server, api: httpx.Client, tmp_path: Path) -> None:
    topic, path = unique("departures"), tmp_path / "departures.csv"
    rows = make_file(path)
    api.post("/api/v1/topics", json={"name": topic, "partitions": 4}).raise_for_status()

    def grown_beyond(start: int) -> Callable[[], bool]:
        return lambda: count(api, topic) >= start + 5000

    there = 0
    for kill in range(KILLS):
        status, output, _ = Import(server, topic, path).end_when(grown_beyond(there), signal.SIGKILL)
        assert status == -signal.SIGKILL
        if kill:
            assert there <= resumed_after(output) <= there + 1000, "what was being committed then may count"
        there = count(api, topic)
        assert 0 < there < RECORDS
        assert there % 1000 == 0

    status, output, errors = Import(server, topic, path).end_when(grown_beyond(there), signal.SIGTERM)
    assert status == 128 + signal.SIGTERM
    assert there <= resumed_after(output) <= there + 1000
    there = count(api, topic)
    assert f"stopped after {there:,} records: the same command goes on there" in errors

    status, output, errors = Import(server, topic, path).end()
    assert (status, errors) == (0, "")
    assert resumed_after(output) == there
    assert f"{RECORDS - there:,} records published to {topic}" in output

    printed = server.manage("consume", topic, "--no-follow", "--json").stdout.splitlines()
    came: dict[str, list[dict[str, str]]] = {}
    for record in map(json.loads, printed):
        came.setdefault(record["key"], []).append(record["value"])
    wanted: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        wanted.setdefault(row["tail"], []).append(row)
    assert came == wanted

    repeated = server.manage("publish", topic, "--file", str(path), "--key", "tail").stdout
    assert "--again publishes it once more" in repeated
    assert count(api, topic) == RECORDS
