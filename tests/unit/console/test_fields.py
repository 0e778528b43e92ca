"""Form fields take what people type and give back what the broker takes, or say what is wrong."""

from __future__ import annotations

import pytest
from django.core.exceptions import ValidationError
from hypothesis import given
from hypothesis import strategies as st

from messaging_site.console import fields


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("7 days", 604_800_000),
        ("1 day 12 h", 129_600_000),
        ("90min", 5_400_000),
        ("2w", 1_209_600_000),
        ("5 ms", 5),
    ],
)
def test_spans(text: str, milliseconds: int) -> None:
    assert fields.SpanField().clean(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    ["7", "days", "-1 day", "1.5 days", "0 s", "9" * 18 + " days", "1 day; 2", "\u0661 day", "7 fortnights"],
)
def test_no_spans(text: str) -> None:
    with pytest.raises(ValidationError):
        fields.SpanField().clean(text)


@pytest.mark.parametrize(("text", "size"), [("64 MiB", 2**26), ("512kib", 2**19), ("1000", 1000), ("1,000 B", 1000)])
def test_sizes(text: str, size: int) -> None:
    assert fields.SizeField().clean(text) == size


@pytest.mark.parametrize("text", ["64 MB", "many", "-1", "0", "9" * 25 + " GiB", "1e3"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValidationError):
        fields.SizeField().clean(text)


@given(st.integers(min_value=1, max_value=2**63 - 1))
def test_what_a_field_shows_it_reads_back_exactly(value: int) -> None:
    assert fields.SpanField().clean(fields.span_text(value)) == value
    assert fields.SizeField().clean(fields.size_text(value)) == value


def test_headers() -> None:
    assert fields.HeadersField().clean("a: 1\n\n b :two: three \n") == {"a": "1", "b": "two: three"}


@pytest.mark.parametrize(("text", "line"), [("no colon", 1), ("a: 1\na: 2", 2), ("a: 1\n: 2", 2)])
def test_a_faulty_header_is_named_by_its_line(text: str, line: int) -> None:
    with pytest.raises(ValidationError, match=f"Line {line}"):
        fields.HeadersField().clean(text)


def test_values_are_json_where_they_read_as_json() -> None:
    typed = 'a: 5\nb: "5"\nc: true\nd: null\ne: plain text\nf: [1, "x"]\ng:\nh: {"n": 1.5}\ni: true story'
    assert fields.ValuesField().clean(typed) == {
        "a": 5,
        "b": "5",
        "c": True,
        "d": None,
        "e": "plain text",
        "f": [1, "x"],
        "g": "",
        "h": {"n": 1.5},
        "i": "true story",
    }


@pytest.mark.parametrize(("text", "line"), [("no colon", 1), ("a: 1\na: 2", 2), ('a: 1\nb: "x', 2), ("a: [1", 1)])
def test_a_faulty_value_is_named_by_its_line(text: str, line: int) -> None:
    with pytest.raises(ValidationError, match=f"Line {line}"):
        fields.ValuesField().clean(text)


_NAMES = st.text("abcXYZ-_. é", min_size=1).map(str.strip).filter(bool)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(_NAMES, _VALUES, max_size=4))
def test_values_as_they_are_shown_read_back(values: dict[str, object]) -> None:
    assert fields.ValuesField().clean(fields.values_text(values)) == values


def test_no_time_at_all_is_a_span_where_it_may_be() -> None:
    assert fields.SpanField(least=0).clean(fields.span_text(0)) == 0


@pytest.mark.parametrize("text", ["2013-01-01T10:00", "2013-01-01T10:00:00.000+00:00", "2013-01-01 10:00"])
def test_instants_are_utc(text: str) -> None:
    assert fields.InstantField().clean(text) == 1_357_034_400_000


@pytest.mark.parametrize("text", ["yesterday", "2013-13-01T00:00", "1969-01-01T00:00", "0001-01-01T00:00+14:00"])
def test_no_instants(text: str) -> None:
    with pytest.raises(ValidationError):
        fields.InstantField().clean(text)
