"""Ant patterns: what subscriptions with wildcards match, and what a mapping's route takes out of a path."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.errors import InvalidValue
from realtime import patterns


@pytest.mark.parametrize(
    ("pattern", "destination", "matches"),
    [
        ("/topic/price.stock.*", "/topic/price.stock.IBM", True),
        ("/topic/price.stock.*", "/topic/price.stock.", True),
        ("/topic/price.stock.*", "/topic/price.stock.a/b", False),
        ("/topic/price.?", "/topic/price.a", True),
        ("/topic/price.?", "/topic/price.", False),
        ("/topic/price.?", "/topic/price.ab", False),
        ("/topic/a?c", "/topic/a/c", False),
        ("/topic/*/b", "/topic/a/b", True),
        ("/topic/*/b", "/topic/a/c/b", False),
        ("/topic/**", "/topic/a", True),
        ("/topic/**", "/topic/a/b/c", True),
        ("/topic/**", "/topic", True),
        ("/topic/**", "/topics/a", False),
        ("/topic/**/b", "/topic/b", True),
        ("/topic/**/b", "/topic/a/a/b", True),
        ("/topic/**/b", "/topic/ab", False),
        ("/topic/**/b/**/d", "/topic/b/b/x/d", True),
        ("/topic/**/b/**/d", "/topic/bb/d", False),
        ("/topic/**/b/c/**", "/topic/b/b/c", True),
        ("/topic/a*b*c", "/topic/a1b2b3c", True),
        ("/topic/a*b*c", "/topic/a1b2b3", False),
        ("/topic/*a*a", "/topic/aa", True),
        ("/topic/*a*a", "/topic/a", False),
        ("/topic/a**b", "/topic/axxb", True),
        ("/topic/a**b", "/topic/a/b", False),
        ("/topic/(a+)", "/topic/(a+)", True),
        ("/topic/(a+)", "/topic/aa", False),
        ("/topic/*", "/topic/line\nbreak", True),
    ],
)
def test_wildcards_are_springs(pattern: str, destination: str, matches: bool) -> None:
    assert patterns.matches(pattern, destination) is matches


def _as_defined(pattern: list[str], path: list[str]) -> bool:
    """The definition, without any thought of time."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_as_defined(pattern[1:], path[n:]) for n in range(len(path) + 1))
    return bool(path) and _in_segment(pattern[0], path[0]) and _as_defined(pattern[1:], path[1:])


def _in_segment(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_in_segment(pattern[1:], text[n:]) for n in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and _in_segment(pattern[1:], text[1:])


_SEGMENT = st.text("ab", min_size=1, max_size=5)
_PATTERN = st.one_of(st.just("**"), st.text("ab*?", min_size=1, max_size=5))


@given(st.lists(_PATTERN, max_size=5), st.lists(_SEGMENT, max_size=6))
def test_any_pattern_matches_what_its_definition_says(pattern: list[str], path: list[str]) -> None:
    text = "/".join(["/topic", *pattern])
    if len([c for c in text if c in "*?"]) > patterns.MAX_WILDCARDS:
        return
    assert patterns.matches(text, "/".join(["/topic", *path])) is _as_defined(pattern, path)


def test_no_pattern_takes_long() -> None:
    started = time.perf_counter()
    for pattern in ("/topic/" + "*a" * 16 + "b", "/topic" + "/**/a" * 8 + "/b", "/topic" + "/**/*a" * 5):
        assert not patterns.matches(pattern, "/topic" + "/a" * 500 + "c")
        assert not patterns.matches(pattern, "/topic/" + "a" * 1000 + "c")
    assert time.perf_counter() - started < 1.0


@pytest.mark.parametrize("pattern", ["/topic/" + "*" * 17, "/topic/{name}", "/" + "a" * 1024 + "*", "**/a"])
def test_a_pattern_beyond_the_limits_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidValue):
        patterns.compiled(pattern)


def test_the_literal_part_ends_at_the_first_wildcard() -> None:
    assert patterns.literal_prefix("/topic/price.*") == "/topic/price."
    assert patterns.literal_prefix("/topic/price") == "/topic/price"
    assert patterns.is_pattern("/topic/a?")
    assert not patterns.is_pattern("/topic/a")


@pytest.mark.parametrize(
    ("route", "path", "values"),
    [
        ("/chat.send", "/chat.send", {}),
        ("/chat.send", "/chatXsend", None),
        ("/chat/{room}", "/chat/one", {"room": "one"}),
        ("/chat/{room}", "/chat/", None),
        ("/chat/{room}", "/chat/a/b", None),
        ("/chat.{room}.{who}", "/chat.a.b", {"room": "a", "who": "b"}),
        ("/order/{id:[0-9]+}", "/order/17", {"id": "17"}),
        ("/order/{id:[0-9]{2}}", "/order/17", {"id": "17"}),
        ("/order/{id:[0-9]+}", "/order/x", None),
        ("/a/**", "/a/b/c", {}),
        ("/a/*/c", "/a/b/c", {}),
    ],
)
def test_a_route_takes_variables_out_of_a_path(route: str, path: str, values: dict[str, str] | None) -> None:
    assert patterns.route(route).match(path) == values


@pytest.mark.parametrize(
    "route", ["chat", "/", "", "/{a", "/a}", "/{}", "/{1a}", "/{a}/{a}", "/{a:(b)}", "/{a:[}", "/{a-b}"]
)
def test_a_route_that_cannot_be_read_is_refused(route: str) -> None:
    with pytest.raises(InvalidValue):
        patterns.route(route)


def test_the_most_specific_route_comes_first() -> None:
    routes = ["/**", "/chat/**", "/chat/*", "/chat/{room}", "/chat/{room}.x", "/chat/main"]
    ranked = sorted(map(patterns.route, routes), key=lambda route: route.rank)
    assert [route.text for route in ranked] == [
        "/chat/main",
        "/chat/{room}.x",
        "/chat/{room}",
        "/chat/*",
        "/chat/**",
        "/**",
    ]


def test_templates_are_filled() -> None:
    assert patterns.expand("/topic/chat.{room}", {"room": "one"}) == "/topic/chat.one"
    assert patterns.names_in("/topic/{a}.{b}") == ["a", "b"]
    with pytest.raises(InvalidValue):
        patterns.expand("/topic/{room}", {})
