"""Planning a replay: a selection, where it leads and how carefully it goes; what that would come to, before anything.

Nothing is written until the plan is made. Then the selection is frozen, and the plan waits 15 minutes on its replay's
page for somebody to apply it. A single dead letter needs no second page: one button makes its plan and applies it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.text import capfirst
from django.views.decorators.http import require_http_methods

from brokers.errors import BrokerError, Conflict, InvalidValue, Malformed, NotFound, SearchTooBroad
from brokers.replays import controls, creation, plans
from brokers.replays.plans import Plan
from brokers.replays.request import selection_json
from brokers.selectors import failure_board
from brokers.selectors.dead_letter_filter import Consumer, Filter, search, visible
from brokers.selectors.dead_letter_filter import count as count_letters
from brokers.selectors.dead_letters import Body
from messaging_site.console import failure_groups, formatting
from messaging_site.console.failure_access import Reader, label
from messaging_site.console.failure_words import why
from messaging_site.console.letter_selection import Selection
from messaging_site.console.permissions import actor, requires
from messaging_site.console.replay_forms import BULK, FIELDS, PlanForm
from messaging_site.console.replay_words import as_api_call, target_text
from messaging_site.console.sample_changes import ShownSample, shortest, shown

AT_ONCE = 10_000
"""A larger selection is judged only when its plan is made."""
_REFUSALS = (Malformed, InvalidValue, Conflict, NotFound)


@dataclass(frozen=True, slots=True)
class Caution:
    """Something that may keep a replay from doing what is hoped for; `url` leads to it."""

    text: str
    url: str = ""
    link: str = "Open the group"


@require_http_methods(["GET", "HEAD", "POST"])
@requires("replay", "group", per_item=True)
def plan(request: HttpRequest) -> HttpResponse:
    """What a replay of the selection would do; POST makes the plan, or for one dead letter replays it."""
    back = reverse("admin:dead-letter-list")
    try:
        selection = Selection.of(request.POST if request.method == "POST" else request.GET)
    except InvalidValue as error:
        messages.error(request, f"{capfirst(error.detail)}.")
        return HttpResponseRedirect(back)
    if selection is None:
        messages.warning(request, "No dead letter was selected.")
        return HttpResponseRedirect(f"{back}?{request.GET.urlencode()}")
    try:
        return _page(request, selection, Reader(request))
    except SearchTooBroad as error:
        messages.error(request, f"{capfirst(error.detail)}.")
        return HttpResponseRedirect(_back(selection))


def _page(request: HttpRequest, selection: Selection, reader: Reader) -> HttpResponse:
    is_single = selection.ids is not None and len(selection.ids) == 1
    wanted, matching = _counted(selection, reader)
    form = _form(request, matching, is_single=is_single)
    context: dict[str, Any] = {
        "title": "Plan a replay",
        "crumbs": [("Failures", None), ("Replays", reverse("admin:replays")), ("Plan", None)],
        "parameters": selection.parameters,
        "is_single": is_single,
        "back_url": _back(selection),
        "matching": matching,
        "is_large": matching > AT_ONCE,
    }
    if request.method == "POST" and form.is_valid() and request.POST.get("action") in ("plan", "apply"):
        made = _make(request, wanted, form, reader)
        if made is not None:
            return HttpResponseRedirect(reverse("admin:replay", args=[made]))
    context |= _outlook(request, wanted, form, reader) if matching <= AT_ONCE else {}
    context |= {"form": form} | _failure(selection, reader)
    return render(request, "console/replays/plan.html", context, status=422 if form.errors else 200)


def _counted(selection: Selection, reader: Reader) -> tuple[Filter, int]:
    """The filter, of what the user may see only, and how many it finds up to `AT_ONCE` and one."""
    if selection.ids is not None:
        return selection.filter, len(selection.ids)
    with search() as cursor:
        wanted = visible(cursor, selection.filter, reader.sees)
        return wanted, count_letters(cursor, wanted, AT_ONCE + 1)


def _back(selection: Selection) -> str:
    if selection.ids is not None and len(selection.ids) == 1:
        return reverse("admin:dead-letter", args=selection.ids)
    if selection.ids is None:
        return f"{reverse('admin:dead-letter-list')}?{selection.query}"
    return reverse("admin:dead-letter-list")


def _form(request: HttpRequest, matching: int, *, is_single: bool) -> PlanForm:
    if request.method == "POST":
        return PlanForm(request.POST, reason_required=not is_single and request.POST.get("action") != "check")
    initial: dict[str, Any] = {name: request.GET[name] for name in FIELDS if name in request.GET}
    if not initial:
        initial = {"canary": matching > BULK, "stop": matching > BULK}
    return PlanForm(initial=initial, reason_required=not is_single)


def _make(request: HttpRequest, wanted: Filter, form: PlanForm, reader: Reader) -> int | None:
    """The replay's id; None when the form says why there is none."""
    try:
        made = creation.create(
            wanted,
            target=form.target(),
            merge_patch=form.patch(),
            pace=form.pace(),
            reason=form.cleaned_data["reason"].strip(),
            actor=actor(request),
            planned=True,
            check=reader.check_for(form.target(), edits=form.patch() is not None),
        )
        if request.POST.get("action") == "apply":
            controls.apply(made, actor=actor(request))
    except _REFUSALS as error:
        form.blame(error)
        return None
    return made


def _outlook(request: HttpRequest, wanted: Filter, form: PlanForm, reader: Reader) -> dict[str, Any]:
    """What the plan would come to with the form as it is; with a faulty form, as if it had been left alone."""
    is_usable = form.is_bound and form.is_valid()
    target = form.target() if is_usable else None
    patch = form.patch() if is_usable else _initial_patch(form)
    try:
        found = plans.plan(
            wanted, target=target, merge_patch=patch, check=reader.check_for(target, edits=patch is not None)
        )
    except _REFUSALS as error:
        if is_usable:
            form.blame(error)
            return {}
        return {"failed": _sentence(error)}
    rate = form.cleaned_data["rate_per_second"] if is_usable else None
    call = as_api_call(selection_json(wanted), {"dry_run": True}, f"{request.scheme}://{request.get_host()}")
    return {
        "plan": found,
        "skipped": skipped_words(found.skipped),
        "selected": found.total + sum(found.skipped.values()),
        "consumers": [label(consumer) for consumer in found.consumers],
        "groups": sorted({consumer.group for consumer in found.consumers if consumer.source_kind == "topic"}),
        "samples": _samples(found, reader),
        "target": target_text(None if target is None else target.as_json()),
        "cautions": cautions(found.consumers) if target is None else [],
        "lasts": formatting.duration(round(found.total / rate) * 1000) if rate and found.total else "",
        "api_call": call,
    }


def _initial_patch(form: PlanForm) -> bytes | None:
    text = "" if form.is_bound else str(form.initial.get("merge_patch") or "").strip()
    return text.encode("utf-8", "replace") if text else None


def _failure(selection: Selection, reader: Reader) -> dict[str, Any]:
    """The failure group that the selection names, with its last replay."""
    if not selection.filter.fingerprint:
        return {}
    group = failure_board.group(selection.filter.fingerprint, reader.sees)
    last_replay = failure_board.last_replays([group.id]).get(group.id)
    return {"failure": failure_groups.heading(reader, group, last_replay)}


def _samples(judged: Plan, reader: Reader) -> list[ShownSample]:
    found = [
        shown(
            sample.id,
            Body(sample.before.key, sample.before.value, sample.before.encoding, dict(sample.before.headers)),
            Body(sample.after.key, sample.after.value, sample.after.encoding, dict(sample.after.headers)),
            reader.lacks_payload(Consumer(sample.source_kind, sample.source, sample.group)),
        )
        for sample in judged.sample
    ]
    return shortest(found)


def skipped_words(skipped: dict[str, int]) -> list[tuple[str, int]]:
    """Why how many are skipped, most first."""
    return sorted(((why(name), number) for name, number in skipped.items()), key=lambda each: -each[1])


def cautions(consumers: Sequence[Consumer]) -> list[Caution]:
    """What should be known of the consumers before something is given back to them."""
    names = sorted({consumer.group for consumer in consumers if consumer.source_kind == "topic"})
    ready = failure_board.readiness(names) if names else {}
    found = []
    for name in names:
        group = ready.get(name)
        url = "" if group is None else reverse("admin:group", args=[name])
        if group is None:
            found.append(Caution(f"Consumer group {name} is no more: nothing can be given back to it."))
        elif group.paused:
            found.append(Caution(f"Consumer group {name} is paused: what is sent waits until it goes on.", url))
        elif not group.members:
            text = f"Consumer group {name} has no members now: what is sent waits until a listener starts."
            found.append(Caution(text, url))
        elif not group.listeners:
            text = f"Consumer group {name} has no listener now, only members over HTTP: what is sent waits for one."
            found.append(Caution(text, url))
    queues = sorted({consumer.source for consumer in consumers if consumer.source_kind == "queue"})
    return found + (_queue_cautions(queues) if queues else [])


def _queue_cautions(names: Sequence[str]) -> list[Caution]:
    ready = failure_board.queue_readiness(names)
    found = []
    for name in names:
        queue = ready.get(name)
        url = "" if queue is None else reverse("admin:queue", args=[name])
        if queue is None:
            found.append(Caution(f"Queue {name} is no more: nothing can be given back to it."))
        elif queue.paused:
            found.append(
                Caution(f"Queue {name} is paused: what is sent waits until it goes on.", url, "Open the queue")
            )
        elif not queue.consumers:
            text = f"Queue {name} has no consumer now: what is sent waits there for one."
            found.append(Caution(text, url, "Open the queue"))
    return found


def _sentence(error: BrokerError) -> str:
    return f"{capfirst(error.detail)}."
