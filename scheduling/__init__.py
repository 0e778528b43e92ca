"""Locks, scheduled tasks, executors and background work: the Python API.

What application code uses is named here and loaded on first use, so that importing a submodule pulls in nothing else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scheduling.durable.calls import DurableCall
    from scheduling.durable.current import current_call
    from scheduling.executors.background import background
    from scheduling.executors.executor import Executor
    from scheduling.locks import assert_locked, extend_lock, fence, scheduler_lock
    from scheduling.tasks.declared import scheduled

_HOMES = {
    "DurableCall": "scheduling.durable.calls",
    "Executor": "scheduling.executors.executor",
    "assert_locked": "scheduling.locks",
    "background": "scheduling.executors.background",
    "current_call": "scheduling.durable.current",
    "extend_lock": "scheduling.locks",
    "fence": "scheduling.locks",
    "scheduled": "scheduling.tasks.declared",
    "scheduler_lock": "scheduling.locks",
}

__all__ = [
    "DurableCall",
    "Executor",
    "assert_locked",
    "background",
    "current_call",
    "extend_lock",
    "fence",
    "scheduled",
    "scheduler_lock",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'scheduling' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
