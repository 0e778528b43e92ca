"""`manage.py consume`: prints records as they come, read from partitions or as a member of a consumer group."""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import msgspec
from rich.text import Text

from brokers import terminal, topic_log
from brokers.consumer import Consumer
from brokers.errors import InvalidValue, OffsetOutOfRange, StaleGeneration, TopicNotFound
from brokers.record import JSON, Record
from brokers.record_json import record_json
from brokers.terminal import Output, Stop, TerminalCommand, whole_number
from brokers.topics import TopicInfo, lookup
from brokers.wakeup import Subscription

_BATCH: Final = 500
_WAIT_SECONDS: Final = 0.5
"""How long a wait lasts before the command looks whether it was told to stop."""
_LINE_ENDS: Final = bytes.maketrans(b"\r\n", b"  ")
_ANY_TERMINAL: Final = 4096
"""Characters of a value that no terminal's line is longer than: the rest is not looked at."""


def start(text: str) -> str | int:
    """`earliest`, `latest` or an offset."""
    return text if text in ("earliest", "latest") else whole_number(text)


def seconds(text: str) -> float:
    """A positive number of seconds."""
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e9:
        raise ArgumentTypeError(f"{text!a} is no number of seconds")
    return found


class Command(TerminalCommand):
    """Ends by Ctrl-C or SIGTERM, `--limit`, `--timeout`, or at what is there now with `--no-follow`."""

    help = "Prints the records of a topic as they come."

    def arguments(self, parser: ArgumentParser) -> None:
        """The command's arguments."""
        parser.add_argument("topic")
        parser.add_argument("--group", metavar="G", help="read as a member of this group, and commit what was printed")
        parser.add_argument(
            "--from",
            dest="start",
            type=start,
            metavar="earliest|latest|OFFSET",
            help="where to begin; with a group, where nothing is committed",
        )
        parser.add_argument("--partition", type=whole_number, metavar="P", help="only this partition")
        parser.add_argument("--limit", type=whole_number, metavar="N", help="end after N records")
        parser.add_argument("--timeout", type=seconds, metavar="SECONDS", help="end when none came for so long")
        parser.add_argument(
            "--follow", action="store_true", dest="follow", default=True, help="wait for more (default)"
        )
        parser.add_argument("--no-follow", action="store_false", dest="follow", help="end at what is there now")

    def run(self, output: Output, options: dict[str, Any]) -> None:
        """Prints until something ends it."""
        info = lookup(options["topic"])
        left: int | None = options["limit"]
        printer = _Printer(output)
        with terminal.stopping() as stop, ExitStack() as stack:
            reader: _GroupReader | _LogReader
            if options["group"] is not None:
                reader = stack.enter_context(_GroupReader(info, options))
            else:
                reader = stack.enter_context(_LogReader(info, options, self.note))
            quiet_since = time.monotonic()
            while not stop and left != 0:
                records = reader.next(_BATCH if left is None else min(left, _BATCH), stop)
                if records:
                    printer.records(records)
                    reader.printed()
                    left = None if left is None else left - len(records)
                    quiet_since = time.monotonic()
                elif reader.at_end or _expired(options["timeout"], quiet_since):
                    break


def _expired(timeout: float | None, since: float) -> bool:
    return timeout is not None and time.monotonic() - since >= timeout


# -- where the records come from ----------------------------------------------------------------------------------


class _GroupReader:
    """A member of a consumer group: what was printed is committed, and it leaves at the end."""

    def __init__(self, info: TopicInfo, options: dict[str, Any]) -> None:
        if options["partition"] is not None:
            raise InvalidValue("--partition does not go with --group: the group divides the partitions")
        if isinstance(options["start"], int):
            raise InvalidValue("--from takes earliest or latest with --group: the group knows its offsets")
        self._follow: bool = options["follow"]
        self._wait_ms = int(1000 * min(_WAIT_SECONDS, options["timeout"] or _WAIT_SECONDS))
        self._consumer = Consumer(options["group"], [info.name], auto_offset_reset=options["start"] or "earliest")
        self.at_end = False

    def __enter__(self) -> _GroupReader:
        self._consumer.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._consumer.__exit__(*exc)

    def next(self, count: int, stop: Stop) -> list[Record]:
        """Up to `count` records; none after a short wait."""
        records = self._consumer.poll(max_records=count, wait_ms=self._wait_ms)
        self.at_end = not records and not self._follow and bool(self._consumer.assignment)
        return records

    def printed(self) -> None:
        """Commits. When the group has moved on, what was not committed comes again, to its new owner."""
        try:
            self._consumer.commit()
        except StaleGeneration:
            self.at_end = False


class _LogReader:
    """Reads partitions by offset, one after the other, and waits when all are read to their ends."""

    def __init__(self, info: TopicInfo, options: dict[str, Any], note: Any) -> None:
        self._name, self._topic_id = info.name, info.id
        self._only: int | None = options["partition"]
        self._note = note
        self._offsets: dict[int, int] = {}
        self._ends: dict[int, int] | None = None
        self._wakeup = Subscription()
        self._turn: Iterator[int] = iter(())
        self._begin(info, options)
        self.at_end = False

    def _begin(self, info: TopicInfo, options: dict[str, Any]) -> None:
        numbers = range(len(info.partition_ids)) if self._only is None else [self._only]
        bounds = {number: topic_log.bounds(info, number) for number in numbers}
        start = options["start"] or ("latest" if options["follow"] else "earliest")
        if isinstance(start, int) and len(bounds) > 1:
            raise InvalidValue(
                f"an offset belongs to one partition, and {info.name} has {len(bounds)}: give --partition"
            )
        for number, (earliest, latest) in bounds.items():
            if isinstance(start, int) and start < earliest:
                raise OffsetOutOfRange(info.name, number, start, earliest, latest)
            self._offsets[number] = start if isinstance(start, int) else {"earliest": earliest}.get(start, latest)
        if not options["follow"]:
            self._ends = {number: latest for number, (_, latest) in bounds.items()}

    def __enter__(self) -> _LogReader:
        self._wakeup.__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._wakeup.__exit__(*exc)

    def next(self, count: int, stop: Stop) -> list[Record]:
        """Up to `count` records of the next partition that has any; none after a short wait."""
        info = lookup(self._name)
        if info.id != self._topic_id:
            raise TopicNotFound(f"the topic {info.name} was deleted and made anew meanwhile")
        if self._only is None and self._ends is None:
            for number in range(len(self._offsets), len(info.partition_ids)):
                self._offsets[number] = 0
        for _ in self._offsets:
            records = self._read(info, self._next_partition(), count)
            if records or stop:
                return records
        if self._ends is not None:
            self.at_end = True
        else:
            self._wakeup.wait([info.partition_id(number) for number in self._offsets], _WAIT_SECONDS)
        return []

    def _next_partition(self) -> int:
        number = next(self._turn, None)
        if number is None:
            self._turn = iter(sorted(self._offsets))
            number = next(self._turn)
        return number

    def _read(self, info: TopicInfo, number: int, count: int) -> list[Record]:
        offset = self._offsets[number]
        end = None if self._ends is None else self._ends[number]
        if end is not None and offset >= end:
            return []
        try:
            found = topic_log.read(info, number, offset, count)
        except OffsetOutOfRange as error:
            self._note(f"{error.detail}; going on there")
            self._offsets[number] = error.earliest_offset
            return self._read(info, number, count)
        self._offsets[number] = max(offset, found.next_offset)
        return found.records if end is None else [record for record in found.records if record.offset < end]

    def printed(self) -> None:
        """Nothing is remembered but here."""


# -- how they are shown -------------------------------------------------------------------------------------------


class _Printer:
    """One line a record: JSON as REST has it, or columns that fit the terminal."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._begun = False

    def records(self, records: list[Record]) -> None:
        """Prints records and hands them on."""
        output = self._output
        if output.as_json:
            output.stream.writelines([record_json(record).translate(_LINE_ENDS).decode() + "\n" for record in records])
        elif output.is_terminal:
            self._fitted(records)
        else:
            output.stream.writelines([" ".join(_columns(record)) + "\n" for record in records])
        output.flush()

    def _fitted(self, records: list[Record]) -> None:
        if not self._begun:
            self._begun = True
            self._line(Text(_aligned("part", "offset", "time (UTC)", "key", "value"), style="bold"))
        for record in records:
            self._line(Text(_aligned(*_columns(record, _ANY_TERMINAL))))

    def _line(self, text: Text) -> None:
        self._output.console.print(text, no_wrap=True, overflow="ellipsis", crop=True)


def _aligned(partition: str, offset: str, instant: str, key: str, value: str) -> str:
    return f"{partition:>4} {offset:>9} {instant:<24} {key:<12} {value}"


def _columns(record: Record, longest: int | None = None) -> tuple[str, str, str, str, str]:
    key = record.key_bytes
    return (
        f"{record.partition}",
        f"{record.offset}",
        _time(record.timestamp),
        "-" if key is None else terminal.printable_bytes(key),
        _value(record, longest),
    )


def _time(milliseconds: int) -> str:
    whole, rest = divmod(milliseconds, 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{rest:03}Z"


def _value(record: Record, longest: int | None) -> str:
    value = record.value_bytes
    if value is None:
        return "tombstone"
    if record.encoding == JSON and b"\n" in value:
        value = msgspec.json.format(value, indent=-1)
    return terminal.printable_bytes(value if longest is None else value[:longest])
