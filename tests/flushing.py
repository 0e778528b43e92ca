"""Empties the database between tests by what is in it, instead of truncating every table there is.

Django truncates all tables after each transactional test and makes content types and permissions anew: a tenth of a
second, and more with every table. Here only tables that were written to are truncated, and what migrations made stays.
"""

from __future__ import annotations

from typing import Any

from django.core.management.commands import flush
from django.db.backends.postgresql.operations import DatabaseOperations

KEPT = frozenset({"django_content_type", "auth_permission", "django_migrations"})
"""Made by migrations, and the same for every test."""
UNMANAGED = frozenset({"shedlock"})
"""Written to by tests, though no model of Django's manages it."""


def _sql_flush(
    self: DatabaseOperations,
    style: Any,
    tables: list[str],
    *,
    reset_sequences: bool = False,
    allow_cascade: bool = False,
) -> list[str]:
    if not tables:
        return []
    names = sorted({*tables, *UNMANAGED} - KEPT)
    with self.connection.cursor() as cursor:
        cursor.execute(
            "select relname from pg_class where relkind = 'r' and relnamespace = current_schema()::regnamespace"
            " and relname = any(%s) and pg_relation_size(oid) > 0",
            [names],
        )
        filled = [self.quote_name(name) for (name,) in cursor.fetchall()]
    if not filled:
        return []
    return [f"truncate {', '.join(filled)} {'restart identity ' if reset_sequences else ''}cascade"]


def install() -> None:
    """Makes the tests of this process use it."""
    DatabaseOperations.sql_flush = _sql_flush  # type: ignore[method-assign, assignment]
    flush.emit_post_migrate_signal = lambda *args, **kwargs: None  # type: ignore[attr-defined]
