"""A pytest plugin (see `addopts`): the real PostgreSQL and Valkey of one test run, in a directory removed at its end.

It is imported before Django's settings are, and so decides which database they name: with DATABASE_URL and REDIS_URL
set, those; else embedded ones, which start when the tests are about to be collected.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

_GIVEN = bool(os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL"))
_stop: list[Callable[[], None]] = []

if not _GIVEN:
    _directory = Path(tempfile.mkdtemp(prefix="waystation-tests-"))
    _directory.chmod(0o755)
    for _name in ("HOST", "PORT", "DATABASE_URL", "REDIS_URL", "DJANGO_DEBUG", "DJANGO_SECRET_KEY"):
        os.environ.pop(_name, None)
    for _name in [name for name in os.environ if name.startswith("WAYSTATION_")]:
        os.environ.pop(_name)
    os.environ["WAYSTATION_DATA_DIR"] = str(_directory / "data")


def pytest_configure(config: pytest.Config) -> None:
    """Starts the stores; with several processes (`pytest -n`) each of them has its own, and this one none."""
    if not _GIVEN and not config.option.collectonly and not _only_distributes(config):
        from messaging_site import embedded

        _stop.append(embedded.start_for_tests(_directory / "data"))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stops the stores and removes their data."""
    while _stop:
        _stop.pop()()
    if not _GIVEN and _directory.exists():
        shutil.rmtree(_directory)


def _only_distributes(config: pytest.Config) -> bool:
    """Whether this is the process that gives tests to others."""
    return bool(getattr(config.option, "numprocesses", None)) and not hasattr(config, "workerinput")
