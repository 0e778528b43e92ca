"""The console's words for failures: states and outcomes as icon, tone and word; titles of what went wrong.

One vocabulary for lists, pages and progress. Pure; used by the views and by the template tags of `failures`.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Word(NamedTuple):
    """How a state is drawn: shape, colour and word, never one of them alone."""

    icon: str
    tone: str
    text: str


LETTER_STATES: Final = {
    "open": Word("ring", "bad", "Open"),
    "replaying": Word("info", "info", "Replaying"),
    "replayed": Word("check", "ok", "Replayed"),
    "resolved": Word("ok", "ok", "Resolved"),
    "discarded": Word("bin", "mute", "Discarded"),
}
FAILED_AGAIN: Final = Word("again", "warn", "Failed again")
"""An open dead letter that was replayed before."""

REPLAY_STATES: Final = {
    "planned": Word("list", "mute", "Planned"),
    "waiting": Word("clock", "info", "Starts soon"),
    "canary": Word("info", "info", "Canary"),
    "running": Word("info", "info", "Running"),
    "paused": Word("bars", "warn", "Paused"),
    "stopped": Word("stop", "bad", "Stopped by rule"),
    "completed": Word("ok", "ok", "Completed"),
    "cancelled": Word("cross", "mute", "Cancelled"),
}
WITH_FAILURES: Final = Word("again", "warn", "Completed with failures")

OUTCOMES: Final = {
    "waiting": Word("clock", "mute", "Waiting"),
    "sent": Word("info", "info", "Under way"),
    "succeeded": Word("check", "ok", "Succeeded"),
    "failed_again": Word("again", "bad", "Failed again"),
    "skipped": Word("mute", "mute", "Skipped"),
}

REASONS: Final = {
    "exception": "the exception is not retried",
    "attempts_exhausted": "all attempts are used up",
    "worker_lost": "its worker was lost each time",
    "rejected": "rejected",
    "expired": "expired in its queue",
    "maxlen": "its queue was full",
    "delivery_limit": "delivered too often",
    "undecodable": "cannot be decoded",
}

WHYS: Final = {
    "already_processed": "already processed",
    "superseded": "superseded by an edit",
    "gone": "topic, queue or consumer group is gone, or was purged",
    "replaying": "in another replay",
    "resolved": "resolved",
    "discarded": "discarded",
    "not_json": "not JSON, so it cannot be patched",
    "invalid_arguments": "no longer a call: args and kwargs are needed",
    "unroutable": "no queue is reached from the target",
    "queue_full": "the queue is full",
    "cancelled": "cancelled before it was sent",
    "same": "the same failure",
    "new": "a new failure",
}


def letter_state(state: str, replays: int = 0) -> Word:
    """A dead letter's state; one that is open after a replay has failed again."""
    return FAILED_AGAIN if state == "open" and replays else LETTER_STATES[state]


def replay_state(state: str, failed_again: int = 0) -> Word:
    """A replay's state."""
    return WITH_FAILURES if state == "completed" and failed_again else REPLAY_STATES[state]


def why(text: str) -> str:
    """Why an item was skipped or failed again, in words."""
    return WHYS.get(text, text.replace("_", " "))


def in_words(name: str) -> str:
    """An operation of the audit record as a word: `change_rate` is "Change rate"."""
    return name.replace("_", " ").capitalize()


def short_class(qualified: str) -> str:
    """The class's own name: `orders.errors.OutOfStock` is `OutOfStock`."""
    return qualified.rpartition(".")[2]


def title(exception_class: str, message: str, reason: str) -> tuple[str, str]:
    """What went wrong, in two parts: the exception's own name, or the reason without one, and the message."""
    if exception_class:
        return short_class(exception_class), message
    return reason, message or REASONS.get(reason, "")


def place(frame: str) -> tuple[str, str]:
    """`module:function` in two parts, each empty when unknown."""
    module, _, function = frame.partition(":")
    return module, function
