"""What tells that something has changed since the last look: for the console's live updates, behind the hints.

Hints tell of what arrives; of commits, acknowledgements, failures and progress nobody is told. One statement a second
for each web process in which a page of the console is open.
"""

from __future__ import annotations

from typing import Final

from brokers.database import acquire
from brokers.sql import load

SQL = load("changes")

KINDS: Final = ("topics", "groups", "queues", "dead-letters", "replays", "alerts")
"""What there are marks of, in the order of the statement's columns."""


async def marks() -> dict[str, str]:
    """A mark of each kind, equal to the last one while nothing of it has changed; raises `Unavailable`."""
    async with acquire() as conn:
        row = await (await conn.execute(SQL.marks)).fetchone()
    assert row is not None
    return dict(zip(KINDS, row, strict=True))
