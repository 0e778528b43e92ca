"""`manage.py dead_letters`: failure groups, the dead letters in them, and settling those that need no replay."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any, Final

from brokers import audit, dead_letter_bulk, dead_letter_headers, dead_letters, terminal
from brokers.errors import InvalidValue
from brokers.management.dead_letter_json import dead_letter_json, failure_group_json, whole_json
from brokers.management.dead_letter_selection import add_filters, filter_of, is_filtered
from brokers.record import JSON
from brokers.selectors import dead_letters as selector
from brokers.selectors.dead_letters import Body, DeadLetter, FailureGroup, Filter
from brokers.terminal import Output, TerminalCommand, whole_number

_PAGE: Final = 500
_PREVIEW_BYTES: Final = 200
_SETTLING: Final = {"resolve": "resolved", "discard": "discarded", "reopen": "open"}
FINGERPRINT_SHOWN: Final = 12


def everyone(kind: str, source: str, group: str) -> bool:
    """Whoever may run commands on this machine sees all."""
    return True


class Command(TerminalCommand):
    """Without a subcommand: `groups`."""

    help = "Lists failure groups and dead letters, shows one, and resolves or discards them."

    def arguments(self, parser: ArgumentParser) -> None:
        """The subcommands and their arguments."""
        actions = parser.add_subparsers(dest="action", metavar="groups|list|show|resolve|discard|reopen")
        parser.set_defaults(action=None)
        groups = actions.add_parser("groups", help="Failures of one kind each (the default)")
        add_filters(groups, state="any")
        listing = actions.add_parser("list", help="Dead letters, newest failure first")
        add_filters(listing, state="open")
        listing.add_argument("--limit", type=whole_number, default=50, metavar="N", help="at most so many (50)")
        show = actions.add_parser("show", help="One dead letter: payload, headers, attempts, stack trace, history")
        show.add_argument("id", type=whole_number)
        for name, text in (
            ("resolve", "They are dealt with otherwise"),
            ("discard", "They need no handling"),
            ("reopen", "Resolved or discarded ones need handling after all"),
        ):
            action = actions.add_parser(name, help=text)
            action.add_argument("ids", type=whole_number, nargs="*", metavar="ID")
            add_filters(action, state=None)
            action.add_argument("--note", help="why; it stays with each of them")
            action.add_argument("--yes", action="store_true", help="do not ask, with filters")
        for action in actions.choices.values():
            terminal.add_json_option(action)

    def run(self, output: Output, options: dict[str, Any]) -> None:
        """Does the subcommand."""
        match options["action"]:
            case None:
                _groups(output, Filter())
            case "groups":
                _groups(output, filter_of(options))
            case "list":
                _list(output, filter_of(options), options["limit"])
            case "show":
                _show(output, options["id"])
            case action:
                self._settle(output, _SETTLING[action], options)

    def _settle(self, output: Output, state: str, options: dict[str, Any]) -> None:
        ids, note = options["ids"], options["note"]
        if bool(ids) == is_filtered(options):
            raise InvalidValue("say which: ids, or at least one filter, and not both")
        if ids:
            changed = dead_letters.change_state(ids, state, audit.COMMAND, note)
        else:
            wanted = filter_of(options)
            if not options["yes"]:
                self._ask(wanted, state)
            changed = dead_letter_bulk.change(wanted, state, everyone, audit.COMMAND, note)
        output.line(f"{changed:,} dead letter{'' if changed == 1 else 's'} {state}")
        output.json({"state": state, "changed": changed})

    def _ask(self, wanted: Filter, state: str) -> None:
        changing = dead_letter_bulk.outlook(wanted, state, everyone).changing
        if not sys.stdin.isatty():
            raise InvalidValue(f"{changing:,} dead letters would be {state}: --yes is needed where nobody can be asked")
        self.note(f"{changing:,} dead letters would be {state}. Type yes to do it: ")
        if sys.stdin.readline().strip() != "yes":
            raise InvalidValue("nothing was changed")


# -- lists --------------------------------------------------------------------------------------------------------


def _groups(output: Output, wanted: Filter) -> None:
    found: list[FailureGroup] = []
    after: str | None = ""
    while after is not None:
        page, after = selector.failure_groups(wanted, after, _PAGE, everyone)
        found.extend(page)
    for group in found:
        output.json(failure_group_json(group))
    output.table(
        ("Fingerprint", ">Open", ">All", "Last failure", "Source", "Consumer", "Exception", "Message"),
        [
            (
                group.fingerprint[:FINGERPRINT_SHOWN],
                f"{group.open:,}",
                f"{group.count:,}",
                terminal.instant(group.last_failed_at),
                group.source,
                group.group or "-",
                group.exception_class.rpartition(".")[2] or group.reason,
                group.message,
            )
            for group in found
        ],
        "Nothing has failed",
    )


def _list(output: Output, wanted: Filter, limit: int) -> None:
    for letter in _letters(wanted, limit, None) if output.as_json else ():
        output.json(dead_letter_json(letter))
    rows = [] if output.as_json else [_row(letter) for letter in _letters(wanted, limit, _PREVIEW_BYTES)]
    output.table(
        (">Id", "State", "Failed", "Source", "Consumer", "Key", "Exception", "Message"),
        rows,
        "There are no dead letters",
    )


def _letters(wanted: Filter, limit: int, preview_bytes: int | None) -> Iterator[DeadLetter]:
    after: str | None = ""
    while after is not None and limit > 0:
        page, after = selector.page(wanted, after, min(limit, _PAGE), everyone, preview_bytes=preview_bytes)
        limit -= len(page)
        yield from page


def _row(letter: DeadLetter) -> tuple[str, ...]:
    return (
        f"{letter.id}",
        letter.state,
        terminal.instant(letter.failed_at),
        place(letter),
        letter.group or "-",
        "-" if letter.body.key is None else terminal.printable_bytes(letter.body.key),
        letter.exception_class.rpartition(".")[2] or letter.reason,
        letter.error,
    )


def place(letter: DeadLetter) -> str:
    """Where it came from: `orders/3@117`, or the queue's name."""
    return letter.source if letter.partition is None else f"{letter.source}/{letter.partition}@{letter.offset}"


# -- one ----------------------------------------------------------------------------------------------------------


def _show(output: Output, number: int) -> None:
    letter, attempts = selector.get(number), selector.attempts(number)
    output.json(whole_json(letter, attempts))
    if output.as_json:
        return
    for label, text in (
        ("dead letter", f"{letter.id}, {letter.state}, revision {letter.revision}"),
        ("from", place(letter)),
        *_message_lines(letter),
        ("given up by", letter.group or letter.source),
        ("reason", f"{letter.reason} after {letter.attempts} attempt{'' if letter.attempts == 1 else 's'}"),
        ("first failed", terminal.instant(letter.first_failed_at)),
        ("last failed", terminal.instant(letter.failed_at)),
        ("fingerprint", letter.fingerprint),
        ("exception", letter.exception_class or "-"),
        ("message", letter.error),
        ("note", letter.note or "-"),
        ("key", "-" if letter.body.key is None else terminal.printable_bytes(letter.body.key)),
        ("value", _value(letter.body)),
    ):
        output.line(f"{label:<14}{text}")
    for name, header in dead_letter_headers.as_text(letter.body.headers).items():
        output.line(f"{'header':<14}{name}: {header}")
    output.line("")
    output.table(
        (">Attempt", ">Revision", ">Replay", "Began", "Ended", "Worker", "Error"),
        [
            (
                f"{attempt.number}",
                f"{attempt.revision}",
                "-" if attempt.replay_id is None else f"{attempt.replay_id}",
                terminal.instant(attempt.started_at),
                "worker lost" if attempt.ended_at is None else terminal.instant(attempt.ended_at),
                attempt.worker,
                attempt.error,
            )
            for attempt in attempts
        ],
        "No attempt is kept",
    )
    output.line("")
    output.table(
        ("Time", "What", "Who", "Details"),
        [
            (
                terminal.instant(event.at),
                event.kind,
                event.who or "-",
                " ".join(f"{name}={value}" for name, value in event.details.items()),
            )
            for event in reversed(selector.history(number))
        ],
        "",
    )
    for line in ("", *(letter.stacktrace or "").splitlines()):
        output.line(line)


def _message_lines(letter: DeadLetter) -> list[tuple[str, str]]:
    """What only a message has: how it was routed, its properties, and how it died."""
    if letter.source_kind != "queue":
        return []
    lines = [
        ("exchange", letter.exchange or "(default)"),
        ("routing key", letter.routing_key or "-"),
        ("message id", letter.message_id or "-"),
    ]
    for death in [] if letter.envelope is None else letter.envelope.deaths:
        times = f"{death.count} time{'' if death.count == 1 else 's'}"
        lines.append(
            ("died", f"{death.reason} in {death.queue}, {times}, from exchange {death.exchange or '(default)'}")
        )
    return lines


def _value(body: Body) -> str:
    if body.value is None:
        return "tombstone"
    text = terminal.printable_bytes(body.value)
    return text if body.encoding == JSON else f"{text} (bytes)"
