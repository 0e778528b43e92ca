"""`manage.py exchanges`: lists, shows, declares and deletes exchanges, binds, publishes, and says where messages go."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any, Final

from brokers import audit, terminal
from brokers.management import message_options
from brokers.management.binding_table import bindings, destination, tell_bindings
from brokers.management.queue_json import binding_json, exchange_json
from brokers.models.queues import EXCHANGE_TYPES
from brokers.queues import bindings as binding_changes
from brokers.queues import exchanges, topology
from brokers.queues.routing import routing_keys
from brokers.selectors import exchanges as selector
from brokers.selectors.exchanges import ExchangeDetail
from brokers.terminal import Output, TerminalCommand, whole_number

_PAGE: Final = 1000


class Command(TerminalCommand):
    """Without a subcommand: `list`."""

    help = "Lists, shows, declares, binds and deletes exchanges, publishes to them, and says where messages would go."

    def arguments(self, parser: ArgumentParser) -> None:
        """The subcommands and their arguments."""
        actions = parser.add_subparsers(
            dest="action", metavar="list|show|bindings|route|publish|declare|bind|unbind|delete"
        )
        parser.set_defaults(action="list")
        actions.add_parser("list", help="All exchanges (the default)")
        everything = actions.add_parser("bindings", help="All bindings, or those of one exchange")
        everything.add_argument("exchange", nargs="?")
        for name, text in (
            ("show", "An exchange and its bindings"),
            ("route", "Which queues a message would reach, and why; publishes nothing"),
            ("publish", "Publishes a message to it, or the lines of standard input"),
            ("declare", "Makes it; the same declaration again changes nothing"),
            ("bind", "Binds it to a queue or to another exchange"),
            ("delete", "Deletes it with its bindings"),
        ):
            actions.add_parser(name, help=text).add_argument("exchange")
        unbind = actions.add_parser("unbind", help="Removes a binding")
        unbind.add_argument("id", type=whole_number)
        choices = actions.choices
        choices["route"].add_argument("routing_key", nargs="?", default="")
        choices["route"].add_argument("--header", action="append", default=[], metavar="NAME=TEXT|NAME:=JSON")
        choices["publish"].add_argument("--routing-key", default="", metavar="K")
        choices["publish"].add_argument("--mandatory", action="store_true", help="refused if it reaches no queue")
        message_options.add_message_options(choices["publish"])
        choices["declare"].add_argument("--type", choices=EXCHANGE_TYPES, default="direct", help="else direct")
        choices["declare"].add_argument("--alternate-exchange", metavar="E", help="for what has nowhere to go")
        _add_binding(choices["bind"])
        choices["delete"].add_argument("--if-unused", action="store_true", help="only without bindings")
        for action in choices.values():
            terminal.add_json_option(action)

    def run(self, output: Output, options: dict[str, Any]) -> None:
        """Does the subcommand."""
        name: str = options.get("exchange") or ""
        match options["action"]:
            case "show":
                _show(output, name)
            case "bindings":
                if name:
                    selector.get(name)
                tell_bindings(output, bindings(exchange=name or None))
            case "route":
                headers = message_options.named_values(options["header"], "--header")
                _route(output, name, options["routing_key"], headers)
            case "publish":
                message_options.publish(self, output, name, options["routing_key"], options)
            case "declare":
                exchanges.declare_exchange(
                    name,
                    type=options["type"],
                    alternate_exchange=options["alternate_exchange"],
                    actor=audit.COMMAND,
                )
                _show(output, name)
            case "bind":
                _bind(output, name, options)
            case "unbind":
                binding = selector.binding(options["id"])
                binding_changes.unbind(binding.id, actor=audit.COMMAND)
                output.line(
                    f"{binding.exchange} does not lead to {destination(binding.queue, binding.to_exchange)} any more"
                )
                output.json({"deleted": binding.id})
            case "delete":
                exchanges.delete_exchange(name, if_unused=options["if_unused"], actor=audit.COMMAND)
                output.line(f"{name} is deleted")
                output.json({"deleted": name})
            case _:
                _list(output)


def _add_binding(action: ArgumentParser) -> None:
    to = action.add_mutually_exclusive_group(required=True)
    to.add_argument("--queue", metavar="Q")
    to.add_argument("--to-exchange", metavar="E")
    action.add_argument("--routing-key", default="", metavar="K", help="of a topic exchange a pattern")
    action.add_argument(
        "--argument",
        action="append",
        default=[],
        metavar="NAME=TEXT|NAME:=JSON",
        help="of a headers exchange a header, or x-match; repeatable",
    )


def _bind(output: Output, name: str, options: dict[str, Any]) -> None:
    number, created = binding_changes.bind(
        name,
        queue=options["queue"],
        to_exchange=options["to_exchange"],
        routing_key=options["routing_key"],
        arguments=message_options.named_values(options["argument"], "--argument"),
        actor=audit.COMMAND,
    )
    leads_to = destination(options["queue"], options["to_exchange"])
    output.line(f"binding {number}: {name} leads to {leads_to}" + ("" if created else ", as it did before"))
    output.json(binding_json(selector.binding(number)) | {"created": created})


def _list(output: Output) -> None:
    found: list[ExchangeDetail] = []
    after: str | None = ""
    while after is not None:
        page, after = selector.page(after, _PAGE)
        found.extend(page)
    for exchange in found:
        output.json(exchange_json(exchange))
    output.table(
        ("Exchange", "Type", ">Bindings", ">In/s", ">Unrouted/s", "Alternate exchange"),
        [
            (
                exchange.name,
                exchange.type,
                f"{exchange.bindings}",
                f"{exchange.publish_rate:,.1f}",
                f"{exchange.unrouted_rate:,.1f}",
                exchange.alternate_exchange or "-",
            )
            for exchange in found
        ],
        "There are no exchanges but the default one; `manage.py exchanges declare NAME` makes one",
    )


def _show(output: Output, name: str) -> None:
    exchange = selector.get(name)
    found = list(bindings(exchange=name))
    output.json(exchange_json(exchange) | {"bindings": [binding_json(binding) for binding in found]})
    if output.as_json:
        return
    for label, text in (
        ("exchange", exchange.name),
        ("type", exchange.type),
        ("created", terminal.instant(exchange.created_at)),
        ("alternate exchange", exchange.alternate_exchange or "-"),
    ):
        output.line(f"{label:<22}{text}")
    output.line("")
    tell_bindings(output, found)


def _route(output: Output, name: str, routing_key: str, headers: dict[str, Any]) -> None:
    answer = topology.fresh().explain(name, routing_keys(routing_key, headers), headers)
    reached = [queue.name for queue in answer.queues]
    output.json(
        {
            "queues": reached,
            "steps": [
                {
                    "exchange": hop.exchange,
                    "binding_id": None if hop.binding is None else hop.binding.id,
                    "queue": hop.queue,
                    "to_exchange": hop.to_exchange,
                    "routing_key": "" if hop.binding is None else hop.binding.routing_key,
                    "arguments": {} if hop.binding is None else dict(hop.binding.arguments),
                    "why": hop.why,
                }
                for hop in answer.hops
            ],
        }
    )
    output.table(
        ("Exchange", "Leads to", "Binding", "Why"),
        [
            (
                hop.exchange or "the default exchange",
                destination(hop.queue, hop.to_exchange),
                "-" if hop.binding is None else f"{hop.binding.id} {hop.binding.routing_key}".strip(),
                hop.why,
            )
            for hop in answer.hops
        ],
        "No binding matches",
    )
    output.line(f"it would reach {', '.join(reached)}" if reached else "it would reach no queue")
