"""`manage.py locks`: lists locks, and releases one by force."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from brokers import audit, terminal
from brokers.instants import rfc3339
from brokers.terminal import Output, TerminalCommand, instant
from scheduling.locks import listing, releasing
from scheduling.locks.listing import LockRow

_PAGE = 1000


class Command(TerminalCommand):
    """Without a subcommand: `list`."""

    help = "Lists locks and releases them."

    def arguments(self, parser: ArgumentParser) -> None:
        """The subcommands and their arguments."""
        actions = parser.add_subparsers(dest="action", metavar="list|release")
        parser.set_defaults(action="list")
        every = actions.add_parser("list", help="All locks that were ever taken (the default)")
        one = actions.add_parser("release", help="Frees it by force: its holder goes on, so two may run at once")
        one.add_argument("name")
        for action in (every, one):
            terminal.add_json_option(action)

    def run(self, output: Output, options: dict[str, Any]) -> None:
        """Does the subcommand."""
        if options["action"] == "release":
            name = options["name"]
            was_held = releasing.release(name, actor=audit.COMMAND)
            output.line(f"lock {name} {'is released' if was_held else 'was free already'}")
            output.json({"name": name, "released": was_held})
        else:
            _list(output)


def _list(output: Output) -> None:
    found: list[LockRow] = []
    after: str | None = ""
    while after is not None:
        page, after = listing.page(after, _PAGE, lambda row: True)
        found += page
    for row in found:
        output.json(
            {
                "name": row.name,
                "state": "held" if row.is_held else "free",
                "locked_by": row.locked_by,
                "locked_at": rfc3339(row.locked_at),
                "lock_until": rfc3339(row.until),
            }
        )
    output.table(
        ("Lock", "State", "Holder", "Taken", "Until"),
        [
            (row.name, "held" if row.is_held else "free", row.locked_by, instant(row.locked_at), instant(row.until))
            for row in found
        ],
        "No lock was ever taken",
    )
