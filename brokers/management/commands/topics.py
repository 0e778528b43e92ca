"""`manage.py topics`: lists, creates, describes, alters and deletes topics."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from typing import Any

from brokers import audit, declarations, terminal, topics
from brokers.errors import InvalidValue
from brokers.instants import rfc3339
from brokers.selectors import topics as selector
from brokers.selectors.topics import TopicDetail, TopicSummary
from brokers.terminal import Output, TerminalCommand, whole_number


def number_or_none(text: str) -> int | None:
    """A whole number, or `none` for no limit."""
    return None if text == "none" else whole_number(text)


class Command(TerminalCommand):
    """Without a subcommand: `list`."""

    help = "Lists, creates, describes, alters and deletes topics."

    def arguments(self, parser: ArgumentParser) -> None:
        """The subcommands and their arguments."""
        actions = parser.add_subparsers(dest="action", metavar="list|create|describe|alter|delete")
        parser.set_defaults(action="list")
        listing = actions.add_parser("list", help="All topics with their figures (the default)")
        create = actions.add_parser("create", help="Creates a topic")
        describe = actions.add_parser("describe", help="A topic's settings and partitions")
        alter = actions.add_parser("alter", help="Changes what is given; partitions can only be added")
        delete = actions.add_parser("delete", help="Deletes a topic and all of its records")
        for action in (listing, create, describe, alter, delete):
            terminal.add_json_option(action)
            if action is not listing:
                action.add_argument("name")
        for action in (create, alter):
            _add_settings(action)
        create.add_argument("--partitioner", help="crc32 (default), murmur2 or a declared function's dotted name")
        delete.add_argument("--yes", action="store_true", help="do not ask")

    def run(self, output: Output, options: dict[str, Any]) -> None:
        """Does the subcommand."""
        match options["action"]:
            case "create":
                declarations.discover()
                topics.create(options["name"], **_given(options), actor=audit.COMMAND)
                _describe(output, options["name"])
            case "describe":
                _describe(output, options["name"])
            case "alter":
                topics.alter(options["name"], **_given(options), actor=audit.COMMAND)
                _describe(output, options["name"])
            case "delete":
                self._delete(output, options["name"], options["yes"])
            case _:
                _list(output)

    def _delete(self, output: Output, name: str, agreed: bool) -> None:
        topic = selector.get(name)
        if not agreed:
            if not sys.stdin.isatty():
                raise InvalidValue(f"deleting {name} needs --yes where there is no terminal to ask on")
            self.note(f"{name} holds {topic.records:,} records. Type its name to delete it for good: ")
            if sys.stdin.readline().strip() != name:
                raise InvalidValue(f"that is not {name}: nothing was deleted")
        topics.delete(name, actor=audit.COMMAND)
        output.line(f"{name} is deleted, with {topic.records:,} records")
        output.json({"deleted": name, "records": topic.records})


def _add_settings(action: ArgumentParser) -> None:
    action.add_argument("--partitions", type=whole_number, metavar="N")
    action.add_argument("--retention-ms", type=number_or_none, default=topics.UNSET, metavar="MS|none")
    action.add_argument("--retention-bytes", type=number_or_none, default=topics.UNSET, metavar="BYTES|none")
    action.add_argument("--max-record-bytes", type=whole_number, metavar="BYTES")
    action.add_argument("--cleanup-policy", choices=("delete", "compact"))


def _given(options: dict[str, Any]) -> dict[str, Any]:
    """The settings that were given; what was not keeps its default, or stays as it is."""
    names = ("partitions", "max_record_bytes", "cleanup_policy", "partitioner")
    given = {name: options[name] for name in names if options.get(name) is not None}
    limits = {name: options[name] for name in ("retention_ms", "retention_bytes")}
    return given | {name: limit for name, limit in limits.items() if not isinstance(limit, topics.Unset)}


def _list(output: Output) -> None:
    found: list[TopicSummary] = []
    after: str | None = None
    while True:
        page, after = selector.page(after=after, limit=1000)
        found.extend(page)
        if after is None:
            break
    for topic in found:
        output.json(_summary(topic))
    output.table(
        ("Topic", ">Partitions", ">Records", ">Size", ">Records/s", "Retention", "Cleanup"),
        [
            (
                topic.name,
                f"{topic.partitions}",
                f"{topic.records:,}",
                terminal.size(topic.bytes),
                f"{topic.publish_rate:,.1f}",
                terminal.duration(topic.retention_ms),
                topic.cleanup_policy,
            )
            for topic in found
        ],
        "There are no topics; `manage.py topics create NAME` makes one",
    )


def _summary(topic: TopicSummary) -> dict[str, Any]:
    return {
        "name": topic.name,
        "partitions": topic.partitions,
        "records": topic.records,
        "bytes": topic.bytes,
        "publish_rate": round(topic.publish_rate, 3),
        "retention_ms": topic.retention_ms,
        "cleanup_policy": topic.cleanup_policy,
        "created_at": rfc3339(topic.created_at),
    }


def _describe(output: Output, name: str) -> None:
    topic = selector.get(name)
    output.json(_detail(topic))
    settings = (
        ("topic", topic.name),
        ("created", terminal.instant(topic.created_at)),
        ("records", f"{topic.records:,} ({terminal.size(topic.bytes)})"),
        ("retention", terminal.duration(topic.retention_ms)),
        ("bytes kept", "no limit" if topic.retention_bytes is None else f"{topic.retention_bytes:,} a partition"),
        ("largest record", terminal.size(topic.max_record_bytes)),
        ("cleanup", topic.cleanup_policy),
        ("partitioner", topic.partitioner),
    )
    for label, text in settings:
        output.line(f"{label:<16}{text}")
    output.line("")
    output.table(
        (">Partition", ">Earliest", ">Latest", ">Records", ">Size"),
        [
            (
                f"{p.partition}",
                f"{p.earliest_offset:,}",
                f"{p.latest_offset:,}",
                f"{p.records:,}",
                terminal.size(p.bytes),
            )
            for p in topic.partition_list
        ],
        "",
    )


def _detail(topic: TopicDetail) -> dict[str, Any]:
    return _summary(topic) | {
        "retention_bytes": topic.retention_bytes,
        "max_record_bytes": topic.max_record_bytes,
        "partitioner": topic.partitioner,
        "partition_list": [
            {
                "partition": p.partition,
                "earliest_offset": p.earliest_offset,
                "latest_offset": p.latest_offset,
                "bytes": p.bytes,
            }
            for p in topic.partition_list
        ],
    }
