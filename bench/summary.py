"""Keeps the summary table of README.md: every measurement that has a goal, from the last complete run.

`bench.__main__` calls `update` after a complete run; `python -m bench.summary` does it from
results/latest.json.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.measurement import RESULTS

README = Path(__file__).parent / "README.md"
_BEGIN = "<!-- summary of results/latest.json: written by bench/summary.py -->"
_END = "<!-- end of summary -->"


def _machine(about: dict[str, Any]) -> str:
    fdatasync = about["fdatasync_ms"]
    return (
        f"{about['cores']} cores of {about['cpu']}, {about['memory']} memory, {about['kernel']}, "
        f"Python {about['python']}, PostgreSQL {about['postgresql']}; fdatasync {fdatasync['median']} ms "
        f"(p99 {fdatasync['p99']} ms)"
    )


def _row(one: dict[str, Any]) -> str:
    ratio = f"{one['ratio']:.2f}" if one["reached"] else f"**{one['ratio']:.2f}** (missed)"
    return (
        f"| {one['group']}: {one['what']} | {one['reference']} | {one['goal']} | {ratio} "
        f"| {one['speed']:,.0f} {one['unit']} | {one['reference_speed']:,.0f} |"
    )


def _latency(one: dict[str, Any]) -> str:
    return f"- {one['what']}: {one['speed']:.2f} ms, p99 {one['details']['p99_ms']} ms"


def text(document: dict[str, Any]) -> str:
    """The summary of one run as Markdown."""
    found = document["measurements"]
    lines = [
        f"Run of {document['started']}: {_machine(document['machine'])}.",
        "",
        "| what | against | at least | ratio | measured | reference |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_row(one) for one in found if one["goal"] is not None),
        "",
        "Latencies, at the rates named:",
        "",
        *(_latency(one) for one in found if one["unit"] == "ms"),
    ]
    return "\n".join(lines)


def update(document: dict[str, Any]) -> None:
    """Replaces the summary in README.md; raises ValueError when its markers are gone."""
    readme = README.read_text(encoding="utf-8")
    before, begin, rest = readme.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError("bench/README.md has lost the markers of its summary")
    README.write_text(f"{before}{begin}\n\n{text(document)}\n\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    update(json.loads((RESULTS / "latest.json").read_text(encoding="utf-8")))
