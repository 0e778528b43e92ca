"""Files of processes that count for Prometheus: what the dead counted stays, and their files do not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest, multiprocess

from messaging_site import metric_files

COUNT = """
import os, signal, sys
from prometheus_client import Counter, Gauge, Histogram
Counter("work", "Work", ["kind"]).labels("a").inc(2)
Histogram("took", "Took", buckets=(1, 5)).observe(3)
Gauge("open", "Open", multiprocess_mode="livesum").set(7)
print("ready", flush=True)
sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""


def counting(directory: Path) -> subprocess.Popen[str]:
    """A process that has counted, and lives until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", COUNT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PROMETHEUS_MULTIPROC_DIR": str(directory)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def figures(directory: Path) -> dict[str, float]:
    registry = CollectorRegistry()
    with metric_files.looking(directory):
        multiprocess.MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
        text = generate_latest(registry).decode()
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_many_dead_processes_leave_their_counts_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_files, "MOST_OF_THE_DEAD", 1)
    for deaths in range(1, 4):
        dying, living = counting(tmp_path), counting(tmp_path)
        dying.communicate()
        found = figures(tmp_path)
        assert found['work_total{kind="a"}'] == 4 + 4 * (deaths - 1)
        assert found['took_bucket{le="1.0"}'] == 0
        assert found['took_bucket{le="5.0"}'] == found["took_count"] == 2 * deaths
        assert found["took_sum"] == 6 * deaths
        assert found["open"] == 7, "of the living one"
        assert figures(tmp_path) == found
        living.communicate()
    figures(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert {"lock", "counter_0.db", "histogram_0.db"} <= left
    assert len(left) == 5, "and those of the one that died last"


def test_a_few_dead_processes_keep_their_files_but_no_gauges(tmp_path: Path) -> None:
    process = counting(tmp_path)
    assert figures(tmp_path)["open"] == 7
    process.communicate()
    assert "open" not in figures(tmp_path)
    assert figures(tmp_path)['work_total{kind="a"}'] == 2
    assert sorted(path.name.split("_")[0] for path in tmp_path.iterdir()) == ["counter", "histogram", "lock"]
