"""Numbers, sizes, spans and hostile text as the console writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging_site.console import formatting


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (214, "214 B"),
        (1024, "1.0 KiB"),
        (65536, "64.0 KiB"),
        (5_912_000, "5.6 MiB"),
        (2**50, "1,024.0 TiB"),
    ],
)
def test_sizes(value: int, text: str) -> None:
    assert formatting.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.04, "< 0.1"), (0.33, "0.3"), (842.4, "842"), (41220.0, "41,220")]
)
def test_rates(value: float, text: str) -> None:
    assert formatting.rate(value) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (40, "40 ms"),
        (1240, "1.24 s"),
        (192_000, "3 min 12 s"),
        (604_800_000, "7 days"),
        (129_600_000, "1 day 12 h"),
    ],
)
def test_durations(milliseconds: int, text: str) -> None:
    assert formatting.duration(milliseconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1, "just now"),
        (59, "59 s ago"),
        (240, "4 min ago"),
        (10_800, "3 h ago"),
        (86_400, "1 day ago"),
        (-60, "2026-01-31"),
    ],
)
def test_times_ago(seconds: int, text: str) -> None:
    now = datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert formatting.ago(now - timedelta(seconds=seconds), now) == text


@pytest.mark.parametrize("milliseconds", [0, -1, 253_402_300_799_999])
def test_instants_within_the_calendar(milliseconds: int) -> None:
    assert formatting.moment(milliseconds) is not None


def test_an_instant_beyond_the_calendar_is_none() -> None:
    assert formatting.moment(2**63 - 1) is None


@pytest.mark.parametrize(
    "character",
    [
        "\u202e",
        "\u2066",
        "\u200b",
        "\u200d",
        "\ufeff",
        "\x1b",
        "\x00",
        "\r",
        "\u00ad",
        "\u3164",
        "\u00a0",
        "\U000e0041",
        "\ufe0f",
    ],
)
def test_what_cannot_be_seen_is_drawn(character: str) -> None:
    assert formatting.visible(f"a{character}b") == f"a<U+{ord(character):04X}>b"


@pytest.mark.parametrize("text", ["plain", "naïve", "日本語", "\u0430 \u0431", "emoji 🎉"])
def test_what_can_be_seen_stays(text: str) -> None:
    assert formatting.visible(text) == text


@given(st.text())
def test_no_character_is_lost(text: str) -> None:
    unmarked = "".join(chr(int(piece[3:-1], 16)) if mark else piece for piece, mark in formatting.segments(text))
    assert unmarked == text


@given(st.text(max_size=200), st.integers(min_value=2, max_value=80))
def test_shortened_text_fits(text: str, limit: int) -> None:
    short = formatting.shortened(text, limit)
    assert short == text if len(text) <= limit else len(short) == limit
