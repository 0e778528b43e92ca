"""A whole server for tests: `manage.py up` with a database of its own in the run's PostgreSQL."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psycopg

ROOT = Path(__file__).resolve().parent.parent
ADMIN_TOKEN = "administrators-token-of-the-tests"
ADMIN_PASSWORD = "a-password-of-the-tests"
START_SECONDS = 60.0


def free_port() -> int:
    """A TCP port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Server:
    """A running server and how to reach it."""

    url: str
    database_url: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes]
    log: Path
    admin_token: str = ADMIN_TOKEN
    admin_password: str = ADMIN_PASSWORD

    def client(self, token: str | None = ADMIN_TOKEN, **options: Any) -> httpx.Client:
        """An HTTP client with the given token; close it, or use it as a context manager."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, **{"timeout": 40} | options)

    def manage(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs `manage.py` beside the server, on its database."""
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=120, check=check
        )


def unique(prefix: str = "t") -> str:
    """A name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


@contextmanager
def fresh_database() -> Iterator[str]:
    """An empty database in the PostgreSQL of this run; its URL."""
    from django.conf import settings

    configured = settings.DATABASES["default"]
    given = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
    where: dict[str, Any] = {name: configured[setting] for name, setting in given.items() if configured[setting]}
    maintenance = psycopg.conninfo.make_conninfo(dbname="postgres", **where)
    name = unique("server").replace("-", "_")
    with psycopg.connect(maintenance, autocommit=True) as admin:
        admin.execute(f"create database {name}")
        host = str(configured["HOST"]).replace("/", "%2F")
        secret = f":{configured['PASSWORD']}" if configured["PASSWORD"] else ""
        port = f":{configured['PORT']}" if configured["PORT"] else ""
        try:
            yield f"postgresql://{configured['USER']}{secret}@{host}{port}/{name}"
        finally:
            admin.execute(f"drop database if exists {name} with (force)")


@contextmanager
def running(database_url: str, **variables: str) -> Iterator[Server]:
    """`manage.py up` over a database, until the end of the block."""
    from django.conf import settings

    with tempfile.TemporaryDirectory(prefix="waystation-server-") as directory:
        port = free_port()
        environment = _environment(port, Path(directory) / "data", database_url, settings.REDIS_URL, variables)
        log = Path(directory) / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "manage.py", "up"], cwd=ROOT, env=environment, stdout=output, stderr=output
            )
        server = Server(f"http://127.0.0.1:{port}", database_url, environment, process, log)
        try:
            wait_until_ready(server)
            yield server
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise


def _environment(
    port: int, data_dir: Path, database_url: str, redis_url: str, variables: Mapping[str, str]
) -> dict[str, str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("WAYSTATION_", "DJANGO_", "PYTEST"))
    }
    return inherited | {
        "PORT": str(port),
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "WAYSTATION_DATA_DIR": str(data_dir),
        "WAYSTATION_ADMIN_TOKEN": ADMIN_TOKEN,
        "WAYSTATION_ADMIN_PASSWORD": ADMIN_PASSWORD,
        "WAYSTATION_APPS": "examples.flights",
        "WAYSTATION_TASK_PROCESSES": "0",
        **variables,
    }


def wait_until_ready(server: Server) -> None:
    """Returns when `/readyz` answers 200; fails with the server's log when it ends before or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.process.poll() is not None:
            raise AssertionError(f"the server ended with {server.process.returncode}:\n{server.log.read_text()}")
        try:
            if httpx.get(f"{server.url}/readyz", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            server.process.poll()
        time.sleep(0.05)
    raise AssertionError(f"the server was not ready in {START_SECONDS} s:\n{server.log.read_text()}")
