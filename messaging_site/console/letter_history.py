"""What happened to one dead letter, in sentences: given up, edited, replayed, resolved, noted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from brokers.selectors import dead_letters as letter_reads
from brokers.selectors.dead_letters import DeadLetter, Event
from messaging_site.console.failure_words import LETTER_STATES, OUTCOMES, Word, why

_DONE = {"resolve": LETTER_STATES["resolved"], "discard": LETTER_STATES["discarded"], "reopen": LETTER_STATES["open"]}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the history; `replay_id` leads to a replay, `note` is a person's own text."""

    at: datetime
    word: Word
    who: str
    text: str
    replay_id: int | None = None
    note: str = ""


def events(letter: DeadLetter) -> list[Entry]:
    """Everything kept of it, newest first; one statement for each kind of thing."""
    found = [_entry(event) for event in letter_reads.history(letter.id)]
    return [entry for entry in found if entry is not None]


def _entry(event: Event) -> Entry | None:
    details: dict[str, Any] = event.details
    if event.kind == "given_up":
        return Entry(event.at, LETTER_STATES["open"], "", "Given up by its consumer")
    if event.kind == "edit":
        if "size" in details:
            return None  # the audit record of an edit, which stands as a revision already
        how = "by a merge patch" if details.get("origin") == "merge_patch" else "by hand"
        return Entry(event.at, Word("list", "info", "Edited"), event.who, f"Revision {details.get('revision')}, {how}")
    if event.kind == "replay":
        outcome = str(details.get("outcome", "waiting"))
        detail = why(str(details.get("why") or ""))
        text = f"revision {details.get('revision')}" if details.get("revision") else ""
        return Entry(
            event.at,
            OUTCOMES.get(outcome, OUTCOMES["waiting"]),
            event.who,
            ", ".join(part for part in (text, detail) if part),
            replay_id=details.get("id"),
        )
    note = str(details.get("note") or "")
    word = _DONE.get(event.kind, Word("list", "mute", event.kind.replace("_", " ").capitalize()))
    state = details.get("state")
    text = f"From {state[0]} to {state[1]}" if isinstance(state, list) and len(state) == 2 else ""
    return Entry(event.at, word, event.who, text, note=note)
