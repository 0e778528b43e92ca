"""Modules stay short and are named for what they hold."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("brokers", "messaging_site", "realtime", "scheduling", "examples")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

MOST_LINES = 350
LONGER: dict[str, str] = {"brokers/migrations/0006_failures.py": "operations that Django generated from the models"}
"""Modules that may be longer, each with the reason."""

BANNED = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "managers", "tools", "stuff"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_there_are_modules_to_look_at() -> None:
    assert len(MODULES) > 50


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_is_no_longer_than_it_may_be(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES or name(path) in LONGER, f"{name(path)} has {lines} lines"


def test_no_reason_is_given_for_a_module_that_is_short_enough() -> None:
    for path in LONGER:
        assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) > MOST_LINES, path


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_modules_name_says_what_it_holds(path: Path) -> None:
    words = set(path.relative_to(ROOT).with_suffix("").parts[1:])
    assert not words & BANNED


@pytest.mark.parametrize("path", [path for path in MODULES if "migrations/0" not in name(path)], ids=name)
def test_a_module_says_what_it_is_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not text.strip() or text.lstrip().startswith('"""'), f"{name(path)} has no docstring"
