"""Compares two texts line by line for display side by side. Pure; called by the edit page and by replay plans."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import NamedTuple

MAX_LINES = 1500
"""Longer texts are not compared: the cost grows with the product of both."""
CONTEXT = 3
"""Equal lines kept beside each change."""


class Line(NamedTuple):
    """One row: `same`, `changed`, `removed`, `added`, or `gap`, which stands for `hidden` equal lines."""

    kind: str
    before_number: int | None = None
    before: str = ""
    after_number: int | None = None
    after: str = ""
    hidden: int = 0


class Comparison(NamedTuple):
    """The rows, and how many lines were taken away and added."""

    lines: list[Line]
    removed: int
    added: int

    @property
    def differs(self) -> bool:
        """Whether there is any difference."""
        return bool(self.removed or self.added)


def compare(before: str, after: str) -> Comparison | None:
    """What changed between two texts; None when either is too long to compare."""
    old, new = before.split("\n"), after.split("\n")
    if max(len(old), len(new)) > MAX_LINES:
        return None
    lines: list[Line] = []
    removed = added = 0
    opcodes = SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for at, (tag, a, b, c, d) in enumerate(opcodes):
        if tag == "equal":
            lines += _equal(old, (a, b), c, is_first=at == 0, is_last=at == len(opcodes) - 1)
            continue
        removed += b - a
        added += d - c
        lines += _changed(old, new, (a, b), (c, d))
    return Comparison(lines, removed, added)


def _changed(old: list[str], new: list[str], before: tuple[int, int], after: tuple[int, int]) -> list[Line]:
    found = []
    for at in range(max(before[1] - before[0], after[1] - after[0])):
        left, right = before[0] + at, after[0] + at
        if left < before[1] and right < after[1]:
            found.append(Line("changed", left + 1, old[left], right + 1, new[right]))
        elif left < before[1]:
            found.append(Line("removed", left + 1, old[left]))
        else:
            found.append(Line("added", None, "", right + 1, new[right]))
    return found


def _equal(old: list[str], span: tuple[int, int], right: int, *, is_first: bool, is_last: bool) -> list[Line]:
    begin, end = span
    head = 0 if is_first else CONTEXT
    tail = 0 if is_last else CONTEXT
    if end - begin <= head + tail + 1:
        return [_same(old, at, at - begin + right) for at in range(begin, end)]
    return [
        *(_same(old, at, at - begin + right) for at in range(begin, begin + head)),
        Line("gap", hidden=end - begin - head - tail),
        *(_same(old, at, at - begin + right) for at in range(end - tail, end)),
    ]


def _same(old: list[str], left: int, right: int) -> Line:
    return Line("same", left + 1, old[left], right + 1, old[left])
