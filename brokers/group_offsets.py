"""Committing offsets: the fence that lets no member commit what is another's now.

The rule is the stored function `brokers_group_commit`: the group's generation must be the one the member last heard,
and each partition the member's own. It holds the group's row FOR SHARE to the end of the transaction, which is the
caller's if one is open: effects and offsets become durable together or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from brokers.errors import InvalidValue, StaleGeneration
from brokers.group_members import SQL, known_form, unknown
from brokers.settings import MAX_RECORDS_PER_REQUEST
from brokers.steps import Steps, arun, run


class GroupOffset(NamedTuple):
    """An offset of one partition: the next to read."""

    topic: str
    partition: int
    offset: int


def commit(group: str, member_id: str, offsets: Iterable[GroupOffset], *, generation: int | None = None) -> None:
    """Commits the next offset to read of each partition, all or none; a lower one than before is taken too.

    `generation` is by default that of the member's last poll. Inside a transaction it is part of it, and until its
    end no member of the group can join, leave or be expired: commit last. Raises `StaleGeneration` when the group
    has moved on or a partition is another's, `UnknownMember`, and `InvalidValue` for an offset beyond the latest.
    """
    run(_commit(group, known_form(group, member_id), checked_offsets(offsets, "/offsets"), generation))


async def acommit(group: str, member_id: str, offsets: Iterable[GroupOffset], *, generation: int | None = None) -> None:
    """`commit` on the pool; durable when it returns."""
    await arun(_commit(group, known_form(group, member_id), checked_offsets(offsets, "/offsets"), generation))


def checked_offsets(offsets: Iterable[GroupOffset], pointer: str) -> list[GroupOffset]:
    """The offsets, if none is negative and no partition stands twice; raises `InvalidValue`."""
    found = [GroupOffset(*offset) for offset in offsets]
    if len(found) > MAX_RECORDS_PER_REQUEST:
        raise InvalidValue(f"{len(found)} offsets are more than {MAX_RECORDS_PER_REQUEST}", pointer=pointer)
    places: set[tuple[str, int]] = set()
    for index, (topic, partition, offset) in enumerate(found):
        if not 0 <= offset < 2**63 or not 0 <= partition < 2**31:
            raise InvalidValue(
                f"{topic}/{partition}@{offset} is no offset of a partition", pointer=f"{pointer}/{index}"
            )
        if (topic, partition) in places:
            raise InvalidValue(f"{topic}/{partition} stands twice", pointer=f"{pointer}/{index}/partition")
        places.add((topic, partition))
    return found


def _commit(group: str, member_id: str, offsets: list[GroupOffset], generation: int | None) -> Steps[None]:
    if not offsets:
        raise InvalidValue("at least one offset is needed", pointer="/offsets")
    topics, numbers, positions = map(list, zip(*offsets, strict=True))
    rows = yield SQL.commit, (group, member_id, generation, topics, numbers, positions)
    status, at, fact = rows[0]
    if status == "committed":
        return
    if status == "unknown_member":
        raise unknown(group, member_id)
    if status == "stale":
        raise StaleGeneration(
            f"{group} is at generation {fact}, the commit at {'an earlier one' if generation is None else generation}: "
            "poll to learn what is yours now; nothing was committed"
        )
    if status == "ended":
        raise StaleGeneration(f"the member's session in {group} is over: join again; nothing was committed")
    topic, partition, offset = offsets[at - 1]
    if status == "not_owned":
        raise StaleGeneration(f"{topic}/{partition} is not the member's in {group}; nothing was committed")
    raise InvalidValue(
        f"offset {offset} is beyond {topic}/{partition}, whose next is {fact}; nothing was committed",
        pointer=f"/offsets/{at - 1}/offset",
    )
