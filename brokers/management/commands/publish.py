"""`manage.py publish`: publishes a record, the lines of standard input, or a file, which may be interrupted."""

from __future__ import annotations

import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from brokers import declarations, record_files, terminal
from brokers.errors import BrokerError, InvalidValue, shown
from brokers.file_import import RunningImport
from brokers.management import standard_input
from brokers.publishing import publish_many
from brokers.record import NewRecord, Position
from brokers.record_files import Rules
from brokers.record_input import checked_headers, key_bytes
from brokers.terminal import Output, TerminalCommand, whole_number
from brokers.topics import lookup

_STANDARD_INPUT: Final = "-"


class Command(TerminalCommand):
    """Where the records come from decides `--file`, else `--value`, else standard input."""

    help = "Publishes a record, JSON lines from standard input, or a CSV or NDJSON file."

    def arguments(self, parser: ArgumentParser) -> None:
        """The command's arguments."""
        parser.add_argument("topic")
        parser.add_argument("--file", type=Path, metavar="F", help="a .csv, .ndjson or .jsonl file, also with .gz")
        parser.add_argument("--key", help="the record's key; with --file the column or member that holds it")
        parser.add_argument("--value", metavar="JSON|-", help="the record's value; - reads lines of JSON (default)")
        parser.add_argument("--header", action="append", default=[], metavar="NAME=TEXT", help="a header; repeatable")
        parser.add_argument("--partition", type=whole_number, metavar="P", help="instead of the key's partition")
        parser.add_argument("--again", action="store_true", help="publish a file that is finished once more")

    def run(self, output: Output, options: dict[str, Any]) -> None:
        """Publishes."""
        declarations.discover()
        if options["file"] is not None:
            self._refuse_with_file(options)
            self._publish_file(output, options)
        elif options["again"]:
            raise InvalidValue("--again goes with --file")
        elif options["value"] not in (None, _STANDARD_INPUT):
            self._publish_value(output, options)
        else:
            self._publish_lines(output, options)

    def _refuse_with_file(self, options: dict[str, Any]) -> None:
        for name in ("value", "header", "partition"):
            if options[name] not in (None, []):
                raise InvalidValue(f"--{name} does not go with --file")

    # -- one record ---------------------------------------------------------------------------------------------

    def _publish_value(self, output: Output, options: dict[str, Any]) -> None:
        template = _Template(options)
        chunk = record_files.parse_lines([(1, os.fsencode(options["value"]).strip())], template.rules)
        if chunk.fault is not None:
            raise InvalidValue(chunk.fault.detail.replace("line 1:", "the value", 1))
        self._told(output, publish_many(options["topic"], template.filled(chunk.records)))

    def _told(self, output: Output, positions: Sequence[Position]) -> None:
        for topic, partition, offset in positions:
            output.line(f"published to {topic}, partition {partition}, offset {offset}")
            output.json({"partition": partition, "offset": offset})

    # -- standard input -----------------------------------------------------------------------------------------

    def _publish_lines(self, output: Output, options: dict[str, Any]) -> None:
        template = _Template(options)
        if sys.stdin.isatty():
            self.note(f"One JSON value a line, for {options['topic']}; Ctrl-D ends")
        count = 0
        try:
            for lines in standard_input.arriving(sys.stdin.buffer.fileno()):
                chunk = record_files.parse_lines(lines, template.rules)
                positions = publish_many(options["topic"], template.filled(chunk.records))
                count += len(positions)
                for _, partition, offset in positions:
                    output.json({"partition": partition, "offset": offset})
                output.flush()
                if chunk.fault is not None:
                    raise chunk.fault
        except (BrokerError, KeyboardInterrupt):
            self.note(f"{_records(count)} published before this")
            raise
        output.line(f"{_records(count)} published to {options['topic']}")

    # -- a file -------------------------------------------------------------------------------------------------

    def _publish_file(self, output: Output, options: dict[str, Any]) -> None:
        path: Path = options["file"]
        began = time.monotonic()
        with (
            terminal.stopping() as stop,
            RunningImport(options["topic"], path, options["key"], again=options["again"]) as running,
        ):
            done = before = running.resumed_after
            if running.finished_at is not None:
                output.line(
                    f"{path.name} is in {options['topic']} already: {_records(done)}, finished"
                    f" {terminal.instant(running.finished_at)}; --again publishes it once more"
                )
            elif before:
                output.line(f"resuming after {_records(before)}")
            output.flush()
            with _progress(path.name) as progress:
                task = progress.add_task("", total=None, records=before, rate=0.0)
                for state in running.run():
                    done = state.records
                    rate = (done - before) / (time.monotonic() - began)
                    progress.update(task, total=state.bytes_total, completed=state.bytes_read, records=done, rate=rate)
                    if stop:
                        break
        seconds = time.monotonic() - began
        rate = (done - before) / seconds
        if running.finished_at is None and not stop:
            output.line(f"{_records(done - before)} published to {options['topic']} in {seconds:.2f} s ({rate:,.0f}/s)")
        output.json(
            {
                "topic": options["topic"],
                "file": str(path),
                "records": done - before,
                "resumed_after": before,
                "already_finished": running.finished_at is not None,
                "stopped": bool(stop),
                "seconds": round(seconds, 3),
                "records_per_second": round(rate, 1),
            }
        )
        if stop:
            output.flush()
            self.note(f"stopped after {_records(done)}: the same command goes on there")
            sys.exit(stop.status)


def _records(count: int) -> str:
    return f"{count:,} record" if count == 1 else f"{count:,} records"


def _progress(name: str) -> Progress:
    """A bar on standard error, where that is a terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn(terminal.printable(name), markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[records]:,} records"),
        TextColumn("{task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


class _Template:
    """Key, headers and partition that all records get which do not come from a file."""

    def __init__(self, options: dict[str, Any]) -> None:
        info = lookup(options["topic"])
        self.rules = Rules(topic=info.name, key=None, max_record_bytes=info.max_record_bytes, key_needed=False)
        key = options["key"]
        self._key = None if key is None else key_bytes(os.fsencode(key))
        self._headers = checked_headers(dict(map(_header, options["header"]))) or None
        self._partition: int | None = options["partition"]

    def filled(self, records: list[NewRecord]) -> list[NewRecord]:
        """The records with what was given for all."""
        key, headers, partition = self._key, self._headers, self._partition
        return [NewRecord(key, r.value, r.encoding, headers, partition) for r in records]


def _header(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidValue(f"--header is NAME=TEXT, not {shown(text)}")
    return name, value
