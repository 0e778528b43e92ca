"""`make demo`: a month of flights goes in and comes back, with a server of its own or beside one that runs."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from messaging_site import embedded
from tests.server import ROOT, Server

COMMAND = [sys.executable, "-m", "examples.flights.demo"]
EXPECTED = [
    r"Published 27,004 records to departures: [0-9,]+ records/s, each on disk",
    r"Read back 27,004 records as group flights-demo: [0-9,]+ records/s, 0 different",
    r"N730MQ +74\n *N739MQ +73\n *N713MQ +70\n *N719MQ +66\n *N734MQ +66",
]


def assert_told(output: str) -> None:
    for pattern in EXPECTED:
        assert re.search(pattern, output), output
    rows = re.findall(r"^([0-5]) +([0-9,]+) +([0-9,]+) *$", output, re.MULTILINE)
    published = [int(row[1].replace(",", "")) for row in rows]
    assert (len(published), sum(published)) == (6, 27_004)
    assert [row[1] for row in rows] == [row[2] for row in rows]
    assert "\x1b" not in output, "plain where it is no terminal"


@pytest.mark.slow
def test_the_demo_can_be_repeated_beside_a_running_server_even_after_it_was_killed(server: Server) -> None:
    for _ in range(2):
        done = subprocess.run(
            COMMAND, cwd=ROOT, env=server.environment, capture_output=True, text=True, timeout=60, check=True
        )
        assert "A server is running: using it" in done.stdout
        assert_told(done.stdout)

    before = _stored(server)
    killed = subprocess.Popen(COMMAND, cwd=ROOT, env=server.environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while _stored(server) < before + 27_004:
        assert killed.poll() is None
        assert time.monotonic() < deadline
    killed.kill()
    killed.wait()

    done = subprocess.run(
        COMMAND, cwd=ROOT, env=server.environment, capture_output=True, text=True, timeout=90, check=True
    )
    assert_told(done.stdout)


def _stored(server: Server) -> int:
    with server.client() as client:
        partitions = client.get("/api/v1/topics/departures/partitions").json()["items"]
    return sum(partition["latest_offset"] for partition in partitions)


@pytest.fixture
def nothing_runs() -> Iterator[dict[str, str]]:
    """The environment of a data directory that does not exist yet."""
    with tempfile.TemporaryDirectory(prefix="waystation-demo-") as directory:
        Path(directory).chmod(0o755)
        data_dir = Path(directory) / "data"
        ours = ("HOST", "PORT", "DATABASE_URL", "REDIS_URL")
        yield {
            name: value
            for name, value in os.environ.items()
            if name not in ours and not name.startswith(("WAYSTATION_", "DJANGO_"))
        } | {"WAYSTATION_DATA_DIR": str(data_dir)}
        embedded.remove(data_dir)


@pytest.mark.slow
def test_the_demo_starts_a_server_where_none_runs_and_stops_it_at_the_end(nothing_runs: dict[str, str]) -> None:
    done = subprocess.run(COMMAND, cwd=ROOT, env=nothing_runs, capture_output=True, text=True, timeout=100, check=True)

    assert "No server is running: starting one for the demo" in done.stdout
    assert "The administrator, shown this once:" in done.stdout
    assert_told(done.stdout)
    assert _using(nothing_runs["WAYSTATION_DATA_DIR"]) == []


@pytest.mark.slow
def test_a_demo_that_is_stopped_takes_its_server_along(nothing_runs: dict[str, str]) -> None:
    demo = subprocess.Popen(COMMAND, cwd=ROOT, env=nothing_runs, stdout=subprocess.PIPE, text=True)
    assert demo.stdout is not None
    for line in demo.stdout:
        if "is ready at" in line:
            break
    demo.send_signal(signal.SIGTERM)
    demo.communicate(timeout=30)

    assert demo.returncode == 128 + signal.SIGTERM
    assert _using(nothing_runs["WAYSTATION_DATA_DIR"]) == []


def _using(data_dir: str) -> list[str]:
    """Command lines of the processes that were started for a data directory and still live."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("WAYSTATION_DATA_DIR") == data_dir:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
