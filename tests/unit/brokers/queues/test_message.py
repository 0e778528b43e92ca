"""Messages as consumers get them, and envelopes as they are stored."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from brokers.errors import InvalidValue
from brokers.queues.claims import Claim
from brokers.queues.message import (
    Death,
    Envelope,
    Message,
    NewMessage,
    Place,
    decode,
    delivered_headers,
    encode,
    envelope_of,
)
from brokers.record import JSON, RAW

TOKEN = UUID("0123456789abcdef0123456789abcdef")


def message(body: bytes = b"{}", encoding: int = JSON, envelope: Envelope | None = None, **fields: Any) -> Message:
    now = datetime.now(UTC)
    given: dict[str, Any] = {
        "row": 7,
        "queue_id": 1,
        "id": 70,
        "priority": 0,
        "token": TOKEN,
        "lease_until": now,
        "due_at": None,
        "expires_at": None,
        "published_at": now,
        "holder": "me",
        "deliveries": 1,
        "returns": 0,
        "attempts": 0,
        "revision": 1,
        "dead_letter_id": None,
        "replay_item_id": None,
        "encoding": encoding,
        "envelope_bytes": encode(envelope or Envelope()),
        "body_bytes": body,
        "queue": "q",
    }
    return Message(**{**given, **fields})


def test_an_envelope_comes_back_as_it_was_and_is_small() -> None:
    full = Envelope(
        "e", "k", {"a": [1, None]}, "m", "c", "r", "t", "y", 5, 9,
        [Death("q", "expired", 2, 100, "e", ["k"], "5")], Place("q", "expired", "e"), Place("p", "rejected", ""),
    )  # fmt: skip
    assert decode(encode(full)) == full
    assert encode(Envelope("", "q")) == b'{"routing_key":"q"}'
    sent = NewMessage(b"1", JSON, "k", {"a": 1}, 3, 4, 5, "m", "c", "r", "t", "y")
    assert envelope_of("e", sent) == Envelope("e", "k", {"a": 1}, "m", "c", "r", "t", "y", 4, 3)


def test_bodies_are_decoded_once_and_bytes_stay_bytes() -> None:
    found = message(b'{"a": [1]}')
    assert found.body == {"a": [1]}
    assert found.body is found.body
    assert message(b"null").body is None
    assert message(b"\xff", RAW).body == b"\xff"


def test_delivered_headers_hide_bcc_and_tell_of_deaths() -> None:
    death = Death("work", "rejected", 2, 1_700_000_000, "orders", ["a", "b"])
    expired = Death("wait", "expired", 1, 1_600_000_000, "", ["wait"], "500")
    envelope = Envelope(
        headers={"BCC": ["x"], "CC": ["y"], "x-death": "a client's own", "n": 1},
        deaths=[death, expired],
        first_death=Place("wait", "expired", ""),
        last_death=Place("work", "rejected", "orders"),
    )
    assert message(envelope=envelope).headers == {
        "CC": ["y"],
        "n": 1,
        "x-death": [
            {
                "count": 2,
                "reason": "rejected",
                "queue": "work",
                "time": 1_700_000_000,
                "exchange": "orders",
                "routing-keys": ["a", "b"],
            },
            {
                "count": 1,
                "reason": "expired",
                "queue": "wait",
                "time": 1_600_000_000,
                "exchange": "",
                "routing-keys": ["wait"],
                "original-expiration": "500",
            },
        ],
        "x-first-death-queue": "wait",
        "x-first-death-reason": "expired",
        "x-first-death-exchange": "",
        "x-last-death-queue": "work",
        "x-last-death-reason": "rejected",
        "x-last-death-exchange": "orders",
    }
    assert delivered_headers(Envelope(headers={"x-death": 1})) == {"x-death": 1}


def test_counts_of_deliveries_and_attempts() -> None:
    first = message()
    assert (first.redelivered, first.delivery_count, first.attempt) == (False, 1, 1)
    later = message(deliveries=4, returns=1, attempts=2)
    assert (later.redelivered, later.delivery_count, later.attempt) == (True, 4, 3)


def test_a_claim_is_text_and_back() -> None:
    found = message()
    assert found.claim == "7.0123456789abcdef0123456789abcdef" == str(Claim.of(found))
    assert Claim.parse(found.claim) == Claim(7, TOKEN) == Claim.of(found)
    with pytest.raises(ValueError, match="not under a claim"):
        _ = message(token=None).claim


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "7",
        "7.",
        f".{TOKEN.hex}",
        f"-7.{TOKEN.hex}",
        f"7.{TOKEN}",
        f"7.{TOKEN.hex}0",
        f"{'9' * 20}.{TOKEN.hex}",
        f"\u0667.{TOKEN.hex}",
        f"7.{'g' * 32}",
        f"7 .{TOKEN.hex}",
        "7." + "x" * 10_000,
        f"9223372036854775808.{TOKEN.hex}",
    ],
)
def test_what_never_was_a_claim_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="is no claim"):
        Claim.parse(text)
