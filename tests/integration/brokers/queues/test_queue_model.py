"""A model of queues, driven at random against the real PostgreSQL.

Whatever consumers, operators and time do, each message is in one place, under one live claim at most, in its place in
the order, with a history that counts each of its deaths; figures are what counting the rows says.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from brokers import audit
from brokers.errors import QueueFull
from brokers.models import DeadLetterRevision
from brokers.queues import claim_hints, claims, dead_lettering, lengths, moving, sending, topology
from brokers.queues.claims import Claim
from brokers.queues.topology import QueueInfo
from tests.integration.brokers.queues.living import figures, pass_time, queue, tend
from tests.server import unique

NAMES = ("work", "wait", "plain")
picks = st.integers(0, 59)
"""Chooses one of those who are there, modulo their number."""
names = st.sampled_from(NAMES)


class Undone(Exception):
    """Rolls a transaction back."""


@dataclass
class Held:
    """A message as it should be."""

    place: str
    priority: int
    order: int
    """Higher for each that is stored."""
    is_delayed: bool = False
    deliveries: int = 0
    returns: int = 0
    claim: Claim | None = None
    """The one that would settle it."""
    is_held: bool = False
    deaths: list[tuple[str, str]] = field(default_factory=list)
    """All of them, oldest first."""
    letters: int = 0


class QueueModel(RuleBasedStateMachine):
    """Three queues: `work` drops its head and passes the dead on to `wait`, which passes them back; `plain` refuses
    what is too much, and what dies there goes nowhere.
    """

    def __init__(self) -> None:
        super().__init__()
        work, wait, plain = (unique(name) for name in NAMES)
        self.queues: dict[str, QueueInfo] = {
            "wait": queue(wait, message_ttl_ms=600_000, dead_letter_exchange="", dead_letter_routing_key=work),
            "plain": queue(plain, message_ttl_ms=600_000, max_length=4, overflow="reject-publish", delivery_limit=0),
            "work": queue(
                work,
                max_priority=2,
                max_length=4,
                delivery_limit=1,
                dead_letter_exchange="",
                dead_letter_routing_key=wait,
            ),
        }
        self.leads_to = {"work": "wait", "wait": "work"}
        self.limits = {"work": 1, "wait": 20, "plain": 0}
        self.messages: dict[int, Held] = {}
        self.gone: dict[int, int] = {}
        """What is in no queue any more, with its dead letters."""
        self.claims: list[tuple[int, Claim]] = []
        self.stored = 0

    # -- the model's own rules ----------------------------------------------------------------------------------

    def level(self, message: Held) -> int:
        return min(message.priority, 2) if message.place == "work" else 0

    def waiting(self, place: str) -> list[int]:
        """The ready messages of a queue, in the order in which they are to be handed out."""
        ready = [
            (-self.level(message), message.order, number)
            for number, message in self.messages.items()
            if message.place == place and not message.is_held and not message.is_delayed
        ]
        return [number for *_, number in sorted(ready)]

    def arrive(self, number: int, message: Held, place: str) -> None:
        self.stored += 1
        self.messages[number] = message
        message.place, message.order = place, self.stored
        message.deliveries = message.returns = 0
        message.claim, message.is_held = None, False

    def end(self, number: int) -> None:
        self.gone[number] = self.messages.pop(number).letters

    def die(self, number: int, reason: str) -> None:
        message = self.messages[number]
        message.deaths.append((message.place, reason))
        to = self.leads_to.get(message.place)
        if to is not None and reason != "rejected" and self.closes_a_ring(message, to):
            to = None
        if reason == "rejected" or to is None:
            message.letters += 1
        if to is None:
            self.end(number)
        else:
            self.arrive(number, message, to)

    def closes_a_ring(self, message: Held, to: str) -> bool:
        newest_first = list(dict.fromkeys(reversed(message.deaths)))
        places = [place for place, _ in newest_first]
        if to not in places:
            return False
        return all(reason != "rejected" for _, reason in newest_first[: places.index(to) + 1])

    def cut(self) -> None:
        while (excess := len(self.waiting("work")) - 4) > 0:
            for number in sorted(self.waiting("work")[:excess], key=lambda each: self.messages[each].order):
                self.die(number, "maxlen")

    def settle(self) -> None:
        """Everything that is due by now is done, by the queues and by the model."""
        tend()
        self.cut()

    def pick(self, pick: int, found: Iterable[int]) -> int | None:
        numbers = sorted(found)
        return numbers[pick % len(numbers)] if numbers else None

    def row(self, number: int) -> int:
        with connection.cursor() as cursor:
            cursor.execute("select id from brokers_message where body = %s", [str(number).encode()])
            [(row,)] = cursor.fetchall()
        return int(row)

    # -- publishers ---------------------------------------------------------------------------------------------

    @rule(place=names, priority=st.integers(0, 3), delayed=st.booleans(), count=st.integers(1, 3))
    def publish(self, place: str, priority: int, delayed: bool, count: int) -> None:
        first = len(self.messages) + len(self.gone) + 1
        numbers = range(first, first + count)
        bodies = [
            {"routing_key": self.queues[place].name, "body": number, "priority": priority}
            | ({"delay_ms": 600_000} if delayed else {})
            for number in numbers
        ]
        is_full = place == "plain" and len(self.waiting("plain")) + count > 4
        try:
            sending.send_many("", bodies)
        except QueueFull:
            assert is_full
            return
        assert not is_full
        for number in numbers:
            self.arrive(number, Held(place, priority, 0, delayed), place)
        self.cut()

    @rule(place=st.sampled_from(["work", "wait"]))
    def publish_and_fail(self, place: str) -> None:
        try:
            with transaction.atomic():
                sending.send("", self.queues[place].name, "never")
                raise Undone
        except Undone:
            pass

    # -- consumers ----------------------------------------------------------------------------------------------

    @rule(place=names, limit=st.integers(1, 4))
    def claim(self, place: str, limit: int) -> None:
        claim_hints.reset(self.queues[place].id)
        found = claims.claim(self.queues[place], limit, 600_000, "someone")
        assert [message.body for message in found] == self.waiting(place)[:limit]
        for message in found:
            number, held = message.body, self.messages[message.body]
            held.deliveries += 1
            held.is_held, held.claim = True, Claim.of(message)
            assert (message.delivery_count, message.redelivered) == (held.deliveries, held.deliveries > 1)
            self.claims.append((number, held.claim))

    def holds(self, pick: int) -> tuple[str, int, Claim, bool]:
        number, claim = self.claims[-1 - pick % min(len(self.claims), 12)]
        held = self.messages.get(number)
        is_mine = held is not None and held.claim == claim
        return held.place if held is not None and is_mine else NAMES[pick % 3], number, claim, is_mine

    @precondition(lambda self: self.claims)
    @rule(pick=picks)
    def acknowledge(self, pick: int) -> None:
        place, number, claim, is_mine = self.holds(pick)
        assert claims.ack(self.queues[place], [claim]) == ({claim} if is_mine else set())
        if is_mine:
            self.end(number)

    @precondition(lambda self: self.claims)
    @rule(pick=picks, counts=st.booleans(), delayed=st.booleans())
    def requeue(self, pick: int, counts: bool, delayed: bool) -> None:
        place, number, claim, is_mine = self.holds(pick)
        done = claims.requeue(self.queues[place], [claim], 600_000 if delayed else 0, counts)
        assert done == ({claim} if is_mine else set())
        if is_mine:
            held = self.messages[number]
            held.returns += held.is_held and not counts
            held.claim, held.is_held, held.is_delayed = None, False, delayed
        self.settle()

    @precondition(lambda self: self.claims)
    @rule(pick=picks, fails=st.booleans())
    def reject(self, pick: int, fails: bool) -> None:
        place, number, claim, is_mine = self.holds(pick)
        try:
            with transaction.atomic():
                assert dead_lettering.reject(self.queues[place], [claim]) == ({claim} if is_mine else set())
                if fails:
                    raise Undone
        except Undone:
            return
        if is_mine:
            self.die(number, "rejected")
        self.settle()

    @precondition(lambda self: self.claims)
    @rule(pick=picks)
    def extend(self, pick: int) -> None:
        place, number, claim, is_mine = self.holds(pick)
        holds = is_mine and self.messages[number].is_held
        assert claims.extend(self.queues[place], [claim], 900_000) == ({claim} if holds else set())

    @rule(pick=picks)
    def lapse(self, pick: int) -> None:
        """The consumer was killed, or took too long."""
        number = self.pick(pick, (number for number, held in self.messages.items() if held.is_held))
        if number is None:
            return
        held = self.messages[number]
        pass_time(self.queues[held.place], "lease_until", [self.row(number)])
        if held.deliveries - held.returns > self.limits[held.place]:
            self.die(number, "delivery_limit")
        else:
            held.is_held = False
        self.settle()

    # -- time ---------------------------------------------------------------------------------------------------

    @rule(pick=picks)
    def come_due(self, pick: int) -> None:
        number = self.pick(pick, (number for number, held in self.messages.items() if held.is_delayed))
        if number is None:
            return
        pass_time(self.queues[self.messages[number].place], "due_at", [self.row(number)])
        self.messages[number].is_delayed = False
        self.settle()

    @rule(pick=picks)
    def expire(self, pick: int) -> None:
        number = self.pick(pick, (*self.waiting("wait"), *self.waiting("plain")))
        if number is None:
            return
        pass_time(self.queues[self.messages[number].place], "expires_at", [self.row(number)])
        self.die(number, "expired")
        self.settle()

    # -- operators ----------------------------------------------------------------------------------------------

    @rule(of=names, to=names, limit=st.integers(1, 5))
    def move(self, of: str, to: str, limit: int) -> None:
        if of == to:
            return
        chosen = self.waiting(of)[:limit]
        room = 4 - len(self.waiting("plain")) if to == "plain" else limit
        try:
            moved = moving.move(self.queues[of], self.queues[to], limit)
        except QueueFull:
            assert room <= 0 < len(chosen)
            return
        assert moved == min(len(chosen), max(room, 0))
        for number in chosen[:moved]:
            self.arrive(number, self.messages[number], to)
        self.cut()

    @rule(place=names)
    def purge(self, place: str) -> None:
        chosen = [number for number, held in self.messages.items() if held.place == place and not held.is_held]
        assert lengths.purge(self.queues[place], audit.SYSTEM) == len(chosen)
        for number in chosen:
            self.end(number)

    @rule()
    def fold(self) -> None:
        lengths.fold()

    # -- what always holds ----------------------------------------------------------------------------------------

    @invariant()
    def each_message_is_where_and_as_it_should_be(self) -> None:
        for place, info in self.queues.items():
            found = claims.peek(info, limit=1000)
            ready = [each.body for each in found if each.lease_until is None and each.due_at is None]
            assert ready == self.waiting(place)
            assert sorted(each.body for each in found) == sorted(
                number for number, held in self.messages.items() if held.place == place
            )
            for each in found:
                held = self.messages[each.body]
                assert (each.lease_until is not None, each.due_at is not None) == (held.is_held, held.is_delayed)
                assert (each.deliveries, each.returns) == (held.deliveries, held.returns)
                assert each.token == (None if held.claim is None else held.claim.token)
                self.check_history(each.headers, held)
            delayed = sum(each.due_at is not None for each in found)
            assert figures(info) == (len(ready), len(found) - len(ready) - delayed, delayed)

    def check_history(self, headers: dict[str, Any], held: Held) -> None:
        names_of = {place: info.name for place, info in self.queues.items()}
        died = [(names_of[place], reason) for place, reason in held.deaths]
        told = [(entry["queue"], entry["reason"], entry["count"]) for entry in headers.get("x-death", [])]
        assert told == [(*death, died.count(death)) for death in dict.fromkeys(reversed(died))]
        if died:
            first = (headers["x-first-death-queue"], headers["x-first-death-reason"])
            last = (headers["x-last-death-queue"], headers["x-last-death-reason"])
            assert (first, last) == (died[0], died[-1])

    @invariant()
    def dead_letters_are_those_that_are_due(self) -> None:
        told: dict[int, int] = {}
        for (value,) in DeadLetterRevision.objects.values_list("value"):
            assert value is not None
            number = msgspec.json.decode(bytes(value))
            told[number] = told.get(number, 0) + 1
        due = self.gone | {number: held.letters for number, held in self.messages.items()}
        assert told == {number: letters for number, letters in due.items() if letters}

    def teardown(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(
                "truncate brokers_message, brokers_queue_change, brokers_queue_count, brokers_queue_minute,"
                " brokers_dead_letter, brokers_dead_letter_revision, brokers_dead_letter_attempt,"
                " brokers_failure_group, brokers_failure_change, brokers_queue, brokers_binding, brokers_queue_consumer"
            )
        topology.forget()


@pytest.mark.django_db(transaction=True)
def test_whatever_happens_each_message_is_in_one_place_with_its_whole_history() -> None:
    run_state_machine_as_test(
        QueueModel,
        settings=settings(
            max_examples=20,
            stateful_step_count=35,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
