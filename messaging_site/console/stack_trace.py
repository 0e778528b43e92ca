"""Reads a stored stack trace for display: the chain of exceptions, each frame with its code, libraries folded.

Pure. The text is Python's own format, the frames beside it say which files are the application's; text that does not
read as a trace is shown as it is. Called by the dead letter's page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import PurePath
from typing import Any, NamedTuple

MAX_FRAMES = 400
"""Frames read of one trace; what lies beyond is left to the text."""

_FRAME = re.compile(r'  File "(?P<file>.*)", line (?P<line>\d{1,9})(?:, in (?P<function>.*))?')
_INSTALLED = re.compile(r"^.*/(?:site-packages|dist-packages|lib/python3\.\d+)/")
_LEFT_OUT = re.compile(r"\[\.\.\.\]|  \[the same \d+ times more\]|Traceback \(most recent call last\):")
_BETWEEN = {
    "The above exception was the direct cause of the following exception:": "which caused",
    "During handling of the above exception, another exception occurred:": "while handling it",
}


class ShownFrame(NamedTuple):
    """One frame; `code` is its line of source, empty when that was not at hand."""

    file: str
    line: int
    function: str
    code: str
    own: bool

    @property
    def short_file(self) -> str:
        """The file without the way to the installed packages or the standard library."""
        return _INSTALLED.sub("", self.file)


@dataclass(frozen=True, slots=True)
class Run:
    """Frames in a row that are all the application's own, or all of libraries."""

    own: bool
    frames: tuple[ShownFrame, ...]


@dataclass(slots=True)
class Raised:
    """One exception of the chain; `link` says how it came after the one before, empty for the first."""

    link: str
    frames: list[ShownFrame] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def message(self) -> str:
        """The exception's class and message as Python prints them, which may be several lines."""
        return "\n".join(self.lines).strip().removeprefix("builtins.")

    @property
    def runs(self) -> list[Run]:
        """The frames, outermost first, cut where own ones and libraries' meet."""
        return [Run(own, tuple(frames)) for own, frames in groupby(self.frames, key=lambda frame: frame.own)]

    @property
    def innermost_own(self) -> ShownFrame | None:
        """The application's frame nearest to the failure."""
        return next((frame for frame in reversed(self.frames) if frame.own), None)

    @property
    def folded(self) -> int:
        """How many frames are libraries'."""
        return sum(not frame.own for frame in self.frames)


def chain(text: str, frames: Iterable[Mapping[str, Any]]) -> list[Raised]:
    """The exceptions of a trace, the root cause first; empty when the text is no trace.

    `frames` are those stored beside it, of the last exception: they say which files are the application's own. A file
    that they do not name is taken for its own when it lies beside one that is.
    """
    known = {str(frame.get("file")): bool(frame.get("own")) for frame in frames}
    own_folders = {PurePath(file).parent for file, is_own in known.items() if is_own}
    found = [Raised("")]
    count = 0
    for line in text.splitlines():
        raised = found[-1]
        link = _BETWEEN.get(line.strip())
        match = _FRAME.fullmatch(line)
        if link is not None:
            found.append(Raised(link))
        elif match is not None and not raised.lines and count < MAX_FRAMES:
            count += 1
            own = known.get(match["file"], PurePath(match["file"]).parent in own_folders)
            raised.frames.append(ShownFrame(match["file"], int(match["line"]), match["function"] or "", "", own))
        elif line.startswith("    ") and raised.frames and not raised.lines:
            _add_code(raised.frames, line)
        elif raised.lines or (line.strip() and not _LEFT_OUT.fullmatch(line)):
            raised.lines.append(line)
    return [raised for raised in found if raised.frames or raised.message] if count else []


def _add_code(frames: list[ShownFrame], line: str) -> None:
    code = line.strip()
    if not frames[-1].code and code.strip("^~ "):
        frames[-1] = frames[-1]._replace(code=code)
