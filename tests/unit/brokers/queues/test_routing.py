"""RabbitMQ's matching rules, by examples from its own tests and against a naive reading of them."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.errors import InvalidValue
from brokers.queues.routing import (
    HeadersPattern,
    TopicTrie,
    check_binding,
    check_key,
    comparable,
    routing_keys,
    without_bcc,
    words,
)


def naive(pattern: list[str], key: list[str]) -> bool:
    """The rule of topic keys, word for word."""
    if not pattern:
        return not key
    if pattern[0] == "#":
        return any(naive(pattern[1:], key[skipped:]) for skipped in range(len(key) + 1))
    return bool(key) and pattern[0] in ("*", key[0]) and naive(pattern[1:], key[1:])


def fits(binding_key: str, routing_key: str) -> bool:
    return TopicTrie([(binding_key, 1)]).matching(routing_key) == [1]


@pytest.mark.parametrize(
    ("binding_key", "matched", "not_matched"),
    [
        ("", [""], ["a", ".", "#"]),
        ("#", ["", "a", "a.b", ".", "*", "#"], []),
        ("*", ["a", "*", "#"], ["", "a.b", ".", "a."]),
        ("a.#", ["a", "a.", "a.b", "a.b.c"], ["", "b", "b.a", "ab"]),
        ("#.a", ["a", "b.a", ".a", "a.a"], ["", "a.b", "a."]),
        ("a.*.c", ["a.b.c", "a..c"], ["a.c", "a.b.b.c"]),
        ("#.#", ["", "a", "a.b"], []),
        ("#.a.#", ["a", "x.a", "a.x", "x.a.y.z"], ["", "x", "ab"]),
        ("*.#", ["a", "a.b", ".", "a."], [""]),
        (".#", [".0.a.b.c", "."], ["0.a", "a"]),
        (".*.a.b.c", [".0.a.b.c"], [".a.b.c"]),
        (".*", [".a", "."], [".0.a.b.c", ""]),
        ("a*", ["a*"], ["ab", "a"]),
        ("#a", ["#a"], ["a", "b.a"]),
        ("A", ["A"], ["a"]),
        ("a.", ["a."], ["a", "a.."]),
        ("#.b", ["b", "a.b.b"], ["b.a"]),
    ],
)
def test_topic_keys_match_word_by_word(binding_key: str, matched: list[str], not_matched: list[str]) -> None:
    assert [key for key in matched + not_matched if fits(binding_key, key)] == matched


def test_the_empty_key_has_no_words_and_an_empty_segment_is_one() -> None:
    assert words("") == []
    assert words(".") == ["", ""]
    assert words("a.") == ["a", ""]


word = st.sampled_from(["a", "b", "", "*", "#", "ab"])
binding_keys = st.lists(word, max_size=6).map(".".join)
keys = st.lists(word, max_size=7).map(".".join)


@given(st.lists(binding_keys, max_size=12), keys)
def test_the_trie_finds_what_a_naive_reading_finds(bound: list[str], key: str) -> None:
    found = TopicTrie((binding, place) for place, binding in enumerate(bound)).matching(key)
    assert sorted(found) == [place for place, binding in enumerate(bound) if naive(words(binding), words(key))]


def test_no_pattern_and_no_key_makes_matching_slow() -> None:
    trie = TopicTrie[int]()
    for place in range(200):
        trie.add(".".join(["#", "a"] * 60 + [str(place)]), place)
    longest = ".".join(["a"] * 128)
    started = time.process_time()
    assert trie.matching(longest) == []
    assert time.process_time() - started < 1


def test_thousands_of_bindings_cost_a_key_no_more_than_the_words_it_has() -> None:
    few, many = TopicTrie[int](), TopicTrie[int]()
    for place in range(20_000):
        many.add(f"flight.{place}.*", place)
    few.add("flight.7.*", 7)
    for trie in (few, many):
        assert trie.matching("flight.7.UA") == [7]

    def seconds(trie: TopicTrie[int]) -> float:
        started = time.process_time()
        for _ in range(2000):
            trie.matching("flight.7.UA")
        return time.process_time() - started

    assert min(seconds(many) for _ in range(5)) < 5 * min(seconds(few) for _ in range(5))


@pytest.mark.parametrize(
    ("arguments", "headers", "expected"),
    [
        ({}, {}, True),
        ({}, {"a": 1}, True),
        ({"x-match": "all"}, {}, True),
        ({"x-match": "any"}, {"a": 1}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"x-match": "any", "a": 1, "b": 2}, {"a": 1, "b": 3}, True),
        ({"x-match": "any", "a": 1, "b": 2}, {"a": 2, "b": 1}, False),
        ({"a": None}, {"a": 5}, True),
        ({"a": None}, {"a": None}, True),
        ({"a": None}, {}, False),
        ({"a": 1}, {"a": None}, False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"a": "1"}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 0}, {"a": False}, False),
        ({"a": True}, {"a": True}, True),
        ({"a": "x"}, {"A": "x"}, False),
        ({"a": [1, {"b": None}]}, {"a": [1.0, {"b": None}]}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": 2, "b": 1}}, True),
        ({"a": {"b": 1}}, {"a": {"b": True}}, False),
        ({"a": ["x"]}, {"a": "x"}, False),
        ({"x-a": 1}, {"x-a": 2}, True),
        ({"x-match": "any", "x-a": 1}, {"x-a": 1}, False),
        ({"x-match": "any", "x-a": 1, "b": 2}, {"x-a": 1}, False),
        ({"x-match": "all-with-x", "x-a": 1}, {"x-a": 2}, False),
        ({"x-match": "all-with-x", "x-a": 1}, {"x-a": 1}, True),
        ({"x-match": "all-with-x"}, {}, True),
        ({"x-match": "any-with-x", "x-a": 1, "b": 2}, {"x-a": 1}, True),
        ({"x-match": "any-with-x"}, {"x-match": "any-with-x"}, False),
    ],
)
def test_headers_match_by_presence_and_value(
    arguments: dict[str, Any], headers: dict[str, Any], expected: bool
) -> None:
    values = {name: comparable(value) for name, value in headers.items()}
    assert HeadersPattern(arguments).fits(values) is expected


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.sampled_from([1.0, 0.5, -0.0])
    | st.sampled_from(["", "1", "a"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)


def same(one: Any, other: Any) -> bool:
    """Equality of JSON values, spelled out."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    return bool(one == other)


@given(json_values, json_values)
def test_two_header_values_are_the_same_as_json(one: Any, other: Any) -> None:
    assert (comparable(one) == comparable(other)) is same(one, other)
    if same(one, other):
        assert hash(comparable(one)) == hash(comparable(other))


headers = st.dictionaries(st.sampled_from(["a", "b", "x-a"]), json_values, max_size=3)


@given(headers, st.sampled_from([None, "all", "any", "all-with-x", "any-with-x"]), headers)
def test_headers_match_as_a_naive_reading_says(asked: dict[str, Any], kind: str | None, given_: dict[str, Any]) -> None:
    looked_at = {k: v for k, v in asked.items() if (kind or "").endswith("-with-x") or not k.startswith("x-")}
    answers = [k in given_ and (v is None or same(v, given_[k])) for k, v in looked_at.items()]
    expected = any(answers) if (kind or "").startswith("any") else all(answers)
    arguments = asked if kind is None else {**asked, "x-match": kind}
    values = {name: comparable(value) for name, value in given_.items()}
    assert HeadersPattern(arguments).fits(values) is expected


def test_cc_and_bcc_add_keys_each_once() -> None:
    assert routing_keys("a", None) == ("a",)
    assert routing_keys("a", {"other": ["x"]}) == ("a",)
    assert routing_keys("a", {"CC": ["b", "a"], "BCC": ["c", "b"]}) == ("a", "b", "c")
    assert without_bcc({"CC": ["b"], "BCC": ["c"]}) == {"CC": ["b"]}


@pytest.mark.parametrize("wrong", ["b", [1], {"a": "b"}, None, ["a" * 256], ["a\x00"]])
def test_cc_that_is_no_list_of_keys_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidValue) as caught:
        routing_keys("a", {"CC": wrong})
    assert caught.value.errors[0][0] == "/headers/CC"


@pytest.mark.parametrize("key", ["a" * 256, "ü" * 128, "a\x00b", "\ud800", 5, None])
def test_what_no_key_can_be_is_refused(key: Any) -> None:
    with pytest.raises(InvalidValue):
        check_key(key)


@pytest.mark.parametrize("key", ["", "a" * 255, "ü" * 127, " ", "\n"])
def test_what_a_key_can_be(key: str) -> None:
    assert check_key(key) == key


def test_a_topic_binding_has_two_hashes_at_most() -> None:
    check_binding("topic", "#.a.#", {})
    check_binding("direct", "#.#.#", {})
    check_binding("topic", "#a.b#.##.#.#", {})
    with pytest.raises(InvalidValue, match="at most 2 are allowed"):
        check_binding("topic", "#.a.#.b.#", {})


@pytest.mark.parametrize("kind", ["none", "", None, 1, "ALL"])
def test_an_unknown_x_match_is_refused_to_a_headers_exchange(kind: Any) -> None:
    check_binding("topic", "", {"x-match": kind})
    with pytest.raises(InvalidValue, match="x-match must be one of"):
        check_binding("headers", "", {"x-match": kind})
