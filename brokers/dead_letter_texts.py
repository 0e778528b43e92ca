"""The short texts of a dead letter's row: bounded, in one line, and storable whatever handler and record hold.

Pure. Called by `dead_letters`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from brokers.errors import InvalidValue
from brokers.failure import Failure, storable

ERROR_CHARACTERS = 500
NAME_CHARACTERS = 300
ID_CHARACTERS = 255
IDEMPOTENCY_KEY_CHARACTERS = 1024
MAX_NOTE_CHARACTERS = 4000

_NO_FAILURE = {"worker_lost": "its workers were lost while they handled it"}
_MESSAGE_ID = ("message-id", "x-message-id", "message_id")
_CORRELATION_ID = ("correlation-id", "x-correlation-id", "correlation_id")


def line(text: str, characters: int) -> str:
    """At most so many characters in one line."""
    return storable(" ".join(text[: 4 * characters].split()), 4 * characters)[:characters]


def error(failure: Failure | None, reason: str) -> str:
    """What went wrong; where no exception was raised, what the reason means."""
    return line(_NO_FAILURE.get(reason, reason) if failure is None else failure.message, ERROR_CHARACTERS)


def idempotency_key(key: str | None) -> str | None:
    """The key, if it is one that can have been processed."""
    longest = IDEMPOTENCY_KEY_CHARACTERS
    return None if key is None or len(key) > longest or storable(key, 4 * longest) != key else key


def message_id(headers: Mapping[str, str]) -> str | None:
    """The producer's id of the message, where a header holds one."""
    return _header(headers, _MESSAGE_ID)


def correlation_id(headers: Mapping[str, str]) -> str | None:
    """What the producer says the message belongs to, where a header does."""
    return _header(headers, _CORRELATION_ID)


def _header(headers: Mapping[str, str], names: Sequence[str]) -> str | None:
    if not headers:
        return None
    found = {name.lower(): text for name, text in headers.items()}
    text = next((found[name] for name in names if found.get(name)), None)
    return None if text is None else line(text, ID_CHARACTERS)


def check_note(note: str | None) -> None:
    """Raises `InvalidValue` for an operator's note that is too long or cannot be stored."""
    if note is None:
        return
    if len(note) > MAX_NOTE_CHARACTERS:
        raise InvalidValue(f"the note has {len(note)} characters; {MAX_NOTE_CHARACTERS} are allowed", pointer="/note")
    if storable(note, 4 * MAX_NOTE_CHARACTERS) != note:
        raise InvalidValue("the note holds a NUL or half of a surrogate pair", pointer="/note")
