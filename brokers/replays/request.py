"""What may be asked of a replay, checked: where it leads, the edit it makes, and how carefully it goes.

Called by plans and creation; the surfaces build these values from bodies, forms and arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Final

from brokers import dead_letter_headers, merge_patch, record_input, strict_json, task_calls, topics
from brokers.errors import InvalidValue, Malformed, TooLarge, shown
from brokers.names import validate
from brokers.queues import topology
from brokers.record import JSON, RAW
from brokers.selectors.dead_letter_filter import Consumer, Filter
from brokers.settings import MAX_RECORD_BYTES_LIMIT, MAX_RECORDS_PER_REQUEST

MAX_ITEMS: Final = 1_000_000
"""Dead letters of one replay."""
MAX_IDS: Final = MAX_RECORDS_PER_REQUEST
"""Dead letters of one replay that are named one by one."""
MIN_RATE: Final = 0.001
MAX_RATE: Final = 100_000.0
MAX_CANARY: Final = 1000
MAX_REASON: Final = 2000
"""Characters of a replay's reason."""
MAX_ROUTING_KEY: Final = 255
"""Bytes of a routing key."""


class Unchanged:
    """Marks what an edit leaves as it is, where None means none."""


UNCHANGED: Final = Unchanged()


@dataclass(frozen=True, slots=True)
class Target:
    """Where a replay publishes anew; one of `topic`, `queue` and `exchange` is given."""

    topic: str | None = None
    queue: str | None = None
    exchange: str | None = None
    routing_key: str = ""

    def checked(self) -> Target:
        """Itself; raises `InvalidValue`, `TopicNotFound`, `QueueNotFound` and `ExchangeNotFound`."""
        if sum(name is not None for name in (self.topic, self.queue, self.exchange)) != 1:
            raise InvalidValue("a target names one of topic, queue and exchange", pointer="/target")
        if self.topic is not None:
            validate("topic", self.topic, pointer="/target/topic")
            topics.lookup(self.topic)
        elif self.queue is not None:
            validate("queue", self.queue, pointer="/target/queue")
            topology.queue(self.queue)
        elif self.exchange:
            validate("exchange", self.exchange, pointer="/target/exchange")
            topology.exchange(self.exchange)
        if len(self.routing_key.encode("utf-8", "replace")) > MAX_ROUTING_KEY or not _is_text(self.routing_key):
            what = f"a routing key has up to {MAX_ROUTING_KEY} bytes of UTF-8 without NUL"
            raise InvalidValue(what, pointer="/target/routing_key")
        return self

    @property
    def resource(self) -> tuple[str, str]:
        """Type and name of what `write` is needed on: what is published to the default exchange is for a queue."""
        if self.topic is not None:
            return "topic", self.topic
        if self.queue is not None:
            return "queue", self.queue
        return ("exchange", self.exchange) if self.exchange else ("queue", self.routing_key)

    def as_json(self) -> dict[str, Any]:
        """As the replay's row keeps it and REST shows it."""
        if self.exchange is not None:
            return {"exchange": self.exchange, "routing_key": self.routing_key}
        return {"topic": self.topic} if self.topic is not None else {"queue": self.queue}


@dataclass(frozen=True, slots=True)
class Contents:
    """Key, value and headers of a dead letter as they are or would be; `encoding` as of `Record`."""

    key: bytes | None
    value: bytes | None
    encoding: int
    headers: Mapping[str, Any]
    """Text, but on a message any JSON value."""

    @property
    def size(self) -> int:
        """Bytes of key, value and headers."""
        return len(self.key or b"") + len(self.value or b"") + dead_letter_headers.size_of(self.headers)


@dataclass(frozen=True, slots=True)
class Edit:
    """New contents of one dead letter. A value is bytes of `encoding`: JSON text, or bytes of their own; None is a
    tombstone. With `expected_revision` the edit is refused when somebody else made one meanwhile.
    """

    key: bytes | Unchanged | None = UNCHANGED
    value: bytes | Unchanged | None = UNCHANGED
    encoding: int = JSON
    headers: Mapping[str, Any] | Unchanged = UNCHANGED
    expected_revision: int | None = None

    def checked(self) -> Edit:
        """Itself, headers as plain values; raises `InvalidValue`, `TooLarge` and what the JSON reader raises."""
        if self.encoding not in (RAW, JSON):
            raise InvalidValue(f"an encoding is RAW or JSON, not {shown(self.encoding)}", pointer="/edit/value")
        if not isinstance(self.key, Unchanged):
            record_input.key_bytes(self.key)
        if isinstance(self.value, bytes):
            if len(self.value) > MAX_RECORD_BYTES_LIMIT:
                raise TooLarge(f"the value has {len(self.value)} bytes; {MAX_RECORD_BYTES_LIMIT} are allowed")
            if self.encoding == JSON:
                strict_json.loads(self.value)
        if isinstance(self.headers, Unchanged):
            return self
        with _pointing_into("/edit"):
            return replace(self, headers=dead_letter_headers.checked_json(self.headers))

    def checked_for(self, source_kind: str) -> Edit:
        """Itself, as what came from a topic, a queue or a task can have it: a message has no key and any headers, a
        task neither of them, and a value that holds its arguments.

        Raises `InvalidType` and `InvalidValue`.
        """
        if source_kind != "topic" and isinstance(self.key, bytes):
            what = "task" if source_kind == task_calls.KIND else "message"
            raise InvalidValue(f"a {what} has no key", pointer="/edit/key")
        if not isinstance(self.value, Unchanged):
            with _pointing_into("/edit"):
                task_calls.check_edit(source_kind, self.value, self.encoding)
        if isinstance(self.headers, Unchanged):
            return self
        with _pointing_into("/edit"):
            return replace(self, headers=dead_letter_headers.checked(self.headers, source_kind))

    def applied(self, before: Contents) -> Contents:
        """The contents with the edit."""
        changed = not isinstance(self.value, Unchanged)
        return Contents(
            before.key if isinstance(self.key, Unchanged) else self.key,
            before.value if isinstance(self.value, Unchanged) else self.value,
            self.encoding if changed else before.encoding,
            before.headers if isinstance(self.headers, Unchanged) else self.headers,
        )


@dataclass(frozen=True, slots=True)
class Canary:
    """The first `count` go alone; the others follow when at least `min_success` (0 to 1) of these succeeded."""

    count: int = 10
    min_success: float = 0.9


@dataclass(frozen=True, slots=True)
class Pace:
    """How carefully a replay goes."""

    rate_per_second: float | None = None
    canary: Canary | None = None
    stop_when_failed_again: float | None = None
    """Share of the last 50 outcomes (0 to 1) above which it stops."""

    def checked(self) -> Pace:
        """Itself; raises `InvalidValue` with everything that is wrong."""
        errors: list[tuple[str, str]] = []
        if self.rate_per_second is not None and not within(self.rate_per_second, MIN_RATE, MAX_RATE):
            errors.append(("/rate_per_second", f"must be {MIN_RATE} to {MAX_RATE:g}, not {self.rate_per_second}"))
        if self.stop_when_failed_again is not None and not within(self.stop_when_failed_again, 0.0, 1.0):
            errors.append(("/stop_when_failed_again", f"must be 0 to 1, not {self.stop_when_failed_again}"))
        if self.canary is not None:
            if not within(self.canary.count, 1, MAX_CANARY):
                errors.append(("/canary/count", f"must be 1 to {MAX_CANARY}, not {self.canary.count}"))
            if not within(self.canary.min_success, 0.0, 1.0):
                errors.append(("/canary/min_success", f"must be 0 to 1, not {self.canary.min_success}"))
        if errors:
            raise InvalidValue("the replay's pace is not valid", errors=errors)
        return self


Check = Callable[[Sequence[Consumer]], None]
"""Raises unless the caller may replay the dead letters of all these consumers."""


def everyone(consumers: Sequence[Consumer]) -> None:
    """The `Check` of callers that may replay anything."""


def within(value: float, least: float, most: float) -> bool:
    """Whether a number is finite and in its bounds."""
    return math.isfinite(value) and least <= value <= most


def checked_selection(selection: Filter) -> Filter:
    """The filter, ids once each; raises `InvalidValue` for no ids or too many."""
    if selection.ids is None:
        return selection
    ids = tuple(dict.fromkeys(selection.ids))
    if not 1 <= len(ids) <= MAX_IDS:
        raise InvalidValue(f"1 to {MAX_IDS} ids may be given, not {len(ids)}", pointer="/selection/ids")
    return replace(selection, ids=ids)


@contextmanager
def _pointing_into(part: str) -> Iterator[None]:
    try:
        yield
    except InvalidValue as error:
        error.errors = [(f"{part}{pointer}", what) for pointer, what in error.errors]
        raise


def _is_text(text: str) -> bool:
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def selection_json(selection: Filter) -> dict[str, Any]:
    """As the replay's row keeps it and REST shows it: `{"ids": [...]}` or `{"filter": {...}}`."""
    if selection.ids is not None:
        return {"ids": list(selection.ids)}
    given = {name: value for name, value in asdict(selection).items() if value is not None}
    for hidden in ("consumers", "readable"):
        given.pop(hidden, None)
    return {
        "filter": {
            name: value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value
            for name, value in given.items()
        }
    }


def checked_patch(patch: bytes) -> bytes:
    """The JSON text of a merge patch; raises what the JSON reader raises, and `InvalidValue` for no object."""
    if not isinstance(strict_json.loads(patch), dict):
        raise InvalidValue("a merge patch is a JSON object", pointer="/edit/merge_patch")
    return patch


def checked_reason(reason: str) -> str:
    """The reason, if it can be stored."""
    if len(reason) > MAX_REASON or "\0" in reason:
        raise InvalidValue(f"a reason has up to {MAX_REASON} characters and no NUL", pointer="/reason")
    return reason


def patched(before: Contents, patch: bytes) -> Contents | None:
    """The contents with the merge patch; None when the value is not JSON. A tombstone counts as null."""
    if before.value is not None and before.encoding != JSON:
        return None
    try:
        value = merge_patch.merge(b"null" if before.value is None else before.value, patch)
    except (ValueError, Malformed):
        return None
    return Contents(before.key, value, JSON, before.headers)
