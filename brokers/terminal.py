"""What the commands share: output for people or as JSON lines, errors in one line, and an end in good order.

A command derives from `TerminalCommand` and writes through its `Output`. Text of others (keys, values, names) passes
`printable`, so that nothing stored can send escape sequences to a terminal.
"""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from argparse import SUPPRESS, ArgumentParser, ArgumentTypeError
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Any, Final, NoReturn, TextIO

import msgspec
from django.core.management.base import BaseCommand
from django.db import ProgrammingError
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from brokers.database import sqlstate, store_errors
from brokers.errors import BrokerError, Unavailable

_NO_SUCH_TABLE_COLUMN_FUNCTION: Final = ("42P01", "42703", "42883")
_UNBOUNDED: Final = 100_000
"""Columns of an output that is no terminal: nothing is cut off there."""


# -- text ---------------------------------------------------------------------------------------------------------


def printable(text: str) -> str:
    """The text in one line with control, formatting and unassigned characters as escapes (`\\x1b`, `\\u202e`)."""
    if text.isprintable():
        return text
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text])


def printable_bytes(data: bytes) -> str:
    """Bytes as `printable` text; what is not UTF-8 as `\\xff`."""
    return printable(data.decode("utf-8", "backslashreplace"))


def one_line(error: BrokerError) -> str:
    """An error of the domain as one line, with what is wrong in each field."""
    details = [_located(pointer, detail) for pointer, detail in error.errors if detail not in error.detail]
    return printable(f"{error.detail}: {'; '.join(details)}" if details else error.detail)


def _located(pointer: str, detail: str) -> str:
    field = pointer.strip("/").replace("/", ".")
    return detail if not field or detail.startswith(field.rpartition(".")[2]) else f"{field} {detail}"


def instant(moment: datetime | None) -> str:
    """An instant for people, UTC, to the second; a dash for none."""
    return "-" if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def size(count: int) -> str:
    """A number of bytes for people: `1.4 MiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def duration(milliseconds: int | None) -> str:
    """A length of time for people: `7d`, `90s`, `250ms`; `for ever` for None."""
    if milliseconds is None:
        return "for ever"
    for unit, length in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000)):
        if milliseconds >= length and milliseconds % length == 0:
            return f"{milliseconds // length}{unit}"
    return f"{milliseconds}ms"


def whole_number(text: str) -> int:
    """An argument that is a whole number, not negative; for `type=` of an argument."""
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        raise ArgumentTypeError(f"{text!a} is not a whole number")
    return int(text)


# -- output -------------------------------------------------------------------------------------------------------


class Output:
    """Where a command writes: tables and lines for people, or JSON lines with `as_json`."""

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        self.stream = stream
        self.as_json = as_json
        self.is_terminal = stream.isatty()
        self.console = Console(
            file=stream,
            width=None if self.is_terminal else _UNBOUNDED,
            highlight=False,
            markup=False,
            emoji=False,
        )

    def line(self, text: str) -> None:
        """A line for people; nothing in JSON."""
        if not self.as_json:
            self.stream.write(printable(text) + "\n")

    def json(self, value: Any) -> None:
        """A line of JSON; nothing for people."""
        if self.as_json:
            self.stream.write(msgspec.json.encode(value).decode() + "\n")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> None:
        """A table for people, or the line `empty`; columns whose name begins with `>` are aligned to the right."""
        if self.as_json:
            return
        if not rows:
            self.line(empty)
            return
        table = Table(box=box.SIMPLE_HEAD if self.is_terminal else None, pad_edge=False, header_style="bold")
        for name in columns:
            table.add_column(name.lstrip(">"), justify="right" if name.startswith(">") else "left")
        for row in rows:
            table.add_row(*(Text(printable(cell)) for cell in row))
        with self.console.capture() as captured:
            self.console.print(table)
        self.stream.writelines(f"{line.rstrip()}\n" for line in captured.get().strip("\n").split("\n"))

    def flush(self) -> None:
        """Hands on what was written."""
        self.stream.flush()


class Stop:
    """Set by the first SIGINT or SIGTERM, so that a loop can end in good order; the second one ends it at once."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def status(self) -> int:
        """The exit status of a process that a signal ended."""
        return 128 + (self.signal or 0)

    def hear(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number


@contextmanager
def stopping() -> Iterator[Stop]:
    """Within it, SIGINT and SIGTERM set a `Stop`. Only for the main thread."""
    stop = Stop()
    before = [(number, signal.signal(number, stop.hear)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield stop
    finally:
        for number, handler in before:
            signal.signal(number, handler)


# -- commands -----------------------------------------------------------------------------------------------------


class TerminalCommand(BaseCommand):
    """A command with `--json`. From the command line, an error of the domain is one line and exit status 1.

    Called by `call_command`, it raises the error itself.
    """

    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Adds `--json`, then the command's own `arguments`."""
        add_json_option(parser)
        parser.set_defaults(as_json=False)
        self.arguments(parser)

    def arguments(self, parser: ArgumentParser) -> None:
        """Declares the command's arguments."""
        raise NotImplementedError

    def run(self, output: Output, options: dict[str, Any]) -> None:
        """Does what the command is for."""
        raise NotImplementedError

    def handle(self, *args: Any, **options: Any) -> None:
        """Runs the command; errors of the database become `Unavailable`."""
        output = Output(options.get("stdout") or sys.stdout, as_json=options["as_json"])
        with _store_errors_explained():
            self.run(output, options)
        output.flush()

    def note(self, text: str) -> None:
        """A line for people on standard error, beside the output proper."""
        self.stderr.write(printable(text), lambda line: line)

    def run_from_argv(self, argv: list[str]) -> None:
        """Runs the command and exits with its status."""
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            super().run_from_argv(argv)
        except BrokerError as error:
            if "--traceback" in argv:
                raise
            self._fail(one_line(error))
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        except BrokenPipeError:
            # Whoever read has read enough. What is still buffered goes nowhere, and Python need not complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _fail(self, line: str) -> NoReturn:
        self.note(line)
        sys.exit(1)


def add_json_option(parser: ArgumentParser) -> None:
    """`--json`, which may stand before and after a subcommand."""
    parser.add_argument(
        "--json", action="store_true", dest="as_json", default=SUPPRESS, help="JSON lines instead of text"
    )


@contextmanager
def _store_errors_explained() -> Iterator[None]:
    try:
        with store_errors():
            yield
    except ProgrammingError as error:
        if sqlstate(error) not in _NO_SUCH_TABLE_COLUMN_FUNCTION:
            raise
        raise Unavailable(
            "the database lacks tables of this version: `manage.py up` or `manage.py migrate` makes them"
        ) from error
    except Unavailable as error:
        if "connection failed" not in error.detail and "connection is bad" not in error.detail:
            raise
        raise Unavailable(f"{error.detail} (is the server running? `make run` starts it)") from error
