"""`manage.py policies`: lists, sets and deletes policies, which set for many queues what a declaration sets for one."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any, Final

from brokers import audit, terminal
from brokers.management import queue_settings
from brokers.management.queue_json import policy_json
from brokers.models import QueuePolicy
from brokers.queues import policies
from brokers.selectors import queue_policies as selector
from brokers.terminal import Output, TerminalCommand

_PAGE: Final = 1000


def priority(text: str) -> int:
    """A whole number, which may be negative."""
    if not re.fullmatch(r"-?[0-9]{1,9}", text, re.ASCII):
        raise ArgumentTypeError(f"{text!a} is not a whole number")
    return int(text)


class Command(TerminalCommand):
    """Without a subcommand: `list`."""

    help = "Lists, sets and deletes policies of queues."

    def arguments(self, parser: ArgumentParser) -> None:
        """The subcommands and their arguments."""
        actions = parser.add_subparsers(dest="action", metavar="list|set|delete")
        parser.set_defaults(action="list")
        listing = actions.add_parser("list", help="All policies (the default)")
        setting = actions.add_parser("set", help="Makes it, or puts it in the place of the one of that name")
        delete = actions.add_parser("delete", help="Its queues are as they were declared, or under another policy")
        for action in (setting, delete):
            action.add_argument("policy")
        setting.add_argument("--pattern", required=True, metavar="REGEX", help="found anywhere unless anchored")
        setting.add_argument("--priority", type=priority, default=0, metavar="N", help="the highest one holds (0)")
        queue_settings.add_shared(setting)
        for action in (listing, setting, delete):
            terminal.add_json_option(action)

    def run(self, output: Output, options: dict[str, Any]) -> None:
        """Does the subcommand."""
        match options["action"]:
            case "set":
                name = options["policy"]
                created = policies.put_policy(
                    name,
                    pattern=options["pattern"],
                    priority=options["priority"],
                    actor=audit.COMMAND,
                    **queue_settings.given(options),
                )
                output.line(f"policy {name} is {'made' if created else 'changed'}")
                output.json(policy_json(selector.get(name)))
            case "delete":
                policies.delete_policy(options["policy"], actor=audit.COMMAND)
                output.line(f"policy {options['policy']} is deleted")
                output.json({"deleted": options["policy"]})
            case _:
                _list(output)


def _list(output: Output) -> None:
    found: list[QueuePolicy] = []
    after: str | None = ""
    while after is not None:
        page, after = selector.page(after, _PAGE)
        found.extend(page)
    for policy in found:
        output.json(policy_json(policy))
    output.table(
        ("Policy", "Queues", ">Priority", "Settings"),
        [(policy.name, policy.pattern, f"{policy.priority}", _settings(policy)) for policy in found],
        "There are no policies; `manage.py policies set NAME --pattern REGEX` makes one",
    )


def _settings(policy: QueuePolicy) -> str:
    values = ((name, getattr(policy, name)) for name in queue_settings.SHARED)
    return ", ".join(
        f"{name.replace('_', ' ').removesuffix(' ms')} {queue_settings.text(name, value)}"
        for name, value in values
        if value is not None
    )
