"""Loads the named statements of this folder: blocks that begin with `-- name: x` in `<noun>.sql`.

Each file belongs to the module of the same noun, which alone executes it. A duplicate or empty name fails at import.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import LiteralString, cast

_NAME = re.compile(r"^-- name: (\w+)[^\n]*\n", re.MULTILINE)


class Statements(SimpleNamespace):
    """Attribute per statement, each the statement's text."""

    def __getattr__(self, name: str) -> LiteralString:
        raise AttributeError(f"no statement is named {name!r}")


def load(noun: str) -> Statements:
    """The statements of `<noun>.sql`.

    Raises ValueError when a name is missing or stands twice.
    """
    return parse(Path(__file__).parent / f"{noun}.sql")


def parse(path: Path) -> Statements:
    """The statements of a file, for packages that have a folder of their own; raises as `load` does."""
    text = path.read_text(encoding="utf-8")
    parts = _NAME.split(text)[1:]
    names, bodies = parts[::2], parts[1::2]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"{path.name}: statement names are missing or repeated: {names}")
    return Statements(**{name: cast("LiteralString", body.strip()) for name, body in zip(names, bodies, strict=True)})
