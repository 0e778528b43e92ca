"""The Consumer groups screens but for resets: the list, one group, pausing and resuming, and a topic's groups."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe

from brokers import groups as group_writes
from brokers.selectors import group_progress
from brokers.selectors import topics as topic_reads
from brokers.selectors.group_progress import GroupProgress, Lane, Member, PartitionProgress, Retry
from messaging_site.console.failure_words import Word
from messaging_site.console.permissions import actor, may, requires
from messaging_site.console.topics import frame as topic_frame

PAGE_SIZE: Final = 50
PARTITIONS_SHOWN: Final = 200
"""Partitions on one page of a group."""
NOTE_LENGTH: Final = 500
STATES: Final = {
    "active": Word("ok", "ok", "Active"),
    "idle": Word("mute", "mute", "Idle"),
    "paused": Word("bars", "warn", "Paused"),
    "rebalancing": Word("info", "info", "Rebalancing"),
    "stalled": Word("cross", "bad", "Stalled"),
}
MEANINGS: Final = {
    "active": "Its members read and commit.",
    "idle": "No member is there to read.",
    "paused": "Members keep their partitions and get no records until it is resumed.",
    "rebalancing": "A partition is still with a member that is to give it up.",
    "stalled": "Records wait, and for a minute the member that owns them has committed nothing.",
}
MEMBER_STATES: Final = {
    "live": Word("ok", "ok", "Live"),
    "late": Word("clock", "warn", "Late"),
    "lost": Word("cross", "bad", "Lost"),
}
_NAME_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,249}", re.ASCII)
_PLACE = re.compile(r"([A-Za-z0-9._-]{1,249})/([0-9]{1,9})", re.ASCII)
SHOWN_MEMBER_ID: Final = 10
"""Characters shown of a member's id: whoever knows all of it can act as the member."""


@dataclass(frozen=True, slots=True)
class Row:
    """One partition as a line of the table."""

    progress: PartitionProgress
    owner: str
    owner_title: str
    is_moving: bool
    retry: Retry | None
    lane: Lane | None


@dataclass(frozen=True, slots=True)
class MemberRow:
    """One member as a line of the table."""

    member: Member
    name: str
    state: Word
    partitions: list[str]
    more: int


@require_safe
@requires("describe", "group", per_item=True)
def listing(request: HttpRequest) -> HttpResponse:
    """All groups that the reader may see, by name, narrowed by the beginning of the name."""
    prefix = request.GET.get("q", "").strip()
    after = request.GET.get("after") or ""
    is_possible = _NAME_PREFIX.fullmatch(prefix) and _NAME_PREFIX.fullmatch(after)
    found, following = _visible(request, prefix, after) if is_possible else ([], None)
    context = {
        "title": "Consumer groups",
        "crumbs": [("Messaging", None), ("Consumer groups", None)],
        "rows": [(group, STATES[group.state]) for group in found],
        "prefix": prefix[:249],
        "after": after,
        "following": following,
        "any_groups": bool(found) or bool(_visible(request, "", "", 1)[0]),
        "counted": group_progress.REDELIVERIES_COUNTED,
    }
    return render(request, "console/groups/list.html", context)


def _visible(
    request: HttpRequest, prefix: str, after: str, limit: int = PAGE_SIZE, topic: str | None = None
) -> tuple[list[GroupProgress], str | None]:
    return group_progress.page(lambda name: may(request, "describe", "group", name), prefix, after, limit, topic)


@require_safe
@requires("describe", "topic")
def of_topic(request: HttpRequest, topic: str) -> HttpResponse:
    """The groups that read a topic, with their lag on that topic."""
    detail = topic_reads.get(topic)
    after = request.GET.get("after") or ""
    found, following = _visible(request, "", after, topic=topic) if _NAME_PREFIX.fullmatch(after) else ([], None)
    context = topic_frame(request, detail, "groups") | {
        "rows": [(group, STATES[group.state]) for group in found],
        "after": after,
        "following": following,
        "counted": group_progress.REDELIVERIES_COUNTED,
    }
    return render(request, "console/groups/of_topic.html", context)


@require_safe
@requires("describe", "group")
def detail(request: HttpRequest, group: str) -> HttpResponse:
    """One group: its partitions, its members, and what goes on with them; also the answer to its own refresh."""
    found = group_progress.get(group)
    topic = request.GET.get("topic") or ""
    only = request.GET.get("only") or ""
    chosen = _chosen(found.partitions, topic, only)
    begin = _begin(chosen, request.GET.get("after") or "")
    shown = chosen[begin : begin + PARTITIONS_SHOWN]
    context = frame(request, found) | {
        "rows": _rows(found, shown),
        "members": [_member_row(member, found.partitions) for member in found.members],
        "topic": topic if topic in found.topics else "",
        "only": only,
        "is_narrowed": bool(topic or only),
        "begin": begin + 1,
        "end": begin + len(shown),
        "total": len(chosen),
        "following": _place(shown[-1]) if begin + len(shown) < len(chosen) else None,
        "last_reset": group_writes.last_reset(group),
        "undo_needs_pause": _is_read(found),
    }
    return render(request, "console/groups/detail.html", context)


def frame(request: HttpRequest, group: GroupProgress) -> dict[str, Any]:
    """What every page of one group needs: heading, breadcrumbs, actions."""
    return {
        "title": group.group,
        "crumbs": [("Consumer groups", reverse("admin:groups")), (group.group, None)],
        "group": group,
        "state": STATES[group.state],
        "meaning": MEANINGS[group.state],
        "live": sum(1 for member in group.members if not member.overdue),
        "counted": group_progress.REDELIVERIES_COUNTED,
        "may_alter": may(request, "alter", "group", group.group),
        "note_length": NOTE_LENGTH,
    }


def _is_read(group: GroupProgress) -> bool:
    """Whether members are reading, so that offsets cannot be set."""
    return not group.paused and any(not member.overdue for member in group.members)


def _chosen(partitions: Sequence[PartitionProgress], topic: str, only: str) -> list[PartitionProgress]:
    return [part for part in partitions if (not topic or part.topic == topic) and (only != "behind" or part.lag)]


def _begin(chosen: Sequence[PartitionProgress], after: str) -> int:
    """How many partitions stand before the page that follows the one of that name."""
    match = _PLACE.fullmatch(after)
    if match is None:
        return 0
    place = (match[1], int(match[2]))
    return sum(1 for part in chosen if (part.topic, part.partition) <= place)


def _place(part: PartitionProgress) -> str:
    return f"{part.topic}/{part.partition}"


def _rows(group: GroupProgress, shown: Sequence[PartitionProgress]) -> list[Row]:
    members = {member.row: member for member in group.members}
    going_on = group_progress.going_on(group.id, shown)
    rows = []
    for part in shown:
        owner = members.get(part.owner or 0)
        retry, lane = going_on.get(part.partition_id, (None, None))
        rows.append(
            Row(
                progress=part,
                owner="" if owner is None else _member_name(owner),
                owner_title="" if owner is None else owner.instance_id or "",
                is_moving=part.owner != part.target,
                retry=retry,
                lane=lane,
            )
        )
    return rows


def _member_name(member: Member) -> str:
    """What tells a member from the others of its group: the slot of a listener's thread, or else the id's beginning."""
    slot = (member.instance_id or "").rpartition("#")
    return f"#{slot[2]}" if slot[1] and slot[2] else member.member_id[:SHOWN_MEMBER_ID]


def _member_row(member: Member, partitions: Sequence[PartitionProgress]) -> MemberRow:
    owned = [_place(part) for part in partitions if part.owner == member.row]
    return MemberRow(
        member=member,
        name=member.member_id[:SHOWN_MEMBER_ID],
        state=MEMBER_STATES[member.state],
        partitions=owned[:12],
        more=max(len(owned) - 12, 0),
    )


@require_POST
@requires("alter", "group")
def pause(request: HttpRequest, group: str) -> HttpResponse:
    """Pauses a group, with a note if one was typed, and goes back to the page it came from."""
    group_writes.pause(group, note=_note(request), actor=actor(request))
    messages.success(request, f"Group {group} is paused. Its members keep their partitions and get no records.")
    return HttpResponseRedirect(_return_to(request, group))


@require_POST
@requires("alter", "group")
def resume(request: HttpRequest, group: str) -> HttpResponse:
    """Resumes a group, with a note if one was typed, and goes back to the page it came from."""
    group_writes.resume(group, note=_note(request), actor=actor(request))
    messages.success(request, f"Group {group} is resumed.")
    return HttpResponseRedirect(_return_to(request, group))


def _note(request: HttpRequest) -> str:
    return request.POST.get("note", "").replace("\0", "").strip()[:NOTE_LENGTH]


def _return_to(request: HttpRequest, group: str) -> str:
    target = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure()):
        return target
    return reverse("admin:group", args=[group])
