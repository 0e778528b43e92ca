"""Runs statements that name the schema of the tables, as migrations install stored functions and triggers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


def run(statements: Sequence[str]) -> Callable[[Any, Any], None]:
    """For `RunPython`: the statements in order, `{schema}` being the schema that the tables are made in."""

    def execute(apps: Any, schema_editor: Any) -> None:
        with schema_editor.connection.cursor() as cursor:
            cursor.execute("select quote_ident(current_schema())")
            schema = cursor.fetchone()[0]
            for statement in statements:
                cursor.execute(statement.format(schema=schema))

    return execute
