"""Tasks that are due often."""

from __future__ import annotations

from scheduling import scheduled


@scheduled(fixed_rate="PT0.5S", name="often", overlap="allow")
def often() -> str:
    """What most of the test looks at."""
    return "done"


@scheduled(fixed_delay="PT0.7S", name="after-the-end")
def after_the_end() -> None:
    """Due again after its end."""


@scheduled(cron="* * * * * *", name="each-second", zone="Europe/Berlin", overlap="queue")
def each_second() -> None:
    """Due at each full second."""


@scheduled(initial_delay="PT0.2S", name="one-time")
def one_time() -> None:
    """Due one time."""
