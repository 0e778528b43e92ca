"""The embedded PostgreSQL and Valkey: safe settings, one server a directory, and starts after any death."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from messaging_site import embedded, unprivileged
from messaging_site.environment import Refusal
from messaging_site.processes import wait_for

ROOT = Path(__file__).resolve().parents[3]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL under another account")

HOLDER = """
import sys
from pathlib import Path
from messaging_site import embedded
with embedded.running(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(prefix="waystation-embedded-"))
    parent.chmod(0o755)
    yield parent / "data"
    embedded.remove(parent / "data")
    shutil.rmtree(parent)


def ask(data_dir: Path, question: str) -> str:
    with psycopg.connect(embedded.database_url(data_dir)) as connection:
        row = connection.execute(question.encode()).fetchone()
    return str(row[0]) if row else ""


def hold(data_dir: Path) -> subprocess.Popen[str]:
    """Both servers, held by another process, ready."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(data_dir)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def release(process: subprocess.Popen[str], number: signal.Signals) -> None:
    process.send_signal(number)
    process.communicate()


def ports(process: psutil.Process) -> list[object]:
    """What a process listens on or is connected to by TCP or UDP; nothing when it has ended meanwhile."""
    try:
        return list(process.net_connections("inet"))
    except psutil.NoSuchProcess:  # a session of the run's own PostgreSQL, say
        return []


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if is_living(one)]


def is_living(process: psutil.Process) -> bool:
    try:
        return process.is_running() and bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


def postmaster_of(data_dir: Path) -> int:
    return int((data_dir / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def test_addresses_are_functions_of_the_directory_and_touch_nothing(data_dir: Path) -> None:
    assert embedded.database_url(data_dir) == embedded.database_url(data_dir)
    assert embedded.redis_url(data_dir).startswith("unix://")
    assert embedded.socket_directory(data_dir) == data_dir / "run"
    assert not data_dir.exists()


def test_a_long_path_gets_a_short_socket_directory(data_dir: Path) -> None:
    deep = data_dir / ("x" * 60) / ("y" * 60)
    assert len(os.fsencode(embedded.socket_directory(deep))) <= 90
    assert embedded.socket_directory(deep) != embedded.socket_directory(deep.with_name("z" * 60))
    with embedded.running(deep):
        assert ask(deep, "select 1") == "1"
    embedded.remove(deep)
    assert not embedded.socket_directory(deep).exists()


def test_postgres_is_durable_and_reachable_by_its_socket_only(data_dir: Path) -> None:
    expected = {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "listen_addresses": "",
        "max_prepared_transactions": "0",
        "server_encoding": "UTF8",
        "timezone": "UTC",
        "jit": "off",
        "data_checksums": "on",
    }
    before = set(psutil.Process().children(recursive=True))
    with embedded.running(data_dir):
        assert {name: ask(data_dir, f"show {name}") for name in expected} == expected
        assert int(ask(data_dir, "show server_version_num")) >= 180000
        servers = set(psutil.Process().children(recursive=True)) - before
        assert servers
        assert not [port for one in servers for port in ports(one)]
        assert oct((data_dir / "run").stat().st_mode)[-3:] == "700"
        assert redis.Redis.from_url(embedded.redis_url(data_dir)).ping()


def test_local_settings_apply_but_durability_cannot_be_turned_off(data_dir: Path) -> None:
    with embedded.running(data_dir):
        pass
    (data_dir / "postgres" / "local.conf").write_text("work_mem = '7MB'\nfsync = off\n")
    with embedded.running(data_dir):
        assert ask(data_dir, "show work_mem") == "7MB"
        assert ask(data_dir, "show fsync") == "on"


def test_data_survive_a_restart(data_dir: Path) -> None:
    with embedded.running(data_dir), psycopg.connect(embedded.database_url(data_dir)) as connection:
        connection.execute("create table kept as select 41 + 1 as answer")
    with embedded.running(data_dir):
        assert ask(data_dir, "select answer from kept") == "42"


def test_a_second_server_on_the_directory_is_refused_in_one_line(data_dir: Path) -> None:
    holder = hold(data_dir)
    with pytest.raises(Refusal) as caught, embedded.running(data_dir):
        pass
    assert "\n" not in str(caught.value)
    assert str(holder.pid) in str(caught.value)
    assert ask(data_dir, "select 1") == "1"
    release(holder, signal.SIGINT)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel ends orphans on Linux only")
def test_nothing_is_left_when_the_supervising_process_is_killed(data_dir: Path) -> None:
    holder = hold(data_dir)
    servers = psutil.Process(holder.pid).children(recursive=True)
    assert len(servers) >= 2
    release(holder, signal.SIGKILL)
    assert wait_for(lambda: not living(servers), 30.0)


def test_committed_data_survive_sigkill_of_everything_at_once(data_dir: Path) -> None:
    holder = hold(data_dir)
    servers = psutil.Process(holder.pid).children(recursive=True)
    with psycopg.connect(embedded.database_url(data_dir)) as connection:
        connection.execute("create table kept as select 42 as answer")
    holder.send_signal(signal.SIGSTOP)
    for one in living(servers):
        one.kill()
    release(holder, signal.SIGKILL)
    with embedded.running(data_dir):
        assert ask(data_dir, "select answer from kept") == "42"


def test_backends_without_their_postmaster_do_not_prevent_a_start(data_dir: Path) -> None:
    holder = hold(data_dir)
    busy = psycopg.connect(embedded.database_url(data_dir), autocommit=True)
    backend = psutil.Process(busy.info.backend_pid)
    backend.suspend()  # it cannot notice that its postmaster has died
    os.kill(postmaster_of(data_dir), signal.SIGKILL)
    release(holder, signal.SIGKILL)
    with embedded.running(data_dir):
        assert ask(data_dir, "select 1") == "1"
        assert not living([backend])
    busy.close()


def test_a_stray_server_is_stopped_and_started_anew(data_dir: Path) -> None:
    with embedded.exclusive(data_dir):
        stray = embedded.postgres(data_dir)
        process = stray.launch()
        stray.wait_until_ready(process)
    with embedded.running(data_dir):
        assert process.poll() is not None
        assert postmaster_of(data_dir) != process.pid


def test_a_lock_that_names_a_living_stranger_does_not_prevent_a_start(data_dir: Path) -> None:
    with embedded.running(data_dir):
        pass
    lock = data_dir / "postgres" / "postmaster.pid"
    lock.write_text(f"{os.getpid()}\n{data_dir / 'postgres'}\n1\n5432\n\n\n\nready\n")
    with embedded.running(data_dir):
        assert postmaster_of(data_dir) != os.getpid()


def test_an_interrupted_creation_is_begun_again(data_dir: Path) -> None:
    half = data_dir / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    data_dir.chmod(0o711)
    with embedded.running(data_dir):
        assert ask(data_dir, "select 1") == "1"
    assert not half.exists()


def test_data_of_another_version_are_refused_in_one_line_and_untouched(data_dir: Path) -> None:
    with embedded.running(data_dir):
        pass
    version = data_dir / "postgres" / "PG_VERSION"
    version.write_text("16\n")
    with pytest.raises(Refusal, match=r"PostgreSQL 16") as caught, embedded.running(data_dir):
        pass
    assert "\n" not in str(caught.value)
    assert version.read_text() == "16\n"


def test_starts_fast_enough_to_be_used_in_tests(data_dir: Path) -> None:
    with embedded.running(data_dir):
        pass
    started = time.monotonic()
    with embedded.running(data_dir):
        assert time.monotonic() - started < 5.0


@as_root
def test_root_gives_postgres_to_another_account(data_dir: Path) -> None:
    with embedded.running(data_dir):
        assert psutil.Process(postmaster_of(data_dir)).uids().real != 0
        assert (data_dir / "postgres").stat().st_uid != 0


@as_root
def test_root_keeps_data_elsewhere_when_the_account_cannot_reach_them(data_dir: Path) -> None:
    data_dir.parent.chmod(0o700)
    with embedded.running(data_dir), psycopg.connect(embedded.database_url(data_dir)) as connection:
        connection.execute("create table kept as select 42 as answer")
    place = (data_dir / "postgres").readlink()
    assert place.is_relative_to(unprivileged.SHARED_PLACE)
    assert oct(data_dir.parent.stat().st_mode)[-3:] == "700"
    with embedded.running(data_dir):
        assert ask(data_dir, "select answer from kept") == "42"
    embedded.remove(data_dir)
    assert not place.exists()
