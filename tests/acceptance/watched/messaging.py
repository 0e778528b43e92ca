"""Tasks that are due often, and one that is due one time."""

from __future__ import annotations

from scheduling import scheduled


@scheduled(fixed_rate="PT0.5S", name="often", overlap="allow", lock="often")
def often() -> dict[str, int]:
    """What its page follows."""
    return {"rows": 7}


@scheduled(fixed_rate="PT1S", name="each-second")
def each_second() -> None:
    """What is paused."""


@scheduled(initial_delay="PT0.2S", name="one-time")
def one_time() -> None:
    """What is run again by hand."""
