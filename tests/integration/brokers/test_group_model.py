"""A model of one consumer group, driven at random against the real PostgreSQL.

What it must never see: a committed record that was handled under two claims of its partition, a record below the
committed offset that nobody handled, an answer to a poll that leaves a record out, or a zombie's commit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from django.db import connection
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from brokers import groups, publish_many, topics
from brokers.errors import StaleGeneration, UnknownMember
from brokers.groups import Assigned, GroupOffset, Subscription
from brokers.selectors import groups as reads
from tests.server import unique

MAX_MEMBERS = 4
MAX_PARTITIONS = 5


@dataclass
class Member:
    """What a member was told: it acts on nothing else."""

    id: str
    generation: int
    assignment: list[Assigned] = field(default_factory=list)
    delivered: dict[Assigned, tuple[int, int]] = field(default_factory=dict)
    """Per claim of a partition, the first offset delivered and the next one."""


picks = st.integers(0, 59)
"""Chooses one of those who are there, modulo their number (of up to 5)."""


class GroupModel(RuleBasedStateMachine):
    """Members join, leave, die, poll and commit; the ledger knows who handled what."""

    def __init__(self) -> None:
        super().__init__()
        self.topic, self.group = unique("model"), unique("group")
        topics.create(self.topic, partitions=3)
        self.latest = dict.fromkeys(range(3), 0)
        self.committed: dict[int, int] = {}
        self.ledger: dict[tuple[int, int], tuple[str, Assigned]] = {}
        """Who handled a record below the committed offset, and under which claim."""
        self.live: list[Member] = []
        self.gone: list[Member] = []

    # -- what happens -------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.live) < MAX_MEMBERS)
    @rule()
    def join(self) -> None:
        joined = groups.join(self.group, Subscription((self.topic,)))
        self.live.append(Member(joined.member_id, joined.generation, joined.assignment))

    @precondition(lambda self: self.live)
    @rule(pick=picks, how=st.sampled_from(["leave", "die", "die unnoticed"]))
    def end(self, pick: int, how: str) -> None:
        """Says goodbye, or falls silent; somebody notices then, or whoever comes next does."""
        member = self.live.pop(pick % len(self.live))
        self.gone.append(member)
        if how == "leave":
            groups.leave(self.group, member.id)
            return
        with connection.cursor() as cursor:
            cursor.execute(
                "update brokers_group_member set heartbeat_at = heartbeat_at - interval '2 hours' where member_id = %s",
                [member.id],
            )
        if how == "die":
            groups.expire_sessions()

    @rule(pick=picks, count=st.integers(1, 6))
    def publish(self, pick: int, count: int) -> None:
        number = pick % len(self.latest)
        publish_many(self.topic, [{"value": None, "partition": number}] * count)
        self.latest[number] += count

    @precondition(lambda self: len(self.latest) < MAX_PARTITIONS)
    @rule()
    def grow(self) -> None:
        topics.alter(self.topic, partitions=len(self.latest) + 1)
        self.latest[len(self.latest)] = 0

    @precondition(lambda self: self.live)
    @rule(pick=picks, max_records=st.sampled_from([100, 3, 1, 0]))
    def poll(self, pick: int, max_records: int) -> None:
        self._poll(self.live[pick % len(self.live)], max_records)

    @precondition(lambda self: self.live)
    @rule(max_records=st.sampled_from([100, 2]))
    def all_poll(self, max_records: int) -> None:
        for member in self.live:
            self._poll(member, max_records)

    def _poll(self, member: Member, max_records: int) -> None:
        polled = groups.poll(self.group, member.id, max_records=max_records)
        assert polled.generation >= member.generation
        assert len(polled.records) <= max_records
        member.generation, member.assignment = polled.generation, polled.assignment
        claims = {claim.partition: claim for claim in polled.assignment}
        member.delivered = {claim: seen for claim, seen in member.delivered.items() if claim in claims.values()}
        for record in polled.records:
            claim = claims[record.partition]
            begin = self.committed.get(record.partition, 0)
            first, following = member.delivered.get(claim, (begin, begin))
            assert record.offset == following, "a record was left out or came twice"
            member.delivered[claim] = first, following + 1

    @precondition(lambda self: self.live)
    @rule(pick=picks, all_of_it=st.booleans())
    def commit(self, pick: int, all_of_it: bool) -> None:
        member = self.live[pick % len(self.live)]
        self._commit(member, list(member.delivered) if all_of_it else list(member.delivered)[:1])

    @precondition(lambda self: self.gone)
    @rule(pick=picks)
    def a_zombie_goes_on(self, pick: int) -> None:
        """Commits what it had polled; takes part in the group no more."""
        member = self.gone[pick % len(self.gone)]
        self._commit(member, list(member.delivered))
        if not self._session_lasts(member):
            with pytest.raises(UnknownMember):
                groups.leave(self.group, member.id)
        with pytest.raises(UnknownMember):
            groups.poll(self.group, member.id)

    @precondition(lambda self: self.gone or self.live)
    @rule(pick=picks, ahead=st.integers(-1, 1))
    def someone_names_a_generation_it_was_not_told(self, pick: int, ahead: int) -> None:
        """It gets through only with the one generation, and only for what it owns."""
        member = [*self.gone, *self.live][pick % len(self.gone + self.live)]
        generation = reads.get(self.group).generation + ahead
        self._commit(member, list(member.delivered), max(generation, 0))

    @precondition(lambda self: self.live)
    @rule(pick=picks, partition=picks)
    def someone_commits_what_is_anothers(self, pick: int, partition: int) -> None:
        member, number = self.live[pick % len(self.live)], partition % len(self.latest)
        if not self._in_charge(member, [Assigned(self.topic, number, 0)], None):
            with pytest.raises(StaleGeneration):
                groups.commit(self.group, member.id, [GroupOffset(self.topic, number, 0)])

    def _commit(self, member: Member, claims: list[Assigned], generation: int | None = None) -> None:
        if not claims:
            return
        offsets = [GroupOffset(self.topic, claim.partition, member.delivered[claim][1]) for claim in claims]
        allowed = self._in_charge(member, claims, generation)
        try:
            groups.commit(self.group, member.id, offsets, generation=generation)
        except StaleGeneration:
            assert not allowed, "a member in good standing was refused"
            return
        assert allowed, "a zombie committed"
        for claim in claims:
            first, following = member.delivered[claim]
            for offset in range(first, following):
                handled = self.ledger.setdefault((claim.partition, offset), (member.id, claim))
                assert handled == (member.id, claim), "a record was handled under two claims"
            self.committed[claim.partition] = following

    # -- what must hold -----------------------------------------------------------------------------------------

    @invariant()
    def what_is_committed_was_handled_without_a_gap(self) -> None:
        for partition, offset in self.committed.items():
            assert all((partition, n) in self.ledger for n in range(offset))

    @invariant()
    def the_store_holds_what_was_committed(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "select p.number, c.committed_offset from brokers_committed_offset c"
                " join brokers_partition p on p.id = c.partition_id"
                " join brokers_consumer_group g on g.id = c.group_id where g.name = %s",
                [self.group],
            )
            assert dict(cursor.fetchall()) == self.committed

    def teardown(self) -> None:
        """One last member, alone, reads all that is left: nothing is lost for good."""
        for member in self.live:
            groups.leave(self.group, member.id)
        last = Member(groups.join(self.group, Subscription((self.topic,))).member_id, 0)
        before: object = None
        while last.delivered != before:
            before = dict(last.delivered)
            self._poll(last, 100)
        self._commit(last, list(last.delivered))
        assert self.committed == {n: latest for n, latest in self.latest.items() if latest}

    # -- knowledge of the store ---------------------------------------------------------------------------------

    def _session_lasts(self, member: Member) -> bool:
        with connection.cursor() as cursor:
            cursor.execute("select ended_at is null from brokers_group_member where member_id = %s", [member.id])
            return bool(cursor.fetchone()[0])

    def _in_charge(self, member: Member, claims: list[Assigned], generation: int | None) -> bool:
        """Whether the member is one still, at the group's generation, and owns all of the claims."""
        found = reads.get(self.group)
        owned = {place for other in found.members if other.member_id == member.id for place in other.assignment}
        mine = {(claim.topic, claim.partition) for claim in claims}
        named = member.generation if generation is None else generation
        return self._session_lasts(member) and found.generation == named and mine <= owned


@pytest.mark.django_db(transaction=True)
def test_a_group_handles_every_record_under_one_claim() -> None:
    run_state_machine_as_test(
        GroupModel,
        settings=settings(
            max_examples=40,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
