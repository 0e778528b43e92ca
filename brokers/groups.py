"""Consumer groups: the one door to membership, polling, commits and resets.

Everything is rows: a group, its members, who owns which partition, and committed offsets. The rules are in the
modules of this front: `group_members` (join, leave, expiry), `group_polling`, `group_offsets` (commit) and
`group_resets` (reset, pause). Called by REST, the Python consumer, listeners, the console and housekeeping.
"""

from __future__ import annotations

from brokers.group_members import (
    Assigned,
    Joined,
    Subscription,
    ajoin,
    aleave,
    expire_sessions,
    forget_ended_members,
    join,
    leave,
    settle_overdue,
)
from brokers.group_offsets import GroupOffset, acommit, commit
from brokers.group_polling import Polled, apoll, poll
from brokers.group_resets import (
    LastReset,
    PlanOutdated,
    Reset,
    ResetTo,
    apply,
    last_reset,
    pause,
    reset,
    resume,
    undo,
)

__all__ = [
    "Assigned",
    "GroupOffset",
    "Joined",
    "LastReset",
    "PlanOutdated",
    "Polled",
    "Reset",
    "ResetTo",
    "Subscription",
    "acommit",
    "ajoin",
    "aleave",
    "apoll",
    "apply",
    "commit",
    "expire_sessions",
    "forget_ended_members",
    "join",
    "last_reset",
    "leave",
    "pause",
    "poll",
    "reset",
    "resume",
    "settle_overdue",
    "undo",
]
