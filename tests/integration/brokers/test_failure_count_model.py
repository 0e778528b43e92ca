"""A model of failures, driven at random against the real PostgreSQL: counters are what a count would find."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from brokers import dead_letter_topics, dead_letters, failure_counts, topics
from brokers.audit import SYSTEM
from brokers.models import DeadLetter, FailureChange, FailureGroup, FailureMinute, ReplayItem
from tests.integration.brokers.given_up import delivery, failure, give_up, in_lane, query, replaying
from tests.server import unique

picks = st.integers(0, 59)
"""Chooses one of those who are there, modulo their number."""
messages = st.sampled_from(["no plane", "no pilot", "no fuel"])
COUNTED = ("open", "replaying", "replayed", "resolved", "discarded")


class Undone(Exception):
    """Rolls a transaction back."""


class FailureModel(RuleBasedStateMachine):
    """Dead letters come, change, are replayed, fail again and go; what is not folded yet counts as well."""

    def __init__(self) -> None:
        super().__init__()
        self.topic, self.group = topics.create(unique("model")).name, unique("group")
        dead_letter_topics.prepare(self.topic, 3)
        self.states: dict[int, str] = {}
        self.messages: dict[int, str] = {}
        self.failures: dict[str, int] = {}
        self.items: dict[int, int] = {}
        self.outcomes = {"succeeded": 0, "failed_again": 0, "sent": 0}
        self.offset = 0

    def pick(self, pick: int, *states: str) -> int:
        found = [number for number, state in self.states.items() if state in states]
        return found[pick % len(found)]

    def any_in(self, *states: str) -> bool:
        return any(state in states for state in self.states.values())

    @rule(message=messages, count=st.integers(1, 3), rolled_back=st.booleans())
    def fail(self, message: str, count: int, rolled_back: bool) -> None:
        ids = []
        try:
            with transaction.atomic():
                for _ in range(count):
                    self.offset += 1
                    record = delivery(self.topic, self.offset, group=self.group)
                    ids.append(dead_letters.give_up(record, "exception", failure(message)))
                if rolled_back:
                    raise Undone
        except Undone:
            return
        for number in ids:
            self.states[number], self.messages[number] = "open", message
        self.failures[message] = self.failures.get(message, 0) + count

    @precondition(lambda self: self.any_in("open", "resolved", "discarded"))
    @rule(pick=picks, other=picks, state=st.sampled_from(["open", "resolved", "discarded"]))
    def change(self, pick: int, other: int, state: str) -> None:
        ids = [self.pick(number, "open", "resolved", "discarded") for number in (pick, other)]
        dead_letters.change_state(ids, state, SYSTEM)
        self.states |= dict.fromkeys(ids, state)

    @precondition(lambda self: self.any_in("open"))
    @rule(pick=picks, other=picks)
    def replay(self, pick: int, other: int) -> None:
        ids = sorted({self.pick(number, "open") for number in (pick, other)})
        for item in replaying(ids):
            self.items[item.dead_letter_id] = item.pk
            self.states[item.dead_letter_id] = "replaying"
            self.outcomes["sent"] += 1

    @precondition(lambda self: self.any_in("replaying"))
    @rule(pick=picks, message=messages)
    def fail_again(self, pick: int, message: str) -> None:
        number = self.pick(pick, "replaying")
        row = DeadLetter.objects.get(pk=number)
        record = delivery(self.topic, row.record_offset or 0, group=self.group)
        give_up(in_lane(record, "replay", number, self.items[number]), failed=failure(message))
        why = ReplayItem.objects.get(pk=self.items[number]).why
        assert why == ("same" if self.messages[number] == message else "new")
        self.states[number], self.messages[number] = "open", message
        self.failures[message] = self.failures.get(message, 0) + 1
        self.outcomes["failed_again"] += 1

    @precondition(lambda self: self.any_in("replaying"))
    @rule(pick=picks)
    def succeed(self, pick: int) -> None:
        number = self.pick(pick, "replaying")
        with transaction.atomic():
            DeadLetter.objects.filter(pk=number).update(state="replayed")
            ReplayItem.objects.filter(pk=self.items[number]).update(outcome="succeeded")
        self.states[number] = "replayed"
        self.outcomes["succeeded"] += 1

    @rule()
    def fold(self) -> None:
        failure_counts.fold()

    @precondition(lambda self: self.any_in("replayed", "resolved", "discarded"))
    @rule(pick=picks)
    def purge(self, pick: int) -> None:
        number = self.pick(pick, "replayed", "resolved", "discarded")
        query("update brokers_dead_letter set changed_at = changed_at - interval '91 days' where id = %s", number)
        assert dead_letters.purge() == 1
        del self.states[number]

    @invariant()
    def counters_and_what_is_not_folded_are_what_a_count_finds(self) -> None:
        columns = ", ".join(
            f"g.{state}_count + coalesce(sum(c.change) filter (where c.state = '{state}'), 0)" for state in COUNTED
        )
        found = query(
            f"select g.message, g.failures + coalesce(sum(c.failures), 0), {columns}"
            " from brokers_failure_group g left join brokers_failure_change c on c.failure_group_id = g.id"
            " where g.source = %s group by g.id",
            self.topic,
        )
        expected = {}
        for message, failures in self.failures.items():
            mine = [state for number, state in self.states.items() if self.messages[number] == message]
            expected[message] = (failures, *(mine.count(state) for state in COUNTED))
        assert {message: tuple(map(int, counts)) for message, *counts in found} == expected

    def teardown(self) -> None:
        """At the end all is folded, minutes and replays too; then everything goes."""
        failure_counts.fold()
        assert not FailureChange.objects.exists()
        groups = FailureGroup.objects.filter(source=self.topic)
        minutes = FailureMinute.objects.filter(failure_group_id__in=groups.values("id"))
        assert sum(minutes.values_list("failures", flat=True)) == sum(self.failures.values())
        columns = ", ".join(f"coalesce(sum({name}), 0)" for name in self.outcomes)
        assert query(f"select {columns} from brokers_replay") == [tuple(self.outcomes.values())]
        with connection.cursor() as cursor:
            cursor.execute(
                "truncate brokers_replay, brokers_replay_item, brokers_dead_letter, brokers_dead_letter_revision,"
                " brokers_dead_letter_attempt, brokers_failure_group, brokers_failure_minute, brokers_failure_change,"
                " brokers_replay_change, brokers_redelivery"
            )


@pytest.mark.django_db(transaction=True)
def test_whatever_happens_the_counters_are_what_a_count_would_find() -> None:
    run_state_machine_as_test(
        FailureModel,
        settings=settings(
            max_examples=30,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
