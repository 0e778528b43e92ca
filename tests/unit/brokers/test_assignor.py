"""The assignor: balanced, sticky, deterministic."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from brokers.assignor import divide

Case = tuple[dict[int, frozenset[str]], list[tuple[int, str]], dict[int, int]]

TOPICS = ("a", "b", "c")
subsets = st.frozensets(st.sampled_from(TOPICS), min_size=1)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    members = draw(st.dictionaries(st.integers(1, 12), subsets, max_size=6))
    partitions = list(enumerate(draw(st.lists(st.sampled_from(TOPICS), max_size=20)), start=1))
    owners = draw(st.dictionaries(st.integers(1, 20), st.integers(1, 14), max_size=20))
    return members, partitions, owners


@given(cases())
def test_every_partition_with_a_reader_has_one_member_that_reads_it(case: Case) -> None:
    members, partitions, owners = case
    division = divide(members, partitions, owners)
    read = frozenset[str]().union(*members.values())
    assert set(division) == {partition for partition, topic in partitions if topic in read}
    topics = dict(partitions)
    assert all(topics[partition] in members[member] for partition, member in division.items())


@given(cases())
def test_no_single_move_makes_two_members_more_equal(case: Case) -> None:
    members, partitions, owners = case
    division = divide(members, partitions, owners)
    counts = Counter(division.values())
    topics = dict(partitions)
    for partition, holder in division.items():
        for member, subscribed in members.items():
            if topics[partition] in subscribed:
                assert counts[holder] - counts[member] <= 1


@given(cases())
def test_the_division_is_deterministic_and_stable(case: Case) -> None:
    members, partitions, owners = case
    division = divide(members, partitions, owners)
    assert divide(members, partitions, owners) == division
    assert divide(members, list(reversed(partitions)), owners) == division
    assert divide(members, partitions, division) == division


@given(st.integers(1, 8), st.integers(0, 24), st.data())
def test_equal_subscriptions_move_no_more_than_balance_asks_for(
    size: int, partitions: int, data: st.DataObject
) -> None:
    members = {member: frozenset({"a"}) for member in range(size)}
    owners = {p: data.draw(st.integers(0, size + 1)) for p in range(partitions)}
    division = divide(members, [(p, "a") for p in range(partitions)], owners)
    held = sorted((Counter(owner for owner in owners.values() if owner < size)[m] for m in members), reverse=True)
    fewest, larger = divmod(partitions, size)
    most_kept = sum(min(count, fewest + (rank < larger)) for rank, count in enumerate(held))
    assert sum(division[p] == owner for p, owner in owners.items()) == most_kept


def test_two_members_share_three_partitions() -> None:
    division = divide({1: frozenset("t"), 2: frozenset("t")}, [(1, "t"), (2, "t"), (3, "t")], {1: 1, 2: 1, 3: 1})
    assert division == {1: 1, 2: 1, 3: 2}


def test_members_beyond_the_partitions_are_idle() -> None:
    members = {number: frozenset("t") for number in range(5)}
    assert divide(members, [(1, "t"), (2, "t")], {}) == {1: 0, 2: 1}


def test_what_a_leaver_held_is_spread_and_nothing_else_moves() -> None:
    members = {2: frozenset("t"), 3: frozenset("t")}
    owners = {1: 2, 2: 2, 3: 3, 4: 3, 5: 1, 6: 1}
    division = divide(members, [(number, "t") for number in range(1, 7)], owners)
    assert {number: division[number] for number in range(1, 5)} == {1: 2, 2: 2, 3: 3, 4: 3}
    assert sorted(division.values()) == [2, 2, 2, 3, 3, 3]


def test_a_topic_nobody_reads_is_left_out() -> None:
    assert divide({1: frozenset("t")}, [(1, "t"), (2, "u")], {2: 1}) == {1: 1}
