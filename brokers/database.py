"""Connections to PostgreSQL for the data plane, and the one place where driver errors become ours.

Two colours: `sync_cursor` runs on Django's own connection, and so within the caller's transaction; `acquire` lends an
autocommit connection of the async pool, one pool for each event loop. Called by the modules that own tables; nothing
above the domain touches a connection.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

import django.db
import psycopg
from django.conf import settings
from django.db import connection
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from brokers.errors import Unavailable

POOL_SIZE = 12
"""Connections of one process at most."""
POOL_WAIT_SECONDS = 2.0
"""How long a request waits for a connection before it is refused."""

Pool = AsyncConnectionPool[psycopg.AsyncConnection[tuple[Any, ...]]]
_pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = weakref.WeakKeyDictionary()

_checks: dict[Pool, asyncio.Task[None]] = {}
"""Pools whose idle connections are being looked at."""

in_handler: ContextVar[bool] = ContextVar("waystation_in_handler", default=False)
"""Whether this is an asynchronous handler, whose transaction is on the thread that waits for it."""

_CONNECTION_LOST = (psycopg.OperationalError, psycopg.InterfaceError, PoolTimeout)


def conninfo() -> str:
    """The libpq connection string of Django's default database."""
    parameters = connection.get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(name, None)
    parameters["options"] = f"{parameters.get('options', '')} -c statement_timeout=30s -c jit=off".strip()
    return psycopg.conninfo.make_conninfo(**parameters)


@contextmanager
def store_errors() -> Iterator[None]:
    """Turns what the driver raises when PostgreSQL is away, full or shutting down into `Unavailable`."""
    try:
        yield
    except psycopg.errors.DiskFull as error:
        raise Unavailable("the database's disk is full; reading still works, publishing does not") from error
    except _CONNECTION_LOST as error:
        raise Unavailable(f"the database cannot be used now: {_one_line(error)}") from error
    except (django.db.OperationalError, django.db.InterfaceError) as error:
        raise Unavailable(f"the database cannot be used now: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__


class StatementHook:
    """An execute wrapper of Django's connection that hears of our own cursors too, which no wrapper sees."""

    def before_own_statement(self) -> None:
        """Called before a `sync_cursor` is lent."""


@contextmanager
def sync_cursor() -> Iterator[psycopg.Cursor[tuple[Any, ...]]]:
    """A server-side-binding cursor on Django's connection, part of the caller's transaction if there is one.

    Django's own cursors bind on the client and would send a payload as hexadecimal text, twice its size. Raises
    `Unavailable` when the connection fails, and the next call makes a new one; other database errors come as Django's.
    """
    try:
        with store_errors():
            connection.ensure_connection()
            for wrapper in connection.execute_wrappers:
                if isinstance(wrapper, StatementHook):
                    wrapper.before_own_statement()
            raw: psycopg.Connection[tuple[Any, ...]] = connection.connection
            with connection.wrap_database_errors, psycopg.Cursor(raw) as cursor:
                yield cursor
    except Unavailable:
        _drop_lost_connection()
        raise


def _drop_lost_connection() -> None:
    """Lets Django connect anew, as it does by itself only between HTTP requests."""
    raw = connection.connection
    if raw is not None and raw.closed and not connection.in_atomic_block:
        connection.close()


def sqlstate(error: BaseException) -> str | None:
    """The SQLSTATE behind an error of the driver or of Django, if it has one."""
    cause = error if isinstance(error, psycopg.Error) else error.__cause__
    return cause.sqlstate if isinstance(cause, psycopg.Error) else None


def in_transaction() -> bool:
    """Whether Django's connection is inside a transaction of the caller's."""
    return connection.in_atomic_block or not connection.get_autocommit()


async def _configure(conn: psycopg.AsyncConnection[tuple[Any, ...]]) -> None:
    await conn.set_autocommit(True)


def pool() -> Pool:
    """This event loop's pool; opened by the first `acquire`."""
    loop = asyncio.get_running_loop()
    found = _pools.get(loop)
    if found is None:
        found = _pools[loop] = AsyncConnectionPool(
            conninfo(),
            min_size=1,
            max_size=getattr(settings, "BROKERS_POOL_SIZE", POOL_SIZE),
            timeout=POOL_WAIT_SECONDS,
            open=False,
            configure=_configure,
            reconnect_timeout=5,
            max_idle=300,
            name="waystation",
            kwargs={"application_name": "waystation-data"},
        )
    return found


@asynccontextmanager
async def acquire() -> AsyncIterator[psycopg.AsyncConnection[tuple[Any, ...]]]:
    """An autocommit connection of the pool.

    Raises `Unavailable` when none comes free within two seconds or the database fails meanwhile.
    """
    with store_errors():
        mine = pool()
        if mine.closed:
            await mine.open()
        async with mine.connection() as conn:
            try:
                yield conn
            finally:
                if conn.closed:
                    _weed_out(mine)


def _weed_out(mine: Pool) -> None:
    """Looks at the idle connections after one was lost: a restart breaks all, and each would fail a request."""
    if mine not in _checks and not mine.closed:
        _checks[mine] = asyncio.create_task(mine.check(), name="waystation-pool-check")
        _checks[mine].add_done_callback(lambda _: _checks.pop(mine, None))


async def close() -> None:
    """Closes this event loop's pool, if it was opened."""
    mine = _pools.pop(asyncio.get_running_loop(), None)
    if mine is not None:
        if mine in _checks:
            await asyncio.wait([_checks[mine]], timeout=POOL_WAIT_SECONDS)
        await mine.close()
