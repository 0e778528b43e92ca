"""A server for as long as the demo runs, where none is running: `manage.py up` as a child process."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
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

    Its output is passed on: the first start prints the administrator's name, password and token, once. Ends this
    process when the server does not start, which it has explained then.
    """
    port = _port()
    server = spawn(
        [sys.executable, ROOT / "manage.py", "up"],
        parent_death_signal=signal.SIGTERM,
        cwd=ROOT,
        env=os.environ | {"HOST": HOST, "PORT": str(port)},
    )
    try:
        if not wait_for(lambda: _is_ready(port) or server.poll() is not None, READY_SECONDS, interval=0.1):
            sys.exit(f"demo: the server was not ready within {READY_SECONDS:.0f} seconds")
        if server.returncode is not None:
            sys.exit(server.returncode or 1)
        yield
    finally:
        stop(server, ((signal.SIGTERM, STOP_SECONDS),))


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
