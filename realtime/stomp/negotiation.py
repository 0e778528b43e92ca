"""What CONNECT and CONNECTED agree on: the version and the heart-beats. Pure; called by the session."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from brokers.errors import shown
from realtime.errors import ProtocolError
from realtime.stomp.frame import VERSIONS

SERVER_HEART_BEAT: Final = (5_000, 5_000)
"""Milliseconds: how often the server can send, and how often it would like to hear."""
SLOWEST_SENDING: Final = 60_000
"""The server sends at least so often, even if the client would do with less."""
_LARGEST: Final = 2**31 - 1
_HEART_BEAT: Final = re.compile(r"([0-9]{1,10}),([0-9]{1,10})", re.ASCII)


class UnsupportedVersion(ProtocolError):
    """No common version; the ERROR frame carries a header with those that there are."""

    code: str = "unsupported_version"  # type: ignore[misc]


class HeartBeats(NamedTuple):
    """What was agreed on, in milliseconds; 0 is none."""

    send_every: int
    expect_every: int


def version(headers: Mapping[str, str]) -> str:
    """The highest common version (STOMP 1.2, Protocol Negotiation); a client that names none speaks 1.0.

    Raises: UnsupportedVersion.
    """
    given = headers.get("accept-version")
    if given is None:
        return "1.0"
    accepted = {each.strip() for each in given.split(",")}
    common = [each for each in VERSIONS if each in accepted]
    if not common:
        raise UnsupportedVersion(f"accept-version {shown(given)}: supported are {', '.join(VERSIONS)}")
    return common[-1]


def heart_beats(headers: Mapping[str, str]) -> HeartBeats:
    """How often either side sends something (STOMP 1.2, Heart-beating).

    Raises: ProtocolError (`invalid_heartbeat`).
    """
    given = headers.get("heart-beat")
    if given is None:
        return HeartBeats(0, 0)
    found = _HEART_BEAT.fullmatch(given.replace(" ", ""))
    can_send, wants = (int(found[1]), int(found[2])) if found else (-1, -1)
    if not 0 <= can_send <= _LARGEST or not 0 <= wants <= _LARGEST:
        raise ProtocolError(
            f"heart-beat {shown(given)} is not two numbers of milliseconds, as in 10000,10000", "invalid_heartbeat"
        )
    sends, expects = SERVER_HEART_BEAT
    return HeartBeats(
        min(max(sends, wants), SLOWEST_SENDING) if wants else 0,
        max(can_send, expects) if can_send else 0,
    )
