"""The files in which a server's processes count for Prometheus, one of each kind and process, and those of the dead.

`up` knows of the processes that it started, and not of their children, as Celery's: here the gauges of whoever is gone
are taken out, and when there are many, what the dead counted is added up in one file, so that processes that are killed
again and again fill no disk. Called by `telemetry` before each answer, which holds `looking` until it has read.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from prometheus_client.mmap_dict import MmapedDict

MOST_OF_THE_DEAD: Final = 64
_LOCK: Final = "lock"
_OF_PROCESS: Final = re.compile(r"(counter|histogram|gauge_live[a-z]*)_([1-9][0-9]*)\.db")
_ADDED_UP: Final = "{kind}_0.db"
"""No process has this number."""


@contextmanager
def looking(directory: Path) -> Iterator[None]:
    """Within it no other process of this server adds up files, and those of the dead are in order."""
    with (directory / _LOCK).open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _tidy(directory)
        yield


def _tidy(directory: Path) -> None:
    counted: dict[str, list[Path]] = {"counter": [], "histogram": []}
    for path in sorted(directory.iterdir()):
        found = _OF_PROCESS.fullmatch(path.name)
        if found is None or _lives(int(found[2])):
            continue
        if found[1] in counted:
            counted[found[1]].append(path)
        else:
            path.unlink(missing_ok=True)
    for kind, paths in counted.items():
        if len(paths) > MOST_OF_THE_DEAD:
            _add_up(directory / _ADDED_UP.format(kind=kind), paths)


def _add_up(target: Path, paths: Sequence[Path]) -> None:
    sums: defaultdict[str, float] = defaultdict(float)
    for path in [target, *paths] if target.exists() else paths:
        for key, value, _, _ in MmapedDict.read_all_values_from_file(path):  # type: ignore[no-untyped-call]
            sums[key] += value
    made = target.with_suffix(".new")
    made.unlink(missing_ok=True)
    written = MmapedDict(str(made))  # type: ignore[no-untyped-call]  # the library has no types here
    for key, value in sums.items():
        written.write_value(key, value, 0.0)  # type: ignore[no-untyped-call]
    written.close()  # type: ignore[no-untyped-call]
    made.replace(target)
    for path in paths:
        path.unlink(missing_ok=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
