"""The timing wheel: what is due is visited, on time, as often as it asks."""

from __future__ import annotations

import itertools
import random

from realtime.wheel import SLOT_SECONDS, SLOTS, Wheel


def turned(wheel: Wheel, start: float, end: float, step: float = SLOT_SECONDS) -> None:
    """Turns the wheel from one moment to another."""
    now = start
    while now < end:
        now += step
        wheel.turn(now)


def test_visits_come_within_a_slot_after_their_time_and_never_before() -> None:
    wheel = Wheel()
    start = wheel.now
    chance = random.Random(7)
    visits: dict[float, list[float]] = {}
    for _ in range(500):
        seconds = chance.uniform(0.0, 3 * SLOTS * SLOT_SECONDS)

        def visit(now: float, seconds: float = seconds) -> None:
            visits.setdefault(seconds, []).append(now)

        wheel.visit_in(seconds, visit)
    turned(wheel, start, start + 3.1 * SLOTS * SLOT_SECONDS)
    assert len(visits) == 500
    for seconds, times in visits.items():
        assert len(times) == 1
        assert seconds <= times[0] - start + 0.05  # the clock moved on while the appointments were made
        assert times[0] - start - seconds <= 3 * SLOT_SECONDS


def test_a_visit_says_when_to_come_again_until_it_says_never() -> None:
    wheel = Wheel()
    start, seen = wheel.now, []

    def visit(now: float) -> float | None:
        seen.append(now - start)
        return 1.0 if len(seen) < 4 else None

    wheel.visit_in(1.0, visit)
    turned(wheel, start, start + 20)
    assert len(seen) == 4
    assert all(1.0 <= later - earlier <= 1.3 for earlier, later in itertools.pairwise(seen))


def test_a_cancelled_appointment_is_not_kept() -> None:
    wheel = Wheel()
    seen: list[float] = []
    appointment = wheel.visit_in(1.0, lambda now: seen.append(now))
    appointment.cancel()
    turned(wheel, wheel.now, wheel.now + 5)
    assert seen == []


def test_a_visit_may_cancel_itself_and_make_others() -> None:
    wheel = Wheel()
    start, seen = wheel.now, []

    def first(now: float) -> float:
        appointment.cancel()
        wheel.visit_in(0.0, second)
        return 1.0

    def second(now: float) -> None:
        seen.append(now)

    appointment = wheel.visit_in(0.5, first)
    turned(wheel, start, start + 10)
    assert len(seen) == 1


def test_a_standstill_skips_nothing() -> None:
    wheel = Wheel()
    start, seen = wheel.now, []
    for number in range(100):
        wheel.visit_in(number / 10, lambda now, number=number: seen.append(number))  # type: ignore[misc]
    wheel.turn(start + 10 * SLOTS * SLOT_SECONDS)
    wheel.turn(start + 11 * SLOTS * SLOT_SECONDS)
    assert sorted(seen) == list(range(100))
