"""Modules stay short and are named for what they hold."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("brokers", "messaging_site", "realtime", "scheduling", "examples")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

MOST_LINES = 350
GENERATED = "operations that Django generated from the models"
LONGER: dict[str, str] = {
    "brokers/errors.py": "the one tree of errors, a few lines for each",
    "brokers/migrations/0006_failures.py": GENERATED,
    "brokers/migrations/0008_queues.py": GENERATED,
}
"""Modules that may be longer, each with the reason."""

BANNED = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager", "managers", "tools", "stuff"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_there_are_modules_to_look_at() -> None:
    assert len(MODULES) > 50


def test_a_module_is_no_longer_than_it_may_be() -> None:
    lines = {name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {path: count for path, count in lines.items() if count > MOST_LINES and path not in LONGER} == {}


def test_no_reason_is_given_for_a_module_that_is_short_enough() -> None:
    for path in LONGER:
        assert len((ROOT / path).read_text(encoding="utf-8").splitlines()) > MOST_LINES, path


def test_a_modules_name_says_what_it_holds() -> None:
    assert [name(path) for path in MODULES if BANNED & set(path.relative_to(ROOT).with_suffix("").parts[1:])] == []


def test_a_module_says_what_it_is_for() -> None:
    written = [path for path in MODULES if "migrations/0" not in name(path)]
    texts = {name(path): path.read_text(encoding="utf-8").lstrip() for path in written}
    assert [path for path, text in texts.items() if text and not text.startswith('"""')] == []
