"""Starting and ending operating system processes so that none outlives the one that started it.

Knows signals, process groups and /proc; not what the processes are for. `embedded.py`, `postgres_cluster.py`
and `supervisor.py` start everything through `spawn`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

PR_SET_PDEATHSIG: Final = 1
POLL_SECONDS: Final = 0.01

Process = subprocess.Popen[bytes]
StopSteps = Sequence[tuple[signal.Signals, float]]
"""Signals to send one after the other, each with the seconds to wait for the end before the next."""


class StartFailure(Exception):
    """A process did not start; the text says which, why, and ends with its last log lines."""


@dataclass(frozen=True, slots=True)
class Account:
    """The account of the operating system under which a process runs."""

    name: str
    uid: int
    gid: int


def _load_prctl() -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    prctl: Callable[..., int] = ctypes.CDLL(None, use_errno=True).prctl
    return prctl


_PRCTL: Final = _load_prctl()


def spawn(
    command: Sequence[str | Path],
    *,
    parent_death_signal: signal.Signals,
    account: Account | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
    pass_fds: Sequence[int] = (),
) -> Process:
    """Starts `command` in a session of its own, so that a terminal's Ctrl-C reaches only its parent.

    On Linux the kernel sends `parent_death_signal` when the calling thread ends: call it in the main thread.
    `output` takes both streams; None leaves them as the caller's.
    Raises: StartFailure.
    """
    parent = os.getpid()

    def die_with_parent() -> None:
        # After the change of account, which would reset it. The parent may have died before the call.
        if _PRCTL is not None:
            _PRCTL(PR_SET_PDEATHSIG, int(parent_death_signal), 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

    try:
        return subprocess.Popen(  # noqa: S603 - no shell
            [os.fspath(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
            cwd=cwd,
            env=env,
            pass_fds=pass_fds,
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
            preexec_fn=die_with_parent,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise StartFailure(f"cannot start {Path(command[0]).name}: {error}") from error


def stop(process: Process, steps: StopSteps) -> int:
    """Ends a process by `steps`, then SIGKILL to its whole group; returns its exit status."""
    stop_together([(process, steps)])
    return process.wait()


def stop_together(stopping: Sequence[tuple[Process, StopSteps]], hurry: Callable[[], bool] = lambda: False) -> None:
    """Ends processes side by side, each by its own steps, then by SIGKILL to its whole group.

    As soon as `hurry` says so, each goes on from its second step at once: SIGKILL for most.
    """
    schedules = {process.pid: _Schedule(process, steps) for process, steps in stopping}
    while schedules:
        for pid, schedule in list(schedules.items()):
            if schedule.advance(hurry=hurry()):
                del schedules[pid]
        time.sleep(POLL_SECONDS)


class _Schedule:
    """The steps of one process that ends."""

    def __init__(self, process: Process, steps: StopSteps) -> None:
        self._process = process
        self._steps = list(steps)
        self._in_order = list(steps)
        self._until = 0.0

    def advance(self, *, hurry: bool) -> bool:
        """Sends the next signal when its time has come; True when the process has ended."""
        if hurry and self._in_order:
            self._steps, self._in_order, self._until = self._in_order[1:], [], 0.0
        is_due = time.monotonic() >= self._until
        if self._process.poll() is not None or (is_due and not self._steps):
            kill(self._process)
            return True
        if is_due:
            number, seconds = self._steps.pop(0)
            self._process.send_signal(number)
            self._until = time.monotonic() + seconds
        return False


def kill(process: Process) -> int:
    """Ends a process and whatever it left in its group by SIGKILL; returns its exit status."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        # `spawn` made the process the leader of a group, which keeps that number while a member lives.
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def describe_exit(status: int) -> str:
    """`with status 1` or `by SIGKILL`."""
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"


def wait_for(condition: Callable[[], bool], seconds: float, interval: float = POLL_SECONDS) -> bool:
    """Polls `condition` until it holds; False when it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(interval)
    return True


def working_in(directory: Path, name: str) -> list[int]:
    """Ids of the processes called `name` that work in `directory`; none where there is no /proc."""
    return [pid for pid in _process_ids() if _name(pid) == name and _works_in(pid, directory)]


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    """Sends a signal to each process that still lives."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def last_lines(path: Path, count: int = 8) -> str:
    """The last lines of a log file, for an error message; empty when it cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return "".join(f"\n    {line}" for line in lines[-count:])


def _process_ids() -> Iterator[int]:
    proc = Path("/proc")
    if proc.is_dir():
        yield from (int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal())


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").rstrip("\n")
    except OSError:
        return ""


def _works_in(pid: int, directory: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == directory
    except OSError:
        return False
