"""Loaded by schemathesis itself (see `test_schemathesis`): calls that could be held for long are held shortly."""

from __future__ import annotations

from typing import Any

import schemathesis

LONGEST_WAIT_MS = 5
_LIMIT_MS = 30_000


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Shortens a `wait_ms` that the server would accept; others are sent as they were made."""
    for part in (case.body, case.query):
        if isinstance(part, dict):
            wait: Any = part.get("wait_ms")
            if type(wait) in (int, str) and str(wait).isdecimal() and LONGEST_WAIT_MS < int(wait) <= _LIMIT_MS:
                part["wait_ms"] = LONGEST_WAIT_MS
