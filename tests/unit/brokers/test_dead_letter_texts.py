"""The short texts of a dead letter: bounded and storable, whatever they were made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers import dead_letter_texts as texts
from brokers.errors import InvalidValue
from brokers.failure import Failure

anything = st.text(st.characters(codec=None), max_size=2000)


@given(anything, st.integers(1, 600))
def test_a_line_is_one_line_that_can_be_stored(text: str, most: int) -> None:
    found = texts.line(text, most)
    assert len(found) <= most
    assert len(found.splitlines()) <= 1
    assert "\0" not in found
    found.encode()


@given(anything, anything)
def test_the_error_and_the_ids_always_fit_their_columns(text: str, name: str) -> None:
    assert len(texts.error(Failure("a.B", text, "", (), ""), "exception")) <= texts.ERROR_CHARACTERS
    for found in (texts.message_id({name: text, "message-id": text}), texts.correlation_id({"Correlation_ID": text})):
        assert found is None or len(found) <= texts.ID_CHARACTERS
    key = texts.idempotency_key(text)
    assert key in (None, text)
    assert key is None or "\0" not in key


def test_without_an_exception_the_error_says_what_the_reason_means() -> None:
    assert texts.error(None, "worker_lost") == "its workers were lost while they handled it"
    assert texts.error(None, "expired") == "expired"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ({}, None),
        ({"other": "1"}, None),
        ({"message-id": ""}, None),
        ({"Message-Id": "m"}, "m"),
        ({"X-MESSAGE-ID": "m"}, "m"),
        ({"message_id": "m"}, "m"),
        ({"message_id": "second", "message-id": "first"}, "first"),
    ],
)
def test_a_message_id_is_taken_from_a_header(headers: dict[str, str], found: str | None) -> None:
    assert texts.message_id(headers) == found


def test_a_note_that_cannot_be_kept_is_refused() -> None:
    texts.check_note(None)
    texts.check_note("\N{CAT FACE}" * texts.MAX_NOTE_CHARACTERS)
    for note in ("x" * 4001, "a\0b", "\ud83d"):
        with pytest.raises(InvalidValue, match="note"):
            texts.check_note(note)
