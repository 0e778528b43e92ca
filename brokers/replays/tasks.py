"""Dead letters of tasks: given back to whoever runs tasks, which is above this package and registers itself.

`register` names a function that makes the calls anew, in the transaction of the replay's step; whoever runs them says
how they ended: `succeeded` here, or `dead_letters.reopen` when they were given up again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple, cast

from django.db import transaction
from django.utils.module_loading import import_string

from brokers import wakeup
from brokers.database import sync_cursor
from brokers.replays.plans import SQL


class Call(NamedTuple):
    """A task's dead letter on its way."""

    item_id: int
    dead_letter_id: int
    revision: int
    task: str
    value: bytes | None
    """Its arguments, as `task_calls` has them."""
    encoding: int
    replay_id: int
    created_by: str


GiveBack = Callable[[Sequence[Call]], dict[int, str]]
"""Makes calls anew in the caller's transaction; answers the items for which that cannot be, each with why."""

_registered: list[str] = []


def register(path: str) -> None:
    """Has the function of that dotted path give tasks back; it is imported by the first replay that needs it."""
    _registered[:] = [path]


def give_back(calls: Sequence[Call]) -> dict[int, str]:
    """Has the tasks done again; answers the items that cannot be, each with why. In the caller's transaction."""
    if not _registered:
        return {call.item_id: "gone" for call in calls}
    return _loaded(_registered[0])(calls)


def succeeded(item: int, dead_letter: int) -> None:
    """A call that was given back has been done: its item has succeeded, and its dead letter is replayed.

    In the caller's transaction, which is the one that ends the call.
    """
    parameters: dict[str, Any] = {"item": item, "letter": dead_letter}
    with sync_cursor() as cursor:
        cursor.execute(SQL.done, parameters)
    transaction.on_commit(wakeup.announce_replays, robust=True)


@cache
def _loaded(path: str) -> GiveBack:
    return cast("GiveBack", import_string(path))
