"""`manage.py queues`: lists, shows, declares, fills, empties, pauses and deletes queues, and looks into them."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

from brokers import audit, terminal
from brokers.errors import InvalidValue
from brokers.management import message_options, queue_settings
from brokers.management.binding_table import bindings, tell_bindings
from brokers.management.queue_json import binding_json, message_json, queue_json
from brokers.queues import claims, declaring, lengths, moving, topology
from brokers.queues.message import Message
from brokers.record import JSON
from brokers.selectors import queues as selector
from brokers.selectors.queues import QueueDetail
from brokers.terminal import Output, TerminalCommand, whole_number

_PAGE: Final = 1000
_PREVIEW: Final = 200
"""Characters of a body in a list."""


class Command(TerminalCommand):
    """Without a subcommand: `list`."""

    help = "Lists, shows, declares, fills, empties, pauses and deletes queues, and looks into them."

    def arguments(self, parser: ArgumentParser) -> None:
        """The subcommands and their arguments."""
        actions = parser.add_subparsers(
            dest="action", metavar="list|show|bindings|peek|publish|declare|pause|resume|move|purge|delete"
        )
        parser.set_defaults(action="list")
        actions.add_parser("list", help="All queues with what waits in them (the default)")
        for name, text in (
            ("show", "A queue's settings, figures and bindings"),
            ("bindings", "What leads to a queue"),
            ("peek", "Its messages: ready ones, next first, then delayed and claimed ones; takes nothing"),
            ("publish", "Publishes a message to it, or the lines of standard input"),
            ("declare", "Makes it; the same declaration again changes nothing"),
            ("pause", "It hands nothing out; publishing goes on"),
            ("resume", "It hands out again"),
            ("move", "Moves its ready messages to another queue"),
            ("purge", "Removes its messages for good, but for claimed ones"),
            ("delete", "Deletes it with its bindings and messages"),
        ):
            actions.add_parser(name, help=text).add_argument("queue")
        choices = actions.choices
        choices["peek"].add_argument("--limit", type=whole_number, default=20, metavar="N", help="at most so many (20)")
        message_options.add_message_options(choices["publish"])
        queue_settings.add_shared(choices["declare"])
        queue_settings.add_own(choices["declare"])
        choices["move"].add_argument("--to", required=True, metavar="QUEUE")
        choices["move"].add_argument("--limit", type=whole_number, metavar="N", help="at most so many")
        choices["delete"].add_argument("--if-empty", action="store_true", help="only without messages")
        choices["delete"].add_argument("--if-unused", action="store_true", help="only without consumers")
        for name in ("purge", "delete"):
            choices[name].add_argument("--yes", action="store_true", help="do not ask")
        for action in choices.values():
            terminal.add_json_option(action)

    def run(self, output: Output, options: dict[str, Any]) -> None:
        """Does the subcommand."""
        name: str = options.get("queue", "")
        match options["action"]:
            case "show":
                _show(output, name)
            case "bindings":
                selector.get(name)
                tell_bindings(output, bindings(queue=name))
            case "peek":
                _peek(output, name, options["limit"])
            case "publish":
                topology.queue(name)
                message_options.publish(self, output, "", name, options)
            case "declare":
                declaring.declare_queue(name, actor=audit.COMMAND, **queue_settings.given(options))
                _show(output, name)
            case "pause":
                declaring.pause_queue(name, actor=audit.COMMAND)
                output.line(f"{name} is paused: it hands nothing out")
                output.json({"queue": name, "paused": True})
            case "resume":
                declaring.resume_queue(name, actor=audit.COMMAND)
                output.line(f"{name} goes on")
                output.json({"queue": name, "paused": False})
            case "move":
                moved = moving.move(name, options["to"], options["limit"], actor=audit.COMMAND)
                output.line(f"{_messages(moved)} moved from {name} to {options['to']}")
                output.json({"queue": name, "to": options["to"], "moved": moved})
            case "purge":
                self._purge(output, name, options["yes"])
            case "delete":
                self._delete(output, name, options)
            case _:
                _list(output)

    def _purge(self, output: Output, name: str, agreed: bool) -> None:
        queue = selector.get(name)
        if not agreed:
            what = _messages(queue.ready + queue.delayed)
            self._ask(name, f"{what} of {name} would be removed for good", "purging", "removed")
        purged = lengths.purge(name, actor=audit.COMMAND)
        output.line(f"{_messages(purged)} removed from {name}")
        output.json({"queue": name, "purged": purged})

    def _delete(self, output: Output, name: str, options: dict[str, Any]) -> None:
        messages = selector.get(name).messages
        conditions = {"if_empty": options["if_empty"], "if_unused": options["if_unused"]}
        if not options["yes"] and not options["if_empty"]:
            self._ask(name, f"{name} holds {_messages(messages)}", "deleting", "deleted")
        deleted = declaring.delete_queue(name, **conditions, actor=audit.COMMAND)
        output.line(f"{name} is deleted, with {_messages(deleted)}")
        output.json({"deleted": name, "messages": deleted})

    def _ask(self, name: str, what: str, doing: str, done: str) -> None:
        if not sys.stdin.isatty():
            raise InvalidValue(f"{doing} {name} needs --yes where there is no terminal to ask on")
        self.note(f"{what}. Type its name to go on: ")
        if sys.stdin.readline().strip() != name:
            raise InvalidValue(f"that is not {name}: nothing was {done}")


def _messages(count: int) -> str:
    return f"{count:,} message" if count == 1 else f"{count:,} messages"


# -- lists --------------------------------------------------------------------------------------------------------


def _list(output: Output) -> None:
    found: list[QueueDetail] = []
    after: str | None = ""
    while after is not None:
        page, after = selector.page(after, _PAGE)
        found.extend(page)
    for queue in found:
        output.json(queue_json(queue))
    output.table(
        ("Queue", ">Ready", ">Unacknowledged", ">Delayed", ">Consumers", ">Oldest", ">In/s", ">Out/s", "State"),
        [
            (
                queue.name,
                f"{queue.ready:,}",
                f"{queue.unacknowledged:,}",
                f"{queue.delayed:,}",
                f"{queue.consumers}",
                _age(queue.oldest_ready_at),
                f"{queue.arrival_rate:,.1f}",
                f"{queue.departure_rate:,.1f}",
                "paused" if queue.paused else "",
            )
            for queue in found
        ],
        "There are no queues; `manage.py queues declare NAME` makes one",
    )


def _age(moment: datetime | None) -> str:
    """How long ago, in its largest unit; a dash for never."""
    if moment is None:
        return "-"
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


# -- one ----------------------------------------------------------------------------------------------------------


def _show(output: Output, name: str) -> None:
    queue = selector.get(name)
    found = list(bindings(queue=name))
    output.json(queue_json(queue) | {"bindings": [binding_json(binding) for binding in found]})
    if output.as_json:
        return
    for label, text in (
        ("queue", queue.name + (", paused" if queue.paused else "") + (", temporary" if queue.temporary else "")),
        ("created", terminal.instant(queue.created_at)),
        ("ready", f"{queue.ready:,}, oldest {_age(queue.oldest_ready_at)}"),
        ("unacknowledged", f"{queue.unacknowledged:,}"),
        ("delayed", f"{queue.delayed:,}"),
        ("consumers", f"{queue.consumers}"),
        ("policy", queue.policy or "-"),
    ):
        output.line(f"{label:<26}{text}")
    for setting in (*queue_settings.SHARED, *queue_settings.OWN):
        held, declared = getattr(queue.effective, setting), getattr(queue.declared, setting)
        if held is not None:
            by = " (by the policy)" if declared != held and setting in queue_settings.SHARED and queue.policy else ""
            output.line(f"{setting.replace('_', ' ').removesuffix(' ms'):<26}{queue_settings.text(setting, held)}{by}")
    output.line("")
    tell_bindings(output, found)


def _peek(output: Output, name: str, limit: int) -> None:
    rows = []
    for message in _seen(topology.queue(name), limit):
        output.json(message_json(message))
        rows.append(_row(message))
    output.table(
        (">Id", "State", ">Priority", ">Deliveries", "Published", "Exchange", "Routing key", "Body"),
        rows,
        f"{name} is empty",
    )


def _seen(queue: topology.QueueInfo, limit: int) -> Iterator[Message]:
    after: str | None = None
    while limit > 0 and (found := claims.peek(queue, after, min(limit, _PAGE))):
        yield from found
        limit, after = limit - len(found), claims.place_of(found[-1])


def _row(message: Message) -> tuple[str, ...]:
    held = message.lease_until is not None
    return (
        f"{message.id}",
        "unacknowledged" if held else "delayed" if message.due_at is not None else "ready",
        f"{message.priority}",
        f"{message.deliveries}",
        terminal.instant(message.published_at),
        message.exchange or "-",
        message.routing_key,
        _body(message),
    )


def _body(message: Message) -> str:
    text = terminal.printable_bytes(message.body_bytes[: 4 * _PREVIEW])
    shown = text if len(text) <= _PREVIEW else f"{text[:_PREVIEW]}..."
    return shown if message.encoding == JSON else f"{shown} (bytes)"
