"""The fence: a transaction commits only if its process still holds the lock, whatever happened on the way.

A process that was stopped past its `at_most_for` cannot know that another has the lock by now; the database does.
"""

from __future__ import annotations

from brokers.database import in_transaction, sync_cursor
from scheduling.locks import active
from scheduling.locks.errors import LockLost, NotLocked
from scheduling.locks.store import SQL


def fence(name: str | None = None) -> None:
    """The last statement of a transaction that only the lock's holder may commit; without a name, the innermost lock's.

    Nobody can take the lock between this and the commit. Raises `LockLost` when it has lapsed or was released: let it
    pass, so that the transaction rolls back. Raises `NotLocked` outside of a lock or of a transaction.

    From here on a transaction that is idle for five seconds is ended by the database, or a process that is stopped in
    it would keep the lock from everybody.
    """
    lease = active.innermost(name)
    if not in_transaction():
        raise NotLocked(f"the fence of the lock {lease.terms.name} belongs to the end of a transaction: open one")
    with sync_cursor() as cursor:
        cursor.execute(SQL.not_idle_for_long)
        found = cursor.execute(SQL.fence, (lease.terms.name, lease.locked_by)).fetchone()
    if found is None:
        raise LockLost(f"the lock {lease.terms.name} was lost before its work could be committed")
    lease.is_fenced = True
