"""A whole server with stores of its own, for tests that kill its processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil

from messaging_site import embedded
from tests.server import ADMIN_PASSWORD, ADMIN_TOKEN, ROOT, free_port

WEB, LISTENER, POSTGRESQL, VALKEY = "uvicorn", "manage.py listen", "bin/postgres", "valkey-server"


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Returns when a condition holds; fails when it does not come to in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


class EmbeddedServer:
    """`manage.py up` on a data directory of its own, to be killed in parts or as a whole and started again."""

    def __init__(self, directory: Path, variables: Mapping[str, str]) -> None:
        self.data_dir = directory / "data"
        self.output = directory / "output"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("WAYSTATION_", "DJANGO_", "PYTEST")) and name not in ("DATABASE_URL", "REDIS_URL")
        }
        self.environment = inherited | {
            "PORT": str(self.port),
            "WAYSTATION_DATA_DIR": str(self.data_dir),
            "WAYSTATION_TASK_PROCESSES": "0",
            "WAYSTATION_ADMIN_TOKEN": ADMIN_TOKEN,
            "WAYSTATION_ADMIN_PASSWORD": ADMIN_PASSWORD,
            **variables,
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def database_url(self) -> str:
        """The address of its PostgreSQL."""
        return embedded.database_url(self.data_dir)

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        with self.output.open("ab") as output:
            command = [sys.executable, "manage.py", "up"]
            self._process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=output, stderr=output)
        self.wait_until_ready()

    def wait_until_ready(self, seconds: float = 60.0) -> None:
        """Returns when `/readyz` answers 200."""
        until(self.is_ready, seconds, f"the server is ready\n{self.output.read_text()}")

    def is_ready(self) -> bool:
        """Whether it says that it can serve now."""
        with contextlib.suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        return False

    def client(self) -> httpx.Client:
        """An HTTP client of the administrator; close it, or use it as a context manager."""
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=15)

    def processes(self) -> list[psutil.Process]:
        """The supervisor and all below it."""
        assert self._process is not None
        supervisor = psutil.Process(self._process.pid)
        return [supervisor, *supervisor.children(recursive=True)]

    def find(self, part: str) -> psutil.Process | None:
        """The oldest process whose command line holds `part`."""
        found: list[psutil.Process] = []
        for process in self.processes()[1:]:
            with contextlib.suppress(psutil.Error):
                if part in " ".join(process.cmdline()):
                    found.append(process)
        return min(found, key=lambda process: process.create_time(), default=None)

    def kill(self, part: str) -> None:
        """Kills one process by SIGKILL and waits until the supervisor has started another."""
        until(lambda: self.find(part) is not None, 10, f"{part} runs")
        victim = self.find(part)
        assert victim is not None
        victim.kill()

        def another() -> bool:
            found = self.find(part)
            return found is not None and found != victim

        until(another, 20, f"{part} was started again")

    def kill_everything(self) -> None:
        """Kills the supervisor and all processes below it by SIGKILL, at once."""
        assert self._process is not None
        victims = self.processes()
        for process in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
        psutil.wait_procs(victims, timeout=10)

    def stop(self) -> None:
        """Stops it in good order."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(20)


@contextmanager
def embedded_server(**variables: str) -> Iterator[EmbeddedServer]:
    """A started server, with more environment variables, in a directory that is removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="waystation-killed-"))
    directory.chmod(0o755)
    server = EmbeddedServer(directory, variables)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        embedded.remove(server.data_dir)
        shutil.rmtree(directory, ignore_errors=True)
