"""Headers of dead letters: what is kept, what an edit may hold, and how they become text."""

from __future__ import annotations

from typing import Any

import pytest

from brokers import dead_letter_headers as headers
from brokers.errors import InvalidType, InvalidValue
from brokers.queues.message import Death, Envelope, Place, encode

DEATHS = {"x-death": [], "x-first-death-queue": "q", "x-last-death-reason": "expired"}


def test_what_was_added_on_the_way_and_deaths_are_left_out() -> None:
    given = {"a": 1, "X-Waystation-Replay-Id": "2", **DEATHS}
    assert headers.checked(given, "queue") == {"a": 1}
    assert headers.checked({"a": "1", "x-waystation-revision": "2"}, "topic") == {"a": "1"}
    assert headers.without_deaths({"x-death-like": 1, **DEATHS}) == {"x-death-like": 1}


def test_text_stays_text_and_the_rest_becomes_json() -> None:
    given = {"text": "5", "number": 5, "null": None, "list": [1, {"é": True}]}
    assert headers.as_text(given) == {"text": "5", "number": "5", "null": "null", "list": '[1,{"é":true}]'}
    assert headers.size_of({"é": "é", "n": 10}) == 4 + 3


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ([], InvalidType),
        ({1: "a"}, InvalidType),
        ({"a": float("nan")}, InvalidValue),
        ({"a": "\ud800"}, InvalidValue),
        ({"\ud800": "a"}, InvalidValue),
        ({"a": object()}, InvalidValue),
        ({f"h{n}": n for n in range(65)}, InvalidValue),
        ({"a": "x" * 16_384}, InvalidValue),
    ],
)
def test_what_a_message_cannot_have_is_refused(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        headers.checked(given, "queue")


def test_an_edit_may_have_as_many_headers_as_a_message_besides_its_deaths() -> None:
    given = {f"h{n}": n for n in range(64)}
    assert headers.checked(given | DEATHS, "queue") == given


def test_a_message_arrives_with_its_deaths_whatever_the_revision_says_of_them() -> None:
    death = Death("q", "expired", 2, 1_700_000_000, "x", ["k"])
    envelope = encode(
        Envelope(headers={"old": 1, "BCC": ["b"]}, deaths=[death], first_death=Place("q", "expired", "x"))
    )
    arriving = headers.arriving(b'{"new":[1],"x-death":"mine","BCC":["b"]}', envelope)
    assert arriving["new"] == [1]
    assert arriving["x-death"][0]["count"] == 2
    assert arriving["x-first-death-exchange"] == "x"
    assert not {"old", "BCC"} & arriving.keys()
    assert headers.arriving(b'{"x-death":"text"}', None) == {"x-death": "text"}
    assert headers.arriving(b"", None) == {}
