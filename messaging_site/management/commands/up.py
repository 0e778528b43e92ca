"""`python manage.py up`: everything a server needs, started in order, until somebody stops it.

Composes the environment, the stores, the first run and the supervisor; holds no rule of its own.
"""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import psycopg
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connections
from prometheus_client.multiprocess import mark_process_dead

from brokers import declarations
from messaging_site import embedded, environment, external_stores, first_run, postgres_cluster
from messaging_site.environment import EXIT_CODE, Environment, Refusal
from messaging_site.first_run import FirstRun
from messaging_site.processes import Process, StartFailure, StopSteps, spawn, wait_for
from messaging_site.supervisor import BACKLOG, Program, StopRequested, Supervisor, listen
from scheduling import identity
from scheduling.tasks import declared, store

READY_SECONDS: Final = 60.0
SCHEMA_WAIT_SECONDS: Final = 600.0
SCHEMA_LOCK: Final = 0x57415953
"""Advisory lock of whoever changes the schema; the number spells WAYS."""

STORES, WORKERS = 0, 1
WORKER_STOP_STEPS: Final[StopSteps] = ((signal.SIGTERM, 5.8),)
WEB_GRACE_SECONDS: Final = 5
MAX_WEBSOCKET_MESSAGE_BYTES: Final = 1024 * 1024 + 64 * 1024
"""A little more than a STOMP frame may have (1 MiB and its headers), so that it is refused by an ERROR frame."""
_NO_WORD_ABOUT_ROOT: Final = ("-W", "ignore:::celery.platforms")
CELERY: Final = (*_NO_WORD_ABOUT_ROOT, "-m", "celery", "--quiet")
WORKER_ARGUMENTS: Final = (*CELERY, "--app", "scheduling.celery_app", "worker")
BEAT_ARGUMENTS: Final = [
    *(*CELERY, "--app", "scheduling.beat.app", "beat"),
    *("--scheduler", "scheduling.beat.scheduler:Scheduler", "--pidfile="),
]
SECRETS: Final = ("WAYSTATION_ADMIN_PASSWORD", "WAYSTATION_ADMIN_TOKEN")


class Command(BaseCommand):
    help = "Starts the whole server: stores, web, listener and task processes. Ctrl-C stops it."

    def handle(self, *args: Any, **options: Any) -> None:
        wanted: Environment = settings.ENVIRONMENT
        try:
            environment.refuse_unsafe_production(wanted, os.environ)
            with embedded.exclusive(wanted.data_dir):
                self._serve(wanted)
        except StopRequested:
            return
        except Refusal as refusal:
            self._fail(f"waystation: {refusal}", EXIT_CODE)
        except StartFailure as failure:
            self._fail(f"waystation: {failure}", 1)

    def _serve(self, wanted: Environment) -> None:
        with (
            _fresh_directory(wanted.data_dir / "metrics") as metrics,
            listen(wanted.host, wanted.port) as listener,
            Supervisor(on_exit=partial(_forget_metrics, metrics)) as supervisor,
        ):
            self._start_stores(wanted, supervisor)
            administrator = self._prepare_database(wanted)
            try:
                for program in _workers(wanted, listener, metrics):
                    supervisor.start(program)
                if not supervisor.watch(partial(_unreadiness, wanted), READY_SECONDS):
                    return
                self._say(f"Waystation is ready at {_address(wanted)}")
            finally:
                # Even when the start fails further on: nobody could ever read them again.
                if administrator is not None:
                    self._introduce(administrator)
            supervisor.watch()

    def _start_stores(self, wanted: Environment, supervisor: Supervisor) -> None:
        waits: list[Callable[[], None]] = []
        if wanted.database_url is not None:
            external_stores.check_database(wanted.database_url)
        else:
            cluster = embedded.postgres(wanted.data_dir)
            program = Program(
                name="PostgreSQL", launch=cluster.launch, stop_steps=postgres_cluster.STOP_STEPS, stage=STORES
            )
            waits.append(partial(cluster.wait_until_ready, supervisor.start(program)))
        if wanted.redis_url is not None:
            if warning := external_stores.check_redis(wanted.redis_url):
                self.stderr.write(f"waystation: {warning}")
        else:
            hints = embedded.valkey(wanted.data_dir)
            program = Program(name="Valkey", launch=hints.launch, stop_steps=embedded.VALKEY_STOP_STEPS, stage=STORES)
            waits.append(partial(hints.wait_until_ready, supervisor.start(program)))
        for wait in waits:
            wait()

    def _prepare_database(self, wanted: Environment) -> FirstRun | None:
        """Brings schema, declarations and administrator up to date, one server of a database at a time."""
        try:
            with _schema_lock(wanted.database_url or embedded.database_url(wanted.data_dir)):
                call_command("migrate", interactive=False, verbosity=0)
                declarations.discover()
                for done in (*declarations.reconcile(), *store.declare(declared.declarations())):
                    self._say(done)
                return first_run.ensure_administrator(wanted.admin_password, wanted.admin_token)
        finally:
            connections.close_all()

    def _introduce(self, administrator: FirstRun) -> None:
        self._say("")
        self._say("The administrator, shown this once:")
        self._say(f"  name      {administrator.name}")
        self._say(f"  password  {administrator.password or 'as given in WAYSTATION_ADMIN_PASSWORD'}")
        self._say(f"  token     {administrator.token or 'as given in WAYSTATION_ADMIN_TOKEN'}")
        self._say("")

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()

    def _fail(self, line: str, status: int) -> None:
        self.stderr.write(line)
        sys.exit(status)


def _workers(wanted: Environment, listener: socket.socket, metrics: Path) -> Iterator[Program]:
    env = {name: value for name, value in os.environ.items() if name not in SECRETS}
    env |= {"PROMETHEUS_MULTIPROC_DIR": str(metrics), "PYTHONUNBUFFERED": "1"}

    def worker(name: str, command: list[str], *pass_fds: int, is_needed: bool) -> Program:
        def launch() -> Process:
            return spawn(
                [sys.executable, *command],
                parent_death_signal=signal.SIGKILL,
                cwd=settings.BASE_DIR,
                env=env,
                pass_fds=pass_fds,
            )

        return Program(name=name, launch=launch, stop_steps=WORKER_STOP_STEPS, stage=WORKERS, is_needed=is_needed)

    for number in range(1, wanted.web_processes + 1):
        yield worker(
            f"web {number}",
            uvicorn_arguments("messaging_site.asgi:application", listener.fileno()),
            listener.fileno(),
            is_needed=True,
        )
    for number in range(1, wanted.listener_processes + 1):
        command = [str(settings.BASE_DIR / "manage.py"), "listen"]
        # Without listeners there still is a log to publish to, and a console that shows what is wrong.
        yield worker(f"listener {number}", command, is_needed=False)
    if wanted.task_processes:
        yield worker("task worker", worker_arguments(identity.queue_name(), wanted.task_processes), is_needed=False)
        yield worker("task beat", BEAT_ARGUMENTS, is_needed=False)


def worker_arguments(queue: str, processes: int) -> list[str]:
    """What the Celery worker of scheduled tasks and background work is started with."""
    command = [*WORKER_ARGUMENTS, "--queues", queue, "--pool", "prefork", "--concurrency", str(processes)]
    return [*command, "--without-gossip", "--without-mingle", "--without-heartbeat"]


def uvicorn_arguments(application: str, descriptor: int) -> list[str]:
    """What a web process is started with, on an inherited listening socket; the benchmarks start theirs by it too."""
    command = ["-m", "uvicorn", application]
    command += ["--fd", str(descriptor), "--loop", "uvloop", "--http", "httptools", "--lifespan", "on"]
    command += ["--timeout-graceful-shutdown", str(WEB_GRACE_SECONDS), "--backlog", str(BACKLOG)]
    command += ["--ws", "realtime.frame_protocol:FrameProtocol", "--ws-max-size", str(MAX_WEBSOCKET_MESSAGE_BYTES)]
    command += ["--ws-per-message-deflate", "false", "--ws-ping-interval", "20", "--ws-ping-timeout", "20"]
    return [*command, "--no-access-log", "--no-server-header", "--log-level", "warning"]


def _unreadiness(wanted: Environment) -> str:
    """Why no web process can serve yet; empty when one can."""
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not listened on
    connection = http.client.HTTPConnection(anywhere.get(wanted.host, wanted.host), wanted.port, timeout=1.0)
    try:
        connection.request("GET", "/readyz", headers={"Host": wanted.allowed_hosts[0].lstrip(".")})
        answer = connection.getresponse()
        text = " ".join(answer.read(2000).decode(errors="replace").split())
        return "" if answer.status == http.client.OK else f"/readyz answers {answer.status} {text}"
    except (OSError, http.client.HTTPException) as error:
        return f"/readyz does not answer: {error}"
    finally:
        connection.close()


def _address(wanted: Environment) -> str:
    host = f"[{wanted.host}]" if ":" in wanted.host else wanted.host
    return f"http://{host}:{wanted.port}/"


def _forget_metrics(directory: Path, pid: int) -> None:
    """Takes a dead process's gauges out of what its successors report."""
    mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]  # the library has no types here


@contextmanager
def _fresh_directory(path: Path) -> Iterator[Path]:
    try:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(mode=0o700)
    except OSError as error:
        raise Refusal(f"WAYSTATION_DATA_DIR: cannot write {path}: {error.strerror}") from error
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _schema_lock(url: str) -> Iterator[None]:
    with psycopg.connect(url, autocommit=True) as connection:
        # Asked for again and again, not waited for: a waiting statement holds a snapshot, and an index that
        # the other server builds concurrently would wait for that snapshot to end.
        if not wait_for(lambda: _try_lock(connection), SCHEMA_WAIT_SECONDS, interval=0.1):
            raise StartFailure("another server has been changing this database's schema for ten minutes")
        yield


def _try_lock(connection: psycopg.Connection) -> bool:
    row = connection.execute("select pg_try_advisory_lock(%s)", [SCHEMA_LOCK]).fetchone()
    return bool(row and row[0])
