"""Durable functions that a test declares, and a worker and a beat that do what they are told at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import transaction

from brokers import audit
from brokers.models import DeadLetter, ReplayItem
from brokers.replays import runner
from brokers.replays.creation import create
from brokers.selectors.dead_letter_filter import Filter
from scheduling import runs
from scheduling.beat import sweeping
from scheduling.connections import OwnConnection
from scheduling.durable import calls, declared
from scheduling.worker.performing import Performer

ME = audit.Actor("ada", "rest")


class Rings:
    """What workers were told of, instead of Celery's."""

    def __init__(self) -> None:
        self.rung: list[int] = []

    def ring(self, run: int) -> bool:
        self.rung.append(run)
        return True

    def ring_all(self, told: Any) -> list[int]:
        self.rung += told
        return list(told)


class Works:
    """A worker and a beat over the test's database; time passes when a test says so."""

    def __init__(self, rings: Rings) -> None:
        self.own = OwnConnection("tests")
        self.rings = rings
        self.performer = Performer()

    def close(self) -> None:
        self.performer.close()
        self.own.close()

    def rows(self, statement: Any, *parameters: object) -> list[tuple[Any, ...]]:
        with self.own.cursor() as cursor:
            found = cursor.execute(statement, parameters)
            return found.fetchall() if found.description else []

    def perform(self, call: int) -> str:
        """An attempt, whatever its back-off; the state after it."""
        self.rows("update scheduling_run set next_at = clock_timestamp() where id = %s and state = 'ready'", call)
        self.performer.perform(call)
        return calls.get(call).state

    def lose(self, call: int) -> None:
        """The worker of the attempt under way is gone for longer than its lease, and a beat looks."""
        self.rows("update scheduling_run set lease_until = clock_timestamp() - interval '1 s' where id = %s", call)
        sweeping.sweep(self.own)

    def claim(self, call: int) -> runs.Attempt | None:
        return runs.claim(self.own, call, "tests")

    def replay(self, letter: int, **options: Any) -> int:
        """A replay of one dead letter, sent."""
        number = create(Filter(ids=(letter,)), actor=ME, **options)
        runner.advance()
        return number

    def again(self, letter: int) -> int:
        """The newest call that a replay of the dead letter has made."""
        ((found,),) = self.rows("select max(id) from scheduling_run where dead_letter_id = %s", letter)
        return int(found)


def state_of(letter: int) -> str:
    return str(DeadLetter.objects.values_list("state", flat=True).get(pk=letter))


def outcome_of(letter: int) -> tuple[str, str]:
    """Of the newest item that has the dead letter."""
    found = ReplayItem.objects.filter(dead_letter_id=letter).order_by("-id").values_list("outcome", "why").first()
    assert found is not None
    return found


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction that does not commit."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def forget() -> None:
    """No durable function is declared."""
    declared._declared.clear()
