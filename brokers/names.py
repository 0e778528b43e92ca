"""The rule for names of topics, groups, exchanges and queues.

Every surface validates a name here before it reaches SQL, a file name, a metric label or a log line. Whether
a thing of that name exists is not known here.
"""

from __future__ import annotations

import re

from brokers.errors import InvalidName, shown

MAX_LENGTH = 249

_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_LENGTH}}}")
_FOREIGN = re.compile(r"[^A-Za-z0-9._-]")


def validate(kind: str, name: str, *, pointer: str = "") -> str:
    """Return `name` when it may name a `kind` ("topic", "group", "exchange", "queue").

    `pointer` is the JSON pointer of the field, where the name came in a body.

    Raises:
        InvalidName: not 1 to 249 of `[A-Za-z0-9._-]`, or `.` or `..`; says which, with the value's beginning.
    """
    if isinstance(name, str) and _NAME.fullmatch(name) and name not in (".", ".."):
        return name
    raise InvalidName(f"{kind} name {shown(name)} {_why(name)}", pointer=pointer)


def _why(name: object) -> str:
    if not isinstance(name, str):
        return f"is of type {type(name).__name__}: a name is text"
    if not name:
        return f"is empty: a name has 1 to {MAX_LENGTH} characters"
    if name in (".", ".."):
        return "is reserved"
    foreign = _FOREIGN.search(name)
    if foreign:
        return f"has {foreign.group()!a} at position {foreign.start()}: only A-Z a-z 0-9 . _ - are allowed"
    return f"has {len(name)} characters: at most {MAX_LENGTH} are allowed"
