"""What `up` runs: starts programs in order, watches them, starts again what dies, stops all in reverse order.

Knows nothing of what the programs do. Single-threaded: signals and children are waited for in one place.
Children have sessions of their own and die with this process, whatever kills it. The `up` command calls it.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Final, Self

from messaging_site.environment import Refusal
from messaging_site.processes import Process, StartFailure, StopSteps, describe_exit, kill, stop_together

logger = logging.getLogger(__name__)

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
FIRST_DELAY_SECONDS: Final = 0.2
LONGEST_DELAY_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 10.0
"""A program that ran this long is started again without a memory of earlier failures."""
FAILURES_BEFORE_READY: Final = 3
LOOK_SECONDS: Final = 0.1
BACKLOG: Final = 4096


class StopRequested(BaseException):
    """Somebody asked for the end while the start was under way. Not an error, hence no `Exception`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One process to keep running."""

    name: str
    launch: Callable[[], Process]
    stop_steps: StopSteps
    stage: int
    """Programs of one stage stop together, those of a higher stage before those of a lower one."""
    is_needed: bool = True
    """Whether a start fails when this program does, again and again. Later it is started again either way."""


@dataclass(slots=True)
class _Running:
    """A program and its present process, or none while it waits to be started again."""

    program: Program
    process: Process | None
    since: float = field(default_factory=time.monotonic)
    failures: int = 0
    due: float = 0.0


class Supervisor:
    """Keeps programs running from entry to exit of its `with` block, in the main thread.

    Inside the block a stop signal raises `StopRequested`, unless `watch` runs, which returns instead. On exit
    all programs are stopped; a second signal stops them at once.
    """

    def __init__(self, on_exit: Callable[[int], None] = lambda pid: None) -> None:
        self._on_exit = on_exit
        self._programs: list[_Running] = []
        self._requests = 0
        self._raises = False
        self._handlers: dict[signal.Signals, object] = {}
        self._wakeup = socket.socketpair()

    def __enter__(self) -> Self:
        for end in self._wakeup:
            end.setblocking(False)
        for number in (*STOP_SIGNALS, signal.SIGCHLD):
            self._handlers[number] = signal.signal(number, self._receive)
        self._earlier_wakeup = signal.set_wakeup_fd(self._wakeup[1].fileno(), warn_on_full_buffer=False)
        self._raises = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._raises = False
        self._stop()
        signal.set_wakeup_fd(self._earlier_wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what `signal.signal` gave out before
        for end in self._wakeup:
            end.close()

    def start(self, program: Program) -> Process:
        """Starts a program, which is watched from now on. Raises: StartFailure, StopRequested."""
        self._raises = False
        process = program.launch()
        self._programs.append(_Running(program, process))
        self._raises = True
        if self._requests:
            raise StopRequested
        return process

    def watch(self, missing: Callable[[], str] | None = None, seconds: float = 0.0) -> bool:
        """Keeps the programs running until nothing is `missing` (True) or a stop is asked for (False).

        Raises: StartFailure when something still is after `seconds`, with the text that says what, or when a
        needed program fails again and again before.
        """
        self._raises = False
        deadline = time.monotonic() + seconds
        while not self._requests:
            for running in self._programs:
                self._look_after(running)
            if missing is not None:
                lack = missing()
                if not lack:
                    self._raises = True
                    return True
                self._require_progress(lack, deadline)
            self._sleep()
        return False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            return
        self._requests += 1
        if self._raises:
            self._raises = False
            raise StopRequested

    def _sleep(self) -> None:
        """Waits for a signal, at most until the next look."""
        ready, _, _ = select.select([self._wakeup[0]], [], [], LOOK_SECONDS)
        if ready:
            self._wakeup[0].recv(4096)

    def _look_after(self, running: _Running) -> None:
        if running.process is None:
            if time.monotonic() >= running.due:
                self._start_again(running)
        elif running.process.poll() is not None:
            self._bury(running, running.process)

    def _bury(self, running: _Running, process: Process) -> None:
        kill(process)
        self._on_exit(process.pid)
        ending = f"ended {describe_exit(process.returncode)}"
        if time.monotonic() - running.since >= STEADY_SECONDS:
            running.failures = 0
        self._postpone(running, ending)

    def _start_again(self, running: _Running) -> None:
        try:
            running.process = running.program.launch()
        except (StartFailure, Refusal, OSError) as error:
            self._postpone(running, f"did not start: {error}")
        running.since = time.monotonic()

    def _postpone(self, running: _Running, reason: str) -> None:
        delay = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0**running.failures)
        running.process = None
        running.failures += 1
        running.due = time.monotonic() + delay
        logger.warning("%s %s; starting it again in %.1f s", running.program.name, reason, delay)

    def _require_progress(self, lack: str, deadline: float) -> None:
        for running in self._programs:
            if running.program.is_needed and running.failures >= FAILURES_BEFORE_READY:
                raise StartFailure(f"{running.program.name} failed {running.failures} times in a row")
        if time.monotonic() >= deadline:
            raise StartFailure(f"the server is not ready in time: {lack}")

    def _stop(self) -> None:
        asked = self._requests
        for stage in sorted({running.program.stage for running in self._programs}, reverse=True):
            stop_together(
                [
                    (running.process, running.program.stop_steps)
                    for running in self._programs
                    if running.program.stage == stage and running.process is not None
                ],
                hurry=lambda: self._requests > max(asked, 1),
            )


def listen(host: str, port: int) -> socket.socket:
    """Binds the web server's socket, which its processes inherit.

    Raises: Refusal when the port is taken or the address is not this machine's.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror:
        raise Refusal(f"HOST: {host} is not a known host name") from None
    # IPv4 first: `localhost` is then where most clients look for it.
    family, _, _, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Connections inherit it. uvicorn sets it itself only on sockets that it knows to be TCP, and one given by
        # descriptor it takes for a Unix socket: each answer would wait 40 ms for an acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Refusal(_why_not(error, host, port)) from None
    return listener


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken; set PORT to another one"
    if error.errno == errno.EACCES:
        return f"PORT: this account may not listen on port {port}; set PORT to one above 1023"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"HOST: {host} is not an address of this machine"
    return f"HOST: cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}"
