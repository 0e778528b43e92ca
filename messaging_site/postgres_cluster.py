"""One embedded PostgreSQL: its files, its settings, its start and its stop.

A cluster listens on a Unix socket only, trusts whoever may enter the directory of that socket (its owner and
root), and runs with safe durability. Survives SIGKILL of everything: what an earlier run left behind is ended
and cleared before the next start. `embedded.py` decides where it lies and when it runs.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from messaging_site import unprivileged
from messaging_site.environment import Refusal
from messaging_site.processes import (
    Account,
    Process,
    StartFailure,
    StopSteps,
    describe_exit,
    last_lines,
    signal_all,
    spawn,
    wait_for,
    working_in,
)

USER: Final = "waystation"
DATABASE: Final = "waystation"
PORT: Final = 5432
"""Part of the socket's file name only; nothing listens on TCP."""

MEBIBYTE: Final = 1024 * 1024
START_SECONDS: Final = 60.0
RECOVERY_SECONDS: Final = 900.0
"""How long a start may take while PostgreSQL says that it replays its write-ahead log."""

STOP_STEPS: Final[StopSteps] = ((signal.SIGINT, 3.0), (signal.SIGQUIT, 1.0))
"""A fast shutdown; then an immediate one, after which the next start recovers from the write-ahead log."""

DURABILITY: Final = ("fsync=on", "full_page_writes=on", "synchronous_commit=on")

SETTINGS: Final = """\
# Written anew at each start. Settings of your own go into `local.conf` beside this file.
listen_addresses = ''
port = {port}
unix_socket_directories = '{sockets}'
unix_socket_permissions = 0700
max_connections = 200
shared_buffers = {shared_buffers_mb}MB
max_wal_size = 4GB
max_prepared_transactions = 0
wal_level = minimal
max_wal_senders = 0
max_logical_replication_workers = 0
jit = off
idle_in_transaction_session_timeout = 5min
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
# Seven files, one for each day of the week. Without details, which can quote values that a user sent.
logging_collector = on
log_directory = 'log'
log_filename = 'postgresql-%a.log'
log_rotation_age = 1d
log_rotation_size = 0
log_truncate_on_rotation = on
log_checkpoints = off
log_error_verbosity = terse
include_if_exists = 'local.conf'
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresCluster:
    """A cluster of one data directory, ready to be launched."""

    directory: Path
    """Where the files lie in the end; not a symbolic link."""
    sockets: Path
    start_log: Path
    account: Account | None
    binaries: Path

    def launch(self) -> Process:
        """Starts the server without waiting for it, after ending what an earlier run has left.

        Raises: StartFailure, Refusal.
        """
        self._end_strays()
        self._write_settings()
        command: list[str | Path] = [self.binaries / "postgres", "-D", self.directory]
        for setting in DURABILITY:
            command += ["-c", setting]
        with self.start_log.open("wb") as log:
            return spawn(
                command,
                parent_death_signal=signal.SIGINT,
                account=self.account,
                cwd=self.directory,
                output=log,
            )

    def wait_until_ready(self, process: Process) -> None:
        """Waits until the server takes connections, then creates the database where it is missing.

        Raises: StartFailure with the last log lines, when the server ends or takes too long.
        """
        started = time.monotonic()
        while (state := self._state(process)) != "ready":
            if process.poll() is not None:
                raise self._failure(f"ended {describe_exit(process.returncode)}")
            allowed = RECOVERY_SECONDS if state == "starting" else START_SECONDS
            if time.monotonic() - started > allowed:
                raise self._failure(f"took no connection within {allowed:.0f} s")
            time.sleep(0.01)
        self._create_database()

    def _create_database(self) -> None:
        try:
            with psycopg.connect(
                host=str(self.sockets), port=PORT, user=USER, dbname="postgres", autocommit=True
            ) as connection:
                found = connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone()
                if found is None:
                    connection.execute(sql.SQL("create database {}").format(sql.Identifier(DATABASE)))
        except psycopg.Error as error:
            raise self._failure(f"refused its first connection: {error}") from error

    def _state(self, process: Process) -> str:
        """What the server writes into the last line of its lock file: `starting`, `ready`, `stopping`."""
        lines = _lines(self.directory / "postmaster.pid")
        if len(lines) < 8 or lines[0] != str(process.pid):
            return ""
        return lines[7].strip()

    def _failure(self, what: str) -> StartFailure:
        logs = sorted((self.directory / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
        tail = last_lines(self.start_log) + (last_lines(logs[-1]) if logs else "")
        return StartFailure(f"PostgreSQL {what}; its last log lines:{tail}")

    def _end_strays(self) -> None:
        """Ends servers and backends of this cluster that outlived their supervisor, and removes their locks.

        The caller holds the lock of the data directory, so none of them belongs to a running server.
        """
        postmaster = _lock_owner(self.directory / "postmaster.pid")
        for number, seconds in (*STOP_STEPS, (signal.SIGKILL, 2.0)):
            alive = working_in(self.directory, "postgres")
            orphaned = postmaster not in alive
            if orphaned and number == signal.SIGINT:
                # It would only cancel their statements; the next step makes them leave.
                continue
            to_all = orphaned or number == signal.SIGKILL
            signal_all([pid for pid in alive if to_all or pid == postmaster], number)
            if wait_for(lambda: not working_in(self.directory, "postgres"), seconds):
                break
        else:
            raise StartFailure(f"a PostgreSQL of an earlier start does not end; it runs in {self.directory}")
        if Path("/proc/self").exists():
            # Nobody holds them now, though another process may have been given the number they name.
            for lock in (self.directory / "postmaster.pid", self.sockets / f".s.PGSQL.{PORT}.lock"):
                lock.unlink(missing_ok=True)

    def _write_settings(self) -> None:
        quoted = '"' + str(self.sockets).replace('"', '""') + '"'
        settings = SETTINGS.format(
            port=PORT,
            sockets=quoted.replace("\\", "\\\\").replace("'", "''"),
            shared_buffers_mb=max(32, min(512, _memory_bytes() // 4 // MEBIBYTE)),
        )
        self._write("waystation.conf", settings)
        self._write("pg_hba.conf", "local all all trust\n")

    def _write(self, name: str, text: str) -> None:
        draft = self.directory / f"{name}.new"
        draft.write_text(text, encoding="utf-8")
        draft.chmod(0o600)
        unprivileged.give(draft, self.account)
        draft.replace(self.directory / name)


def create(directory: Path, account: Account | None, binaries: Path) -> None:
    """Creates an empty cluster, whole or not at all, unless there is one.

    Raises: Refusal, StartFailure, OSError.
    """
    if (directory / "PG_VERSION").exists():
        _refuse_other_version(directory, binaries)
        return
    draft = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    unprivileged.give(draft, account)
    _initdb(draft, account, binaries)
    with (draft / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("include = 'waystation.conf'\n")
        file.flush()
        os.fsync(file.fileno())
    draft.rename(directory)
    _sync_directory(directory.parent)


def _initdb(directory: Path, account: Account | None, binaries: Path) -> None:
    command = [str(binaries / "initdb"), "-D", str(directory), "-U", USER]
    command += ["--auth-local=trust", "--encoding=UTF8"]
    command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    done = subprocess.run(  # noqa: S603 - no shell, and no part of it is typed by anyone
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=directory,
        env={"PATH": os.defpath, "LC_ALL": "C"},
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        tail = "".join(f"\n    {line}" for line in done.stdout.splitlines()[-4:])
        raise StartFailure(f"initdb ended {describe_exit(done.returncode)}:{tail}")


def _refuse_other_version(directory: Path, binaries: Path) -> None:
    if not os.access(directory, os.R_OK | os.W_OK):
        raise Refusal(f"WAYSTATION_DATA_DIR: {directory} belongs to another user")
    found = (directory / "PG_VERSION").read_text(encoding="ascii").strip()
    bundled = _lines(binaries.parent / "share" / "postgres.bki")[0].removeprefix("# PostgreSQL ")
    if found != bundled:
        raise Refusal(
            f"WAYSTATION_DATA_DIR: {directory} is of PostgreSQL {found}, not {bundled};"
            " export it with that version, or choose another directory"
        )


def _lock_owner(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdecimal() else None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []


def _memory_bytes() -> int:
    """The memory of this machine, or of this container where that is less."""
    amount = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):
            amount = min(amount, int(Path(limit).read_text(encoding="ascii")))
    return amount


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
