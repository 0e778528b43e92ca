"""Plans of replays: what a selection would come to, judged by the very statement that freezes it.

`plan` is a dry run and writes nothing; `creation` gives the statement a replay, and its items are what the plan says.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

from psycopg import sql

from brokers.database import sync_cursor
from brokers.dead_letter_headers import DEATHS, arriving
from brokers.errors import DeadLetterNotFound, DeadLetterReplaying, InvalidValue, RevisionSuperseded
from brokers.replays.request import (
    MAX_ITEMS,
    Check,
    Contents,
    Edit,
    Target,
    checked_patch,
    checked_selection,
    everyone,
    patched,
)
from brokers.selectors.dead_letter_filter import Consumer, Filter, conditions
from brokers.sql import load

SQL = load("replays")

_SELECTED = "true /* selected */"


class Sample(NamedTuple):
    """One of the dead letters that would be replayed, as it is and as it would arrive."""

    id: int
    source_kind: str
    source: str
    group: str
    before: Contents
    after: Contents


class Plan(NamedTuple):
    """What a replay would do: `total` dead letters replayed; of the others selected, why how many are skipped."""

    total: int
    skipped: dict[str, int]
    sample: list[Sample]
    consumers: list[Consumer]
    """Whose dead letters are selected."""


class Judged(NamedTuple):
    """A plan without the sample's contents."""

    total: int
    skipped: dict[str, int]
    sample_ids: list[int]
    consumers: list[Consumer]


class Letter(NamedTuple):
    """A dead letter's current revision."""

    id: int
    source_kind: str
    source: str
    group: str
    state: str
    revision: int
    contents: Contents


def plan(
    selection: Filter,
    *,
    target: Target | None = None,
    edit: Edit | None = None,
    merge_patch: bytes | None = None,
    check: Check = everyone,
) -> Plan:
    """What a replay of the selection would do now; up to five of its dead letters before and after.

    Writes nothing. Raises what `creation.create` raises for the same request.
    """
    selection, target, edit, merge_patch = checked(selection, target, edit, merge_patch)
    judged = judge(selection, target=target, patch=merge_patch is not None, check=check)
    if edit is not None:
        for letter in letters([only(selection)]).values():
            require_editable(edit, letter)
    found = letters(judged.sample_ids)
    sample = []
    for number in judged.sample_ids:
        if number in found:
            letter = found[number]
            after = changed(letter, edit, merge_patch)
            sample.append(Sample(number, letter.source_kind, letter.source, letter.group, letter.contents, after))
    return Plan(judged.total, judged.skipped, sample, judged.consumers)


def checked(
    selection: Filter, target: Target | None, edit: Edit | None, merge_patch: bytes | None
) -> tuple[Filter, Target | None, Edit | None, bytes | None]:
    """The parts of a request, each as it will be used; raises what is wrong with them."""
    selection = checked_selection(selection)
    if edit is not None and merge_patch is not None:
        raise InvalidValue("a replay has an edit or a merge patch, not both", pointer="/edit")
    if edit is not None and (selection.ids is None or len(selection.ids) != 1):
        raise InvalidValue("an edit changes one dead letter: select it by its id", pointer="/edit")
    return (
        selection,
        None if target is None else target.checked(),
        None if edit is None else edit.checked(),
        None if merge_patch is None else checked_patch(merge_patch),
    )


def only(selection: Filter) -> int:
    """The id of a selection of one."""
    assert selection.ids is not None
    [number] = selection.ids
    return number


def judge(
    selection: Filter, *, target: Target | None, patch: bool, check: Check = everyone, replay_id: int | None = None
) -> Judged:
    """What would become of each dead letter selected; with a replay, they are frozen as its items.

    One statement, in the caller's transaction if there is one. Raises `DeadLetterNotFound` for ids that are unknown,
    `InvalidValue` for more than a million, and what `check` raises.
    """
    before, _, after = SQL.judge.partition(_SELECTED)
    where, values = conditions(selection)
    selected = where if values else sql.SQL(_SELECTED)
    query = sql.Composed([sql.SQL(before), selected, sql.SQL(after)])
    parameters = [replay_id, target is None, patch, MAX_ITEMS, *values, MAX_ITEMS + 1]
    with sync_cursor() as cursor:
        rows = cursor.execute(query, parameters, prepare=False).fetchall()
    whys: dict[str, int] = {why: count for kind, why, _, _, count in rows if kind == "why"}
    consumers = [Consumer(*names) for kind, *names, _ in rows if kind == "consumer"]
    found = sum(whys.values())
    if found > MAX_ITEMS:
        raise InvalidValue(
            f"a replay takes up to {MAX_ITEMS:,} dead letters, and more are selected: narrow the filter",
            pointer="/selection/filter",
        )
    if selection.ids is not None and found < len(selection.ids):
        raise DeadLetterNotFound(_missing(selection.ids))
    check(consumers)
    total = whys.pop("", 0)
    return Judged(total, whys, [row[4] for row in rows if row[0] == "sample"], sorted(consumers))


def _missing(ids: tuple[int, ...]) -> str:
    there = letters(ids)
    unknown = [str(number) for number in ids if number not in there]
    if not unknown:
        return "some of these dead letters are not among those that the filter lets through"
    return f"there is no dead letter {', '.join(unknown[:5])}{' and others' if len(unknown) > 5 else ''}"


def letters(ids: list[int] | tuple[int, ...]) -> dict[int, Letter]:
    """Current revisions by id; those that are not there are left out."""
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.contents, (list(ids),), binary=True).fetchall()
    return {
        number: Letter(
            number, kind, source, group, state, revision, Contents(key, value, encoding, arriving(headers, envelope))
        )
        for number, kind, source, group, state, revision, key, value, encoding, headers, envelope in rows
    }


def require_editable(edit: Edit, letter: Letter) -> None:
    """Raises `DeadLetterReplaying`, `RevisionSuperseded` when the edit was made of an older revision, and
    `InvalidValue` for what its kind of source has not.
    """
    edit.checked_for(letter.source_kind)
    if letter.state == "replaying":
        raise DeadLetterReplaying(f"dead letter {letter.id} is under way in a replay; wait for its outcome")
    if edit.expected_revision not in (None, letter.revision):
        raise RevisionSuperseded(
            f"revision {edit.expected_revision} of dead letter {letter.id} is superseded:"
            f" revision {letter.revision} is newest"
        )


def changed(letter: Letter, edit: Edit | None, merge_patch: bytes | None) -> Contents:
    """The contents as a replay would send them. What tells a message's deaths is no part of an edit."""
    before = letter.contents
    if edit is not None:
        after = edit.checked_for(letter.source_kind).applied(before)
        if letter.source_kind == "topic":
            return after
        deaths = {name: value for name, value in before.headers.items() if name in DEATHS}
        return replace(after, headers={**after.headers, **deaths})
    patched_contents = None if merge_patch is None else patched(before, merge_patch)
    return before if patched_contents is None else patched_contents


def consumers_json(consumers: list[Consumer]) -> list[dict[str, Any]]:
    """Whose dead letters a replay has, as its row keeps it."""
    return [consumer._asdict() for consumer in consumers]
