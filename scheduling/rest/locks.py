"""Listing locks over REST, and releasing one by force. `messaging_site.asgi` adds these to the REST application."""

from __future__ import annotations

from typing import Literal

import msgspec

from brokers.access import allowed
from brokers.errors import LockNotFound
from brokers.instants import rfc3339
from brokers.rest.operation import Access, Answer, Call, Operation
from brokers.rest.threads import in_thread
from brokers.rest.topics import PageQuery
from scheduling.locks import listing, releasing
from scheduling.locks.listing import LockRow


class Lock(msgspec.Struct):
    """A lock, held or free."""

    name: str
    state: Literal["held", "free"]
    locked_by: str
    """The last holder: host, process and acquisition, or what another ShedLock client calls itself."""
    locked_at: str
    """When it was last taken, by the database's clock."""
    lock_until: str
    """Until when nobody else can take it, or since when it is free."""


class LockPage(msgspec.Struct):
    """Locks by name."""

    items: list[Lock]
    next: str | None
    """The `after` of the next page, if there is one."""


def shown(row: LockRow) -> Lock:
    """A lock as an answer."""
    return Lock(
        name=row.name,
        state="held" if row.is_held else "free",
        locked_by=row.locked_by,
        locked_at=rfc3339(row.locked_at) or "",
        lock_until=rfc3339(row.until) or "",
    )


async def get_locks(call: Call) -> Answer:
    """Locks that were ever taken, by name, those that the caller may describe."""

    def may(row: LockRow) -> bool:
        return allowed(call.principal, "describe", "lock", row.name)

    rows, following = await in_thread(listing.page, call.query.after, call.query.limit, may)
    return Answer(body=LockPage(list(map(shown, rows)), following))


async def delete_lock(call: Call) -> Answer:
    """Releases a lock by force, whoever holds it; a free one stays as it is.

    Its holder goes on unaware: two may run at once. It can neither extend nor unlock it any more, and work behind a
    fence is rolled back.
    """
    await in_thread(releasing.release, call.path["lock"], actor=call.actor())
    return Answer(204)


def operations() -> list[Operation]:
    """Declarations of both."""
    return [
        Operation(
            method="GET",
            path="/api/v1/locks",
            summary="List locks",
            tag="Locks",
            access=(Access("describe", "lock", why="the list holds what the caller may describe"),),
            handler=get_locks,
            query=PageQuery,
            answers={200: LockPage},
        ),
        Operation(
            method="DELETE",
            path="/api/v1/locks/{lock}",
            summary="Release a lock by force",
            tag="Locks",
            access=(Access("alter", "lock", "lock"),),
            handler=delete_lock,
            answers={204: None},
            problems=(LockNotFound,),
        ),
    ]
