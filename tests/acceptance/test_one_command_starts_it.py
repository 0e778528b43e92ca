"""`manage.py up`: one command starts everything, keeps it running, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import psutil
import pytest

from messaging_site import embedded
from messaging_site.processes import wait_for

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "acceptance-token-0123456789"
PASSWORD = "acceptance-password"
OURS = ("HOST", "PORT", "DATABASE_URL", "REDIS_URL")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Server:
    """One `manage.py up` and its processes."""

    def __init__(self, data_dir: Path, port: int, **variables: str) -> None:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in OURS and not name.startswith(("WAYSTATION_", "DJANGO_"))
        }
        self.port = port
        self.output = data_dir.with_name(f"{data_dir.name}-{port}-{time.monotonic_ns()}.txt")
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up"],
                cwd=ROOT,
                env=inherited | {"PORT": str(port), "WAYSTATION_DATA_DIR": str(data_dir)} | variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def text(self) -> str:
        """What it has printed so far."""
        return self.output.read_text()

    def is_ready(self) -> bool:
        """Whether the web server says that it can serve."""
        return self.get("/readyz") == 200

    def get(self, path: str, token: str | None = None) -> int:
        """The status of a GET; 0 when there is no answer."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        if token is not None:
            request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code
        except OSError:
            return 0

    def post(self, path: str, body: object) -> int:
        """The status of a POST of JSON as the administrator."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)

    def wait_until_ready(self) -> Self:
        """Waits for the printed address, which comes once everything answers."""
        is_over = wait_for(lambda: "is ready at" in self.text() or self.process.poll() is not None, 60.0, 0.05)
        assert is_over, (self.text(), self.children(), self.get("/readyz"))
        assert self.process.poll() is None, self.text()
        assert self.is_ready()
        return self

    def children(self) -> dict[int, str]:
        """Command lines of all processes below it, by their ids."""
        found: dict[int, str] = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found[child.pid] = " ".join(child.cmdline())
        return found

    def child(self, part: str) -> int | None:
        """The id of the oldest process whose command line holds `part`."""
        return min((pid for pid, line in self.children().items() if part in line), default=None)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stops it and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(20)


def is_living(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(prefix="waystation-up-"))
    parent.chmod(0o755)
    yield parent
    for directory in parent.iterdir():
        if directory.is_dir():
            embedded.remove(directory)
    shutil.rmtree(parent)


@pytest.fixture(scope="module")
def begun(place: Path) -> Path:
    """A data directory on which a server has run."""
    given = {"WAYSTATION_ADMIN_TOKEN": TOKEN, "WAYSTATION_ADMIN_PASSWORD": PASSWORD}
    with Server(place / "begun", free_port(), **given) as server:
        server.wait_until_ready()
        assert server.stop() == 0
    return place / "begun"


@pytest.fixture
def server(begun: Path) -> Iterator[Server]:
    with Server(begun, free_port()) as running:
        yield running.wait_until_ready()
        running.stop()


def test_first_start_prints_what_is_needed_to_sign_in_and_never_again(place: Path) -> None:
    port = free_port()
    with Server(place / "first", port) as first:
        first.wait_until_ready()
        assert wait_for(lambda: "token" in first.text(), 5.0)
        found = re.search(r"name +(\S+)\s+password +(\S+)\s+token +(\S+)", first.text())
        assert found is not None
        name, password, token = found.groups()
        assert name == "admin"
        assert len(password) >= 20
        assert f"http://127.0.0.1:{port}/" in first.text()
        assert first.get("/api/v1/topics", token) == 200
        assert first.get("/api/v1/topics") == 401
        assert first.stop(signal.SIGINT) == 0
    with Server(place / "first", port) as second:
        assert second.wait_until_ready().get("/api/v1/topics", token) == 200
        assert second.stop() == 0
    for secret in (password, token):
        assert first.text().count(secret) == 1
        assert secret not in second.text()
        for log in (place / "first" / "logs").iterdir():
            assert secret not in log.read_text()


def test_given_password_and_token_are_used_and_not_printed(begun: Path, server: Server) -> None:
    assert server.get("/api/v1/topics", TOKEN) == 200
    for output in begun.parent.glob("begun-*.txt"):
        assert TOKEN not in output.read_text()
        assert PASSWORD not in output.read_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything_within_ten_seconds(server: Server, number: signal.Signals) -> None:
    children = list(server.children())
    assert len(children) >= 4
    started = time.monotonic()
    assert server.stop(number) == 0
    assert time.monotonic() - started < 10.0
    assert not [pid for pid in children if is_living(pid)]
    assert "Traceback" not in server.text()


def test_a_signal_during_the_start_ends_everything_too(place: Path) -> None:
    with Server(place / "early", free_port()) as early:
        assert wait_for(lambda: early.child("bin/postgres") is not None, 30.0)
        children = list(early.children())
        assert early.stop() == 0
    assert not [pid for pid in children if is_living(pid)]


def test_nothing_is_left_when_the_supervisor_is_killed_and_the_next_start_works(begun: Path, server: Server) -> None:
    children = list(server.children())
    server.stop(signal.SIGKILL)
    with Server(begun, server.port) as again:
        assert wait_for(lambda: not [pid for pid in children if is_living(pid)], 5.0)
        assert again.wait_until_ready().stop() == 0


def test_what_was_acknowledged_survives_sigkill_of_everything(begun: Path, server: Server) -> None:
    topic = f"kept-{server.port}"
    assert server.post("/api/v1/topics", {"name": topic}) == 201
    assert server.post(f"/api/v1/topics/{topic}/records", {"records": [{"value": 42}]}) == 200
    for pid in (server.process.pid, *server.children()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    server.process.wait(5)
    with Server(begun, server.port) as again:
        request = urllib.request.Request(
            f"http://127.0.0.1:{again.wait_until_ready().port}/api/v1/topics/{topic}/partitions",
            headers={"Authorization": f"Bearer {TOKEN}"},
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            partitions = json.load(answer)["items"]
        assert sum(partition["latest_offset"] for partition in partitions) == 1
        assert again.stop() == 0


@pytest.mark.parametrize("part", ["uvicorn", "manage.py listen", "bin/postgres", "valkey-server"])
def test_a_process_that_is_killed_is_started_again(server: Server, part: str) -> None:
    assert wait_for(lambda: server.child(part) is not None, 10.0)
    victim = server.child(part)
    assert victim is not None
    os.kill(victim, signal.SIGKILL)
    assert wait_for(lambda: server.child(part) not in (None, victim), 10.0, 0.05)
    assert wait_for(server.is_ready, 10.0, 0.05)
    assert re.search(r"ended by SIGKILL; starting it again", server.text())
    assert wait_for(lambda: server.get("/api/v1/topics", TOKEN) == 200, 10.0, 0.05)


def test_as_many_processes_run_as_are_asked_for(begun: Path) -> None:
    wanted = {"WAYSTATION_WEB_PROCESSES": "2", "WAYSTATION_LISTENER_PROCESSES": "2"}
    with Server(begun, free_port(), **wanted) as server:
        server.wait_until_ready()
        lines = list(server.children().values())
        assert sum("uvicorn" in line for line in lines) == 2
        assert sum("manage.py listen" in line for line in lines) == 2
        assert server.stop() == 0


def test_two_servers_run_side_by_side(place: Path, server: Server) -> None:
    with Server(place / "other", free_port()) as other:
        assert other.wait_until_ready().get("/api/v1/topics", TOKEN) == 401
        assert server.is_ready()
        assert other.stop() == 0
    assert server.is_ready()


def test_a_taken_port_is_told_in_one_line(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with Server(place / "taken", port) as refused:
            assert refused.process.wait(30) == 78
    assert refused.text() == f"waystation: port {port} is taken; set PORT to another one\n"


def test_a_second_server_on_the_same_data_is_told_in_one_line(begun: Path, server: Server) -> None:
    with Server(begun, free_port()) as refused:
        assert refused.process.wait(30) == 78
    assert re.fullmatch(r"waystation: WAYSTATION_DATA_DIR: another server \(process \d+\).*\n", refused.text())
    assert server.is_ready()


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"WAYSTATION_WEB_PROCESES": "2"}, "WAYSTATION_WEB_PROCESSES"),
        ({"WAYSTATION_WEB_PROCESSES": "none"}, "WAYSTATION_WEB_PROCESSES"),
        ({"WAYSTATION_ADMIN_TOKEN": "secret-canary"}, "WAYSTATION_ADMIN_TOKEN"),
        ({"DATABASE_URL": "postgresql://u:secret-canary@127.0.0.1:1/x"}, "DATABASE_URL"),
        ({"HOST": "0.0.0.0"}, "DJANGO_SECRET_KEY; DJANGO_ALLOWED_HOSTS; DATABASE_URL"),
        ({"DJANGO_DEBUG": "0"}, "DJANGO_SECRET_KEY; DJANGO_ALLOWED_HOSTS; DATABASE_URL"),
    ],
)
def test_a_wrong_environment_is_told_in_one_line(place: Path, variables: dict[str, str], named: str) -> None:
    with Server(place / "refused", free_port(), **variables) as refused:
        assert refused.process.wait(30) == 78
    assert refused.text().count("\n") == 1
    assert named in refused.text()
    assert "secret-canary" not in refused.text()
