"""The payload tree and the Format button show JSON as it is stored: nothing is parsed away."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging_site.console import json_text

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


def leaves(text: str) -> list[tuple[str | None, str]]:
    """Key and text of every leaf of a tree."""
    return [(node.key, node.text) for node in json_text.tree(text).nodes if node.step == "leaf"]


def test_numbers_keep_every_digit_and_names_their_order_and_repetition() -> None:
    text = '{"b": 12345678901234567890123456789, "a": 1.0, "a": 1e400}'
    assert leaves(text) == [('"b"', "12345678901234567890123456789"), ('"a"', "1.0"), ('"a"', "1e400")]


def test_containers_know_how_many_members_they_have() -> None:
    nodes = json_text.tree('{"a": [1, [], {}], "b": {}}').nodes
    assert [node.count for node in nodes if node.step == "open"] == [2, 3, 0, 0, 0]


def test_every_opening_is_closed_in_a_text_that_was_cut_off() -> None:
    tree = json_text.tree('{"a": [1, {"b": "unfinish')
    assert not tree.complete
    steps = [node.step for node in tree.nodes]
    assert steps.count("open") == steps.count("close") == 3


def test_text_that_is_no_json_gives_no_complete_tree() -> None:
    for text in ("", "nope", "}", "[1}x", "'"):
        assert not json_text.tree(text).complete


def test_a_long_array_stops_at_the_limit_of_nodes() -> None:
    tree = json_text.tree("[" + ",".join("1" * 5000) + "]")
    assert not tree.complete
    assert len(tree.nodes) <= json_text.MAX_NODES + 1


def test_deep_nesting_neither_fails_nor_recurses() -> None:
    assert json_text.tree("[" * 30_000).nodes[-1].step == "close"


@given(json_values)
def test_laying_out_changes_no_value(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert json.loads(json_text.formatted(text)) == value


@given(json_values)
def test_a_whole_text_gives_a_complete_tree(value: object) -> None:
    tree = json_text.tree(json.dumps(value))
    assert tree.complete == (len([node for node in tree.nodes if node.step != "close"]) < json_text.MAX_NODES)


@pytest.mark.parametrize(("text", "expected"), [("[]", "[]"), ('{"a":[1,{}]}', '{\n  "a": [\n    1,\n    {}\n  ]\n}')])
def test_layout(text: str, expected: str) -> None:
    assert json_text.formatted(text) == expected
