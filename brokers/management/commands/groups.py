"""`manage.py groups`: lists and shows consumer groups, pauses and resumes them, and resets their offsets."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from brokers import audit, groups, terminal
from brokers.groups import Reset, ResetTo
from brokers.selectors import groups as selector
from brokers.selectors.groups import GroupDetail, PartitionLag
from brokers.terminal import Output, TerminalCommand, whole_number

_PAGE: Final = 1000


def numbers(text: str) -> list[int]:
    """Partitions with commas between them."""
    return [whole_number(part) for part in text.split(",")]


def distance(text: str) -> ResetTo:
    """`-100` or `+100`, or without a sign the same as `+`."""
    forward = whole_number(text.lstrip("+-") if text[:1] in "+-" else text)
    return ResetTo("shift", -forward if text.startswith("-") else forward)


def offset(text: str) -> ResetTo:
    """An offset."""
    return ResetTo("offset", whole_number(text))


def time(text: str) -> ResetTo:
    """An RFC 3339 time with its zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!a} is no time such as 2030-01-31T00:00:00Z") from None
    if moment.tzinfo is None:
        raise ArgumentTypeError(f"{text!a} needs a zone, such as Z")
    return ResetTo("timestamp", int(moment.timestamp() * 1000))


class Command(TerminalCommand):
    """Without a subcommand: `list`."""

    help = "Lists, shows, pauses, resumes and resets consumer groups."

    def arguments(self, parser: ArgumentParser) -> None:
        """The subcommands and their arguments."""
        actions = parser.add_subparsers(dest="action", metavar="list|show|pause|resume|reset")
        parser.set_defaults(action="list")
        listing = actions.add_parser("list", help="All consumer groups with their lag (the default)")
        show = actions.add_parser("show", help="A consumer group's members and partitions")
        pause = actions.add_parser("pause", help="Its members keep their partitions and get no records")
        resume = actions.add_parser("resume", help="Its members get records again")
        reset = actions.add_parser("reset", help="Sets committed offsets, with --execute")
        for action in (listing, show, pause, resume, reset):
            terminal.add_json_option(action)
            if action is not listing:
                action.add_argument("group")
        for action in (pause, resume):
            action.add_argument("--note", default="", help="why; it goes into the audit record")
        _add_reset(reset)

    def run(self, output: Output, options: dict[str, Any]) -> None:
        """Does the subcommand."""
        match options["action"]:
            case "show":
                _show(output, options["group"])
            case "pause":
                groups.pause(options["group"], note=options["note"], actor=audit.COMMAND)
                output.line(f"{options['group']} is paused: its members keep their partitions and get no records")
                output.json({"group": options["group"], "paused": True})
            case "resume":
                groups.resume(options["group"], note=options["note"], actor=audit.COMMAND)
                output.line(f"{options['group']} goes on")
                output.json({"group": options["group"], "paused": False})
            case "reset":
                self._reset(output, options)
            case _:
                _list(output)

    def _reset(self, output: Output, options: dict[str, Any]) -> None:
        found = groups.reset(
            options["group"],
            options["topic"],
            options["to"],
            partitions=options["partitions"],
            dry_run=not options["execute"],
            actor=audit.COMMAND,
        )
        _tell_reset(output, options["topic"], found, options["execute"])
        if not options["execute"]:
            self.note("nothing was changed; the same with --execute does it")


def _add_reset(action: ArgumentParser) -> None:
    action.add_argument("--topic", required=True)
    action.add_argument("--partitions", type=numbers, metavar="P,P", help="only these")
    to = action.add_mutually_exclusive_group(required=True)
    for place in ("earliest", "latest"):
        to.add_argument(f"--to-{place}", dest="to", action="store_const", const=ResetTo(place))
    to.add_argument("--to-offset", dest="to", type=offset, metavar="OFFSET")
    to.add_argument("--to-time", dest="to", type=time, metavar="TIME", help="the first record at or after it")
    to.add_argument("--shift-by", dest="to", type=distance, metavar="[-]N", help="records to go back (-) or forward")
    action.add_argument("--execute", action="store_true", help="do it")


# -- list ---------------------------------------------------------------------------------------------------------


def _list(output: Output) -> None:
    found: list[GroupDetail] = []
    after: str | None = ""
    while after is not None:
        page, after = selector.page(after, _PAGE, lambda _: True)
        found.extend(page)
    for group in found:
        output.json(_summary(group))
    output.table(
        ("Group", "State", ">Members", ">Partitions", ">Lag"),
        [
            (group.group, _state(group), f"{len(group.members)}", f"{len(group.partitions)}", _number(lag(group)))
            for group in found
        ],
        "There are no consumer groups; a listener, `manage.py consume --group` or a member over REST makes one",
    )


def lag(group: GroupDetail) -> int | None:
    """The lag of all partitions where something is committed; None where nothing is."""
    known = [partition.lag for partition in group.partitions if partition.lag is not None]
    return sum(known) if known else None


def _state(group: GroupDetail) -> str:
    return f"{group.state}, paused" if group.paused else group.state


def _number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _summary(group: GroupDetail) -> dict[str, Any]:
    return {
        "group": group.group,
        "state": group.state,
        "paused": group.paused,
        "generation": group.generation,
        "members": len(group.members),
        "partitions": len(group.partitions),
        "lag": lag(group),
    }


# -- show ---------------------------------------------------------------------------------------------------------


def _show(output: Output, name: str) -> None:
    group = selector.get(name)
    owners = {place: member.member_id for member in group.members for place in member.assignment}
    output.json(
        _summary(group)
        | {
            "members": [
                {
                    "member_id": member.member_id,
                    "assignment": [{"topic": topic, "partition": number} for topic, number in member.assignment],
                }
                for member in group.members
            ],
            "partitions": [_partition(partition, owners) for partition in group.partitions],
        }
    )
    for label, text in (
        ("group", group.group),
        ("state", _state(group)),
        ("generation", f"{group.generation}"),
        ("members", f"{len(group.members)}"),
        ("lag", _number(lag(group))),
    ):
        output.line(f"{label:<12}{text}")
    output.line("")
    output.table(
        ("Topic", ">Partition", ">Committed", ">Latest", ">Lag", "Member"),
        [
            (
                partition.topic,
                f"{partition.partition}",
                _number(partition.committed_offset),
                f"{partition.latest_offset:,}",
                _number(partition.lag),
                _beginning(owners.get((partition.topic, partition.partition))),
            )
            for partition in group.partitions
        ],
        "It reads no partition",
    )


def _beginning(member_id: str | None) -> str:
    """A member's id is a secret of its client: enough of it to tell one from the other."""
    return "-" if member_id is None else f"{member_id[:10]}..."


def _partition(partition: PartitionLag, owners: dict[tuple[str, int], str]) -> dict[str, Any]:
    return {
        "topic": partition.topic,
        "partition": partition.partition,
        "committed_offset": partition.committed_offset,
        "latest_offset": partition.latest_offset,
        "lag": partition.lag,
        "member_id": owners.get((partition.topic, partition.partition)),
    }


# -- reset --------------------------------------------------------------------------------------------------------


def _tell_reset(output: Output, topic: str, found: Sequence[Reset], done: bool) -> None:
    for reset in found:
        output.json({"topic": topic} | reset._asdict() | {"executed": done})
    output.table(
        ("Topic", ">Partition", ">Before", ">After", ">Records"),
        [
            (topic, f"{partition}", _number(before), f"{after:,}", _change(before, after))
            for partition, before, after in found
        ],
        "",
    )


def _change(before: int | None, after: int) -> str:
    """How many more records come (+), or are left out (-)."""
    return "-" if before is None else f"{before - after:+,}" if before != after else "0"
