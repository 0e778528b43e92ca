"""The real ShedLock in one JVM, driven over standard input; compiled once, and skipped where that cannot be."""

from __future__ import annotations

import socket
import socketserver
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from django.db import connection

from tests.interop.maven import compiled

PROJECT = Path(__file__).parent


class Java:
    """A running `ShedLockClient`."""

    def __init__(self, commands: IO[str], answers: IO[str]) -> None:
        self._commands, self._answers = commands, answers

    def send(self, *order: object) -> None:
        """Gives an order without waiting for its answer."""
        self._commands.write(" ".join(map(str, order)) + "\n")
        self._commands.flush()

    def answer(self) -> str:
        """The next answer."""
        line = self._answers.readline()
        assert line, "the JVM has ended"
        return line.strip()

    def ask(self, *order: object) -> str:
        """Gives an order and answers what it says."""
        self.send(*order)
        return self.answer()


@contextmanager
def running() -> Iterator[Java]:
    """A JVM on the database of the tests."""
    output = compiled(PROJECT, "ShedLock")
    settings = connection.settings_dict
    with reachable(str(settings["HOST"]), settings["PORT"] or 5432) as (host, port):
        url = f"jdbc:postgresql://{host}:{port}/{settings['NAME']}"
        java = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{output}/classes:{output}/libraries/*"]
        command = [*java, "interop.ShedLockClient", url, str(settings["USER"]), str(settings["PASSWORD"])]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                client = Java(process.stdin, process.stdout)
                assert client.answer() == "ready"
                yield client
            finally:
                process.stdin.close()
                process.wait(20)


@contextmanager
def reachable(host: str, port: object) -> Iterator[tuple[str, int]]:
    """A TCP address of PostgreSQL, for JDBC knows no Unix sockets: where there is only one, it is relayed."""
    if not host.startswith("/"):
        yield host or "localhost", int(str(port))
        return
    path = f"{host}/.s.PGSQL.{port}"

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as server:
                server.connect(path)
                back = threading.Thread(target=pump, args=(server, self.request))
                back.start()
                pump(self.request, server)
                back.join()

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay) as listening:
        listening.daemon_threads = True
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield "127.0.0.1", listening.server_address[1]
        finally:
            listening.shutdown()
            thread.join()


def pump(source: socket.socket, target: socket.socket) -> None:
    """Copies what comes until the end, and hands on the end."""
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the other direction has ended it
