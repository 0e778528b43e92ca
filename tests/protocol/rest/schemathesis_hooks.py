"""Loaded by schemathesis itself (see `test_schemathesis`), to make calls short and to let them get inside.

A `wait_ms` that the server would accept is shortened; where the run knows a topic, an exchange and a queue of one name,
bodies that name one name it, and policies fit no queue.
"""

from __future__ import annotations

import os
import re
from typing import Any

import schemathesis

KNOWN = "SCHEMATHESIS_KNOWN"
NAMING = ("topic", "exchange", "queue", "to_exchange", "to")
LONGEST_WAIT_MS = 5
_LIMIT_MS = 30_000
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Changes values that are valid into others that are; what is wrong stays as it was made."""
    for part in (case.body, case.query):
        if isinstance(part, dict):
            wait: Any = part.get("wait_ms")
            if type(wait) in (int, str) and str(wait).isdecimal() and LONGEST_WAIT_MS < int(wait) <= _LIMIT_MS:
                part["wait_ms"] = LONGEST_WAIT_MS
    if known := os.environ.get(KNOWN):
        _name_known(case.body, known)


def _name_known(value: Any, known: str) -> None:
    if isinstance(value, dict):
        for field in NAMING:
            if isinstance(value.get(field), str) and _NAME.fullmatch(value[field]):
                value[field] = known
        if isinstance(value.get("pattern"), str) and value["pattern"]:
            value["pattern"] = "^fits-no-queue$"
        for member in value.values():
            _name_known(member, known)
    elif isinstance(value, list):
        for item in value:
            _name_known(item, known)
