"""Messages on their way from one queue to another, in one of the two at any time."""

from __future__ import annotations

import pytest

from brokers import audit, wakeup
from brokers.errors import InvalidValue, QueueFull, QueueNotFound
from brokers.models import AuditEntry, MessageAttempt
from brokers.models import Message as Row
from brokers.queues import claims, dead_lettering, moving
from brokers.queues.claims import Claim
from brokers.queues.declaring import delete_queue
from tests.integration.brokers.queues.living import bodies, figures, put, queue, take

pytestmark = pytest.mark.django_db(transaction=True)

ANN = audit.Actor("user:ann", "console")


def test_ready_messages_move_in_their_order_to_the_end_of_the_other_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "MOVED_AT_ONCE", 2)
    woken: list[int] = []
    of, to = queue(max_priority=5), queue()
    put(to, "there")
    put(of, "held")
    take(of)
    put(of, "delayed", delay_ms=60_000)
    put(of, "low", "low too")
    put(of, "high", priority=5)
    monkeypatch.setattr(wakeup, "announce_queues", lambda ids: woken.extend(ids))
    assert moving.move(of, to, actor=ANN) == 3
    assert (bodies(to), figures(of), figures(to)) == (["there", "high", "low", "low too"], (0, 1, 1), (4, 0, 0))
    assert set(woken) == {to.id}
    entry = AuditEntry.objects.get(operation="move")
    assert (entry.principal, entry.resource, entry.details) == (
        "user:ann",
        of.name,
        {"target": to.name, "messages": 3},
    )


def test_no_more_than_the_limit_move() -> None:
    of, to = queue(), queue()
    put(of, 1, 2, 3)
    assert moving.move(of.name, to.name, limit=2) == 2
    assert (bodies(of), bodies(to)) == ([3], [1, 2])
    assert moving.move(of.name, to.name, limit=0) == 0


def test_there_a_message_is_as_newly_published() -> None:
    of, to = queue(), queue(max_priority=3, message_ttl_ms=60_000)
    put(of, 1, priority=9, expiration_ms=30_000, headers={"a": 1})
    put(of, 2)
    for _ in range(2):
        taken = take(of)
        claims.requeue(of, list(map(Claim.of, taken)), counts=True)
    MessageAttempt.objects.create(message_id=taken[0].row, number=1, started_at=taken[0].published_at, frames=[])
    moving.move(of, to)
    rows = Row.objects.filter(queue_id=to.id).order_by("pos")
    assert [(row.priority, row.deliveries, row.returns, row.attempts, row.token) for row in rows] == [
        (3, 0, 0, 0, None),
        (0, 0, 0, 0, None),
    ]
    lifetimes = [(row.expires_at - row.published_at).total_seconds() for row in rows if row.expires_at]
    assert lifetimes == pytest.approx([30, 60], abs=10)
    assert not MessageAttempt.objects.exists()
    [first, _] = take(to)
    assert (first.body, first.headers, first.routing_key, first.redelivered) == (1, {"a": 1}, of.name, False)


def test_a_former_claim_settles_nothing_there() -> None:
    of, to = queue(), queue()
    put(of, 1)
    former = Claim.of(take(of)[0])
    Row.objects.update(lease_until=None)
    moving.move(of, to)
    assert claims.ack(of, [former]) == set()
    assert claims.ack(to, [former]) == set()
    assert dead_lettering.reject(to, [former]) == set()
    assert bodies(to) == [1]


def test_a_queue_that_refuses_more_takes_what_fits() -> None:
    of, to = queue(), queue(max_length=3, overflow="reject-publish")
    put(to, 0)
    put(of, 1, 2, 3)
    assert moving.move(of, to) == 2
    assert (bodies(of), bodies(to)) == ([3], [0, 1, 2])
    with pytest.raises(QueueFull):
        moving.move(of, to)
    assert bodies(of) == [3]


def test_a_queue_that_drops_its_head_is_cut() -> None:
    of, to = queue(), queue(max_length=2, dead_letters="none")
    put(to, 0)
    put(of, 1, 2)
    assert moving.move(of, to) == 2
    assert bodies(to) == [1, 2]


def test_a_queue_cannot_be_moved_to_itself_nor_to_one_that_is_not_there() -> None:
    of, to = queue(), queue()
    put(of, 1)
    with pytest.raises(InvalidValue):
        moving.move(of, of)
    with pytest.raises(QueueNotFound):
        moving.move(of.name, "nowhere")
    delete_queue(to.name)
    with pytest.raises(QueueNotFound):
        moving.move(of, to)
    assert bodies(of) == [1]
