"""What the figures were measured on: processor, memory, kernel, versions, and the time of one fdatasync.

Linux only, as far as /proc is read; elsewhere those entries are "unknown". Called once by `bench.__main__`.
"""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.rounds import median, percentile

_PACKAGES = ("Django", "psycopg", "msgspec", "starlette", "uvicorn", "uvloop", "httptools", "confluent-kafka")


def _proc_value(path: str, name: str) -> str:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    for line in lines:
        if line.startswith(name):
            return line.partition(":")[2].strip()
    return "unknown"


def fdatasync_milliseconds(directory: Path, count: int = 300) -> dict[str, float]:
    """Median and p99 in ms of appending 8 KB and calling fdatasync on a file in `directory`."""
    path = directory / "fdatasync-probe"
    block = b"\0" * 8192
    times: list[float] = []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
    try:
        for _ in range(count):
            os.write(descriptor, block)
            started = time.perf_counter()
            os.fdatasync(descriptor)
            times.append((time.perf_counter() - started) * 1000)
    finally:
        os.close(descriptor)
        path.unlink()
    return {"median": round(median(times), 4), "p99": round(percentile(sorted(times), 0.99), 4)}


def describe(directory: Path) -> dict[str, Any]:
    """The machine and the versions; `directory` is where the stores keep their data."""
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu": _proc_value("/proc/cpuinfo", "model name"),
        "memory": _proc_value("/proc/meminfo", "MemTotal"),
        "kernel": f"{platform.system()} {platform.release()}",
        "load_average_before": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "fdatasync_ms": fdatasync_milliseconds(directory),
        "loopback": "clients and servers share the cores; nothing crosses a network",
    }
