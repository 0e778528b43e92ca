"""Where an exchange leads, as a small drawing: coordinates out, no markup, no database.

Columns from left to right: the exchange, then what its bindings lead to, then what those exchanges lead to. Names come
from outside; the template writes them as text. The table of bindings says the same in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

MAX_NODES: Final = 60
MAX_EDGES: Final = 200
ROW: Final = 34
NODE_HEIGHT: Final = 26
NODE_WIDTH: Final = 172
COLUMN: Final = 262
MARGIN: Final = 4


class Link(NamedTuple):
    """All bindings from one exchange to one destination, or its alternate exchange."""

    source: str
    destination: str
    is_queue: bool
    bindings: int
    """0: the alternate exchange."""
    routing_key: str
    """Of one of the bindings."""


@dataclass(frozen=True, slots=True)
class Node:
    """A box; `is_start` is the exchange that was asked about."""

    name: str
    is_queue: bool
    is_start: bool
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Edge:
    """A curve from box to box with a few words on it."""

    path: str
    label: str
    title: str
    label_x: int
    label_y: int
    is_alternate: bool


@dataclass(frozen=True, slots=True)
class Graph:
    """The drawing, in a box of width by height; `hidden` destinations found no room."""

    nodes: list[Node]
    edges: list[Edge]
    width: int
    height: int
    hidden: int
    node_width: int = NODE_WIDTH
    node_height: int = NODE_HEIGHT


def draw(exchange: str, links: Sequence[Link]) -> Graph | None:
    """The drawing of what an exchange leads to; None when that is nothing."""
    if not links:
        return None
    columns, hidden = _columns(exchange, links)
    height = max(len(column) for column in columns) * ROW
    placed: dict[tuple[str, bool], Node] = {}
    for depth, column in enumerate(columns):
        above = (height - len(column) * ROW) // 2
        for row, (name, is_queue) in enumerate(column):
            y = MARGIN + above + row * ROW + (ROW - NODE_HEIGHT) // 2
            placed[name, is_queue] = Node(name, is_queue, depth == 0, MARGIN + depth * COLUMN, y)
    edges = [
        _edge(link, placed[link.source, False], placed[link.destination, link.is_queue])
        for link in links
        if (link.source, False) in placed and (link.destination, link.is_queue) in placed
    ]
    width = (len(columns) - 1) * COLUMN + NODE_WIDTH + 2 * MARGIN
    return Graph(list(placed.values()), edges[:MAX_EDGES], width, height + 2 * MARGIN, hidden)


def _columns(exchange: str, links: Sequence[Link]) -> tuple[list[list[tuple[str, bool]]], int]:
    """Names by their distance from the exchange, at most MAX_NODES; and how many destinations are left out."""
    leads: dict[str, list[Link]] = {}
    for link in links:
        leads.setdefault(link.source, []).append(link)
    known = {(exchange, False)}
    columns = [[(exchange, False)]]
    hidden: set[tuple[str, bool]] = set()
    while True:
        column: list[tuple[str, bool]] = []
        for source, is_queue in columns[-1]:
            for link in leads.get(source, []) if not is_queue else []:
                node = (link.destination, link.is_queue)
                if node in known:
                    continue
                if len(known) >= MAX_NODES:
                    hidden.add(node)
                    continue
                known.add(node)
                column.append(node)
        if not column:
            return columns, len(hidden)
        columns.append(column)


def _edge(link: Link, source: Node, destination: Node) -> Edge:
    begin_y, end_y = source.y + NODE_HEIGHT // 2, destination.y + NODE_HEIGHT // 2
    if destination.x > source.x:
        begin_x, end_x = source.x + NODE_WIDTH, destination.x
        middle = (begin_x + end_x) // 2
        path = f"M{begin_x} {begin_y}C{middle} {begin_y} {middle} {end_y} {end_x} {end_y}"
        label_x, label_y = end_x - 8, end_y - 4
    else:  # back, or to its own column: around the right-hand side
        begin_x, end_x = source.x + NODE_WIDTH, destination.x + NODE_WIDTH
        bend = max(begin_x, end_x) + 40
        path = f"M{begin_x} {begin_y}C{bend} {begin_y} {bend} {end_y} {end_x} {end_y}"
        label_x, label_y = bend, (begin_y + end_y) // 2
    if not link.bindings:
        label, title = "alternate", "alternate exchange"
    elif link.bindings > 1:
        label = title = f"{link.bindings:,} bindings"
    else:
        label = link.routing_key
        title = f"routing key {link.routing_key}" if link.routing_key else "no routing key"
    return Edge(path, label, title, label_x, label_y, not link.bindings)
