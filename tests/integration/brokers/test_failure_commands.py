"""The commands `dead_letters`, `replay` and `groups`: what they do, print and refuse."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import httpx
import psycopg
import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from brokers import FixedBackOff, groups, publish_many, topics
from brokers.consumer import Consumer
from brokers.errors import (
    BrokerError,
    DeadLetterNotFound,
    FailureGroupNotFound,
    GroupActive,
    GroupNotFound,
    InvalidValue,
    ReplayNotFound,
    TopicNotFound,
)
from brokers.management.dead_letter_selection import instant
from brokers.models import AuditEntry, CommittedOffset, DeadLetter
from brokers.record import Record
from brokers.replays import creation
from brokers.replays.runner import Runner
from brokers.selectors import replays
from brokers.selectors.dead_letters import Filter
from brokers.terminal import one_line
from tests.integration.brokers.dying import Mortuary
from tests.integration.brokers.replaying import Stage
from tests.listening import caught_up, listening, until
from tests.server import ROOT, Server, unique

pytestmark = pytest.mark.django_db(transaction=True)


def told(*arguments: str) -> str:
    """What a command prints."""
    stream = io.StringIO()
    call_command(*arguments, stdout=stream)
    return stream.getvalue()


def told_as_json(*arguments: str) -> list[Any]:
    """The JSON lines that a command prints."""
    return [json.loads(line) for line in told(*arguments, "--json").splitlines()]


def status_of(*arguments: str) -> tuple[int, str]:
    """Exit status and output of a command that may end with another status than 0."""
    stream = io.StringIO()
    try:
        call_command(*arguments, stdout=stream)
    except SystemExit as end:
        return int(end.code or 0), stream.getvalue()
    return 0, stream.getvalue()


class Unpaid(ValueError):
    """An order that nobody has paid for."""


def bill(record: Record) -> None:
    if not record.value.get("paid"):
        raise Unpaid(f"order {record.value['order']} of '{record.key}' is not paid")


@contextmanager
def billing() -> Iterator[None]:
    """A group that fails for each order that is not paid, and whatever moves replays."""
    with Runner(), listening(bill, "orders", group="billing", retry=FixedBackOff(0, 1), name="shop.bill"):
        yield


@pytest.fixture
def failed() -> list[int]:
    """Ids of the dead letters of three orders, oldest first."""
    topics.create("orders", partitions=1)
    publish_many("orders", [{"key": "ann", "value": {"order": n, "paid": n > 3}} for n in range(1, 6)])
    with billing():
        caught_up("billing")
    return list(DeadLetter.objects.order_by("id").values_list("id", flat=True))


# -- dead_letters -------------------------------------------------------------------------------------------------


def test_failures_are_listed_by_group_and_one_by_one(failed: list[int]) -> None:
    (group,) = told_as_json("dead_letters")
    assert (group["count"], group["open"], group["source"], group["group"]) == (3, 3, "orders", "billing")
    assert group["exception_class"].endswith("test_failure_commands.Unpaid")
    assert group["message"] == "order # of '*' is not paid"
    assert told("dead_letters") == told("dead_letters", "groups")
    head, line = told("dead_letters").splitlines()
    assert head.split()[:3] == ["Fingerprint", "Open", "All"]
    assert line.split()[:3] == [group["fingerprint"][:12], "3", "3"]

    listed = told_as_json("dead_letters", "list")
    assert [letter["id"] for letter in listed] == failed[::-1]
    assert (listed[0]["key"], listed[0]["value"]) == ("ann", {"order": 3, "paid": False})
    assert listed[0]["exception"]["message"] == "order 3 of 'ann' is not paid"
    assert "attempts" not in listed[0]
    assert [row.split()[0] for row in told("dead_letters", "list", "--limit", "2").splitlines()[1:]] == [
        f"{failed[2]}",
        f"{failed[1]}",
    ]


@pytest.mark.parametrize(
    ("arguments", "count"),
    [
        (("--group", "billing", "--source", "orders", "--source-kind", "topic"), 3),
        (("--group", "shipping"), 0),
        (("--state", "resolved"), 0),
        (("--state", "any"), 3),
        (("--search", "order 2"), 1),
        (("--since", "1h"), 3),
        (("--until", "1h"), 0),
        (("--since", "2999-01-01T00:00:00Z"), 0),
    ],
)
def test_filters_narrow_a_list(failed: list[int], arguments: tuple[str, ...], count: int) -> None:
    assert len(told_as_json("dead_letters", "list", *arguments)) == count
    if not count:
        assert told("dead_letters", "list", *arguments) == "There are no dead letters\n"


def test_the_beginning_of_a_fingerprint_is_enough(failed: list[int]) -> None:
    (group,) = told_as_json("dead_letters", "groups")
    for beginning in (group["fingerprint"], group["fingerprint"][:6]):
        assert len(told_as_json("dead_letters", "list", "--fingerprint", beginning)) == 3
    with pytest.raises(FailureGroupNotFound):
        told("dead_letters", "list", "--fingerprint", "xyz")


def test_one_is_shown_with_all_that_is_known_of_it(failed: list[int]) -> None:
    (letter,) = told_as_json("dead_letters", "show", f"{failed[0]}")
    assert (letter["reason"], letter["revision"], letter["partition"], letter["offset"]) == (
        "attempts_exhausted",
        1,
        0,
        0,
    )
    assert [attempt["number"] for attempt in letter["attempts"]] == [1, 2]
    assert "Unpaid" in letter["exception"]["stacktrace"]

    text = told("dead_letters", "show", f"{failed[0]}")
    assert "orders/0@0" in text
    assert '{"order":1,"paid":false}' in text
    assert "attempts_exhausted after 2 attempts" in text
    assert "in bill" in text
    with pytest.raises(DeadLetterNotFound):
        told("dead_letters", "show", "999999999")


def test_they_are_resolved_discarded_and_reopened_by_id_and_by_filter(failed: list[int]) -> None:
    assert told("dead_letters", "resolve", f"{failed[0]}", "--note", "paid in cash") == "1 dead letter resolved\n"
    assert told_as_json("dead_letters", "discard", "--group", "billing", "--yes") == [
        {"state": "discarded", "changed": 2}
    ]
    assert list(DeadLetter.objects.order_by("id").values_list("state", "note")) == [
        ("resolved", "paid in cash"),
        ("discarded", ""),
        ("discarded", ""),
    ]
    assert told("dead_letters", "reopen", *map(str, failed)) == "3 dead letters open\n"
    assert {entry.surface for entry in AuditEntry.objects.filter(resource_type="dead_letter")} == {"command"}


def test_nothing_is_settled_by_a_filter_without_being_asked_for(
    failed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    with pytest.raises(InvalidValue, match=r"3 dead letters would be resolved: --yes"):
        told("dead_letters", "resolve", "--group", "billing")
    for arguments in ((), (f"{failed[0]}", "--group", "billing")):
        with pytest.raises(InvalidValue, match="ids, or at least one filter"):
            told("dead_letters", "resolve", *arguments)
    assert set(DeadLetter.objects.values_list("state", flat=True)) == {"open"}


def test_a_payload_cannot_send_escape_sequences_to_the_terminal() -> None:
    stage = Stage()
    number = stage.letter(b"k\x1b]0;owned\x07", b"\x1b[2J\xff", encoding=0, headers={"h\x1b": "\x9b31m"})
    stage.letter(None, None)
    for arguments in (("list",), ("show", f"{number}"), ("groups",)):
        text = told("dead_letters", *arguments)
        assert all(line.isprintable() for line in text.splitlines())
    assert r"k\x1b]0;owned\x07" in told("dead_letters", "list")
    tombstone, raw = told_as_json("dead_letters", "list")
    assert (tombstone["key"], tombstone["value"], raw["value_base64"]) == (None, None, "G1sySv8=")


def test_a_json_value_stays_on_one_line_as_it_was_published() -> None:
    stage = Stage()
    stage.letter(b"k", b'{\n "n":  1.0\r\n}')
    assert '"value":{  "n":  1.0  }' in told("dead_letters", "list", "--json")


# -- replay -------------------------------------------------------------------------------------------------------


def test_a_dry_run_says_what_would_be_and_changes_nothing(failed: list[int]) -> None:
    arguments = ("replay", "--group", "billing", "--dry-run", "--merge-patch", '{"paid": true}')
    (plan,) = told_as_json(*arguments)
    assert (plan["total"], plan["skipped"], len(plan["sample"])) == (3, {}, 3)
    assert plan["sample"][0]["after"]["value"]["paid"] is True
    lines = told(*arguments).splitlines()
    assert lines[0] == "3 dead letters would be replayed"
    assert lines[2:4] == ['  - {"order":1,"paid":false}', '  + {"order":1,"paid":true}']
    assert told_as_json("replay", "--list") == []


def test_they_are_replayed_until_each_has_its_outcome(failed: list[int]) -> None:
    with billing():
        patch = ("--merge-patch", '{"paid": true}')
        status, output = status_of("replay", "--group", "billing", *patch, "--reason", "paid late", "--json")
    assert status == 0
    outcome = json.loads(output)
    assert (outcome["state"], outcome["succeeded"], outcome["failed_again"]) == ("completed", 3, 0)
    assert (outcome["reason"], outcome["created_by"]) == ("paid late", "operator")
    assert set(DeadLetter.objects.values_list("state", flat=True)) == {"replayed"}
    (listed,) = told_as_json("replay", "--list")
    assert listed["id"] == outcome["id"]
    assert "paid late" in told("replay", "--list")


def test_the_status_is_1_when_some_have_failed_again(failed: list[int]) -> None:
    with billing():
        status, output = status_of("replay", f"{failed[0]}", f"{failed[1]}", "--canary", "2:0", "--rate", "1000")
    assert status == 1
    number = replays.page(None, 1, lambda *consumer: True)[0][0].id
    assert output.splitlines() == [
        f"replay {number} completed: 0 succeeded, 2 failed again, 0 skipped",
        f"  dead letter {failed[0]} failed again",
        f"  dead letter {failed[1]} failed again",
    ]
    assert set(DeadLetter.objects.values_list("state", flat=True)) == {"open"}


def test_they_may_go_to_another_topic(failed: list[int]) -> None:
    topics.create("unpaid", partitions=1)
    with Runner():
        assert status_of("replay", "--group", "billing", "--target-topic", "unpaid")[0] == 0
    assert [
        json.loads(line)["value"]["order"]
        for line in told("consume", "unpaid", "--no-follow", "--json").split("\n")
        if line
    ] == [1, 2, 3]


def test_what_queues_gave_up_is_shown_and_goes_back_or_to_other_queues() -> None:
    crew, spare = Mortuary("crew"), Mortuary("spare")
    letters = [crew.letter({"n": n}, message_id=f"m-{n}", headers={"tries": n}) for n in (1, 2)]
    shown = told("dead_letters", "show", f"{letters[0]}")
    for line in (
        "from          crew",
        "exchange      (default)",
        "routing key   crew",
        "message id    m-1",
        "died          rejected in crew, 1 time, from exchange (default)",
        "header        tries: 1",
    ):
        assert line in shown
    as_json = told_as_json("dead_letters", "show", f"{letters[0]}")[0]
    assert (as_json["headers"]["tries"], as_json["headers"]["x-death"][0]["queue"]) == (1, "crew")
    assert "crew to crew" in told("replay", "--source", "crew", "--dry-run")
    with Runner():
        assert status_of("replay", f"{letters[0]}", "--target-queue", "spare")[0] == 0
        key = ("--target-exchange", "", "--routing-key", "spare")
        assert status_of("replay", f"{letters[1]}", *key)[0] == 0
    assert [message.body for message in spare.claim(5)] == [{"n": 1}, {"n": 2}]
    with pytest.raises(BrokerError, match="--routing-key goes with --target-exchange"):
        told("replay", f"{letters[1]}", "--routing-key", "spare")


def test_a_replay_is_paused_resumed_watched_and_cancelled(failed: list[int]) -> None:
    paused, cancelled = (creation.create(Filter(ids=tuple(ids))) for ids in (failed[:2], failed[2:]))
    assert told_as_json("replay", "--pause", f"{paused}")[0]["state"] == "paused"
    assert told("replay", "--cancel", f"{cancelled}").startswith(f"replay {cancelled} cancelled: 0 succeeded")
    with Runner():
        status, output = status_of("replay", "--watch", f"{cancelled}")
        assert (status, output) == (1, f"replay {cancelled} cancelled: 0 succeeded, 0 failed again, 1 skipped\n")
        assert replays.get(paused).sent == 0
        with billing():
            assert status_of("replay", "--resume", f"{paused}")[0] == 1
    assert replays.get(paused).failed_again == 2
    by_command = AuditEntry.objects.filter(resource_type="replay", surface="command").order_by("id")
    assert [entry.operation for entry in by_command] == ["pause", "cancel", "resume"]
    with pytest.raises(ReplayNotFound):
        told("replay", "--watch", "999999999")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ((), "say which dead letters: ids, or at least one filter such as --group, and not both"),
        (("1", "--group", "g"), "say which dead letters: ids, or at least one filter such as --group, and not both"),
        (("999999999",), "there is no dead letter 999999999"),
        (("--group", "g", "--merge-patch", "[1]"), "a merge patch is a JSON object"),
        (("--group", "g", "--merge-patch", "{"), None),
        (("--group", "g", "--target-topic", "nope"), "there is no topic 'nope'"),
        (("--group", "g", "--target-queue", "nope"), "there is no queue 'nope'"),
        (("--group", "g", "--target-exchange", "nope"), "there is no exchange 'nope'"),
        (("--group", "g", "--rate", "0"), None),
        (("--group", "g", "--canary", "0"), None),
        (("--group", "g", "--stop-when-failed-again", "2"), None),
        (("--pause", "999999999"), "there is no replay 999999999"),
    ],
)
@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
def test_what_replay_refuses_is_one_line(
    arguments: tuple[str, ...], line: str | None, dry_run: tuple[str, ...]
) -> None:
    with pytest.raises(BrokerError) as caught:
        told("replay", *arguments, *dry_run)
    assert line is None or one_line(caught.value) == line
    assert "\n" not in one_line(caught.value)
    assert told_as_json("replay", "--list") == []


@pytest.mark.parametrize(
    "wrong", [("--rate", "nan"), ("--rate", "-1"), ("--since", "soon"), ("--canary", "1:x"), ("x",)]
)
def test_arguments_that_are_none_are_refused(wrong: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        told("replay", "--group", "g", *wrong)


def test_a_time_may_be_given_as_an_age() -> None:
    age = datetime.now(UTC) - instant("2h")
    assert abs(age - timedelta(hours=2)) < timedelta(minutes=1)
    assert instant("2030-01-31T01:00:00+01:00") == datetime(2030, 1, 31, tzinfo=UTC)


# -- groups -------------------------------------------------------------------------------------------------------


@pytest.fixture
def reading() -> None:
    """A group that has committed the first two of three records, of one of two partitions."""
    topics.create("orders", partitions=2)
    publish_many("orders", [{"value": n, "partition": 0} for n in range(3)])
    with Consumer("billing", "orders") as consumer:
        assert len(consumer.poll(max_records=2)) == 2
        consumer.commit()


def committed() -> list[int]:
    return list(CommittedOffset.objects.order_by("partition_id").values_list("committed_offset", flat=True))


def test_groups_are_listed_and_shown_with_their_lag(reading: None) -> None:
    (listed,) = told_as_json("groups")
    assert (listed["group"], listed["state"], listed["lag"]) == ("billing", "empty", 1)
    assert told("groups").splitlines()[1].split() == ["billing", "empty", "0", "1", "1"]

    with Consumer("billing", "orders") as consumer:
        consumer.poll()
        (shown,) = told_as_json("groups", "show", "billing")
        assert shown["partitions"][0] == {
            "topic": "orders",
            "partition": 0,
            "committed_offset": 2,
            "latest_offset": 3,
            "lag": 1,
            "member_id": shown["members"][0]["member_id"],
        }
        assert len(shown["members"][0]["assignment"]) == 2
        rows = told("groups", "show", "billing").splitlines()
        assert rows[-2].split()[:5] == ["orders", "0", "2", "3", "1"]
    with pytest.raises(GroupNotFound):
        told("groups", "show", "nope")


def test_a_group_is_paused_and_goes_on(reading: None) -> None:
    assert told_as_json("groups", "pause", "billing", "--note", "their database is full") == [
        {"group": "billing", "paused": True}
    ]
    assert "empty, paused" in told("groups")
    told("groups", "resume", "billing")
    assert not told_as_json("groups")[0]["paused"]
    entries = AuditEntry.objects.filter(resource_type="group").order_by("id")
    assert [(entry.operation, entry.surface) for entry in entries] == [("pause", "command"), ("resume", "command")]
    assert entries[0].details == {"note": "their database is full"}


@pytest.mark.parametrize(
    ("to", "after"),
    [
        (("--to-earliest",), 0),
        (("--to-latest",), 3),
        (("--to-offset", "1"), 1),
        (("--to-offset", "99"), 3),
        (("--shift-by", "-1"), 1),
        (("--shift-by", "+1"), 3),
        (("--to-time", "2001-01-01T00:00:00Z"), 0),
        (("--to-time", "2999-01-01T00:00:00Z"), 3),
    ],
)
def test_a_reset_is_a_dry_run_until_it_is_executed(reading: None, to: tuple[str, ...], after: int) -> None:
    arguments = ("groups", "reset", "billing", "--topic", "orders", "--partitions", "0", *to)
    plan = {"topic": "orders", "partition": 0, "before": 2, "after": after, "executed": False}
    assert told_as_json(*arguments) == [plan]
    assert committed() == [2]
    assert told(*arguments).splitlines()[1].split()[:4] == ["orders", "0", "2", f"{after}"]

    assert told_as_json(*arguments, "--execute") == [plan | {"executed": True}]
    assert committed() == [after]


def test_a_reset_of_a_group_at_work_is_refused(reading: None) -> None:
    with Consumer("billing", "orders"), pytest.raises(GroupActive):
        told("groups", "reset", "billing", "--topic", "orders", "--to-earliest", "--execute")
    with pytest.raises(TopicNotFound):
        told("groups", "reset", "billing", "--topic", "nope", "--to-earliest")
    assert committed() == [2]
    groups.pause("billing")
    with Consumer("billing", "orders"):
        told("groups", "reset", "billing", "--topic", "orders", "--to-earliest", "--execute")
    assert committed() == [0, 0]


@pytest.mark.parametrize(
    "wrong",
    [
        (),
        ("--to-earliest", "--to-latest"),
        ("--to-time", "2001-01-01"),
        ("--to-time", "soon"),
        ("--shift-by", "1.5"),
        ("--to-earliest", "--partitions", "0,x"),
    ],
)
def test_a_reset_that_makes_no_sense_is_refused(wrong: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        told("groups", "reset", "billing", "--topic", "orders", *wrong)


# -- as processes -------------------------------------------------------------------------------------------------


def test_errors_are_one_line_and_status_1(server: Server) -> None:
    for arguments, line in (
        (("dead_letters", "show", "999999999"), "there is no dead letter 999999999\n"),
        (("replay", "999999999"), "there is no dead letter 999999999\n"),
        (("groups", "show", "nope"), "there is no consumer group 'nope'\n"),
    ):
        done = server.manage(*arguments, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


def test_an_interrupted_replay_goes_on_and_says_so(server: Server, api: httpx.Client) -> None:
    topic = unique("commands")
    server.manage("topics", "create", topic, "--partitions", "1")
    with psycopg.connect(server.database_url, autocommit=True) as conn:

        def column(query: LiteralString) -> list[str]:
            return [str(row[0]) for row in conn.execute(query, [f"%{topic}%"]).fetchall()]

        def letters() -> list[str]:
            return column("select dead_letter_id from brokers_dead_letter_revision where encode(key, 'escape') like %s")

        def replays_made() -> list[str]:
            return column("select id from brokers_replay where target::text like %s")

        records = [{"key": topic, "value": "no flight"}] * 2
        api.post("/api/v1/topics/departures/records", json={"records": records}).raise_for_status()
        until(lambda: len(letters()) == 2, what="both have failed")
        process = subprocess.Popen(
            [sys.executable, "manage.py", "replay", *letters(), "--target-topic", topic, "--rate", "0.001"],
            cwd=ROOT,
            env=server.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        until(lambda: len(replays_made()) == 1, what="the replay is made")
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)

        [number] = replays_made()
        assert (process.returncode, output.count("\n")) == (128 + signal.SIGINT, 1)
        assert errors == f"replay {number} goes on without this command; replay --watch {number} shows it again\n"
        assert json.loads(server.manage("replay", "--cancel", number, "--json").stdout)["state"] == "cancelled"
