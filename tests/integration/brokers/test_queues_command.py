"""The commands `queues`, `exchanges` and `policies`: what they do, print and refuse."""

from __future__ import annotations

import io
import json
import os
import sys
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from brokers.errors import (
    BindingNotFound,
    BrokerError,
    ExchangeNotFound,
    InvalidValue,
    PolicyNotFound,
    PreconditionFailed,
    QueueNotEmpty,
    QueueNotFound,
    ResourceInUse,
    Unroutable,
)
from brokers.models import AuditEntry
from brokers.queues import claims, sending, topology
from brokers.terminal import one_line

pytestmark = pytest.mark.django_db(transaction=True)


def told(*arguments: str) -> str:
    """What a command prints."""
    stream = io.StringIO()
    call_command(*arguments, stdout=stream)
    return stream.getvalue()


def told_as_json(*arguments: str) -> list[Any]:
    """The JSON lines that a command prints."""
    return [json.loads(line) for line in told(*arguments, "--json").splitlines()]


@pytest.fixture
def flights() -> None:
    """A topic exchange with two queues, of which one knows priorities."""
    told("exchanges", "declare", "flights", "--type", "topic")
    told("queues", "declare", "rebooking", "--max-priority", "5")
    told("queues", "declare", "crew", "--message-ttl-ms", "900000", "--dead-letter-exchange", "")
    told("exchanges", "bind", "flights", "--queue", "rebooking", "--routing-key", "delayed.#")
    told("exchanges", "bind", "flights", "--queue", "crew", "--routing-key", "delayed.EWR.*")


def claimed(name: str, count: int = 1) -> list[Any]:
    return claims.claim(topology.queue(name), count, 30_000, "a test")


# -- queues -------------------------------------------------------------------------------------------------------


def test_queues_are_declared_listed_shown_and_deleted(flights: None) -> None:
    (crew,) = told_as_json("queues", "show", "crew")
    assert (crew["message_ttl_ms"], crew["dead_letter_exchange"], crew["delivery_limit"]) == (900_000, "", 20)
    assert [binding["routing_key"] for binding in crew["bindings"]] == ["delayed.EWR.*"]
    assert [queue["name"] for queue in told_as_json("queues")] == ["crew", "rebooking"]
    assert told("queues") == told("queues", "list")
    head, first, _ = told("queues").splitlines()
    assert head.split() == [
        "Queue",
        "Ready",
        "Unacknowledged",
        "Delayed",
        "Consumers",
        "Oldest",
        "In/s",
        "Out/s",
        "State",
    ]
    assert first.split()[:6] == ["crew", "0", "0", "0", "0", "-"]
    text = told("queues", "show", "crew")
    assert "message ttl               15min" in text
    assert "dead letter exchange      the default exchange" in text
    assert "delayed.EWR.*" in text

    assert told_as_json("queues", "delete", "crew", "--yes") == [{"deleted": "crew", "messages": 0}]
    assert [queue["name"] for queue in told_as_json("queues")] == ["rebooking"]
    assert {entry.surface for entry in AuditEntry.objects.all()} == {"command"}
    told("queues", "delete", "rebooking", "--if-empty")
    assert told("queues") == "There are no queues; `manage.py queues declare NAME` makes one\n"


def test_the_same_declaration_changes_nothing_and_another_one_is_refused(flights: None) -> None:
    told("queues", "declare", "rebooking", "--max-priority", "5")
    with pytest.raises(PreconditionFailed, match="max_priority"):
        told("queues", "declare", "rebooking", "--max-priority", "6")
    with pytest.raises(PreconditionFailed):
        told("exchanges", "declare", "flights", "--type", "fanout")


def test_messages_are_published_counted_and_looked_at(flights: None) -> None:
    arguments = ("--body", '{"n": 1}', "--priority", "3", "--header", "a=1", "--header", "b:=[1]", "--type", "delay")
    (sent,) = told_as_json("queues", "publish", "rebooking", *arguments)
    assert sent["queues"] == 1
    told("queues", "publish", "rebooking", "--body", "2", "--delay-ms", "60000")
    assert (
        told("queues", "publish", "rebooking", "--body", "3").splitlines()[-1]
        == "1 message published to queue rebooking"
    )
    held, *_ = claimed("rebooking")

    (figures,) = (queue for queue in told_as_json("queues") if queue["name"] == "rebooking")
    assert (figures["ready"], figures["unacknowledged"], figures["delayed"]) == (1, 1, 1)
    assert figures["oldest_ready_at"] is not None
    peeked = {
        message["body"] if isinstance(message["body"], int) else 1: message
        for message in told_as_json("queues", "peek", "rebooking")
    }
    assert {body: message["state"] for body, message in peeked.items()} == {
        1: "unacknowledged",
        2: "delayed",
        3: "ready",
    }
    assert (peeked[1]["headers"], peeked[1]["priority"], peeked[1]["type"]) == ({"a": "1", "b": [1]}, 3, "delay")
    assert peeked[1]["id"] == held.id == sent["id"]
    rows = told("queues", "peek", "rebooking", "--limit", "2").splitlines()
    assert rows[0].split()[:3] == ["Id", "State", "Priority"]
    assert len(rows) == 3
    assert told("queues", "peek", "crew") == "crew is empty\n"


def test_each_line_of_standard_input_is_a_message(flights: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        _piped(monkeypatch, b'{"n": 1}\n\n null\n"x"\n', "queues", "publish", "crew")
        == "3 messages published to queue crew\n"
    )
    assert [message["body"] for message in told_as_json("queues", "peek", "crew")] == [{"n": 1}, None, "x"]
    with pytest.raises(BrokerError, match="line 2"):
        _piped(monkeypatch, b"4\n{\n5\n", "queues", "publish", "crew")
    assert [message["body"] for message in told_as_json("queues", "peek", "crew")][3:] == [4]


def _piped(monkeypatch: pytest.MonkeyPatch, data: bytes, *arguments: str) -> str:
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    with os.fdopen(reading, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        return told(*arguments)


def test_a_paused_queue_hands_nothing_out(flights: None) -> None:
    sending.send("", "crew", 1)
    assert told_as_json("queues", "pause", "crew") == [{"queue": "crew", "paused": True}]
    assert claimed("crew") == []
    assert "paused" in told("queues").splitlines()[1]
    assert told("queues", "resume", "crew") == "crew goes on\n"
    assert len(claimed("crew")) == 1


def test_ready_messages_are_moved_and_purged(flights: None) -> None:
    for number in range(5):
        sending.send("", "crew", number)
    claimed("crew")
    assert told_as_json("queues", "move", "crew", "--to", "rebooking", "--limit", "1") == [
        {"queue": "crew", "to": "rebooking", "moved": 1}
    ]
    assert told("queues", "purge", "crew", "--yes") == "3 messages removed from crew\n"
    by_name = {queue["name"]: (queue["ready"], queue["unacknowledged"]) for queue in told_as_json("queues")}
    assert by_name == {"crew": (0, 1), "rebooking": (1, 0)}


def test_nothing_is_removed_without_being_asked_for(flights: None, monkeypatch: pytest.MonkeyPatch) -> None:
    sending.send("", "crew", 1)
    for arguments in (("purge", "crew"), ("delete", "crew")):
        with pytest.raises(InvalidValue, match="needs --yes"):
            told("queues", *arguments)
    stdin = io.StringIO("crow\ncrew\n")
    monkeypatch.setattr(stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdin", stdin)
    with pytest.raises(InvalidValue, match="that is not crew: nothing was removed"):
        told("queues", "purge", "crew")
    with pytest.raises(QueueNotEmpty):
        told("queues", "delete", "crew", "--if-empty")
    assert told("queues", "delete", "crew") == "crew is deleted, with 1 message\n"


def test_a_body_cannot_send_escape_sequences_to_the_terminal(flights: None) -> None:
    sending.send("", "crew", b"\x1b[2J\xff")
    sending.send("flights", "delayed.EWR.\x1b[31m", {"a": "\u202e"})
    text = told("queues", "peek", "crew")
    assert all(line.isprintable() for line in text.splitlines())
    assert r"\x1b[2J\xff (bytes)" in text


# -- exchanges ----------------------------------------------------------------------------------------------------


def test_exchanges_are_listed_shown_and_deleted(flights: None) -> None:
    (flight,) = told_as_json("exchanges")
    assert (flight["name"], flight["type"], flight["bindings"]) == ("flights", "topic", 2)
    assert told("exchanges").splitlines()[1].split() == ["flights", "topic", "2", "0.0", "0.0", "-"]
    (shown,) = told_as_json("exchanges", "show", "flights")
    assert [binding["queue"] for binding in shown["bindings"]] == ["rebooking", "crew"]
    assert "queue crew" in told("exchanges", "show", "flights")
    with pytest.raises(ResourceInUse):
        told("exchanges", "delete", "flights", "--if-unused")
    assert told("exchanges", "delete", "flights") == "flights is deleted\n"
    assert told("exchanges", "bindings") == "There are no bindings\n"


def test_bindings_come_and_go(flights: None) -> None:
    told("exchanges", "declare", "documents", "--type", "headers")
    (made,) = told_as_json("exchanges", "bind", "documents", "--queue", "crew", "--argument", "pages:=1")
    assert (made["arguments"], made["created"]) == ({"pages": 1}, True)
    again = told("exchanges", "bind", "documents", "--queue", "crew", "--argument", "pages:=1")
    assert again == f"binding {made['id']}: documents leads to queue crew, as it did before\n"
    told("exchanges", "bind", "flights", "--to-exchange", "documents", "--routing-key", "#")
    assert [row["exchange"] for row in told_as_json("queues", "bindings", "crew")] == ["flights", "documents"]
    assert len(told_as_json("exchanges", "bindings")) == 4
    assert told("exchanges", "unbind", f"{made['id']}") == "documents does not lead to queue crew any more\n"
    with pytest.raises(BindingNotFound):
        told("exchanges", "unbind", f"{made['id']}")


def test_a_route_is_explained_and_nothing_is_published(flights: None) -> None:
    (route,) = told_as_json("exchanges", "route", "flights", "delayed.EWR.UA")
    assert sorted(route["queues"]) == ["crew", "rebooking"]
    assert len(route["steps"]) == 2
    assert told("exchanges", "route", "flights", "delayed.JFK.UA").splitlines()[-1] == "it would reach rebooking"
    assert told("exchanges", "route", "flights", "on-time").splitlines() == [
        "No binding matches",
        "it would reach no queue",
    ]
    assert told("exchanges", "route", "", "crew").splitlines()[-1] == "it would reach crew"
    assert all(queue["messages"] == 0 for queue in told_as_json("queues"))


def test_what_reaches_no_queue_is_said_or_refused(flights: None) -> None:
    publish = ("exchanges", "publish", "flights", "--body", "1", "--routing-key")
    assert told(*publish, "delayed.EWR.UA").splitlines()[0].endswith("is in 2 queues")
    assert told_as_json(*publish, "on-time")[0]["queues"] == 0
    with pytest.raises(Unroutable):
        told(*publish, "on-time", "--mandatory")


# -- policies -----------------------------------------------------------------------------------------------------


def test_a_policy_is_set_changed_and_deleted(flights: None) -> None:
    (made,) = told_as_json("policies", "set", "short", "--pattern", "^crew", "--message-ttl-ms", "1000")
    assert (made["pattern"], made["message_ttl_ms"], made["max_length"]) == ("^crew", 1000, None)
    crew = told("queues", "show", "crew")
    assert "message ttl               1s (by the policy)" in crew
    assert told_as_json("queues", "show", "crew")[0]["policy"] == "short"

    assert told("policies", "set", "short", "--pattern", "^crew", "--max-length", "9") == "policy short is changed\n"
    assert told("policies").splitlines()[1].split() == ["short", "^crew", "0", "max", "length", "9"]
    assert told("policies", "delete", "short") == "policy short is deleted\n"
    assert told_as_json("policies") == []
    assert told_as_json("queues", "show", "crew")[0]["policy"] is None


# -- what is refused ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("queues", "show", "nope"), QueueNotFound),
        (("queues", "peek", "nope"), QueueNotFound),
        (("queues", "bindings", "nope"), QueueNotFound),
        (("queues", "publish", "nope", "--body", "1"), QueueNotFound),
        (("queues", "purge", "nope", "--yes"), QueueNotFound),
        (("queues", "delete", "nope", "--yes"), QueueNotFound),
        (("queues", "pause", "nope"), QueueNotFound),
        (("queues", "move", "crew", "--to", "nope"), QueueNotFound),
        (("queues", "declare", "no/name"), InvalidValue),
        (("queues", "declare", "q", "--max-priority", "256"), InvalidValue),
        (("queues", "publish", "crew", "--body", "{"), InvalidValue),
        (("queues", "publish", "crew", "--body", "1", "--header", "x"), InvalidValue),
        (("queues", "publish", "crew", "--body", "1", "--header", "x:=y"), InvalidValue),
        (("queues", "publish", "crew", "--body", "1", "--priority", "256"), InvalidValue),
        (("exchanges", "show", "nope"), ExchangeNotFound),
        (("exchanges", "bindings", "nope"), ExchangeNotFound),
        (("exchanges", "route", "nope", "k"), ExchangeNotFound),
        (("exchanges", "publish", "nope", "--body", "1"), ExchangeNotFound),
        (("exchanges", "delete", "nope"), ExchangeNotFound),
        (("exchanges", "bind", "flights", "--queue", "nope"), QueueNotFound),
        (("policies", "delete", "nope"), PolicyNotFound),
        (("policies", "set", "p", "--pattern", "(", "--max-length", "1"), InvalidValue),
    ],
)
def test_what_is_refused_is_one_line(flights: None, arguments: tuple[str, ...], error: type[BrokerError]) -> None:
    with pytest.raises(error) as caught:
        told(*arguments)
    assert "\n" not in one_line(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        ("queues", "declare", "q", "--overflow", "drop-tail"),
        ("queues", "declare", "q", "--max-length", "-1"),
        ("queues", "move", "crew"),
        ("exchanges", "bind", "flights"),
        ("exchanges", "declare", "x", "--type", "star"),
        ("policies", "set", "p", "--priority", "x", "--pattern", "y"),
    ],
)
def test_arguments_that_are_none_are_refused(wrong: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        told(*wrong)
