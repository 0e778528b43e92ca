"""Dead letters and failure groups as the JSON lines of the commands: the members and names that REST gives them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from brokers.instants import rfc3339
from brokers.record import JSON
from brokers.selectors.dead_letters import Attempt, Body, DeadLetter, FailureGroup


def failure_group_json(group: FailureGroup) -> dict[str, Any]:
    """A failure group."""
    return {
        "fingerprint": group.fingerprint,
        "count": group.count,
        "open": group.open,
        "replaying": group.replaying,
        "replayed": group.replayed,
        "resolved": group.resolved,
        "discarded": group.discarded,
        "failures": group.failures,
        "first_failed_at": rfc3339(group.first_failed_at),
        "last_failed_at": rfc3339(group.last_failed_at),
        "exception_class": group.exception_class,
        "message": group.message,
        "frame": group.frame,
        "reason": group.reason,
        "source_kind": group.source_kind,
        "source": group.source,
        "group": group.group or None,
        "handler": group.handler,
        "sample_id": group.sample_id,
    }


def dead_letter_json(letter: DeadLetter) -> dict[str, Any]:
    """A dead letter as a list has it: without stack trace and attempts."""
    return {
        "id": letter.id,
        "state": letter.state,
        "reason": letter.reason,
        "source_kind": letter.source_kind,
        "source": letter.source,
        "group": letter.group or None,
        "partition": letter.partition,
        "offset": letter.offset,
        "exchange": letter.exchange,
        "routing_key": letter.routing_key,
        "message_id": letter.message_id,
        **body_json(letter.body),
        "exception": {"class": letter.exception_class, "message": letter.error},
        "fingerprint": letter.fingerprint,
        "first_failed_at": rfc3339(letter.first_failed_at),
        "failed_at": rfc3339(letter.failed_at),
        "revision": letter.revision,
        "replays": [
            {"id": replay.id, "outcome": replay.outcome, "at": rfc3339(replay.at)} for replay in letter.replays
        ],
        "note": letter.note,
    }


def whole_json(letter: DeadLetter, attempts: Sequence[Attempt]) -> dict[str, Any]:
    """A dead letter with its stack trace and attempts."""
    made = dead_letter_json(letter)
    made["exception"]["stacktrace"] = letter.stacktrace
    made["attempts"] = [
        {
            "number": attempt.number,
            "revision": attempt.revision,
            "replay_id": attempt.replay_id,
            "started_at": rfc3339(attempt.started_at),
            "ended_at": rfc3339(attempt.ended_at),
            "error": attempt.error,
            "delay_ms": attempt.delay_ms,
            "worker": attempt.worker,
        }
        for attempt in attempts
    ]
    return made


def body_json(body: Body) -> dict[str, Any]:
    """Key, value and headers; a JSON value in the very bytes that were published, but for line breaks."""
    made: dict[str, Any] = {"key": None}
    if body.key is not None:
        try:
            made["key"] = body.key.decode()
        except UnicodeDecodeError:
            made = {"key_base64": base64.b64encode(body.key).decode()}
    if body.value is None or body.encoding == JSON:
        made["value"] = (
            None if body.value is None else msgspec.Raw(body.value.replace(b"\n", b" ").replace(b"\r", b" "))
        )
    else:
        made["value_base64"] = base64.b64encode(body.value).decode()
    return made | {"headers": body.headers}
