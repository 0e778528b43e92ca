"""Server-sent events as a client of the WHATWG standard reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokers.record import JSON, RAW, Record
from realtime.sse import event
from realtime.subscribers import RecordEvent
from tests.events import Event, parse


def record(value: bytes | None, *, encoding: int = JSON, key: bytes | None = None) -> Record:
    return Record(1000, key, value, encoding, {}, offset=7, partition=2, topic="t")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_data_comes_back_with_every_kind_of_line_break_as_one(text: str) -> None:
    expected = text.replace("\r\n", "\n").replace("\r", "\n")
    assert parse(event.event("record", text.encode(), "x")) == [Event("record", expected, "x")]


@pytest.mark.parametrize(
    "hostile", ["data: x", "id: 1", "event: gap", ": x", "\n\nevent: error\ndata: x\n\n", "\0", "\ufeff"]
)
def test_what_a_publisher_writes_makes_no_other_event(hostile: str) -> None:
    value = event.to_json({"text": hostile})
    found = parse(event.records([RecordEvent(record(value), "token")]))
    assert [(one.name, one.last_id) for one in found] == [("record", "token")]


def test_a_pretty_printed_value_is_the_same_value() -> None:
    found = parse(event.records([RecordEvent(record(b'{\r\n  "a": [1,\r 2]\n}'), "t")]))
    assert found[0].json()["value"] == {"a": [1, 2]}


def test_bytes_come_as_base64() -> None:
    found = parse(event.records([RecordEvent(record(b"\xff\n\r\0", encoding=RAW, key=b"\xfe"), "t")]))
    assert (found[0].json()["value_base64"], found[0].json()["key_base64"]) == ("/woNAA==", "/g==")


def test_a_gap_comes_before_its_record_and_moves_no_position() -> None:
    events = [RecordEvent(record(b"1"), "a"), RecordEvent(record(b"2"), "b", gap=7)]
    found = parse(event.records(events))
    assert [(one.name, one.last_id) for one in found] == [("record", "a"), ("gap", "a"), ("record", "b")]
    assert found[1].json() == {"partition": 2, "first_offset": 7}


def test_an_id_alone_moves_the_position_and_is_no_event() -> None:
    assert parse(event.id_only("a") + event.event("gap", b"{}")) == [Event("gap", "{}", "a")]


def test_a_comment_is_no_event() -> None:
    assert parse(event.KEEP_ALIVE) == []


@pytest.mark.parametrize("wrong", ["a\nb", "a\r", "\0"])
def test_what_cannot_be_an_id_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="cannot be the id"):
        event.event("gap", b"{}", wrong)
