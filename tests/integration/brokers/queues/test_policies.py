"""Policies: exactly one applies to a queue, patterns are tried before they are kept, and a hostile one is refused."""

from __future__ import annotations

import contextlib
import re
import time
from typing import Any

import pytest
from django.db import connection, transaction

from brokers import audit
from brokers.errors import InvalidName, InvalidValue, PolicyNotFound, UnknownField
from brokers.models import AuditEntry, QueuePolicy
from brokers.queues import policies, topology
from brokers.queues.declaring import declare_queue, delete_policy, put_policy
from brokers.queues.topology import QueueInfo

pytestmark = pytest.mark.django_db(transaction=True)


def in_effect(name: str) -> QueueInfo:
    return topology.queue(name)


def test_a_policy_sets_what_the_queue_leaves_open() -> None:
    declare_queue("orders.eu")
    declare_queue("orders.us", message_ttl_ms=10, dead_letter_exchange="own", overflow="drop-head")
    declare_queue("other")
    assert put_policy(
        "orders",
        pattern="^orders\\.",
        message_ttl_ms=50,
        max_length=7,
        overflow="reject-publish",
        dead_letter_exchange="dlx",
        dead_letter_routing_key="dead",
        delivery_limit=50,
        expires_ms=1000,
    )
    eu, us, other = in_effect("orders.eu"), in_effect("orders.us"), in_effect("other")
    assert (eu.policy, eu.message_ttl_ms, eu.max_length, eu.overflow) == ("orders", 50, 7, "reject-publish")
    assert (eu.dead_letter_exchange, eu.dead_letter_routing_key, eu.delivery_limit) == ("dlx", "dead", 50)
    assert (us.message_ttl_ms, us.overflow, us.dead_letter_exchange, us.expires_ms) == (10, "drop-head", "own", 1000)
    assert (other.policy, other.max_length, other.delivery_limit) == (None, None, 20)


def test_exactly_one_policy_applies() -> None:
    declare_queue("q")
    put_policy("low", pattern="q", priority=1, max_length=1, expires_ms=5)
    put_policy("b-high", pattern="q", priority=2, max_length=2)
    put_policy("a-high", pattern="q", priority=2, max_length=3)
    put_policy("elsewhere", pattern="x", priority=9, max_length=4)
    assert (in_effect("q").policy, in_effect("q").max_length, in_effect("q").expires_ms) == ("a-high", 3, None)
    delete_policy("a-high")
    assert in_effect("q").policy == "b-high"
    delete_policy("b-high")
    assert (in_effect("q").policy, in_effect("q").expires_ms) == ("low", 5)
    delete_policy("low")
    assert in_effect("q").policy is None
    with pytest.raises(PolicyNotFound, match="there is no policy 'low'"):
        delete_policy("low")


def test_a_queue_declared_later_has_the_policy_too() -> None:
    put_policy("all", pattern=".", max_length=5)
    declare_queue("q")
    assert in_effect("q").max_length == 5


def test_putting_a_policy_again_replaces_it() -> None:
    declare_queue("q")
    assert put_policy("p", pattern="q", max_length=5, expires_ms=9) is True
    assert put_policy("p", pattern="^q", priority=3, max_length=6) is False
    assert (in_effect("q").max_length, in_effect("q").expires_ms) == (6, None)
    entries = AuditEntry.objects.filter(resource_type="policy").order_by("id")
    assert [(entry.operation, entry.details) for entry in entries] == [
        ("create", {"pattern": "q", "priority": 0, "max_length": 5, "expires_ms": 9}),
        (
            "alter",
            {"pattern": ["q", "^q"], "priority": [0, 3], "max_length": [5, 6], "expires_ms": [9, None]},
        ),
    ]
    delete_policy("p", actor=audit.Actor("ada", "console"))
    assert entries.last().principal == "ada"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"name": "a b", "pattern": ".", "max_length": 1}, InvalidName),
        ({"pattern": "."}, InvalidValue),
        ({"pattern": ".", "max_length": -1}, InvalidValue),
        ({"pattern": ".", "max_priority": 5}, UnknownField),
        ({"pattern": ".", "max_length": 1, "priority": 2**31}, InvalidValue),
        ({"pattern": ".", "max_length": 1, "priority": True}, InvalidValue),
        ({"pattern": "", "max_length": 1}, InvalidValue),
        ({"pattern": "a" * 256, "max_length": 1}, InvalidValue),
        ({"pattern": "a\x00", "max_length": 1}, InvalidValue),
        ({"pattern": None, "max_length": 1}, InvalidValue),
    ],
)
def test_what_no_policy_can_be_is_refused(given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        put_policy(**{"name": "p", **given})
    assert not QueuePolicy.objects.exists()


@pytest.mark.parametrize("pattern", ["(", "[", "a{2,1}", "*", "\\", "(?<=a"])
def test_what_postgresql_does_not_understand_is_refused_with_its_words(pattern: str) -> None:
    with pytest.raises(InvalidValue, match="is no pattern of PostgreSQL's: invalid regular expression") as caught:
        put_policy("p", pattern=pattern, max_length=1)
    assert caught.value.errors[0][0] == "/pattern"


@pytest.mark.parametrize(
    "pattern",
    [
        "^((a*)*b\\2)*$",
        "(a)\\1",
        "(?e)x\\\\\\(\\1",
        "(((((a{1,30}){1,30}){1,30}){1,30}){1,30})",
        "((a{0,255}){0,255}){0,255}$",
        "(" * 100 + "a" + "){0,9}" * 25 + ")" * 75,
        "(x+x+)+y",
        "(a|aa)+$",
        "^(a?){200}a{200}$",
        "(([ab]*a){1,15}[ab]){1,15}c",
        "(.*a){30}",
    ],
)
def test_a_hostile_pattern_is_refused_or_harmless(pattern: str) -> None:
    for number in range(20):
        declare_queue(f"{'a' * 240}{number}")
    started = time.monotonic()
    with contextlib.suppress(InvalidValue):
        put_policy("p", pattern=pattern, max_length=1)
    assert time.monotonic() - started < 5
    started = time.monotonic()
    topology.forget()
    topology.fresh()
    assert time.monotonic() - started < 5


def test_a_pattern_that_takes_too_long_is_given_up_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "_BACK_REFERENCE", re.compile("nothing is like this"))
    monkeypatch.setattr(policies, "_TRIAL_MS", 200)
    # 249 letters are odd, and so never four runs twice each: all divisions are tried
    for surrounding in (contextlib.nullcontext(), transaction.atomic()):
        with surrounding:
            with pytest.raises(InvalidValue, match="takes too long to match") as caught:
                put_policy("p", pattern="^(a+)(a+)(a+)(a+)\\1\\2\\3\\4$", max_length=1)
            assert caught.value.errors[0][0] == "/pattern"
            assert not QueuePolicy.objects.exists()


def test_the_time_limit_of_the_trial_ends_with_it() -> None:
    def limit() -> str:
        with connection.cursor() as cursor:
            cursor.execute("show statement_timeout")
            return str(cursor.fetchone()[0])

    before = limit()
    with transaction.atomic():
        put_policy("p", pattern=".", max_length=1)
        assert limit() == before
        with pytest.raises(InvalidValue):
            put_policy("other", pattern="(", max_length=1)
        assert limit() == before
    assert QueuePolicy.objects.get().name == "p"
