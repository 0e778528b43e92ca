"""What scheduling counts: labels stay few, and what a pool counted is added once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from scheduling import metrics
from scheduling.executors.definition import Figures
from scheduling.metrics import ExecutorTally
from tests.server import unique


def value(name: str, executor: str) -> float:
    found = REGISTRY.get_sample_value(f"waystation_executor_{name}", {"executor": executor})
    return -1 if found is None else found


def figures(name: str) -> Figures:
    return Figures(name, 1, 2, 3, "abort", 1, 1, 2, 0, completed=10, failed=4, rejected=3, seconds=2.5)


def test_names_beyond_the_first_two_hundred_are_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_names", set())
    names = [f"task-{number}" for number in range(metrics.MAX_NAMES)]
    assert [metrics.known(name) for name in names] == names
    assert metrics.known("one more") == metrics.OTHER
    assert metrics.known(names[7]) == names[7]


def test_what_a_pool_counted_is_added_once() -> None:
    name, tally = unique("pool"), ExecutorTally()
    first = figures(name)
    tally.flush([first])
    tally.flush([first])
    tally.flush([replace(first, active=0, queued=0, completed=12, seconds=3.0)])
    assert (value("active", name), value("queued", name), value("threads", name)) == (0, 0, 1)
    assert (value("tasks_total", name), value("task_seconds_total", name)) == (12, 3.0)
    assert (value("failures_total", name), value("rejections_total", name)) == (4, 3)


def test_another_pool_of_the_same_name_begins_anew() -> None:
    name, tally = unique("pool"), ExecutorTally()
    tally.flush([figures(name)])
    tally.flush([replace(figures(name), completed=1, failed=0, rejected=0, seconds=0.5)])
    assert (value("tasks_total", name), value("task_seconds_total", name)) == (11, 3.0)
