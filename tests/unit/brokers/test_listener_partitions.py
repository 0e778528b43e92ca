"""What a member's thread remembers of a partition between two transactions."""

from __future__ import annotations

from brokers.group_views import Lane
from brokers.listeners.partitions import Partition
from brokers.record import Record


def partition(handled: int = 5) -> Partition:
    return Partition(Lane(1, "orders", 0, 7, None, None, None, 0, 100), handled, handled)


def records(*offsets: int) -> list[Record]:
    return [Record(0, None, None, 0, {}, offset, 0, "orders") for offset in offsets]


def test_the_offset_to_commit_is_that_of_the_next_record() -> None:
    one = partition()
    one.fill(records(5, 6, 9, 10), 12)
    assert [one.end_of(count) for count in range(5)] == [5, 6, 9, 10, 12]
    one.pass_over(2)
    assert (one.handled, [record.offset for record in one.upcoming(10)]) == (9, [9, 10])
    one.pass_over(2)
    assert (one.handled, one.has_read()) == (12, False)


def test_where_compaction_left_nothing_the_offset_moves_all_the_same() -> None:
    one = partition()
    one.fill([], 50)
    assert one.end_of(0) == 50
    one.pass_over(0)
    assert one.handled == 50


def test_no_more_than_asked_for_is_upcoming() -> None:
    one = partition()
    one.fill(records(5, 6, 7), 8)
    assert [record.offset for record in one.upcoming(2)] == [5, 6]
    one.pass_over(1)
    assert [record.offset for record in one.upcoming(2)] == [6, 7]


def test_a_back_off_holds_the_log_and_not_the_lane() -> None:
    one = partition()
    one.fill(records(5), 6)
    one.waits_until, one.lane_due_at = 100.0, 40.0
    assert not one.is_log_ready(50.0)
    assert one.is_lane_ready(50.0)
    assert one.wait_seconds(10.0) == 30.0
    one.lane_due_at = None
    assert one.wait_seconds(10.0) == 90.0


def test_with_nothing_to_read_there_is_nothing_to_wait_for() -> None:
    one = partition()
    one.is_dry = True
    assert one.wait_seconds(10.0) is None
    assert not one.is_log_ready(10.0)


def test_care_ends_behind_what_the_lost_owner_may_have_had_in_log_and_lane() -> None:
    one = partition()
    assert not one.is_past_care(1000)
    one.is_marked, one.careful_until, one.careful_redelivery = True, 10, 3
    assert one.is_careful
    assert not one.is_past_care(10)
    one.careful_redelivery = 0
    assert not one.is_past_care(9)
    assert one.is_past_care(10)


def test_to_rewind_forgets_what_was_read() -> None:
    one = partition()
    one.fill(records(5, 6), 7)
    one.pass_over(1)
    one.rewind(6)
    assert (one.position, one.handled, one.has_read(), one.wants_to_read()) == (6, 6, False, True)
