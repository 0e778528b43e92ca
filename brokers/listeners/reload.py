"""Notices that a program's own files have changed, for development: the worker then begins anew with them."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

_INSTALLED = tuple(f"{sysconfig.get_path(name)}{os.sep}" for name in ("stdlib", "purelib", "platlib"))


class Watched:
    """The files of the modules that are loaded, but for those that are installed; each by its time of change."""

    def __init__(self) -> None:
        self._seen = _times()

    def changed(self) -> list[Path]:
        """Files that are not as they were at the start or when they were loaded."""
        now = _times()
        found = [path for path, time in now.items() if self._seen.get(path, time) != time]
        self._seen = now | self._seen
        return sorted(found)


def _times() -> dict[Path, int]:
    times: dict[Path, int] = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.endswith(".py") or file.startswith(_INSTALLED):
            continue
        path = Path(file)
        try:
            times[path] = path.stat().st_mtime_ns
        except OSError:  # an editor may be replacing it
            continue
    return times


def begin_anew() -> None:
    """Replaces this process by a new one with the same command line; does not return."""
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - no shell is wanted
