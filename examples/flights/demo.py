"""`make demo`: a consumer group counts a month of departures, queues take the late ones, a replay mends the rest.

Works beside a running server, or starts one for as long as it takes. Compares by how much the totals have grown, so it
can be repeated; after an interrupted run it mends first what that one left. Run as `python -m examples.flights.demo`.
"""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import django
from django.conf import settings
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from rich.console import Console

from examples.flights import running_server
from messaging_site.processes import wait_for

ADVISORY_LOCK: Final = 0x464C49474854
"""The letters FLIGHT."""
SCHEMA_LOCK_SECONDS: Final = 60.0
PLAIN_WIDTH: Final = 200
"""Columns of an output that is no terminal."""


def main() -> int:
    """Runs the demo; 0 when everything came out as the file says."""
    parser = ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--leave-failures", action="store_true", help="do not mend them: leave them to the reader")
    arguments = parser.parse_args()
    _install_example()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "messaging_site.settings")
    console = Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    django.setup()
    from brokers.errors import BrokerError

    try:
        with _server(console), _turn(console):
            from examples.flights.demonstration import demonstrate

            return demonstrate(console, leave_failures=arguments.leave_failures)
    except (BrokerError, DatabaseError) as error:
        first_line = str(error).partition("\n")[0]
        Console(stderr=True, highlight=False).print(f"demo: {first_line}", markup=False, soft_wrap=True)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _install_example() -> None:
    """Adds the example to the Django apps where the environment names others, or a database and therefore none."""
    named = os.environ.get("WAYSTATION_APPS", "")
    if "DATABASE_URL" in os.environ or "WAYSTATION_APPS" in os.environ:
        apps = [name for name in named.split(",") if name.strip()]
        if "examples.flights" not in (name.strip() for name in apps):
            os.environ["WAYSTATION_APPS"] = ",".join([*apps, "examples.flights"])


# -- the server ---------------------------------------------------------------------------------------------------


@contextmanager
def _server(console: Console) -> Iterator[None]:
    """The server that runs on the database of the settings, or one of the demo's own."""
    if _is_running(console):
        console.print("A server is running: using it")
        yield
    else:
        console.print("No server is running: starting one for the demo")
        with running_server.own_server():
            yield


def _is_running(console: Console) -> bool:
    """Whether the database of the settings is usable; waits for a server that is only starting."""
    if not _database_is_usable() and running_server.holds(settings.DATA_DIR):
        console.print("A server is starting: waiting for it")
        wait_for(
            lambda: _database_is_usable() or not running_server.holds(settings.DATA_DIR),
            running_server.READY_SECONDS,
            interval=0.25,
        )
    return _database_is_usable()


def _database_is_usable() -> bool:
    """Whether it answers and has all tables of this version; of a server without the example, they are made now."""
    try:
        missing = _apps_to_migrate()
        if missing == {"flights"}:
            _migrate_example()
            missing = _apps_to_migrate()
        return not missing
    except DatabaseError:
        return False
    finally:
        connection.close()


def _apps_to_migrate() -> set[str]:
    executor = MigrationExecutor(connection)
    return {migration.app_label for migration, _ in executor.migration_plan(executor.loader.graph.leaf_nodes())}


def _migrate_example() -> None:
    from messaging_site.management.commands.up import SCHEMA_LOCK

    if wait_for(lambda: _locked(SCHEMA_LOCK), SCHEMA_LOCK_SECONDS, interval=0.1):
        call_command("migrate", "flights", interactive=False, verbosity=0)


def _locked(number: int) -> bool:
    """Whether the advisory lock is this connection's now, until it is closed."""
    with connection.cursor() as cursor:
        cursor.execute("select pg_try_advisory_lock(%s)", [number])
        return bool(cursor.fetchone()[0])


@contextmanager
def _turn(console: Console) -> Iterator[None]:
    """Lets one demo at a time compare totals."""
    if not _locked(ADVISORY_LOCK):
        console.print("Another demo is running: waiting for it to end")
        with connection.cursor() as cursor:
            cursor.execute("select pg_advisory_lock(%s)", [ADVISORY_LOCK])
    yield


if __name__ == "__main__":
    sys.exit(main())
