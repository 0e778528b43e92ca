"""How the commands say which dead letters are meant: the same arguments for `dead_letters` and `replay`."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from brokers.errors import FailureGroupNotFound, InvalidValue, shown
from brokers.models import FailureGroup
from brokers.models.failures import SOURCE_KINDS, STATES
from brokers.selectors.dead_letters import Filter

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_NAMES: Final = ("source_kind", "source", "group", "fingerprint", "since", "until", "q")
ANY_STATE: Final = "any"


def instant(text: str) -> datetime:
    """`2h` ago (in s, m, h, d or w), or an RFC 3339 time with its zone; for `type=` of an argument."""
    length = re.fullmatch(r"([0-9]{1,6})([smhdw])", text, re.ASCII)
    try:
        if length:
            return datetime.now(UTC) - timedelta(**{_UNITS[length[2]]: int(length[1])})
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"{text!a} is no time such as 2h or 2030-01-31T00:00:00Z") from None
    if moment.tzinfo is None:
        raise ArgumentTypeError(f"{text!a} needs a zone, such as Z")
    return moment


def add_filters(action: ArgumentParser, *, state: str | None) -> None:
    """The filters; `state` is the default of `--state`, and None leaves that argument out."""
    action.add_argument("--group", help="the consumer group that failed")
    action.add_argument("--source", help="the topic or queue")
    action.add_argument("--source-kind", choices=SOURCE_KINDS)
    action.add_argument("--fingerprint", metavar="F", help="of a failure group; its first characters are enough")
    if state is not None:
        states = (*STATES, ANY_STATE)
        action.add_argument("--state", choices=states, default=state, help=f"{', '.join(states)}; else {state}")
    action.add_argument("--since", type=instant, metavar="2h|TIME", help="failed then or later")
    action.add_argument("--until", type=instant, metavar="2h|TIME", help="failed before")
    action.add_argument("--search", dest="q", metavar="TEXT", help="in key, message id, exception class or message")


def is_filtered(options: dict[str, Any]) -> bool:
    """Whether any filter but `--state` was given."""
    return any(options[name] is not None for name in _NAMES)


def filter_of(options: dict[str, Any]) -> Filter:
    """What the arguments say. Raises `InvalidValue`, `FailureGroupNotFound`."""
    given = {name: options[name] for name in _NAMES}
    state = options.get("state")
    if given["fingerprint"] is not None:
        given["fingerprint"] = whole_fingerprint(given["fingerprint"])
    return Filter(**given, state=None if state == ANY_STATE else state)


def by_ids(ids: list[int]) -> Filter:
    """Those and no others."""
    return Filter(ids=tuple(ids))


def whole_fingerprint(beginning: str) -> str:
    """The fingerprint that begins so. Raises `FailureGroupNotFound`, and `InvalidValue` where several do."""
    fitting = FailureGroup.objects.filter(fingerprint__startswith=beginning).values_list("fingerprint", flat=True)
    found = list(fitting[:2])
    if not found:
        raise FailureGroupNotFound(f"there are no failures of the fingerprint {shown(beginning)}")
    if len(found) > 1:
        raise InvalidValue(f"several fingerprints begin with {shown(beginning)}: give more of it")
    return found[0]
