"""Lines of standard input as they come, for the commands that publish them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

from brokers import record_files
from brokers.record_files import BadLine

_READ_BYTES: Final = 1024 * 1024


def arriving(descriptor: int) -> Iterator[list[tuple[int, bytes]]]:
    """Numbered lines that are not blank, up to 1000 at a time, as soon as they have come.

    Raises `BadLine` for one that is longer than any record or message may be.
    """
    number = 0
    pieces: list[bytes] = []
    held = 0
    while data := os.read(descriptor, _READ_BYTES):
        head, newline, rest = data.rpartition(b"\n")
        if newline:
            lines = b"".join([*pieces, head]).split(b"\n")
            yield from _grouped(number, lines)
            number += len(lines)
            pieces, held = [], 0
        pieces.append(rest)
        held += len(rest)
        if held > record_files.MAX_LINE_BYTES:
            raise BadLine(number + 1, f"is longer than {record_files.MAX_LINE_BYTES} bytes")
    yield from _grouped(number, [b"".join(pieces)])


def _grouped(number: int, lines: list[bytes]) -> Iterator[list[tuple[int, bytes]]]:
    stripped = ((number + index, line.strip()) for index, line in enumerate(lines, 1))
    numbered = [(index, line) for index, line in stripped if line]
    for start in range(0, len(numbered), record_files.CHUNK):
        yield numbered[start : start + record_files.CHUNK]
