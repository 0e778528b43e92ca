"""Divides the partitions of a consumer group over its members: balanced first, then as it was before.

Pure and deterministic: the same members, partitions and owners always give the same division. Called within the
transaction that holds the group's lock (`group_members`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set


def divide(
    subscriptions: Mapping[int, Set[str]], partitions: Sequence[tuple[int, str]], owners: Mapping[int, int]
) -> dict[int, int]:
    """The member of each partition that anyone subscribed to.

    `subscriptions` maps members, in the order in which they joined, to their topics; `partitions` holds each
    partition with its topic; `owners` maps partitions to the members that hold them now. Of two members that both
    read a topic, one gets at most one partition more than the other, unless it could give none of them away.
    """
    division = _Division(subscriptions, partitions)
    division.keep(owners)
    division.fill()
    division.balance()
    return division.members()


class _Division:
    """A division under way: what each member holds, by topic."""

    def __init__(self, subscriptions: Mapping[int, Set[str]], partitions: Sequence[tuple[int, str]]) -> None:
        self._subscriptions = subscriptions
        self._rank = {member: rank for rank, member in enumerate(subscriptions)}
        self._readers: dict[str, list[int]] = {}
        for member, topics in subscriptions.items():
            for topic in topics:
                self._readers.setdefault(topic, []).append(member)
        self._topics = {number: topic for number, topic in sorted(partitions) if topic in self._readers}
        self._held: dict[int, dict[str, list[int]]] = {member: {} for member in subscriptions}
        self._counts = dict.fromkeys(subscriptions, 0)
        self._placed: set[int] = set()

    def keep(self, owners: Mapping[int, int]) -> None:
        """Leaves partitions with owners that are members still and read their topics."""
        for partition, topic in self._topics.items():
            owner = owners.get(partition)
            if owner is not None and topic in self._subscriptions.get(owner, ()):
                self._give(partition, owner)

    def fill(self) -> None:
        """Gives each free partition to the reader with the fewest; those with the fewest readers come first."""
        free = [partition for partition in self._topics if partition not in self._placed]
        for partition in sorted(free, key=lambda p: (len(self._readers[self._topics[p]]), p)):
            self._give(partition, self._least(self._topics[partition]))

    def balance(self) -> None:
        """Moves partitions from those with the most until no move would make two members more equal."""
        while self._move_one():
            pass

    def members(self) -> dict[int, int]:
        """Partition to member, by partition."""
        found = {
            partition: member
            for member, held in self._held.items()
            for partitions in held.values()
            for partition in partitions
        }
        return dict(sorted(found.items()))

    def _move_one(self) -> bool:
        least = {topic: self._least(topic) for topic in self._readers}
        for giver in sorted(self._held, key=lambda member: (-self._counts[member], self._rank[member])):
            takers = [(self._order(least[topic]), topic) for topic, held in self._held[giver].items() if held]
            if not takers:
                continue
            (count, _), topic = min(takers)
            if count + 1 < self._counts[giver]:
                partition = self._held[giver][topic].pop()
                self._counts[giver] -= 1
                self._give(partition, least[topic])
                return True
        return False

    def _give(self, partition: int, member: int) -> None:
        self._held[member].setdefault(self._topics[partition], []).append(partition)
        self._counts[member] += 1
        self._placed.add(partition)

    def _least(self, topic: str) -> int:
        return min(self._readers[topic], key=self._order)

    def _order(self, member: int) -> tuple[int, int]:
        return self._counts[member], self._rank[member]
