"""Ant patterns, as Spring's AntPathMatcher reads them: of subscriptions to broadcasts, and of message mappings' routes.

`?` is one character and `*` any number within a segment, `**` as a whole segment any number of segments. Patterns of
subscriptions come from clients, and so none takes more than linear time for each of its segments. A mapping's route
is the application's and may also hold variables: `{name}` is at least one character within a segment, `{name:regex}`
what the expression matches. Pure: called by `broadcasts` and `mappings`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from brokers.errors import InvalidValue, shown

MAX_PATTERN_LENGTH: Final = 1024
"""Characters of a pattern."""
MAX_WILDCARDS: Final = 16
"""Of one pattern."""
_WILD = re.compile(r"[*?{]")
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def is_pattern(destination: str) -> bool:
    """Whether it holds a wildcard."""
    return _WILD.search(destination) is not None


def literal_prefix(pattern: str) -> str:
    """What comes before the first wildcard."""
    found = _WILD.search(pattern)
    return pattern if found is None else pattern[: found.start()]


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    """The expression whose `fullmatch` says what a subscription's pattern matches; raises `InvalidValue`."""
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise InvalidValue(f"a pattern has at most {MAX_PATTERN_LENGTH} characters, not {len(pattern)}")
    if "{" in pattern:
        raise InvalidValue(f"a subscription has the wildcards ?, * and **, and no variables: {shown(pattern)}")
    if len(_WILD.findall(pattern)) > MAX_WILDCARDS:
        raise InvalidValue(f"a pattern has at most {MAX_WILDCARDS} wildcards: {shown(pattern)}")
    return re.compile(_joined([_segment(text) for text in pattern.split("/")], pattern), re.DOTALL)


def matches(pattern: str, destination: str) -> bool:
    """Whether a subscription to the pattern receives what is sent to the destination."""
    return compiled(pattern).fullmatch(destination) is not None


def _segment(text: str) -> str | None:
    """The expression of one segment; None for `**`."""
    if text == "**":
        return None
    parts = re.split(r"\*+", text)
    first, *others = ["".join("[^/]" if c == "?" else re.escape(c) for c in part) for part in parts]
    if not others:
        return first
    # What follows a wildcard is taken at its first place and never given back: no pattern can take long. The last
    # part stands at the segment's end.
    middle = "".join(f"(?>[^/]*?{part})" for part in others[:-1])
    return f"{first}{middle}[^/]*{others[-1]}"


def _joined(segments: list[str | None], pattern: str) -> str:
    """Segments between `/`; `**` takes its `/` with it, so that it may stand for no segment."""
    groups: list[list[str]] = [[]]
    for segment in segments:
        if segment is None:
            groups.append([])
        else:
            groups[-1].append(segment)
    if len(groups) == 1:
        return "/".join(groups[0])
    if not groups[0]:
        raise InvalidValue(f"a pattern begins with / and a name: {shown(pattern)}")
    head, *between, tail = groups
    expression = "/".join(head)
    for group in between:
        if group:
            expression += f"(?>(?:/[^/]*)*?/{'/'.join(group)}(?=/|\\Z))"
    return expression + "(?:/[^/]*)*" + (f"/{'/'.join(tail)}" if tail else "")


@dataclass(frozen=True, slots=True)
class Route:
    """A mapping's route, ready to be matched."""

    text: str
    expression: re.Pattern[str]
    variables: tuple[str, ...]
    shape: str
    """The route without the names of its variables: two of one shape match alike."""
    rank: tuple[int, int, int, int, str]
    """The most specific route sorts first, as Spring's comparator has it."""

    def match(self, path: str) -> dict[str, str] | None:
        """The values of the variables; None when the route does not match."""
        found = self.expression.fullmatch(path)
        return None if found is None else found.groupdict()


def route(text: str) -> Route:
    """Reads a mapping's route; raises `InvalidValue`."""
    if not isinstance(text, str) or not text.startswith("/") or len(text) < 2:
        raise InvalidValue(f"a route begins with / and a name, unlike {shown(text)}")
    expression, shape, variables = "", "", []
    literal = wildcards = doubles = 0
    at = 0
    while at < len(text):
        if text.startswith("/**", at) and (at + 3 == len(text) or text[at + 3] == "/"):
            expression, shape, at = f"{expression}(?:/[^/]*)*", f"{shape}/**", at + 3
            doubles += 1
        elif text[at] in "*?":
            expression += "[^/]*" if text[at] == "*" else "[^/]"
            shape, at = shape + text[at], at + 1
            wildcards += 1
        elif text[at] == "{":
            end = _closing(text, at)
            name, colon, rule = text[at + 1 : end].partition(":")
            if not _VARIABLE_NAME.fullmatch(name) or name in variables:
                raise InvalidValue(f"the route {text} has a variable {shown(name)}, which is no name of its own")
            variables.append(name)
            expression += f"(?P<{name}>{_checked_rule(text, rule) if colon else '[^/]+'})"
            shape += f"{{:{rule}}}" if colon else "{}"
            at = end + 1
        elif text[at] == "}":
            raise InvalidValue(f"the route {text} closes a variable that it does not open")
        else:
            expression, shape, at = expression + re.escape(text[at]), shape + text[at], at + 1
            literal += 1
    rank = (doubles, wildcards + len(variables), wildcards, -literal, text)
    return Route(text, re.compile(expression, re.DOTALL), tuple(variables), shape, rank)


def _closing(text: str, at: int) -> int:
    depth = 0
    for index in range(at, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return index
    raise InvalidValue(f"the route {text} opens a variable that it does not close")


def _checked_rule(text: str, rule: str) -> str:
    try:
        groups = re.compile(rule).groups
    except re.error as error:
        raise InvalidValue(f"the route {text} holds {shown(rule)}, which is no regular expression: {error}") from None
    if groups:
        raise InvalidValue(f"the route {text} has a group in {shown(rule)}: write (?:...) instead")
    return f"(?:(?!/){rule})" if rule else "[^/]+"


def expand(template: str, values: dict[str, str]) -> str:
    """The template with `{name}` replaced; raises `InvalidValue` for a name that is not among the values."""

    def value(found: re.Match[str]) -> str:
        if found[1] not in values:
            raise InvalidValue(f"{template} names {found[0]}, which the route does not have")
        return values[found[1]]

    return re.sub(r"\{([^{}]*)\}", value, template)


def names_in(template: str) -> list[str]:
    """The variables that `expand` replaces."""
    return re.findall(r"\{([^{}]*)\}", template)
