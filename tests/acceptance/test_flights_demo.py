"""`make demo`: a month of flights is counted, what cannot be is mended, and the totals are those of the file."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from messaging_site import embedded
from tests.server import ROOT, Server, fresh_database, running

COMMAND = [sys.executable, "-m", "examples.flights.demo"]
EXPECTED = [
    r"Published 27,004 records to departures: [0-9,]+ records/s, each on disk",
    r"Group delays came to the end after [0-9.]+ s: 26,483 departures counted, 521 dead letters in 6 failure groups",
    r"NoDepartureTime +no departure time for flight '\*' from EWR +204\n",
    r"NoAircraft +no departure time for flight '\*' from JFK +71\n",
    r"Plan: 521 dead letters would be replayed, none skipped\n",
    r"dead letter [0-9]+, flight EV4935 from EWR: sets \{\"cancelled\":true\}\n",
    r"Replay [0-9]+ completed: 521 succeeded, 0 failed again, 0 skipped; sent in [0-9.]+ s\n",
    r"1,852 flights departed 60 minutes late or more:"
    r" each was sent to the exchange delays as flight\.<origin>\.<carrier>\n",
    r"rebooking +delays by flight\.\*\.\* +1,852 +rebooked;"
    r" priority 12 of 5, 13 of 4, 53 of 3, 129 of 2, 399 of 1, 1,246 of 0 *\n",
    r"crew +delays by flight\.EWR\.\* +935 +expired: the desk did not take them within 2 s *\n",
    r"standby +crew, dead-lettered +935 +standby crews called *\n",
    r"The queues' handlers wrote exactly what the file says, each once\n",
    r"Read back 27,004 records: [0-9,]+ records/s, 0 different\n",
    r"UA +4,605 +38,342 +32 +equal",
    r"N730MQ +72 +83 +2 +equal",
    r"The totals of 16 carriers and 3,148 aircraft equal those of the file:"
    r" 26,483 departures, 265,801 minutes of delay, 521 cancelled\n",
]


def assert_told(output: str) -> None:
    """Says everything that it should, and nothing in colours where it is no terminal."""
    for pattern in EXPECTED:
        assert re.search(pattern, output), output
    assert "differ" not in output.replace("0 different", "")
    assert "\x1b" not in output


def demo(server: Server, *arguments: str, **variables: str) -> str:
    """What a whole run beside a server prints."""
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=ROOT,
        env=server.environment | variables,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def open_dead_letters(server: Server) -> int:
    """Of the group `delays`."""
    groups = server.manage("dead_letters", "groups", "--group", "delays", "--json").stdout.splitlines()
    return sum(int(re.findall(r'"open":([0-9]+)', line)[0]) for line in groups)


@pytest.fixture
def own_server() -> Iterator[Server]:
    """A server with nothing in it, whose totals nobody else changes."""
    with fresh_database() as url, running(url) as started:
        yield started


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_goes_on_after_it_was_killed_wherever_it_was(own_server: Server) -> None:
    for stage in ("using it", "Published", "Plan"):
        killed = subprocess.Popen(
            COMMAND, cwd=ROOT, env=own_server.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert killed.stdout is not None
        for line in killed.stdout:
            if stage in line:
                break
        killed.kill()
        rest, _ = killed.communicate()
        assert "The totals of" not in rest

    told = demo(own_server)
    assert "A server is running: using it" in told
    assert "An earlier run left" in told
    assert_told(told)
    assert open_dead_letters(own_server) == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_failures_may_be_left_to_the_reader_and_the_next_run_mends_them(own_server: Server) -> None:
    told = demo(own_server, "--leave-failures")
    assert "replay --group delays --merge-patch '{\"cancelled\": true}'" in told
    assert open_dead_letters(own_server) == 521

    with others_publish(own_server):
        told = demo(own_server)
    assert "An earlier run left 521 dead letters open: mending them first" in told
    assert re.search(r"Read back 27,004 records: [0-9,]+ records/s, 0 different, [0-9,]+ of others\n", told)
    assert_told(re.sub(r", [0-9,]+ of others", "", told))


@contextmanager
def others_publish(server: Server) -> Iterator[None]:
    """Meanwhile flights come from elsewhere: one that departed, one that was cancelled, and what is no flight."""
    flight = {"carrier": "UA", "flight": 1, "origin": "EWR", "tailnum": "N1", "dep_time": 1, "dep_delay": 7}
    records = [{"key": "N1", "value": value} for value in (flight, flight | {"cancelled": True}, {"carrier": 1})]
    is_over = threading.Event()

    def publish() -> None:
        with server.client() as client:
            while not is_over.wait(0.1):
                client.post("/api/v1/topics/departures/records", json={"records": records}).raise_for_status()

    others = threading.Thread(target=publish)
    others.start()
    try:
        yield
    finally:
        is_over.set()
        others.join()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_a_listener_or_the_example_on_the_server_the_demo_brings_its_own() -> None:
    with fresh_database() as url, running(url, WAYSTATION_APPS="", WAYSTATION_LISTENER_PROCESSES="0") as server:
        told = demo(server)
        assert "No listener is running: starting one for the demo" in told
        assert_told(told)


def test_a_paused_group_is_said_in_one_line(own_server: Server) -> None:
    deadline = 100
    while '"group":"delays"' not in own_server.manage("groups", "--json").stdout:
        deadline -= 1
        assert deadline
    own_server.manage("groups", "pause", "delays")
    done = subprocess.run(COMMAND, cwd=ROOT, env=own_server.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1,
        "demo: the group delays is paused; `manage.py groups resume delays` lets it go on\n",
    )


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
