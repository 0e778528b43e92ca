"""Real worker processes that are killed, stopped, ended and changed while they handle records."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from django.conf import settings
from django.db import connection

from brokers import publish_many, topics
from brokers.models import DeadLetter, DeliveryAttempt, GroupMember
from brokers.selectors import groups as reads
from tests.effects import Effects, effects_table
from tests.listener_app.messaging import GROUP, TOPIC
from tests.listening import caught_up, lag, until
from tests.server import ROOT

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def effects() -> Iterator[Effects]:
    topics.create(TOPIC, partitions=1)
    with effects_table() as table:
        yield table


def start(output: Path, apps: str = "tests.listener_app", **variables: str) -> subprocess.Popen[bytes]:
    """`manage.py listen` on the database of the tests."""
    database = connection.settings_dict
    host, name = quote(str(database["HOST"]), safe=""), database["NAME"]
    secret = f":{quote(database['PASSWORD'])}" if database["PASSWORD"] else ""
    port = f":{database['PORT']}" if database["PORT"] else ""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WAYSTATION_", "DJANGO_"))}
    environment |= {
        "DATABASE_URL": f"postgresql://{database['USER']}{secret}@{host}{port}/{name}",
        "REDIS_URL": settings.REDIS_URL,
        "WAYSTATION_DATA_DIR": str(output.parent / "data"),
        "WAYSTATION_APPS": apps,
        **variables,
    }
    with output.open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "manage.py", "listen"], cwd=ROOT, env=environment, stdout=log, stderr=log
        )


class Supervisor:
    """Starts a worker again whenever it has died."""

    def __init__(self, directory: Path, **variables: str) -> None:
        self.starts = 0
        self._output = directory / "log"
        self._variables = variables
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        return start(self._output, **self._variables)

    def watch(self) -> None:
        if self.process.poll() is not None:
            self.process = self._start()

    def log(self) -> str:
        return self._output.read_text()

    def end(self) -> int:
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        try:
            return self.process.wait(15)
        finally:
            self.process.kill()
            self.process.wait()


@contextmanager
def worker(**variables: str) -> Iterator[Supervisor]:
    with tempfile.TemporaryDirectory(prefix="waystation-listen-") as directory:
        supervisor = Supervisor(Path(directory), **variables)
        try:
            yield supervisor
        finally:
            supervisor.end()


def fill(*values: str) -> None:
    publish_many(TOPIC, [{"value": value} for value in values])


def members() -> int:
    return GroupMember.objects.filter(ended_at=None).count()


@pytest.mark.slow
def test_a_record_that_kills_its_worker_is_given_up_and_its_neighbours_are_handled_once(effects: Effects) -> None:
    fill("a", "b", "kill", "c", "d")
    with worker() as one:

        def is_through() -> bool:
            one.watch()
            return lag(GROUP) == 0

        until(is_through, 60)
        assert one.starts == 5, one.log()  # once unawares, then three counted deaths
    assert effects.names() == ["a", "b", "c", "d"]
    (letter,) = DeadLetter.objects.all()
    assert (letter.record_offset, letter.reason, letter.attempts) == (2, "worker_lost", 3)
    assert not DeliveryAttempt.objects.exists()


def test_a_stopped_worker_that_wakes_up_commits_nothing_and_joins_again(effects: Effects) -> None:
    fill("a", "stop", "b")
    with worker(LISTENER_APP_SESSION_MS="1500", LISTENER_APP_STOPS="1") as zombie:
        until(lambda: _is_stopped(zombie.process), 30)
        assert effects.names() == []
        with worker(LISTENER_APP_SESSION_MS="1500"):
            caught_up(GROUP, 40)
            assert effects.names() == ["a", "stop", "b"]
            zombie.process.send_signal(signal.SIGCONT)
            until(lambda: members() == 2, 30)
            fill("c")
            caught_up(GROUP)
    assert effects.names() == ["a", "stop", "b", "c"]
    assert not DeadLetter.objects.exists()
    assert not DeliveryAttempt.objects.exists()


def _is_stopped(process: subprocess.Popen[bytes]) -> bool:
    return bool(psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)


def test_a_killed_workers_successor_has_its_partitions_at_once(effects: Effects) -> None:
    with worker() as one:
        until(lambda: members() == 1, 30)
        generation = reads.get(GROUP).generation
        one.process.kill()
        one.process.wait()
        fill("a")
        one.watch()
        caught_up(GROUP, 30)  # the session would have lasted for a minute
        assert reads.get(GROUP).generation == generation
    assert effects.names() == ["a"]


def test_a_worker_ends_quickly_and_leaves_its_group(effects: Effects) -> None:
    with worker() as one:
        until(lambda: members() == 1, 30)
        began = time.monotonic()
        assert one.end() == 0
        assert time.monotonic() - began < 5
    assert members() == 0


def test_in_development_a_worker_begins_anew_when_a_file_changes(effects: Effects) -> None:
    with tempfile.TemporaryDirectory(prefix="waystation-app-") as directory:
        package = Path(directory) / "changing"
        package.mkdir()
        (package / "__init__.py").touch()
        source = ROOT / "tests" / "listener_app" / "messaging.py"
        text = source.read_text()
        (package / "messaging.py").write_text(text)
        output = Path(directory) / "log"
        process = start(output, "changing", DJANGO_DEBUG="1", PYTHONPATH=directory)
        try:
            fill("a")
            until(lambda: effects.names() == ["a"], 30)
            (package / "messaging.py").write_text(text.replace("[record.value,", "[record.value + ' anew',"))
            until(lambda: "beginning anew" in output.read_text(), 15)
            until(lambda: members() == 1 and GroupMember.objects.count() == 2, 30)
            fill("b")
            until(lambda: effects.names() == ["a", "b anew"], 30)
            assert process.poll() is None
            assert psutil.Process(process.pid).cmdline()[-2:] == ["manage.py", "listen"]
        finally:
            process.terminate()
            assert process.wait(15) == 0
