"""Runs a rule that takes several statements on either kind of connection, so that it is written once.

A rule is a generator: it yields a statement with its parameters, is sent the rows, and returns its result. `run` and
`arun` execute it on Django's connection and on the pool; `atomically` and `aatomically` in one transaction.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, LiteralString, TypeVar

import psycopg
from django.db import transaction

from brokers.database import acquire, store_errors, sync_cursor

Rows = list[tuple[Any, ...]]
Statement = tuple[LiteralString, tuple[Any, ...] | Mapping[str, Any]]
T = TypeVar("T")
Steps = Generator[Statement, Rows, T]


def run(steps: Steps[T]) -> T:
    """The rule's result; each statement commits by itself, unless the caller has a transaction open."""
    with sync_cursor() as cursor:
        try:
            statement, parameters = next(steps)
            while True:
                cursor.execute(statement, parameters, binary=True)
                rows = cursor.fetchall() if cursor.description is not None else []
                statement, parameters = steps.send(rows)
        except StopIteration as end:
            result: T = end.value
            return result


async def arun(steps: Steps[T]) -> T:
    """`run` on a connection of the pool."""
    async with acquire() as conn:
        return await _drive(conn, steps)


def atomically(steps: Steps[T]) -> T:
    """`run` in one transaction, which is the caller's if one is open; what the rule raises rolls it back.

    Raises `Unavailable` also when the connection is lost in the commit, of which nobody knows then whether it happened.
    """
    with store_errors(), transaction.atomic():
        return run(steps)


async def aatomically(steps: Steps[T]) -> T:
    """`atomically` on a connection of the pool."""
    async with acquire() as conn, conn.transaction():
        return await _drive(conn, steps)


async def _drive(conn: psycopg.AsyncConnection[tuple[Any, ...]], steps: Steps[T]) -> T:
    try:
        statement, parameters = next(steps)
        while True:
            cursor = await conn.execute(statement, parameters, binary=True)
            rows = await cursor.fetchall() if cursor.description is not None else []
            statement, parameters = steps.send(rows)
    except StopIteration as end:
        result: T = end.value
        return result
