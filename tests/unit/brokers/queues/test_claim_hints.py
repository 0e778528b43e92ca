"""Where claims begin to look, and how often they look from the head on."""

from __future__ import annotations

import pytest

from brokers.queues import claim_hints
from brokers.queues.claim_hints import FULL_SCAN_SECONDS, LONGEST_SECONDS, Hints


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(claim_hints, "time", found)
    return found


def test_the_first_claim_looks_from_the_head_on_and_the_next_where_it_began(clock: Clock) -> None:
    hints = Hints()
    assert hints.start([0]) is None
    hints.learn([0], [(0, 5), (0, 4)], was_full=True, is_short=False, took=0.001)
    assert hints.start([0]) == [4]
    hints.learn([0], [(0, 9), (0, 8)], was_full=False, is_short=False, took=0.001)
    assert hints.start([0]) == [8]


def test_it_looks_from_the_head_on_each_second_whatever_happens(clock: Clock) -> None:
    hints = Hints()
    hints.learn([0], [(0, 5)], was_full=True, is_short=False, took=0.001)
    clock.now += FULL_SCAN_SECONDS - 0.01
    assert hints.start([0]) == [5]
    clock.now += 0.02
    assert hints.start([0]) is None


def test_a_claim_that_came_back_short_looks_again_but_not_too_often_where_that_is_slow(clock: Clock) -> None:
    hints = Hints()
    hints.learn([0], [(0, 5)], was_full=True, is_short=True, took=0.001)
    assert hints.start([0]) == [5]
    assert not hints.may_look_again()
    clock.now += 0.021
    assert hints.may_look_again()
    assert hints.start([0]) is None
    hints.learn([0], [], was_full=True, is_short=True, took=0.5)
    clock.now += 0.19
    assert hints.start([0]) is not None
    clock.now += 0.02
    assert hints.start([0]) is None


def test_an_empty_level_is_remembered_up_to_what_was_seen_before_the_look(clock: Clock) -> None:
    hints = Hints()
    hints.learn([1, 0], [(1, 50)], was_full=True, is_short=True, took=0.001)
    assert hints.start([1, 0]) == [50, 0]
    hints.learn([1, 0], [(0, 70)], was_full=True, is_short=True, took=0.001)
    assert hints.start([1, 0]) == [50, 70]
    hints.learn([1, 0], [], was_full=True, is_short=True, took=0.001)
    assert hints.start([1, 0]) == [70, 70]


def test_levels_that_a_full_claim_did_not_reach_are_not_taken_for_empty(clock: Clock) -> None:
    hints = Hints()
    hints.learn([2, 1, 0], [(2, 90)], was_full=True, is_short=False, took=0.001)
    hints.learn([2, 1, 0], [(1, 95)], was_full=True, is_short=False, took=0.001)
    assert hints.start([2, 1, 0]) == [90, 95, 0]


def test_where_a_look_from_the_head_on_is_slow_it_takes_a_twentieth_of_the_time(clock: Clock) -> None:
    hints = Hints()
    hints.learn([0], [(0, 5)], was_full=True, is_short=False, took=0.5)
    clock.now += 9.9
    hints.reset()
    assert hints.start([0]) == [5]
    clock.now += 0.2
    assert hints.start([0]) is None
    hints.learn([0], [(0, 5)], was_full=True, is_short=False, took=60.0)
    clock.now += LONGEST_SECONDS - 0.1
    assert hints.start([0]) == [5]
    clock.now += 0.2
    assert hints.start([0]) is None


def test_after_a_reset_a_claim_looks_from_the_head_on_as_soon_as_that_may_cost_its_time(clock: Clock) -> None:
    hints = claim_hints.of(-5)
    hints.learn([0], [(0, 5)], was_full=True, is_short=False, took=0.001)
    claim_hints.reset(-5)
    claim_hints.reset(-6)
    assert claim_hints.of(-5).start([0]) == [5]
    clock.now += 0.021
    assert claim_hints.of(-5).start([0]) is None


def test_the_next_claim_begins_at_a_message_that_was_given_back(clock: Clock) -> None:
    hints = claim_hints.of(-7)
    hints.learn([1, 0], [(1, 40), (0, 50)], was_full=True, is_short=False, took=0.001)
    claim_hints.lower(-7, [(0, 20), (1, 90), (0, 30)])
    claim_hints.lower(-8, [(0, 20)])
    assert hints.start([1, 0]) == [40, 20]


def test_what_is_remembered_is_bounded() -> None:
    for number in range(-20_100, 0):
        claim_hints.of(number)
    assert len(claim_hints._hints) <= 10_000
