"""Resolving, discarding and reopening all dead letters that a filter finds, in steps that each are all or nothing.

For operators who settle a whole failure group. A step is one transaction of `dead_letters.change_state`; what fails
after the filter's `until` is left alone. Called by the console.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from brokers import audit
from brokers.dead_letters import MAX_IDS, change_state
from brokers.errors import Conflict, InvalidValue, shown
from brokers.selectors.dead_letter_filter import Consumer, Filter, MaySee, consumers_of, count, places, search, visible

CHANGES: Final = {
    "resolved": ("open",),
    "discarded": ("open",),
    "open": ("resolved", "discarded"),
}
"""The states that a bulk change leads to, each with those that it changes."""
MAX_CHANGED = 10_000
"""Dead letters of one call; the rest takes another."""
_RACES = 5
"""Steps tried again because a dead letter was replayed meanwhile."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a change would do: how many it would change and how many are selected, each counted up to a limit."""

    changing: int
    selected: int
    consumers: list[Consumer]


def outlook(selection: Filter, state: str, may_see: MaySee, most: int = MAX_CHANGED + 1) -> Outlook:
    """What `change` would do now. Raises `InvalidValue`, `SearchTooBroad`."""
    with search() as cursor:
        seen = visible(cursor, selection, may_see)
        selected = count(cursor, seen, most)
        consumers = consumers_of(cursor, seen)
        changing = sum(count(cursor, each, most) for each in _parts(seen, state))
    return Outlook(min(changing, most), selected, consumers)


def change(selection: Filter, state: str, may_see: MaySee, actor: audit.Actor, note: str | None) -> int:
    """Changes up to `MAX_CHANGED` of the selected dead letters to the state, and says how many.

    In transactions of its own, each of up to `MAX_IDS`; what is replayed meanwhile is left out. Raises `InvalidValue`,
    `SearchTooBroad` and, when replays keep coming in between, `Conflict`.
    """
    done = races = 0
    for part in _parts(selection, state):
        while done < MAX_CHANGED:
            with search() as cursor:
                found = places(cursor, visible(cursor, part, may_see), MAX_IDS)
            if not found:
                break
            try:
                done += change_state([number for _, number in found], state, actor, note)
            except Conflict:
                races += 1
                if races > _RACES:
                    raise
    return done


def _parts(selection: Filter, state: str) -> list[Filter]:
    if state not in CHANGES:
        raise InvalidValue(f"dead letters can be made {', '.join(CHANGES)}, not {shown(state)}", pointer="/state")
    return [replace(selection, state=each) for each in CHANGES[state] if selection.state in (None, each)]
