"""Where messages go that die in a queue, and when an operator hears of it."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction

from brokers import wakeup
from brokers.models import DeadLetter, DeadLetterAttempt, MessageAttempt, Replay, ReplayItem
from brokers.models import Message as Row
from brokers.queues import claims, dead_lettering, deaths, sending, tending, topology
from brokers.queues.claims import Claim
from brokers.queues.declaring import bind, declare_exchange, delete_exchange
from brokers.queues.message import decode
from brokers.queues.topology import QueueInfo
from brokers.record import JSON
from tests.integration.brokers.given_up import failure
from tests.integration.brokers.queues.living import bodies, figures, pass_time, put, queue, take, tend

pytestmark = pytest.mark.django_db(transaction=True)


def letters(of: QueueInfo) -> list[DeadLetter]:
    return list(DeadLetter.objects.filter(source_kind="queue", source=of.name).order_by("id"))


def reject(of: QueueInfo, reason: str = "") -> None:
    taken = take(of)
    held = {Claim.of(message) for message in taken}
    assert dead_lettering.reject(of, held, reason, "token:orders") == held


def expire(of: QueueInfo) -> None:
    pass_time(of, "expires_at")
    tend()


# -- where it goes ------------------------------------------------------------------------------------------------


def test_what_expires_goes_where_the_dead_letter_exchange_leads_and_tells_of_its_death() -> None:
    declare_exchange("dlx", type="fanout")
    dead, after = queue("dead"), queue("after")
    bind("dlx", queue="dead")
    bind("dlx", queue="after")
    of = queue("q", message_ttl_ms=60_000, dead_letter_exchange="dlx")
    [number] = put(of, {"n": 1}, headers={"a": 1}, expiration_ms=30_000, message_id="m-1")
    expire(of)
    assert (figures(of).total, figures(dead).ready, figures(after).ready) == (0, 1, 1)
    [message] = take(dead)
    assert message.id > number
    assert (message.body, message.exchange, message.routing_key, message.message_id) == ({"n": 1}, "dlx", "q", "m-1")
    [death] = message.headers.pop("x-death")
    assert death.pop("time") == pytest.approx(message.published_at.timestamp(), abs=10)
    assert death == {
        "count": 1,
        "reason": "expired",
        "queue": "q",
        "exchange": "",
        "routing-keys": ["q"],
        "original-expiration": "30000",
    }
    assert message.headers == {
        "a": 1,
        "x-first-death-queue": "q",
        "x-first-death-reason": "expired",
        "x-first-death-exchange": "",
        "x-last-death-queue": "q",
        "x-last-death-reason": "expired",
        "x-last-death-exchange": "",
    }
    assert (message.expires_at, message.deliveries) == (None, 1)
    assert not letters(of)


def test_a_routing_key_of_the_queue_takes_the_place_of_all_others() -> None:
    dead = queue("dead")
    of = queue("q", dead_letter_exchange="", dead_letter_routing_key="dead")
    put(of, 1, headers={"CC": ["other"]})
    reject(of)
    [message] = take(dead)
    assert (message.routing_key, "CC" in message.headers) == ("dead", False)
    assert message.headers["x-death"][0]["routing-keys"] == ["q", "other"]


def test_without_one_all_keys_count_those_of_cc_and_bcc_too() -> None:
    declare_exchange("dlx", type="direct")
    more, secret = queue("more"), queue("secret")
    bind("dlx", queue="more", routing_key="cc")
    bind("dlx", queue="secret", routing_key="bcc")
    of = queue("q", dead_letter_exchange="dlx")
    put(of, 1, headers={"CC": ["cc"], "BCC": ["bcc"]})
    reject(of)
    for each in (more, secret):
        [message] = take(each)
        assert message.headers["x-death"][0]["routing-keys"] == ["q", "cc"]
        assert "BCC" not in message.headers


def test_the_alternate_exchange_of_the_dead_letter_exchange_counts() -> None:
    declare_exchange("other", type="fanout")
    declare_exchange("dlx", type="direct", alternate_exchange="other")
    dead = queue("dead")
    bind("other", queue="dead")
    of = queue("q", dead_letter_exchange="dlx", message_ttl_ms=60_000)
    put(of, 1)
    expire(of)
    assert bodies(dead) == [1]
    assert take(dead)[0].exchange == "dlx"
    assert not letters(of)


def test_a_dead_letter_exchange_by_headers_sees_why_a_message_died() -> None:
    declare_exchange("dlx", type="headers")
    dead = queue("dead")
    bind("dlx", queue="dead", arguments={"x-match": "all-with-x", "x-last-death-reason": "expired"})
    of = queue("q", dead_letter_exchange="dlx", message_ttl_ms=60_000)
    put(of, "rejected")
    reject(of)
    put(of, "expired")
    expire(of)
    assert bodies(dead) == ["expired"]


def test_a_copy_keeps_its_priority_over_a_queue_that_knows_none() -> None:
    dead = queue("dead", max_priority=5)
    of = queue("q", dead_letter_exchange="", dead_letter_routing_key="dead")
    put(of, "low", priority=1)
    put(of, "high", priority=9)
    reject(of)
    assert [(message.body, message.priority) for message in take(dead)] == [("high", 5), ("low", 1)]


def test_the_queue_that_it_goes_to_has_a_ttl_and_waiters_are_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    woken: list[int] = []
    monkeypatch.setattr(wakeup, "announce_queues", lambda ids: woken.extend(ids))
    dead = queue("dead", message_ttl_ms=60_000)
    of = queue("q", dead_letter_exchange="", dead_letter_routing_key="dead")
    put(of, 1, expiration_ms=1)
    woken.clear()
    expire(of)
    row = Row.objects.get(queue_id=dead.id)
    assert row.expires_at is not None
    assert (row.expires_at - row.published_at).total_seconds() == pytest.approx(60)
    assert woken == [dead.id]


# -- when an operator hears of it ---------------------------------------------------------------------------------


def test_what_leads_nowhere_becomes_a_dead_letter_that_holds_it_whole() -> None:
    of = queue("q", message_ttl_ms=60_000, max_priority=9)
    sending.send("", "q", {"n": 1}, headers={"a": [1]}, message_id="m-1", correlation_id="c-1", priority=7)
    expire(of)
    [letter] = letters(of)
    assert (letter.reason, letter.state, letter.error, letter.group_name) == ("expired", "open", "expired", "")
    assert (letter.exchange, letter.routing_key) == ("", "q")
    assert (letter.message_id, letter.correlation_id, letter.priority) == ("m-1", "c-1", 7)
    revision = letter.revisions.get()
    assert (revision.key, revision.encoding, bytes(revision.headers)) == (None, JSON, b'{"a":[1]}')
    assert revision.value is not None
    assert bytes(revision.value) == b'{"n":1}'
    assert letter.envelope is not None
    assert [(death.queue, death.count) for death in decode(bytes(letter.envelope)).deaths] == [("q", 1)]


@pytest.mark.parametrize("reason", ["expired", "maxlen", "delivery_limit"])
def test_a_queue_may_want_no_dead_letters_of_what_it_gives_up_itself(reason: str) -> None:
    of = queue("q", dead_letters="none", message_ttl_ms=60_000)
    put(of, 1)
    messages = take(of)
    with transaction.atomic():
        assert dead_lettering.dead_letter(of, messages, reason) == [None]
    assert figures(of).total == 0


def test_a_rejected_message_always_becomes_one_with_what_its_consumer_said() -> None:
    dead = queue("dead")
    of = queue("q", dead_letters="none", dead_letter_exchange="", dead_letter_routing_key="dead")
    put(of, 1)
    reject(of, "the flight is\nfull")
    [letter] = letters(of)
    assert (letter.reason, letter.error, letter.failure_group.handler) == (
        "rejected",
        "the flight is full",
        "token:orders",
    )
    assert bodies(dead) == [1]


def test_a_listener_s_failure_is_told_with_its_attempts() -> None:
    of = queue("q")
    put(of, 1)
    [message] = take(of)
    for number in (1, 2):
        MessageAttempt.objects.create(
            message_id=message.row, number=number, started_at=message.published_at, error=f"e{number}", frames=[]
        )
    with transaction.atomic():
        [letter] = dead_lettering.dead_letter(
            of,
            [message],
            deaths.REJECTED,
            letter_reason="attempts_exhausted",
            failure=failure("no seat"),
            handler="shop.rebook",
            idempotency_key="k",
        )
    assert letter is not None
    row = DeadLetter.objects.get(pk=letter)
    assert (row.reason, row.exception_class, row.error) == ("attempts_exhausted", "builtins.ValueError", "no seat")
    assert (row.attempts, row.idempotency_key, row.failure_group.handler) == (2, "k", "shop.rebook")
    assert row.first_failed_at == message.published_at
    tried = DeadLetterAttempt.objects.filter(dead_letter_id=letter).order_by("number")
    assert [(each.number, each.error) for each in tried] == [(1, "e1"), (2, "e2")]
    assert not MessageAttempt.objects.exists()


def test_a_missing_dead_letter_exchange_loses_nothing() -> None:
    of = queue("q", dead_letter_exchange="dlx", message_ttl_ms=60_000)
    put(of, 1)
    expire(of)
    assert [letter.reason for letter in letters(of)] == ["expired"]


def test_a_dead_letter_exchange_without_bindings_loses_nothing() -> None:
    declare_exchange("dlx", type="topic")
    of = queue("q", dead_letter_exchange="dlx", message_ttl_ms=60_000)
    put(of, 1)
    expire(of)
    assert len(letters(of)) == 1


def test_a_queue_that_is_full_and_refuses_more_loses_nothing() -> None:
    declare_exchange("dlx", type="fanout")
    full, dead = queue("full", max_length=2, overflow="reject-publish"), queue("dead")
    bind("dlx", queue="full")
    of = queue("q", dead_letter_exchange="dlx", message_ttl_ms=60_000)
    put(full, 0)
    put(of, 1, 2, 3)
    expire(of)
    assert (bodies(full), len(letters(of))) == ([0, 1], 2)
    bind("dlx", queue="dead")
    put(of, 4)
    expire(of)
    assert (bodies(full), bodies(dead), len(letters(of))) == ([0, 1], [4], 2)


def replayed(of: QueueInfo) -> tuple[DeadLetter, ReplayItem]:
    """A message that a replay has given back to its queue."""
    put(of, 1)
    reject(of)
    [letter] = letters(of)
    replay = Replay.objects.create(state="running", total=1, selection={}, created_by="user:ann")
    item = ReplayItem.objects.create(replay=replay, position=1, dead_letter_id=letter.pk, revision=1, outcome="waiting")
    DeadLetter.objects.filter(pk=letter.pk).update(state="replaying")
    put(of, 1)
    Row.objects.filter(queue_id=of.id).update(dead_letter_id=letter.pk, replay_item_id=item.pk)
    return letter, item


def test_a_replayed_message_that_dies_again_is_the_same_dead_letter_even_where_none_is_wanted() -> None:
    of = queue("q", dead_letters="none", message_ttl_ms=60_000)
    letter, item = replayed(of)
    expire(of)
    letter.refresh_from_db()
    item.refresh_from_db()
    assert (letter.state, letter.reason) == ("open", "expired")
    assert (item.outcome, item.why) == ("failed_again", "new")
    assert len(letters(of)) == 1


def test_one_whose_dead_letter_is_gone_becomes_a_new_one() -> None:
    of = queue("q", dead_letters="none", message_ttl_ms=60_000)
    letter, item = replayed(of)
    letter.revisions.all().delete()
    letter.delete()
    expire(of)
    assert len(letters(of)) == 1
    item.refresh_from_db()
    assert (item.outcome, item.why) == ("skipped", "gone")


# -- rings --------------------------------------------------------------------------------------------------------


def test_a_ring_of_queues_is_cut_where_no_client_has_rejected_anything() -> None:
    one = queue("one", message_ttl_ms=60_000, dead_letter_exchange="", dead_letter_routing_key="two")
    two = queue("two", message_ttl_ms=60_000, dead_letter_exchange="", dead_letter_routing_key="one")
    put(one, 1)
    expire(one)
    assert bodies(two) == [1]
    expire(two)
    assert figures(one).total == figures(two).total == 0
    [letter] = letters(two)
    assert letter.reason == "expired"


def test_a_queue_that_leads_to_itself_is_a_ring_too() -> None:
    of = queue("q", message_ttl_ms=60_000, dead_letter_exchange="")
    put(of, 1)
    expire(of)
    assert figures(of).total == 0
    assert len(letters(of)) == 1


def test_only_the_queue_that_closes_the_ring_goes_without() -> None:
    declare_exchange("dlx", type="fanout")
    of, other = queue("q", message_ttl_ms=60_000, dead_letter_exchange="dlx"), queue("other")
    bind("dlx", queue="q")
    bind("dlx", queue="other")
    put(of, 1)
    expire(of)
    assert (bodies(of), bodies(other), letters(of)) == ([], [1], [])


def test_retries_through_a_waiting_queue_go_round_as_often_as_consumers_reject_and_are_counted() -> None:
    work = queue("work", dead_letter_exchange="", dead_letter_routing_key="wait")
    wait = queue("wait", message_ttl_ms=60_000, dead_letter_exchange="", dead_letter_routing_key="work")
    put(work, 1)
    for _ in range(3):
        reject(work)
        expire(wait)
    [message] = take(work)
    assert [(death["queue"], death["reason"], death["count"]) for death in message.headers["x-death"]] == [
        ("wait", "expired", 3),
        ("work", "rejected", 3),
    ]
    assert message.headers["x-first-death-queue"] == "work"


# -- limits of deliveries -----------------------------------------------------------------------------------------


def lapse(of: QueueInfo) -> list[Any]:
    found = [message.body for message in take(of)]
    pass_time(of, "lease_until")
    tend()
    return found


def test_lapsed_leases_count_towards_the_delivery_limit_and_requeues_do_not() -> None:
    dead = queue("dead")
    of = queue("q", delivery_limit=1, dead_letter_exchange="", dead_letter_routing_key="dead")
    put(of, 1)
    for _ in range(5):
        claims.requeue(of, [Claim.of(message) for message in take(of)])
    assert lapse(of) == [1]
    assert figures(of).ready == 1
    assert lapse(of) == [1]
    assert figures(of).total == 0
    [message] = take(dead)
    assert message.headers["x-death"][0]["reason"] == "delivery_limit"
    assert not letters(of)


def test_without_a_limit_a_message_comes_as_often_as_it_lapses() -> None:
    of = queue("q", delivery_limit=-1)
    put(of, 1)
    for count in range(1, 30):
        [message] = take(of)
        assert (message.delivery_count, message.redelivered) == (count, count > 1)
        pass_time(of, "lease_until")
        tending.return_lapsed(of)


# -- one place at a time ------------------------------------------------------------------------------------------


def test_nothing_has_moved_when_the_transaction_fails() -> None:
    dead = queue("dead")
    of = queue("q", dead_letter_exchange="", dead_letter_routing_key="dead")
    put(of, 1)
    messages = take(of)
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        dead_lettering.dead_letter(of, messages, deaths.REJECTED)
        raise ZeroDivisionError
    assert (figures(of).total, figures(dead).total, len(letters(of))) == (1, 0, 0)
    assert claims.ack(of, [Claim.of(message) for message in messages])


def test_a_claim_that_holds_no_more_rejects_nothing() -> None:
    of = queue("q")
    put(of, 1)
    [message] = take(of)
    claims.requeue(of, [Claim.of(message)])
    assert dead_lettering.reject(of, [Claim.of(message)]) == set()
    assert figures(of).ready == 1


def test_what_was_declared_since_this_process_looked_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    declare_exchange("dlx", type="fanout")
    of, dead = queue("q", dead_letter_exchange="dlx", message_ttl_ms=60_000), queue("dead")
    old = topology.fresh()
    bind("dlx", queue="dead")
    put(of, 1)
    monkeypatch.setattr(topology, "current", lambda: old)
    expire(of)
    assert bodies(dead) == [1]
    old = topology.fresh()
    delete_exchange("dlx")
    put(of, 2)
    expire(of)
    assert len(letters(of)) == 1
    old = topology.fresh()
    declare_exchange("dlx", type="fanout")
    bind("dlx", queue="dead")
    put(of, 3)
    expire(of)
    assert bodies(dead) == [1, 3]
