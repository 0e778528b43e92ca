"""Names of topics, groups, exchanges and queues."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.errors import InvalidName
from brokers.names import MAX_LENGTH, validate

ALLOWED = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"


@pytest.mark.parametrize("name", ["a", "departures", "departures.DLT", "...", "-", "_x", "A" * MAX_LENGTH])
def test_allowed_names_come_back_unchanged(name: str) -> None:
    assert validate("topic", name) == name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "empty"),
        (".", "reserved"),
        ("..", "reserved"),
        ("A" * 250, "250 characters"),
        ("a/b", "'/' at position 1"),
        ("../etc", "'/' at position 2"),
        ("a\n", r"'\\n' at position 1"),
        ("a\0", r"'\\x00'"),
        ("a b", "' '"),
        ("%2F", "'%'"),
        ("départ", r"'\\xe9' at position 1"),
        ("\u0430bc", r"'\\u0430'"),
        ("\u0663", r"'\\u0663'"),
        ("\ud800", r"'\\ud800'"),
    ],
)
def test_a_refusal_says_what_is_wrong(name: str, why: str) -> None:
    with pytest.raises(InvalidName, match=why) as refused:
        validate("topic", name, pointer="/name")
    assert refused.value.detail.startswith("topic name ")
    assert refused.value.errors[0][0] == "/name"


@pytest.mark.parametrize("name", [None, 3, b"bytes"])
def test_what_is_not_text_is_no_name(name: Any) -> None:
    with pytest.raises(InvalidName, match="is of type"):
        validate("queue", name)


def test_a_long_value_is_shown_by_its_beginning_only() -> None:
    with pytest.raises(InvalidName) as refused:
        validate("group", "x\x1b" * 100_000)
    assert len(refused.value.detail) < 200
    assert refused.value.detail.isprintable()


@given(st.text() | st.text(ALLOWED, max_size=260))
def test_exactly_the_promised_names_pass(name: str) -> None:
    promised = re.fullmatch(r"[A-Za-z0-9._-]{1,249}", name, re.ASCII) is not None and name not in (".", "..")
    try:
        passed = validate("topic", name) == name
    except InvalidName:
        passed = False
    assert passed == promised
