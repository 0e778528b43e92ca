"""Versions and heart-beats as CONNECT and CONNECTED agree on them."""

from __future__ import annotations

import pytest

from realtime.errors import ProtocolError
from realtime.stomp.negotiation import HeartBeats, UnsupportedVersion, heart_beats, version


@pytest.mark.parametrize(
    ("accepted", "agreed"),
    [
        ("1.2", "1.2"),
        ("1.0,1.1,2.0", "1.1"),
        ("1.2,1.1,1.0", "1.2"),
        ("1.0, 1.1 ,1.2", "1.2"),
        ("1.0", "1.0"),
        ("9.9,1.1", "1.1"),
    ],
)
def test_the_highest_common_version(accepted: str, agreed: str) -> None:
    assert version({"accept-version": accepted}) == agreed


def test_without_accept_version_it_is_1_0() -> None:
    assert version({}) == "1.0"


@pytest.mark.parametrize("accepted", ["", "3.0", "1", "1.20", "v12.stomp"])
def test_no_common_version(accepted: str) -> None:
    with pytest.raises(UnsupportedVersion):
        version({"accept-version": accepted})


@pytest.mark.parametrize(
    ("given", "agreed"),
    [
        ("0,0", HeartBeats(0, 0)),
        ("10000,10000", HeartBeats(10_000, 10_000)),
        ("0,10000", HeartBeats(10_000, 0)),
        ("10000,0", HeartBeats(0, 10_000)),
        ("100,100", HeartBeats(5_000, 5_000)),
        ("600000,600000", HeartBeats(60_000, 600_000)),
        ("10000, 10000", HeartBeats(10_000, 10_000)),
    ],
)
def test_heart_beats(given: str, agreed: HeartBeats) -> None:
    assert heart_beats({"heart-beat": given}) == agreed


def test_without_the_header_there_are_none() -> None:
    assert heart_beats({}) == HeartBeats(0, 0)


@pytest.mark.parametrize(
    "given", ["", "1", "a,b", "-1,0", "99999999999,0", "1,2,3", "1;2", "+1,1", "1.5,1", "\u0661,1"]
)
def test_what_is_no_heart_beat(given: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        heart_beats({"heart-beat": given})
    assert caught.value.code == "invalid_heartbeat"
