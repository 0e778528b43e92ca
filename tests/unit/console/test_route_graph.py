"""The drawing of where an exchange leads keeps to its bounds, whatever the bindings are."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from messaging_site.console.route_graph import MAX_EDGES, MAX_NODES, Link, draw


def link(source: str, destination: str, *, queue: bool = True, bindings: int = 1, key: str = "k") -> Link:
    return Link(source, destination, queue, bindings, key)


def test_nothing_is_drawn_of_an_exchange_that_leads_nowhere() -> None:
    assert draw("a", []) is None


def test_columns_are_by_distance() -> None:
    graph = draw("a", [link("a", "q"), link("a", "b", queue=False), link("b", "r"), link("b", "q")])
    assert graph is not None
    across = {(node.name, node.is_queue): node.x for node in graph.nodes}
    assert across["a", False] < across["q", True] == across["b", False] < across["r", True]
    assert [edge.label for edge in graph.edges] == ["k"] * 4
    assert [node.name for node in graph.nodes if node.is_start] == ["a"]


def test_a_queue_and_an_exchange_of_one_name_are_two() -> None:
    graph = draw("a", [link("a", "a"), link("a", "b", queue=False)])
    assert graph is not None
    assert len(graph.nodes) == 3


def test_edges_say_what_they_are() -> None:
    several, alternate = link("a", "q", bindings=3), link("a", "b", queue=False, bindings=0, key="")
    graph = draw("a", [several, alternate, link("b", "q", key="")])
    assert graph is not None
    assert [(edge.label, edge.is_alternate) for edge in graph.edges] == [
        ("3 bindings", False),
        ("alternate", True),
        ("", False),
    ]


_NAMES = st.sampled_from("abcdefgh")


@given(st.lists(st.builds(Link, _NAMES, _NAMES, st.booleans(), st.integers(0, 9), st.text(max_size=3))))
def test_any_bindings_are_drawn_within_the_box(links: list[Link]) -> None:
    graph = draw("a", links)
    if graph is None:
        return
    assert len({(node.x, node.y) for node in graph.nodes}) == len(graph.nodes)
    assert all(0 <= node.x <= graph.width - graph.node_width for node in graph.nodes)
    assert all(0 <= node.y <= graph.height - graph.node_height for node in graph.nodes)


def test_what_finds_no_room_is_counted() -> None:
    graph = draw("a", [link("a", f"q{number}") for number in range(300)])
    assert graph is not None
    assert (len(graph.nodes), graph.hidden) == (MAX_NODES, 300 - (MAX_NODES - 1))
    assert len(graph.edges) <= MAX_EDGES
