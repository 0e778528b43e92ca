"""The commands `topics`, `publish`, `consume` and `tokens`: what they do, print and refuse."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import CommandError

from brokers import access, publish, publish_many, topics
from brokers.errors import (
    BrokerError,
    GroupNotFound,
    InvalidValue,
    NotFound,
    OffsetOutOfRange,
    PartitionNotFound,
    TokenNotFound,
    TopicNotFound,
)
from brokers.management.commands import tokens as tokens_command
from brokers.models import AuditEntry, Partition
from brokers.record import NewRecord
from brokers.selectors import groups as group_reads
from brokers.terminal import one_line, printable
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


# -- topics -------------------------------------------------------------------------------------------------------


def test_topics_are_created_described_altered_listed_and_deleted() -> None:
    made = told_as_json("topics", "create", "orders", "--partitions", "2", "--retention-ms", "none")[0]
    assert (made["partitions"], made["retention_ms"], made["partitioner"]) == (2, None, "crc32")

    told("topics", "alter", "orders", "--partitions", "3", "--retention-bytes", "1000", "--cleanup-policy", "compact")
    described = told_as_json("topics", "describe", "orders")[0]
    assert (described["partitions"], described["retention_bytes"]) == (3, 1000)
    assert (described["cleanup_policy"], described["retention_ms"]) == ("compact", None)
    assert [partition["partition"] for partition in described["partition_list"]] == [0, 1, 2]

    assert [topic["name"] for topic in told_as_json("topics")] == ["orders"]
    assert told("topics") == told("topics", "list")
    assert told_as_json("topics", "delete", "orders", "--yes") == [{"deleted": "orders", "records": 0}]
    assert told_as_json("topics") == []
    assert {entry.surface for entry in AuditEntry.objects.all()} == {"command"}


def test_a_list_for_people_has_a_line_for_each_topic_and_no_colours() -> None:
    topics.create("orders", partitions=4)
    publish("orders", {"a": 1})

    head, line = told("topics").splitlines()
    assert head.split() == ["Topic", "Partitions", "Records", "Size", "Records/s", "Retention", "Cleanup"]
    assert line.split()[:3] == ["orders", "4", "1"]
    assert "\x1b" not in head + line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("describe", "nope"), "there is no topic 'nope'"),
        (("create", "a b"), "topic name 'a b' has ' ' at position 1: only A-Z a-z 0-9 . _ - are allowed"),
        (("create", "a", "--partitions", "0"), "partitions must be 1 to 1000, not 0"),
        (("delete", "nope", "--yes"), "there is no topic 'nope'"),
    ],
)
def test_what_topics_refuses_is_one_line(arguments: tuple[str, ...], line: str) -> None:
    with pytest.raises(BrokerError) as caught:
        told("topics", *arguments)
    assert one_line(caught.value).endswith(line)


def test_a_topic_is_not_deleted_without_being_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    topics.create("orders")
    monkeypatch.setattr(sys, "stdin", io.StringIO("orders\n"))

    with pytest.raises(InvalidValue, match="--yes"):
        told("topics", "delete", "orders")
    assert topics.lookup("orders")


# -- publish ------------------------------------------------------------------------------------------------------


def test_a_single_record_is_published_as_the_bytes_given() -> None:
    topics.create("orders", partitions=3)

    assert told_as_json(
        *("publish", "orders", "--value", '{"n":  1.0}', "--key", "k", "--partition", "2"),
        *("--header", "source=shop", "--header", "note=a=b"),
    ) == [{"partition": 2, "offset": 0}]
    record = told_as_json("consume", "orders", "--no-follow")[0]
    assert (record["key"], record["headers"]) == ("k", {"source": "shop", "note": "a=b"})
    assert '"value":{"n":  1.0}' in told("consume", "orders", "--no-follow", "--json")
    assert told("publish", "orders", "--value", "null", "--key", "k", "--partition", "0") == (
        "published to orders, partition 0, offset 0\n"
    )


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--value", "{"), "the value is not JSON: Input data was truncated"),
        (("--value", "NaN"), "the value is not JSON: JSON is malformed: invalid character (byte 0)"),
        (("--value", ""), "the value is empty: JSON was expected"),
        (("--value", "1", "--header", "x"), "--header is NAME=TEXT, not 'x'"),
        (("--value", "1", "--partition", "9"), "orders has no partition 9: it has 0 to 2"),
        (("--value", "1", "--again"), "--again goes with --file"),
        (("--file", "a.csv", "--header", "a=b"), "--header does not go with --file"),
        (("--file", "a.csv", "--partition", "0"), "--partition does not go with --file"),
        (("--file", "a.csv", "--value", "0"), "--value does not go with --file"),
        (("--file", "a.csv", "--key", ""), "--key names a column or a member with 1 to 500 characters"),
    ],
)
def test_what_publish_refuses_is_one_line(arguments: tuple[str, ...], line: str) -> None:
    topics.create("orders")
    with pytest.raises(BrokerError) as caught:
        told("publish", "orders", *arguments)
    assert one_line(caught.value) == line


def test_a_file_is_summed_up_in_one_line(tmp_path: Path) -> None:
    topics.create("orders", partitions=1)
    path = tmp_path / "orders.csv"
    path.write_text("id\n1\n2\n")

    assert re.fullmatch(
        r"2 records published to orders in [0-9.]+ s \([0-9,]+/s\)\n", told("publish", "orders", "--file", str(path))
    )
    assert told("publish", "orders", "--file", str(path)).endswith("--again publishes it once more\n")
    summary = told_as_json("publish", "orders", "--file", str(path), "--again")[0]
    assert (summary["records"], summary["resumed_after"], summary["already_finished"]) == (2, 0, False)
    assert summary["records_per_second"] > 0


# -- consume ------------------------------------------------------------------------------------------------------


def test_records_come_from_the_earliest_or_an_offset_up_to_a_limit() -> None:
    topics.create("orders", partitions=2)
    publish_many("orders", [{"value": n, "partition": n % 2} for n in range(10)])

    assert [r["value"] for r in told_as_json("consume", "orders", "--no-follow")] == [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]
    assert [
        r["value"] for r in told_as_json("consume", "orders", "--partition", "1", "--from", "3", "--no-follow")
    ] == [7, 9]
    assert len(told_as_json("consume", "orders", "--from", "earliest", "--limit", "3")) == 3
    assert told_as_json("consume", "orders", "--limit", "0") == []
    assert told_as_json("consume", "orders", "--timeout", "0.1") == [], "following begins at the latest"


def test_json_lines_are_those_of_rest_one_a_line() -> None:
    topics.create("orders", partitions=1)
    publish_many(
        "orders",
        [
            NewRecord(b"\xff", b"\x00\xff"),
            NewRecord(None, b'{\n "a": 1\r\n}', 1),
            NewRecord(b"k", None),
        ],
    )
    first, second, third = told_as_json("consume", "orders", "--no-follow")

    assert (first["key_base64"], first["value_base64"]) == ("/w==", "AP8=")
    assert (second["key"], second["value"]) == (None, {"a": 1})
    assert (third["key"], third["value"]) == ("k", None)
    assert first.keys() - {"key_base64", "value_base64"} == {"partition", "offset", "timestamp", "headers"}


def test_a_payload_cannot_send_escape_sequences_to_the_terminal() -> None:
    topics.create("orders", partitions=1)
    publish("orders", b"\x1b[2J\x9b\xff\nnext", key="k\x1b]0;owned\x07\u202e")
    publish("orders", {"a": "\u009b31m\u2028"})

    lines = told("consume", "orders", "--no-follow").splitlines()
    assert len(lines) == 2
    assert all(line.isprintable() for line in lines)
    assert r"\x1b]0;owned\x07\u202e" in lines[0]
    assert r"\x1b[2J\x9b\xff\nnext" in lines[0]


def test_a_group_goes_on_where_it_stopped_and_is_left_at_the_end() -> None:
    topics.create("orders", partitions=1)
    publish_many("orders", [{"value": n} for n in range(5)])

    assert [r["value"] for r in told_as_json("consume", "orders", "--group", "g", "--limit", "2")] == [0, 1]
    assert [r["value"] for r in told_as_json("consume", "orders", "--group", "g", "--no-follow")] == [2, 3, 4]
    assert told_as_json("consume", "orders", "--group", "g", "--no-follow", "--from", "earliest") == []
    assert group_reads.get("g").members == []


def test_a_group_that_begins_at_the_latest_sees_only_what_comes(tmp_path: Path) -> None:
    topics.create("orders", partitions=1)
    publish("orders", 1)

    assert told_as_json("consume", "orders", "--group", "g", "--from", "latest", "--timeout", "0.1") == []


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("nope",), TopicNotFound),
        (("orders", "--partition", "2"), PartitionNotFound),
        (("orders", "--from", "3"), InvalidValue),
        (("orders", "--group", "g", "--from", "3"), InvalidValue),
        (("orders", "--group", "g", "--partition", "0"), InvalidValue),
        (("orders", "--group", "a b"), InvalidValue),
        (("orders", "--from", "1", "--partition", "0"), OffsetOutOfRange),
        (("orders", "--from", "soon"), CommandError),
        (("orders", "--timeout", "nan"), CommandError),
        (("orders", "--limit", "-1"), CommandError),
    ],
)
def test_what_consume_cannot_read_is_refused(arguments: tuple[str, ...], error: type[Exception]) -> None:
    topics.create("orders", partitions=2)
    Partition.objects.filter(number=0).update(earliest_offset=5)
    with pytest.raises(error):
        told("consume", *arguments)
    with pytest.raises(GroupNotFound):
        group_reads.get("g")


# -- tokens -------------------------------------------------------------------------------------------------------


@pytest.fixture
def admin() -> User:
    return User.objects.create_superuser("admin", "", "a-password")


def test_a_token_is_made_used_listed_and_revoked(admin: User) -> None:
    text = told("tokens", "create", "ci", "--grant", "write:topic:orders.*", "--grant", "!write:topic:orders.x").strip()

    principal = access.authenticate(text)
    assert access.allowed(principal, "write", "topic", "orders.a")
    assert not access.allowed(principal, "write", "topic", "orders.x")
    assert not access.allowed(principal, "read", "topic", "orders.a")
    (listed,) = told_as_json("tokens")
    assert (listed["name"], listed["user"], listed["admin"]) == ("ci", "admin", False)
    assert "write:topic:orders.* !write:topic:orders.x" in told("tokens")
    assert text not in told("tokens") + json.dumps(listed)

    assert told_as_json("tokens", "revoke", listed["id"]) == [{"revoked": listed["id"]}]
    assert told_as_json("tokens", "list") == []
    with pytest.raises(TokenNotFound):
        told("tokens", "revoke", listed["id"])


def test_an_administrators_token_may_do_everything_until_it_expires(admin: User) -> None:
    made = told_as_json("tokens", "create", "root", "--admin", "--expires", "90d")[0]

    assert access.authenticate(made["token"]).superuser
    left = datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=89.9) < left <= timedelta(days=90)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--grant", "write:topic"), InvalidValue),
        (("--grant", "write:topic:"), InvalidValue),
        (("--grant", "fly:topic:a"), InvalidValue),
        (("--grant", "write:plane:a"), InvalidValue),
        (("--grant", "write:topic:a*b"), InvalidValue),
        (("--grant", "write:topic:a", "--admin"), InvalidValue),
        (("--expires", "2020-01-01T00:00:00Z"), InvalidValue),
        (("--expires", "2099-01-01T00:00:00"), InvalidValue),
        (("--expires", "soon"), InvalidValue),
        (("--expires", "0d"), InvalidValue),
        (("--user", "nobody"), NotFound),
    ],
)
def test_a_token_that_makes_no_sense_is_refused(
    admin: User, arguments: tuple[str, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        told("tokens", "create", "x", *arguments)
    assert told_as_json("tokens") == []


def test_a_grant_reads_as_it_is_written() -> None:
    for text in ("write:topic:orders.*", "!read:group:g", "read:topic:*", "create:token:"):
        grant = tokens_command.parse_grant(text)
        assert text == tokens_command.grant_text(
            grant.operation, grant.resource_type, grant.name, grant.match, grant.effect
        )


# -- as processes -------------------------------------------------------------------------------------------------


@pytest.fixture
def topic(api: httpx.Client) -> str:
    name = unique("commands")
    api.post("/api/v1/topics", json={"name": name, "partitions": 1}).raise_for_status()
    return name


@pytest.fixture
def following(server: Server, topic: str) -> Iterator[subprocess.Popen[str]]:
    """`consume --group` on the topic, as a process."""
    command = [sys.executable, "manage.py", "consume", topic, "--group", topic, "--json"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=server.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


def test_an_error_is_one_line_and_status_1(server: Server) -> None:
    for arguments in (("consume", "nope"), ("publish", "nope", "--value", "1"), ("topics", "describe", "nope")):
        done = server.manage(*arguments, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", "there is no topic 'nope'\n")


def test_a_database_that_does_not_answer_is_one_line(server: Server) -> None:
    environment = server.environment | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    done = subprocess.run(
        [sys.executable, "manage.py", "topics"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "is the server running?" in done.stderr


def test_lines_of_standard_input_are_published_up_to_a_bad_one(server: Server, topic: str) -> None:
    done = subprocess.run(
        [sys.executable, "manage.py", "publish", topic, "--key", "k", "--json"],
        cwd=ROOT,
        env=server.environment,
        input='{"n":1}\n\n"two"\nthree\n4\n',
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, '{"partition":0,"offset":0}\n{"partition":0,"offset":1}\n')
    assert done.stderr.splitlines()[0] == "2 records published before this"
    assert done.stderr.splitlines()[1].startswith("line 4: is not JSON")
    records = [
        json.loads(line) for line in server.manage("consume", topic, "--no-follow", "--json").stdout.splitlines()
    ]
    assert [(record["key"], record["value"]) for record in records] == [("k", {"n": 1}), ("k", "two")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_consume_in_good_order(
    server: Server, topic: str, following: subprocess.Popen[str], number: signal.Signals
) -> None:
    server.manage("publish", topic, "--value", "1")
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["value"] == 1

    following.send_signal(number)
    rest, errors = following.communicate(timeout=10)

    assert (following.returncode, rest, errors) == (0, "", "")
    # It has committed, and left: else the partition would stay its own until the session ended.
    server.manage("publish", topic, "--value", "2")
    next_member = server.manage("consume", topic, "--group", topic, "--limit", "1", "--timeout", "10", "--json")
    assert json.loads(next_member.stdout)["value"] == 2


def test_a_reader_that_has_read_enough_ends_consume_quietly(server: Server, topic: str, tmp_path: Path) -> None:
    path = tmp_path / "many.ndjson"
    path.write_text((json.dumps("x" * 100) + "\n") * 5000)
    server.manage("publish", topic, "--file", str(path))

    done = subprocess.run(
        ["sh", "-c", '"$0" manage.py consume "$1" --from earliest | head -n 2', sys.executable, topic],
        cwd=ROOT,
        env=server.environment,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr == ""


def test_on_a_terminal_lines_are_cut_to_its_width(server: Server, topic: str) -> None:
    server.manage("publish", topic, "--value", json.dumps("long " * 100), "--key", "k\x1b[31m")
    leader, follower = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "manage.py", "consume", topic, "--no-follow"],
        cwd=ROOT,
        env=server.environment | {"COLUMNS": "60", "TERM": "xterm"},
        stdout=follower,
    )
    os.close(follower)
    with os.fdopen(leader, "rb", buffering=0) as terminal:
        output = b""
        while done.poll() is None or b"long" not in output:
            try:
                output += terminal.read(4096)
            except OSError:  # the other side is closed
                break
    assert done.wait(10) == 0
    head, line = re.sub(r"\x1b\[[0-9;]*m", "", output.decode()).splitlines()
    assert head.split() == ["part", "offset", "time", "(UTC)", "key", "value"]
    assert len(line) == 60
    assert line.endswith("…")
    assert r"k\x1b[31m" in line
    assert printable(line) == line


def test_a_file_is_published_with_a_progress_bar_on_a_terminal(server: Server, topic: str, tmp_path: Path) -> None:
    path = tmp_path / "few.ndjson"
    path.write_text("1\n" * 1500)
    leader, follower = pty.openpty()
    done = subprocess.run(
        [sys.executable, "manage.py", "publish", topic, "--file", str(path)],
        cwd=ROOT,
        env=server.environment | {"COLUMNS": "100", "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=follower,
        text=True,
        check=True,
    )
    os.close(follower)
    with os.fdopen(leader, "rb", buffering=0) as terminal:
        drawn = terminal.read(65536).decode()
    assert "few.ndjson" in drawn
    assert "1,500 records" in drawn
    assert "100%" in drawn
    assert done.stdout.startswith("1,500 records published to")
