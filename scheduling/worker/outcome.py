"""How the call of a run went, before anybody has decided what follows from it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from scheduling import runs

MAX_RESULT: Final = 64 * 1024
"""Characters of a result's JSON that are kept."""
_UNSTORABLE: Final = re.compile(r"[\ud800-\udfff]|(?<!\\)(?:\\\\)*\\u0000")
"""What PostgreSQL refuses in JSON: halves of surrogate pairs, and NUL, which JSON writes as an escape."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came out of one attempt."""

    state: str
    """Of a scheduled task's run, which is not tried again."""
    result: object = None
    """What JSON can hold."""
    not_kept: str = ""
    """Why there is no result, though the function has answered something."""
    error: str = ""
    """With its stack trace; or why it was skipped."""
    raised: BaseException | None = None


def kept(result: object) -> Outcome:
    """A success, with the result if it can be stored."""
    try:
        text = json.dumps(result, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError):
        why = f"it answered a {type(result).__qualname__}, which JSON cannot hold"
        return Outcome(runs.SUCCEEDED, not_kept=why)
    if len(text) > MAX_RESULT:
        return Outcome(runs.SUCCEEDED, not_kept=f"it answered {len(text)} characters of JSON, more than {MAX_RESULT}")
    if _UNSTORABLE.search(text):
        return Outcome(runs.SUCCEEDED, not_kept="it answered text with NUL or half of a surrogate pair")
    return Outcome(runs.SUCCEEDED, result)
