"""Reads JSON text for display without changing it: numbers, escapes, order and repeated names stay as stored.

A tolerant scanner rather than a parser: text that was cut off, or is no JSON after all, gives the nodes up to
there. Used by the payload viewer (`payload`) for its tree and by the publish form for its "Format" button.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

MAX_NODES = 2000
"""Nodes of one tree; the rest of the text is left to the raw view."""
OPEN_DEPTH = 2
"""How many levels start unfolded."""

_TOKEN = re.compile(
    r"[ \t\n\r]+|(?P<mark>[{}\[\]:,])"
    r'|(?P<string>"(?:[^"\\\x00-\x1f]|\\.)*")'
    r"|(?P<number>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<literal>true|false|null)"
)


@dataclass(slots=True)
class Node:
    """One step of drawing the tree: `leaf`, `open` or `close`, in the order of the text."""

    step: str
    kind: str = ""
    """string, number or literal for a leaf; object or array for an opening."""
    key: str | None = None
    """The member's name as written, quotes included; None inside arrays."""
    text: str = ""
    depth: int = 0
    count: int = 0
    """Members of an object or items of an array."""

    @property
    def unfolded(self) -> bool:
        """Whether the node starts open."""
        return self.depth < OPEN_DEPTH


@dataclass(slots=True)
class Tree:
    """The nodes of a text; `complete` says whether they are all of it."""

    nodes: list[Node] = field(default_factory=list)
    complete: bool = False


class _Cut(Exception):
    """The text ends, or stops being JSON, here."""


def tokens(text: str) -> Iterator[tuple[str, str]]:
    """Pairs of (mark | string | number | literal, text as written).

    Raises _Cut, private to this module, where no token begins.
    """
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _Cut
        at = match.end()
        if match.lastgroup is not None:
            yield match.lastgroup, match.group()


def tree(text: str) -> Tree:
    """The tree of a JSON text, up to its end, its first fault or MAX_NODES nodes."""
    result = Tree()
    open_nodes: list[Node] = []
    try:
        _grow(text, result.nodes, open_nodes)
        result.complete = bool(result.nodes) and not open_nodes
    except _Cut:
        pass
    while open_nodes:
        node = open_nodes.pop()
        result.nodes.append(Node("close", node.kind, depth=node.depth))
    return result


def _grow(text: str, nodes: list[Node], open_nodes: list[Node]) -> None:
    key: str | None = None
    for kind, word in tokens(text):
        parent = open_nodes[-1] if open_nodes else None
        if kind == "mark" and word in "}]":
            if parent is None:
                raise _Cut
            open_nodes.pop()
            nodes.append(Node("close", parent.kind, depth=parent.depth))
        elif kind == "mark" and word in ":,":
            continue
        elif kind == "string" and parent is not None and parent.kind == "object" and key is None:
            key = word
        else:
            if len(nodes) >= MAX_NODES:
                raise _Cut
            if parent is not None:
                parent.count += 1
            node = Node("leaf", kind, key, word, len(open_nodes))
            if kind == "mark":
                node = Node("open", "object" if word == "{" else "array", key, "", len(open_nodes))
                open_nodes.append(node)
            nodes.append(node)
            key = None


def formatted(text: str) -> str:
    """Valid JSON text laid out with two spaces a level; every token stays as it was written."""
    parts: list[str] = []
    depth = 0
    previous = ""
    for _, word in tokens(text):
        if word in ("}", "]"):
            depth -= 1
            if previous != _opening(word):
                parts.append("\n" + "  " * depth)
        elif previous in ("{", "[", ","):
            parts.append("\n" + "  " * depth)
        parts.append(": " if word == ":" else word)
        if word in ("{", "["):
            depth += 1
        previous = word
    return "".join(parts)


def _opening(closing: str) -> str:
    return "{" if closing == "}" else "["
