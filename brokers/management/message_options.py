"""How the commands are told of messages to publish: their properties as arguments, their bodies as JSON."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from brokers import record_files
from brokers.errors import BrokerError, InvalidValue, shown
from brokers.management import standard_input
from brokers.queues.message import NewMessage
from brokers.queues.message_input import MAX_BODY_BYTES, PROPERTIES, checked
from brokers.queues.sending import publish_messages
from brokers.record import JSON
from brokers.record_files import Rules
from brokers.terminal import Output, TerminalCommand, whole_number

_STANDARD_INPUT: Final = "-"
_NUMBERS: Final = ("priority", "expiration_ms", "delay_ms")


def add_message_options(action: ArgumentParser) -> None:
    """The body and the properties of `manage.py queues publish` and `exchanges publish`."""
    action.add_argument("--body", metavar="JSON|-", help="the message's body; - reads lines of JSON (default)")
    action.add_argument("--header", action="append", default=[], metavar="NAME=TEXT|NAME:=JSON", help="repeatable")
    action.add_argument("--priority", type=whole_number, metavar="N")
    action.add_argument("--expiration-ms", type=whole_number, metavar="MS", help="how long it may wait")
    action.add_argument("--delay-ms", type=whole_number, metavar="MS", help="ready only after so long")
    for name in PROPERTIES:
        action.add_argument(f"--{name.replace('_', '-')}", metavar="TEXT")


def named_values(given: Sequence[str], option: str) -> dict[str, Any]:
    """`NAME=TEXT` and `NAME:=JSON` by name. Raises `InvalidValue` for what is neither."""
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or name in ("", ":"):
            raise InvalidValue(f"{option} is NAME=TEXT or NAME:=JSON, not {shown(text)}")
        if name.endswith(":"):
            name, value = name[:-1], _json(name[:-1], value, option)
        found[name] = value
    return found


def _json(name: str, text: str, option: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise InvalidValue(f"{option} {shown(name)} has no JSON behind := but {shown(text)}") from None


def publish(command: TerminalCommand, output: Output, exchange: str, routing_key: str, options: dict[str, Any]) -> None:
    """Publishes what the arguments say, or each line of standard input as soon as it has come; tells of each message.

    Raises what `publish_messages` raises, and `BadLine`, after saying how many messages went out before.
    """
    template = checked(
        NewMessage(
            b"",
            JSON,
            routing_key,
            named_values(options["header"], "--header") or None,
            **{name: options[name] for name in (*_NUMBERS, *PROPERTIES)},
        )
    )
    place = f"queue {routing_key}" if exchange == "" else f"exchange {exchange}"
    rules = Rules(topic=place, key=None, max_record_bytes=MAX_BODY_BYTES, key_needed=False)
    count = 0
    try:
        for lines in _lines(command, place, options["body"]):
            chunk = record_files.parse_lines(lines, rules)
            bodies = [record.value or b"null" for record in chunk.records]
            count += _publish(output, exchange, [template._replace(body=body) for body in bodies], options)
            output.flush()
            if chunk.fault is not None:
                raise chunk.fault if options["body"] in (None, _STANDARD_INPUT) else _of_option(chunk.fault)
    except (BrokerError, KeyboardInterrupt):
        if options["body"] in (None, _STANDARD_INPUT):
            command.note(f"{_messages(count)} published before this")
        raise
    output.line(f"{_messages(count)} published to {place}")


def _publish(output: Output, exchange: str, messages: list[NewMessage], options: dict[str, Any]) -> int:
    if not messages:
        return 0
    sent = publish_messages(exchange, messages, options.get("mandatory", False)).sent
    for message_id, queues in sent:
        output.json({"id": message_id, "queues": queues})
        if len(sent) == 1:
            output.line(f"message {message_id} is in {queues} queue{'' if queues == 1 else 's'}")
    return len(sent)


def _lines(command: TerminalCommand, place: str, body: str | None) -> Iterator[list[tuple[int, bytes]]]:
    if body not in (None, _STANDARD_INPUT):
        yield [(1, os.fsencode(body).strip())]
        return
    if sys.stdin.isatty():
        command.note(f"One JSON value a line, for {place}; Ctrl-D ends")
    yield from standard_input.arriving(sys.stdin.buffer.fileno())


def _of_option(fault: record_files.BadLine) -> InvalidValue:
    return InvalidValue(fault.detail.replace("line 1:", "the body", 1))


def _messages(count: int) -> str:
    return f"{count:,} message" if count == 1 else f"{count:,} messages"
