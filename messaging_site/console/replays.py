"""Replays: the list, a plan that waits to be applied, one under way with its progress, and each item's outcome."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.text import capfirst
from django.views.decorators.http import require_POST, require_safe

from brokers.errors import Conflict, FailureGroupNotFound, InvalidValue, ReplayNotFound, SearchTooBroad
from brokers.models.replays import OUTCOMES
from brokers.replays import controls, plans
from brokers.replays.request import Contents, patched
from brokers.selectors import failure_board
from brokers.selectors import replays as replay_reads
from brokers.selectors.dead_letter_filter import Consumer, search
from brokers.selectors.dead_letter_filter import count as count_letters
from brokers.selectors.dead_letters import Body
from brokers.selectors.failure_board import ItemLetter
from brokers.selectors.replays import Item, Progress, ReplaySummary
from messaging_site.console import failure_groups, formatting, replay_words
from messaging_site.console.failure_access import Reader
from messaging_site.console.failure_words import OUTCOMES as OUTCOME_WORDS
from messaging_site.console.permissions import actor, requires
from messaging_site.console.replay_forms import RateForm
from messaging_site.console.replay_plans import cautions, skipped_words
from messaging_site.console.sample_changes import ShownSample, shortest, shown

PAGE_SIZE = 50
SAMPLES = 5
MAX_AGAIN = 1000
"""Items that failed again which one new plan takes."""
_MAX_NEWER = 10_001
_UNDER_WAY = ("waiting", "canary", "running", "paused")
_STILL = Progress(0, 0.0, None)


@dataclass(frozen=True, slots=True)
class Row:
    """One replay of the list."""

    replay: ReplaySummary
    standing: replay_words.Standing
    consumers: list[str]


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One item; `where` is what people call its dead letter, None when that was removed since."""

    item: Item
    where: str | None
    key: str | None
    hidden: str
    took_ms: float | None


@require_safe
@requires("describe", "group", per_item=True)
def listing(request: HttpRequest) -> HttpResponse:
    """Replays of which the reader may see all consumers, newest first."""
    text = request.GET.get("after", "")
    after = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
    found, following = replay_reads.page(after, PAGE_SIZE, Reader(request).sees)
    context = {
        "title": "Replays",
        "crumbs": [("Failures", None), ("Replays", None)],
        "rows": [Row(each, replay_words.standing(each, _STILL), replay_words.consumer_labels(each)) for each in found],
        "under_way": sum(each.state in _UNDER_WAY for each in found),
        "after": after,
        "following": following,
    }
    return render(request, "console/replays/list.html", context)


@require_safe
@requires("describe", "group", per_item=True)
def detail(request: HttpRequest, replay: int) -> HttpResponse:
    """A plan to be applied, or a replay's progress and its items."""
    found = _visible(request, replay)
    reader = Reader(request)
    context: dict[str, Any] = {
        "title": f"Replay {replay}",
        "crumbs": [("Failures", None), ("Replays", reverse("admin:replays")), (f"{replay}", None)],
        "replay": found,
        "consumers": replay_words.consumer_labels(found),
        "target": replay_words.target_text(found.target),
        "selection": replay_words.selection_words(found.selection),
        "again_url": f"{reverse('admin:replay-plan')}?{replay_words.again_query(found)}",
        "lacks_replay": reader.lacks_replay(found.consumers),
        "canary_percent": f"{found.canary['min_success'] * 100:g}" if found.canary else "",
        "stop_percent": "" if found.stop_when_failed_again is None else f"{found.stop_when_failed_again * 100:g}",
    }
    if found.state == "planned":
        return render(request, "console/replays/planned.html", context | _plan(found, reader))
    return render(request, "console/replays/replay.html", context | _progress(request, found, reader))


def _visible(request: HttpRequest, number: int) -> ReplaySummary:
    """The replay; raises `ReplayNotFound`, also where the user may not know of all whose dead letters it has."""
    found = replay_reads.get(number)
    if not all(Reader(request).sees(*consumer) for consumer in found.consumers):
        raise ReplayNotFound(f"there is no replay {number}")
    return found


# -- a plan -------------------------------------------------------------------------------------------------------


def _plan(replay: ReplaySummary, reader: Reader) -> dict[str, Any]:
    has_expired = replay.expires_at is not None and replay.expires_at <= datetime.now(UTC)
    rate = replay.rate_per_second
    return {
        "has_expired": has_expired,
        "skipped": skipped_words(replay.skips),
        "selected": replay.total + sum(replay.skips.values()),
        "newer": 0 if has_expired else _newer(replay),
        "samples": _samples(replay, reader),
        "cautions": [] if replay.target else cautions(replay.consumers),
        "lasts": formatting.duration(round(replay.total / rate) * 1000) if rate and replay.total else "",
        "failure": _failure(replay, reader),
    }


def _newer(replay: ReplaySummary) -> int:
    """How many have failed since the plan froze its selection, and are not part of it."""
    wanted = replay_words.selection_filter(replay.selection)
    if wanted is None:
        return 0
    since = replay.created_at if wanted.since is None else max(wanted.since, replay.created_at)
    try:
        with search() as cursor:
            newer = replace(wanted, since=since, state="open", consumers=replay.consumers)
            return count_letters(cursor, newer, _MAX_NEWER)
    except SearchTooBroad:
        return 0


def _samples(replay: ReplaySummary, reader: Reader) -> list[ShownSample]:
    waiting, _ = replay_reads.items(replay.id, "waiting", None, SAMPLES)
    letters = plans.letters([item.dead_letter_id for item in waiting])
    patch = None if replay.merge_patch is None else replay.merge_patch.encode()
    found = []
    for item in waiting:
        letter = letters.get(item.dead_letter_id)
        if letter is None:
            continue
        after = letter.contents if patch is None else patched(letter.contents, patch) or letter.contents
        hidden = reader.lacks_payload(Consumer(letter.source_kind, letter.source, letter.group))
        found.append(shown(letter.id, _body(letter.contents), _body(after), hidden))
    return shortest(found)


def _body(contents: Contents) -> Body:
    return Body(contents.key, contents.value, contents.encoding, dict(contents.headers))


def _failure(replay: ReplaySummary, reader: Reader) -> failure_groups.Row | None:
    fingerprint = replay.selection.get("filter", {}).get("fingerprint")
    if not fingerprint:
        return None
    try:
        return failure_groups.heading(reader, failure_board.group(fingerprint, reader.sees))
    except FailureGroupNotFound:
        return None


# -- under way, and over ------------------------------------------------------------------------------------------


def _progress(request: HttpRequest, replay: ReplaySummary, reader: Reader) -> dict[str, Any]:
    progress = replay_reads.progress(replay) if replay.finished_at is None else _STILL
    standing = replay_words.standing(replay, progress)
    outcome = request.GET.get("outcome", "")
    outcome = outcome if outcome in OUTCOMES else ""
    text = request.GET.get("after", "")
    after = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
    items, following = replay_reads.items(replay.id, outcome or None, after, PAGE_SIZE)
    is_moving = replay.finished_at is None
    counts = {
        "": replay.total + sum(replay.skips.values()),
        "succeeded": replay.succeeded,
        "failed_again": replay.failed_again,
        "skipped": replay.skipped,
        "waiting": max(0, replay.waiting),
    }
    return {
        "standing": standing,
        "progress": progress,
        "is_moving": is_moving,
        "may_pause": replay.state in ("waiting", "canary", "running"),
        "rows": _items(items, reader),
        "outcome": outcome,
        "outcomes": [(name, "All" if not name else OUTCOME_WORDS[name].text, count) for name, count in counts.items()],
        "is_later_page": after is not None,
        "following": following,
        "remaining": max(0, replay.total - standing.sent),
        "events": replay_reads.events(replay.id),
        "failure": _failure(replay, reader) if not request.headers.get("HX-Request") else None,
        "rate_form": RateForm(initial={"rate_per_second": _plain(replay.rate_per_second)}),
    }


def _plain(rate: float | None) -> str:
    return "" if rate is None else f"{rate:g}"


def _items(items: Sequence[Item], reader: Reader) -> list[ItemRow]:
    letters = failure_board.letters([item.dead_letter_id for item in items], [item.revision for item in items])
    return [_item(item, letters.get(item.dead_letter_id), reader) for item in items]


def _item(item: Item, letter: ItemLetter | None, reader: Reader) -> ItemRow:
    took = None
    if item.sent_at is not None and item.finished_at is not None:
        took = max(0.0, (item.finished_at - item.sent_at).total_seconds() * 1000)
    if letter is None:
        return ItemRow(item, None, None, "", took)
    hidden = reader.lacks_payload(letter.consumer)
    key = None if hidden or letter.key is None else bytes(letter.key).decode("utf-8", "backslashreplace")
    where = letter.message_id or f"{letter.consumer.source} {item.dead_letter_id}"
    if letter.offset is not None:
        where = f"{formatting.shortened(letter.consumer.source, 40)}-{letter.partition} @ {letter.offset:,}"
    return ItemRow(item, where, key, hidden, took)


# -- what people do to it -----------------------------------------------------------------------------------------


@require_POST
@requires("replay", "group", per_item=True)
def control(request: HttpRequest, replay: int) -> HttpResponse:
    """Applies a plan, takes it back, pauses, resumes, cancels what is left, or changes the rate."""
    found = _visible(request, replay)
    Reader(request).require_replay(found.consumers)
    page = reverse("admin:replay", args=[replay])
    action = request.POST.get("action", "")
    try:
        _control(request, found, action)
    except (Conflict, InvalidValue) as error:
        messages.error(request, f"{capfirst(error.detail)}.")
    if found.state == "planned" and action == "cancel":
        return HttpResponseRedirect(reverse("admin:replays"))
    return HttpResponseRedirect(page)


def _control(request: HttpRequest, replay: ReplaySummary, action: str) -> None:
    who = actor(request)
    if action == "apply":
        controls.apply(replay.id, actor=who)
    elif action == "pause":
        controls.pause(replay.id, actor=who)
        messages.success(request, "Paused. What was sent goes on; nothing more is sent.")
    elif action == "resume":
        controls.resume(replay.id, actor=who)
    elif action == "cancel":
        controls.cancel(replay.id, actor=who)
        if replay.state == "planned":
            messages.success(request, f"Plan {replay.id} was dropped. Nothing was sent.")
        elif not replay.sent:
            messages.success(request, "Taken back. Nothing was sent.")
        else:
            messages.success(request, "Cancelled. What was sent stays sent; nothing more is.")
    elif action == "rate":
        form = RateForm(request.POST)
        if not form.is_valid():
            raise InvalidValue("the rate is a number of dead letters per second, or empty for as fast as possible")
        controls.change_rate(replay.id, form.cleaned_data["rate_per_second"], actor=who)
        messages.success(request, "The rate was changed.")
    else:
        raise InvalidValue("no such action")


@require_safe
@requires("replay", "group", per_item=True)
def failed_again(request: HttpRequest, replay: int) -> HttpResponse:
    """Leads to the plan of a replay of the items that failed again."""
    found = _visible(request, replay)
    items, following = replay_reads.items(found.id, "failed_again", None, MAX_AGAIN)
    if not items:
        messages.info(request, "Nothing of this replay has failed again.")
        return HttpResponseRedirect(reverse("admin:replay", args=[replay]))
    if following is not None:
        messages.info(request, f"The first {MAX_AGAIN:,} that failed again are selected.")
    ids = ",".join(str(item.dead_letter_id) for item in items)
    return HttpResponseRedirect(f"{reverse('admin:replay-plan')}?ids={ids}")
