"""What the payload viewer makes of any bytes: bounded, never failing, honest about what it hides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.record import JSON, RAW, Record
from messaging_site.console import payload


def record(value: bytes | None, encoding: int = RAW, key: bytes | None = b"k") -> Record:
    """A record of a value."""
    return Record(0, key, value, encoding, {}, 0, 0, "t")


def test_a_json_object_opens_as_a_tree() -> None:
    shown = payload.payload(record(b'{"a": 1}', JSON), None)
    assert (shown.view, shown.kind, shown.views) == ("tree", "JSON", ("tree", "raw", "hex"))


def test_a_json_scalar_opens_as_text() -> None:
    assert payload.payload(record(b'"a"', JSON), "tree").view == "raw"


def test_bytes_that_are_no_text_open_as_hex() -> None:
    shown = payload.payload(record(bytes(range(256))), "raw")
    assert (shown.view, shown.kind) == ("hex", "Bytes")
    assert shown.hex_rows[0] == ("00000000", "00 01 02 03 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f", "." * 16)


def test_a_tombstone_has_no_views() -> None:
    assert payload.payload(record(None), "raw").kind == "Tombstone"


@pytest.mark.parametrize("shift", range(4))
def test_a_cut_inside_a_character_hides_that_character_only(shift: int) -> None:
    value = b"a" * shift + "😀".encode() * 30_000
    shown = payload.payload(record(value), "raw")
    assert shown.view == "raw"
    assert len(shown.text.encode()) + shown.hidden_bytes == len(value)
    assert payload.SHOWN_BYTES - 3 <= len(shown.text.encode()) <= payload.SHOWN_BYTES


def test_text_of_very_many_lines_is_shown_without_numbers() -> None:
    assert payload.payload(record(b"\n" * 60_000), "raw").lines == ()


@given(
    st.binary(max_size=300),
    st.sampled_from([RAW, JSON]),
    st.sampled_from(["tree", "raw", "hex", "nonsense", None]),
)
def test_any_bytes_can_be_shown(value: bytes, encoding: int, view: str | None) -> None:
    any_record = record(value, encoding, value)
    shown = payload.payload(any_record, view)
    assert shown.size == len(value)
    assert payload.preview(any_record) is not None
    assert payload.key_text(any_record) is not None
