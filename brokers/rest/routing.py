"""Finds the operation of a path. Segments are told apart before they are decoded: %2F never becomes a slash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from starlette.types import Scope

from brokers.rest.serving import Endpoint


@dataclass(slots=True)
class _Node:
    """What may follow a beginning of a path, and what is served if nothing does."""

    literals: dict[str, _Node] = field(default_factory=dict)
    parameter: str = ""
    any_segment: _Node | None = None
    endpoints: dict[str, Endpoint] = field(default_factory=dict)


class Router:
    """A tree of segments; where a literal and a parameter could both stand, the literal wins."""

    def __init__(self) -> None:
        self._root = _Node()

    def add(self, endpoint: Endpoint) -> None:
        """Makes a route of an endpoint's declaration; raises ValueError where there is one already."""
        node = self._root
        for segment in endpoint.operation.path.split("/")[1:]:
            if segment.startswith("{"):
                name = segment.strip("{}")
                if node.any_segment is None:
                    node.parameter, node.any_segment = name, _Node()
                elif node.parameter != name:
                    raise ValueError(f"{endpoint.operation.path}: {name} is called {node.parameter} elsewhere")
                node = node.any_segment
            else:
                node = node.literals.setdefault(segment, _Node())
        if endpoint.operation.method in node.endpoints:
            raise ValueError(f"{endpoint.operation.method} {endpoint.operation.path} is declared twice")
        node.endpoints[endpoint.operation.method] = endpoint
        if endpoint.operation.method == "GET":
            node.endpoints["HEAD"] = endpoint

    def find(self, scope: Scope) -> tuple[Mapping[str, Endpoint], dict[str, str]]:
        """What the path serves, by method, with its parameters; nothing for an unknown path."""
        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        if b"%" in raw:
            segments = [unquote(segment) for segment in raw.decode("latin-1").split("/")]
        else:
            segments = scope["path"].split("/")
        node: _Node | None = self._root
        parameters: dict[str, str] = {}
        for segment in segments[1:]:
            assert node is not None
            following = node.literals.get(segment)
            if following is None:
                if node.any_segment is None or not segment:
                    return {}, {}
                parameters[node.parameter] = segment
                following = node.any_segment
            node = following
        assert node is not None
        return node.endpoints, parameters
