"""What live push forgets: old notifications, tasks that nothing is heard of, unused tickets, users who are gone.

`apps` has the job done by the `listen` workers, like those of `brokers.housekeeping`.
"""

from __future__ import annotations

from typing import Any, Final

from django.db import transaction

from brokers.database import sync_cursor
from brokers.housekeeping import Job, KeepGoing
from realtime.models import Inbox, ProgressRow
from realtime.sql import load

SQL = load("housekeeping")

NOTIFICATION_DAYS: Final = 30
"""How long a notification is kept at most."""
TASK_DAYS: Final = 7
"""How long a task is remembered after its last change."""
_ROWS: Final = 1000
_STATEMENTS: Final = 100


def purge(keep_going: KeepGoing = lambda: True) -> int:
    """Forgets what is past its time, a bounded number of each kind in short transactions; says how many."""
    total = 0
    for statement, parameters in (
        (SQL.notifications, {"days": NOTIFICATION_DAYS, "limit": _ROWS}),
        (SQL.tasks, {"days": TASK_DAYS, "limit": _ROWS}),
        (SQL.tickets, {"limit": _ROWS}),
    ):
        for _ in range(_STATEMENTS):
            if not keep_going():
                return total
            with sync_cursor() as cursor:
                done = cursor.execute(statement, parameters).rowcount
            total += done
            if done < _ROWS:
                break
    return total


JOB: Final = Job(100, "forget notifications, tasks and tickets", 60.0, purge)


def forget_user(sender: Any, instance: Any, **kwargs: Any) -> None:
    """Forgets what is a deleted user's, for another may get the name (Django's signal `post_delete`)."""
    with transaction.atomic():
        Inbox.objects.filter(user_name=instance.get_username()).delete()
        ProgressRow.objects.filter(user_name=instance.get_username()).delete()
