"""What the demo needs and does not find running, for as long as it takes: `manage.py up` or `listen` as a child."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from messaging_site import embedded
from messaging_site.environment import Refusal
from messaging_site.processes import spawn, stop, wait_for

ROOT: Final = Path(__file__).resolve().parents[2]
HOST: Final = "127.0.0.1"
READY_SECONDS: Final = 120.0
STOP_SECONDS: Final = 15.0
_EXPECTED: Final = (b'"level": "info"', b'"event": "record given up"')
"""What log lines hold that the demo does not show."""


def holds(data_dir: Path) -> bool:
    """Whether a server runs on a data directory, even if it is only starting."""
    try:
        with embedded.exclusive(data_dir):
            return False
    except Refusal:
        return True


@contextmanager
def own_server() -> Iterator[None]:
    """Starts the server on the data of the settings, waits until it is ready, and stops it at the end.

    Its output is passed on, for the first start prints the administrator's name, password and token, once; but not
    what it logs about members that join and about each dead letter. Ends this process when the server does not start,
    which it has explained then.
    """
    port = _port()
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb") as output:
        server = spawn(
            [sys.executable, ROOT / "manage.py", "up"],
            parent_death_signal=signal.SIGTERM,
            cwd=ROOT,
            env=os.environ | {"HOST": HOST, "PORT": str(port)},
            output=output,
        )
    told = threading.Thread(target=_pass_on, args=(reading,), name="server-output", daemon=True)
    told.start()
    try:
        if not wait_for(lambda: _is_ready(port) or server.poll() is not None, READY_SECONDS, interval=0.1):
            sys.exit(f"demo: the server was not ready within {READY_SECONDS:.0f} seconds")
        if server.returncode is not None:
            sys.exit(server.returncode or 1)
        yield
    finally:
        stop(server, ((signal.SIGTERM, STOP_SECONDS),))
        told.join(STOP_SECONDS)


def _pass_on(reading: int) -> None:
    """Prints what comes, line by line, until whoever writes has ended."""
    with os.fdopen(reading, "rb") as lines:
        for line in lines:
            if not any(text in line for text in _EXPECTED):
                sys.stdout.buffer.write(line)
                sys.stdout.buffer.flush()


@contextmanager
def own_listener() -> Iterator[None]:
    """Runs the listeners on the database of the settings, and stops them at the end."""
    listener = spawn(
        [sys.executable, ROOT / "manage.py", "listen"], parent_death_signal=signal.SIGKILL, cwd=ROOT, env=os.environ
    )
    try:
        yield
    finally:
        stop(listener, ((signal.SIGTERM, STOP_SECONDS),))


def _port() -> int:
    """`PORT` if it is free; else any free one."""
    wanted = os.environ.get("PORT", "")
    if wanted.isdecimal() and _is_free(int(wanted)):
        return int(wanted)
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    try:
        with socket.create_server((HOST, port)):
            return True
    except (OSError, OverflowError):
        return False


def _is_ready(port: int) -> bool:
    web = http.client.HTTPConnection(HOST, port, timeout=1.0)
    try:
        web.request("GET", "/readyz")
        return web.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        web.close()
