"""Making a replay: its selection is frozen in items, in the order in which they will be sent.

Everything is one transaction: the edit of a single dead letter, the replay, its items, the audit entry. What fails
after it is not part of the replay.
"""

from __future__ import annotations

import json
from typing import Any, Final

from django.db import transaction

from brokers import audit, dead_letters, wakeup
from brokers.database import sync_cursor
from brokers.replays.plans import SQL, Judged, checked, consumers_json, judge, letters, only, require_editable
from brokers.replays.request import Check, Edit, Pace, Target, checked_reason, everyone, selection_json
from brokers.selectors.dead_letter_filter import Filter

PLAN_SECONDS: Final = 900.0
"""How long a plan waits for somebody to apply it."""


def create(
    selection: Filter,
    *,
    target: Target | None = None,
    edit: Edit | None = None,
    merge_patch: bytes | None = None,
    pace: Pace | None = None,
    reason: str = "",
    actor: audit.Actor = audit.SYSTEM,
    planned: bool = False,
    check: Check = everyone,
) -> int:
    """Makes a replay of the dead letters selected now and answers its id; it starts at once unless `planned`.

    `target` None gives them back to the consumer that failed. An edit is a new revision at once, a merge patch
    (JSON text of an object) makes one of each dead letter when it is sent. A plan is forgotten after 15 minutes if
    `controls.apply` does not start it. `check` is called with whose dead letters these are, and may refuse. Raises
    `InvalidValue`, `DeadLetterNotFound`, `DeadLetterReplaying`, `RevisionSuperseded`, `TopicNotFound`,
    `QueueNotFound`, `ExchangeNotFound`. Audited. Opens a transaction.
    """
    selection, target, edit, merge_patch = checked(selection, target, edit, merge_patch)
    pace = (pace or Pace()).checked()
    row: dict[str, Any] = {
        "state": "planned" if planned else _first_state(pace),
        "selection": json.dumps(selection_json(selection)),
        "target": None if target is None else json.dumps(target.as_json()),
        "edit": None if merge_patch is None else json.dumps({"merge_patch": merge_patch.decode()}),
        "rate": pace.rate_per_second,
        "canary": None,
        "stop": pace.stop_when_failed_again,
        "reason": checked_reason(reason),
        "actor": actor.principal[:200],
        "expires": PLAN_SECONDS if planned else None,
    }
    if pace.canary is not None:
        row["canary"] = json.dumps({"count": pace.canary.count, "min_success": pace.canary.min_success})
    with transaction.atomic():
        if edit is not None:
            row["edit"] = json.dumps({"revision": _revise(only(selection), edit, actor)})
        with sync_cursor() as cursor:
            made = cursor.execute(SQL.make, row).fetchone()
        assert made is not None
        replay_id = int(made[0])
        judged = judge(selection, target=target, patch=merge_patch is not None, check=check, replay_id=replay_id)
        _fill(replay_id, judged)
        details = {name: json.loads(row[name]) for name in ("selection", "target", "canary") if row[name] is not None}
        details |= {"total": judged.total, "skipped": judged.skipped, "edited": row["edit"] is not None}
        details |= {"rate_per_second": pace.rate_per_second, "stop_when_failed_again": pace.stop_when_failed_again}
        audit.record(actor, "plan" if planned else "create", "replay", str(replay_id), details | {"reason": reason})
        transaction.on_commit(wakeup.announce_replays, robust=True)
    return replay_id


def _first_state(pace: Pace) -> str:
    return "running" if pace.canary is None else "canary"


def _revise(number: int, edit: Edit, actor: audit.Actor) -> int | None:
    """The edit's revision; None when the dead letter is not there, or is settled and so will be skipped."""
    letter = letters([number]).get(number)
    if letter is None:
        return None
    require_editable(edit, letter)
    if letter.state != "open":
        return None
    after = edit.applied(letter.contents)
    return dead_letters.add_revision(
        number, letter.revision, after.key, after.value, after.encoding, after.headers, "edit", actor
    )


def _fill(replay_id: int, judged: Judged) -> None:
    consumers = json.dumps(consumers_json(judged.consumers))
    with sync_cursor() as cursor:
        cursor.execute(SQL.fill, (judged.total, json.dumps(judged.skipped), consumers, replay_id))
