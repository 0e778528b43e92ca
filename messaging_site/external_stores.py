"""Whether a PostgreSQL or Redis that somebody else runs is fit for this server; asked once, at its start.

A database that could lose acknowledged records is refused. Redis only carries wake-ups, so that a missing one
is worth a warning, and an old one a refusal. Called by the `up` command.
"""

from __future__ import annotations

from typing import Final

import psycopg
import redis

from messaging_site.environment import Refusal

OLDEST_POSTGRES: Final = 14
OLDEST_REDIS: Final = 7
CONNECT_SECONDS: Final = 10


def check_database(url: str) -> None:
    """Raises: Refusal, in one line, for a database that cannot be reached, is too old, or is not safe."""
    try:
        with psycopg.connect(url, connect_timeout=CONNECT_SECONDS, autocommit=True) as connection:
            fault = _database_fault(connection)
    except psycopg.Error as error:
        raise Refusal(f"DATABASE_URL: cannot use this database: {_one_line(error)}") from None
    if fault is not None:
        raise Refusal(f"DATABASE_URL: {fault}")


def check_redis(url: str) -> str | None:
    """Returns a warning when Redis cannot be asked now.

    Raises: Refusal when it is too old or the URL makes no sense.
    """
    try:
        with redis.Redis.from_url(url, socket_timeout=5.0, socket_connect_timeout=5.0) as client:
            told = client.info("server")
    except ValueError as error:
        raise Refusal(f"REDIS_URL: {_one_line(error)}") from None
    except redis.RedisError as error:
        return f"REDIS_URL: {_one_line(error).rstrip('.')}; wake-ups are late until it answers"
    version = str(told.get("redis_version", ""))
    major = version.partition(".")[0]
    if "valkey_version" not in told and major.isdecimal() and int(major) < OLDEST_REDIS:
        raise Refusal(f"REDIS_URL: Redis {version} is too old; {OLDEST_REDIS} or newer, or Valkey, is needed")
    return None


def _database_fault(connection: psycopg.Connection) -> str | None:
    version = connection.info.server_version
    if version < OLDEST_POSTGRES * 10_000:
        return f"PostgreSQL {version // 10_000} is too old; {OLDEST_POSTGRES} or newer is needed"
    if _ask(connection, "select pg_is_in_recovery()::text") == "true":
        return "this is a standby; give the address of the primary"
    if _ask(connection, "show default_transaction_read_only") == "on":
        return "its transactions are read-only by default"
    encoding = _ask(connection, "show server_encoding")
    if encoding != "UTF8":
        return f"the database is encoded as {encoding}; UTF8 is needed"
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        if _ask(connection, "select current_setting(%s)", setting) == "off":
            return f"{setting} is off, which loses acknowledged records in a crash; turn it on"
    return None


def _ask(connection: psycopg.Connection, question: str, *values: str) -> str:
    row = connection.execute(question, values).fetchone()
    return str(row[0]) if row else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
