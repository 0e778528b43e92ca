"""The servers that a run measures: PostgreSQL and Valkey in a directory of their own, and web processes.

Everything is started here, on loopback or Unix sockets, and ended with the run, its data removed. Django is
set up once the stores answer, so modules that import the product's models are imported after `running`.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from messaging_site import embedded, supervisor
from messaging_site.processes import Process, spawn, stop

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = "messaging_site.asgi:application"
EMPTY_ROUTE = "bench.empty_route:application"
WEB_START_SECONDS = 30.0
WEB_STOP_STEPS = ((signal.SIGTERM, 8.0),)


class WebFailed(Exception):
    """A web process ended, or did not answer in time."""


@contextmanager
def running() -> Iterator[Path]:
    """PostgreSQL and Valkey with a migrated database and Django set up on it; yields the data directory.

    The directory lies below the project's `var`, so that the figures come from the disk that the product
    would use. Raises what `messaging_site.embedded.running` raises.
    """
    (ROOT / "var").mkdir(exist_ok=True)
    data_dir = Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT / "var"))
    if os.geteuid() == 0:
        data_dir.chmod(0o711)
    with ExitStack() as stack:
        stack.callback(embedded.remove, data_dir)
        stack.enter_context(embedded.running(data_dir))
        _set_up_django(data_dir)
        yield data_dir
        from django.db import connections

        connections.close_all()


def _set_up_django(data_dir: Path) -> None:
    for name in ("DATABASE_URL", "REDIS_URL", "DJANGO_DEBUG", "HOST", "PORT"):
        os.environ.pop(name, None)
    os.environ["WAYSTATION_DATA_DIR"] = str(data_dir)
    os.environ["WAYSTATION_APPS"] = ""
    os.environ["WAYSTATION_CONNECTIONS_PER_USER"] = "100000"  # all subscribers are one user
    os.environ["DJANGO_SETTINGS_MODULE"] = "messaging_site.settings"
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0, interactive=False)


def bare_connection() -> psycopg.Connection[tuple[object, ...]]:
    """A plain psycopg connection, settings as the product's own: the reference of the Python measurements.

    Autocommit; every statement is prepared at its first use.
    """
    from brokers.database import conninfo

    return psycopg.connect(conninfo(), autocommit=True, prepare_threshold=0)


def empty_log() -> None:
    """Removes all batches, so that the next measurement begins with an empty log, and checkpoints."""
    with bare_connection() as conn:
        conn.execute("truncate brokers_log_batch")
        conn.execute("drop table if exists bench_bare")
        conn.execute("checkpoint")


def postgres_version() -> str:
    """The server's version."""
    with bare_connection() as conn:
        return str(conn.execute("show server_version").fetchall()[0][0])


@contextmanager
def web(application: str) -> Iterator[int]:
    """One web process as the product's supervisor would start it, serving `application`; yields its port.

    Raises WebFailed when it does not answer within 30 s.
    """
    log_path = Path(tempfile.gettempdir()) / f"waystation-bench-web-{os.getpid()}.log"
    listener = supervisor.listen("127.0.0.1", 0)  # the very socket that `up` would serve on
    port: int = listener.getsockname()[1]
    with listener, log_path.open("wb") as log:
        process = spawn(
            web_command(application, listener.fileno()),
            parent_death_signal=signal.SIGKILL,
            cwd=ROOT,
            env={**os.environ, "PORT": str(port)},
            output=log,
            pass_fds=(listener.fileno(),),
        )
    try:
        _await_answer(process, port, log_path)
        yield port
    finally:
        stop(process, WEB_STOP_STEPS)
        log_path.unlink(missing_ok=True)


def web_command(application: str, descriptor: int) -> list[str | Path]:
    """The command line of a web process, as `up` starts it, on an inherited listening socket."""
    from messaging_site.management.commands.up import uvicorn_arguments

    return [sys.executable, *uvicorn_arguments(application, descriptor)]


def _await_answer(process: Process, port: int, log: Path) -> None:
    deadline = time.monotonic() + WEB_START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise WebFailed(f"the web process ended: {log.read_text(errors='replace')[-2000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise WebFailed(f"no answer within {WEB_START_SECONDS:.0f} s: {log.read_text(errors='replace')[-2000:]}")


def issue_token() -> str:
    """A token that may do everything, as the administrator's."""
    from django.contrib.auth.models import User

    from brokers import tokens

    user = User.objects.filter(username="bench").first() or User.objects.create_superuser("bench")
    return tokens.issue(user, "benchmarks", superuser=True)[1]
