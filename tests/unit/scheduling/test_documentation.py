"""The Python in the pages on scheduling runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from scheduling.durable import declared as durable
from scheduling.tasks import declared
from scheduling.tasks.triggers import Cron, FixedDelay, FixedRate

ROOT = Path(__file__).resolve().parents[3]


def blocks(page: str, heading: str = "") -> list[str]:
    """The Python of a page, or of one of its sections."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if heading:
        text = re.split("^#+ ", text.partition(heading)[2], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall("^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert found
    return found


@pytest.fixture(autouse=True)
def nothing_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a page declares is forgotten after it."""
    monkeypatch.setattr(declared, "_declared", {})
    monkeypatch.setattr(durable, "_declared", {})


@pytest.mark.parametrize(
    "block",
    [
        *blocks("docs/scheduling.md"),
        *blocks("docs/locks.md"),
        *blocks("README.md", "### By the clock, and in the background"),
    ],
    ids=lambda block: block.splitlines()[0],
)
def test_an_example_runs(block: str) -> None:
    exec(block, {"__name__": "documented"})


def test_the_examples_of_tasks_declare_what_the_page_says() -> None:
    example: dict[str, Any] = {"__name__": "documented"}
    exec(blocks("docs/scheduling.md")[0], example)
    found = {task.name: task.trigger for task in declared.declarations()}
    assert found == {
        "documented.daily_report": Cron("0 0 8 * * MON-FRI", "America/New_York"),
        "documented.poll_partner": FixedDelay(5000, 60_000),
        "documented.roll_up_rates": FixedRate(30_000),
    }
    assert example["daily_report"]() == {"rows": 16}
