"""The failure groups' filters: what the address chooses, what each choice would show, in numbers.

Pure over `BoardGroup`s; called by the page of failure groups. Each facet counts dead letters over the groups that match
all other facets, so that its numbers say what choosing one more value adds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from brokers.models.failures import STATES
from brokers.selectors.failure_board import BoardGroup
from messaging_site.console.failure_words import LETTER_STATES, short_class

DEFAULT_STATES: Final = ("open", "replaying")
SHOWN_VALUES = 12
"""Values of one facet shown at once; what is chosen is always among them."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a facet."""

    name: str
    label: str
    letters: int
    chosen: bool


@dataclass(frozen=True, slots=True)
class Facet:
    """One facet: the parameter's name in the address, its title and its values; `more` are left out."""

    name: str
    title: str
    values: list[Value]
    more: int


@dataclass(frozen=True, slots=True)
class Choice:
    """What the address chooses. No state at all means those that need somebody."""

    states: tuple[str, ...]
    sources: frozenset[str]
    groups: frozenset[str]
    exceptions: frozenset[str]
    is_default: bool
    """Whether nothing but the default is chosen."""

    @classmethod
    def of(cls, lists: Callable[[str], Sequence[str]]) -> Choice:
        """Reads the parameters; values that no state has are left out."""
        states = tuple(state for state in STATES if state in lists("state"))
        others = [frozenset(text[:300] for text in lists(name) if text) for name in ("source", "group", "exception")]
        source, group, exception = others
        return cls(states or DEFAULT_STATES, source, group, exception, not states and not any(others))

    def matches(self, group: BoardGroup, but: str = "") -> bool:
        """Whether a group is chosen, the facet `but` set aside."""
        return (
            (but == "state" or any(group.count(state) for state in self.states))
            and (but == "source" or not self.sources or group.source in self.sources)
            and (but == "group" or not self.groups or group.group in self.groups)
            and (but == "exception" or not self.exceptions or exception_of(group) in self.exceptions)
        )


def exception_of(group: BoardGroup) -> str:
    """What the exception facet calls a group: its exception class, or the reason without one."""
    return group.exception_class or group.reason


def facets(groups: Iterable[BoardGroup], choice: Choice) -> list[Facet]:
    """All facets with their counts."""
    everything = list(groups)

    def counted(name: str, value: Callable[[BoardGroup], str]) -> Counter[str]:
        found: Counter[str] = Counter()
        for group in everything:
            if choice.matches(group, but=name):
                found[value(group)] += sum(group.count(state) for state in choice.states)
        return found

    in_states = Counter(
        {state: sum(g.count(state) for g in everything if choice.matches(g, but="state")) for state in STATES}
    )
    states = [Value(state, LETTER_STATES[state].text, in_states[state], state in choice.states) for state in STATES]
    return [
        Facet("state", "State", states, 0),
        _facet("source", "Source", counted("source", lambda group: group.source), choice.sources),
        _facet("group", "Consumer group", counted("group", lambda group: group.group), choice.groups),
        _facet("exception", "Exception", counted("exception", exception_of), choice.exceptions, short_class),
    ]


def _facet(
    name: str,
    title: str,
    counts: Mapping[str, int],
    chosen: frozenset[str],
    label: Callable[[str], str] = str,
) -> Facet:
    names = {value for value in counts if value} | chosen
    ordered = sorted(names, key=lambda value: (value not in chosen, -counts.get(value, 0), value))
    shown = sorted(ordered[: max(SHOWN_VALUES, len(chosen))], key=lambda value: (-counts.get(value, 0), value))
    values = [Value(value, label(value), counts.get(value, 0), value in chosen) for value in shown]
    return Facet(name, title, values, len(ordered) - len(shown))
