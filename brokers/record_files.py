"""Records out of CSV and NDJSON text, in chunks, each record known by its line.

Decides what a line of a file or of standard input becomes: a value, a key, or a fault with the line's number. Knows
nothing of databases or of how far an import has come; `file_import` and the `publish` command do.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec

from brokers import json_checks
from brokers.errors import BrokerError, JsonTooDeep, Malformed, shown
from brokers.record import JSON, RAW, NewRecord
from brokers.settings import MAX_KEY_BYTES, MAX_RECORD_BYTES_LIMIT, MAX_RECORDS_PER_REQUEST

CHUNK: Final = MAX_RECORDS_PER_REQUEST
MAX_LINE_BYTES: Final = MAX_RECORD_BYTES_LIMIT + 1024
"""No record that any topic takes has a longer line: it is refused before it fills the memory."""

_BOM: Final = b"\xef\xbb\xbf"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class BadLine(Malformed):
    """A line is no record; those before it are."""

    code = "bad_line"

    def __init__(self, line: int, detail: str) -> None:
        super().__init__(f"line {line}: {detail}")
        self.line = line


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the topic asks of a record, and where its key is."""

    topic: str
    key: str | None
    """A column's name, or a member's of an object; None for records without keys."""
    max_record_bytes: int
    key_needed: bool

    def record(self, line: int, key: bytes | None, value: bytes | None) -> NewRecord:
        """A record of JSON text, or a tombstone; raises `BadLine` when the topic would not take it."""
        size = len(value or b"") + len(key or b"")
        if size > self.max_record_bytes:
            raise BadLine(line, f"the record has {size} bytes; {self.topic} takes {self.max_record_bytes}")
        if key is None:
            if self.key_needed:
                raise BadLine(line, f"the record has no key, and {self.topic} is compacted: give --key")
        elif len(key) > MAX_KEY_BYTES:
            raise BadLine(line, f"the key has {len(key)} bytes; {MAX_KEY_BYTES} are allowed")
        return NewRecord(key, value, RAW if value is None else JSON)


class Chunk(NamedTuple):
    """Up to 1000 records that follow each other. After a fault, or when `last`, there are no more."""

    records: list[NewRecord]
    fault: BadLine | None
    last: bool


def read(file: BinaryIO, file_format: str, rules: Rules, skip: int = 0) -> Iterator[Chunk]:
    """The records of a `csv` or `ndjson` file after the first `skip` of them. The last chunk may be empty."""
    reader = _csv_records if file_format == "csv" else _ndjson_records
    return reader(_lines(file), rules, skip)


# -- lines --------------------------------------------------------------------------------------------------------


def _lines(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers from 1 on, without a byte order mark before the first."""
    number = 0
    readline: Callable[[int], bytes] = file.readline
    while True:
        number += 1
        try:
            line = readline(MAX_LINE_BYTES + 1)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise BadLine(number, f"the compressed data is damaged: {error}") from error
        if not line:
            return
        if len(line) > MAX_LINE_BYTES:
            raise BadLine(number, f"is longer than {MAX_LINE_BYTES} bytes")
        yield number, line.removeprefix(_BOM) if number == 1 else line


# -- CSV ----------------------------------------------------------------------------------------------------------


def _decoded(lines: Iterable[tuple[int, bytes]]) -> Iterator[str]:
    for number, line in lines:
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise BadLine(number, f"is not UTF-8 at byte {error.start}") from error


def _csv_records(lines: Iterator[tuple[int, bytes]], rules: Rules, skip: int) -> Iterator[Chunk]:
    csv.field_size_limit(MAX_LINE_BYTES)
    reader = csv.reader(_decoded(lines), strict=True)
    names: list[str] = []
    column: int | None = None
    records: list[NewRecord] = []
    record = rules.record
    line = 1
    try:
        names = next(reader, [])
        column = _column(names, rules.key)
        width = len(names)
        line = reader.line_num + 1
        for row in reader:
            if row:
                if len(row) != width:
                    raise BadLine(line, f"does not have the {width} columns of the first line, but {len(row)}")
                if skip:
                    skip -= 1
                else:
                    key = row[column].encode() or None if column is not None else None
                    records.append(record(line, key, _encode(dict(zip(names, row, strict=True)))))
                    if len(records) == CHUNK:
                        yield Chunk(records, None, last=False)
                        records = []
            line = reader.line_num + 1
    except BadLine as fault:
        yield Chunk(records, fault, last=True)
        return
    except csv.Error as error:
        yield Chunk(records, BadLine(line, f"is not CSV: {error}"), last=True)
        return
    yield Chunk(records, None, last=True)


def _column(names: list[str], key: str | None) -> int | None:
    if not names:
        raise BadLine(1, "is missing or blank: a CSV file begins with the names of its columns")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise BadLine(1, f"names the column {shown(twice)} twice")
    if key is None:
        return None
    if key not in names:
        some = ", ".join(name[:30] for name in names[:20])
        raise BadLine(1, f"names no column {shown(key)} for --key; there are {some}"[:1000])
    return names.index(key)


# -- NDJSON -------------------------------------------------------------------------------------------------------


def _ndjson_records(lines: Iterator[tuple[int, bytes]], rules: Rules, skip: int) -> Iterator[Chunk]:
    gathered: list[tuple[int, bytes]] = []
    fault: BadLine | None = None
    try:
        for number, line in lines:
            text = line.strip(b" \t\r\n")
            if not text:
                continue
            if skip:
                skip -= 1
                continue
            gathered.append((number, text))
            if len(gathered) == CHUNK:
                chunk = parse_lines(gathered, rules)
                if chunk.fault:
                    yield chunk
                    return
                yield chunk._replace(last=False)
                gathered = []
    except BadLine as error:
        fault = error
    chunk = parse_lines(gathered, rules)
    yield chunk if chunk.fault else chunk._replace(fault=fault)


def parse_lines(lines: list[tuple[int, bytes]], rules: Rules) -> Chunk:
    """The records of numbered lines, one JSON value each, kept as the bytes that came; up to the first bad one."""
    try:
        return Chunk(_values(lines, rules), None, last=True)
    except BrokerError:
        pass
    records: list[NewRecord] = []
    for number, line in lines:
        try:
            records.extend(_values([(number, line)], rules))
        except BadLine as fault:
            return Chunk(records, fault, last=True)
        except BrokerError as error:
            return Chunk(records, BadLine(number, error.detail.removeprefix("the body ")), last=True)
    return Chunk(records, None, last=True)


def _values(lines: list[tuple[int, bytes]], rules: Rules) -> list[NewRecord]:
    if not lines:
        return []
    joined = b"\0".join([line for _, line in lines])
    json_checks.check_text(joined)
    values = [_json(number, line) for number, line in lines]
    json_checks.check_depths(joined)
    json_checks.check_numbers(joined)
    record, member = rules.record, rules.key
    return [
        record(number, None if member is None else _key(number, value, member), None if value is None else line)
        for (number, line), value in zip(lines, values, strict=True)
    ]


def _json(number: int, line: bytes) -> Any:
    try:
        return _decode(line)
    except msgspec.DecodeError as error:
        raise BadLine(number, f"is not JSON: {error}") from error
    except RecursionError as error:
        raise JsonTooDeep(f"arrays and objects are nested deeper than {json_checks.MAX_DEPTH} levels") from error


def _key(number: int, value: Any, member: str) -> bytes | None:
    if not isinstance(value, dict):
        raise BadLine(number, f"is no object, and --key {shown(member)} names a member of one")
    if member not in value:
        raise BadLine(number, f"the object has no member {shown(member)} for --key; null says that there is no key")
    key = value[member]
    if isinstance(key, str):
        return key.encode() or None
    if key is None:
        return None
    if isinstance(key, int) and not isinstance(key, bool):
        return b"%d" % key
    raise BadLine(number, f"the member {shown(member)} for --key is neither text nor a whole number")
