"""The console's colours, read from tokens.css, can be told apart: WCAG contrast ratios recomputed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TOKENS = Path(__file__).parents[3] / "static" / "console" / "css" / "tokens.css"
SCHEMES = ("light", "dark")
STATES = ("ok", "warn", "bad", "info", "mute", "accent")


def colours() -> dict[str, tuple[str, str]]:
    """Light and dark value of each colour token."""
    pattern = r"--([a-z0-9-]+):\s*light-dark\((#[0-9a-f]{6}),\s*(#[0-9a-f]{6})\);"
    return {name: (light, dark) for name, light, dark in re.findall(pattern, TOKENS.read_text())}


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def ratio(one: str, other: str) -> float:
    """Contrast ratio of two colours, from 1 to 21."""
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def on(foreground: str, background: str, scheme: str) -> float:
    """Contrast of two tokens in a scheme."""
    at = SCHEMES.index(scheme)
    return ratio(colours()[foreground][at], colours()[background][at])


def test_the_formula_knows_black_on_white() -> None:
    assert ratio("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("background", ["bg", "surface", "raised"])
@pytest.mark.parametrize("text", ["text", "text-2", "text-3", "accent"])
def test_text_is_readable_on_every_ground(text: str, background: str, scheme: str) -> None:
    assert on(text, background, scheme) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("state", STATES)
def test_states_are_readable_on_their_tint_and_on_cards(state: str, scheme: str) -> None:
    assert on(state, f"{state}-bg", scheme) >= 4.5
    assert on(state, "surface", scheme) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("state", STATES)
def test_plain_text_is_readable_on_every_tint(state: str, scheme: str) -> None:
    assert on("text", f"{state}-bg", scheme) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("label", "button"), [("on-accent", "accent"), ("on-bad", "bad")])
def test_button_labels_are_readable(label: str, button: str, scheme: str) -> None:
    assert on(label, button, scheme) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("background", ["bg", "surface"])
def test_field_borders_and_focus_rings_can_be_seen(background: str, scheme: str) -> None:
    assert on("line-strong", background, scheme) >= 3
    assert on("accent", background, scheme) >= 3
