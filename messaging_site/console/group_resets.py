"""Resetting a group's offsets as a plan: the form, the dry run that it asks for, applying that, and undoing it.

The plan's address is the form, and nothing is stored: what a plan showed travels in its own page, signed, and is
applied exactly as shown or not at all.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from django.contrib import messages
from django.core import signing
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from brokers import groups, topics
from brokers.errors import AccessDenied, GroupActive, InvalidValue, PartitionNotFound, TopicNotFound
from brokers.groups import PlanOutdated, Reset
from brokers.selectors import group_progress
from brokers.selectors.group_progress import GroupProgress
from messaging_site.console.fields import Form
from messaging_site.console.group_forms import ReasonForm, ResetForm
from messaging_site.console.groups import frame
from messaging_site.console.permissions import actor, authorize, requires

PLAN_SECONDS: Final = 15 * 60
"""How long a plan can be applied."""
_SALT = "messaging_site.console.group_resets"

OUTDATED = "Offsets have changed since the plan was made. Nothing was set; this is the plan as of now."
EXPIRED = "The plan was more than 15 minutes old. Nothing was set; this is the plan as of now."


@dataclass(frozen=True, slots=True)
class Step:
    """What a plan does to one partition."""

    partition: int
    before: int | None
    after: int
    reread: int
    skipped: int
    is_new: bool
    """Another plan than the one that was to be applied."""

    @property
    def delta(self) -> int | None:
        """Records forward, or back."""
        return None if self.before is None else self.after - self.before


@dataclass(frozen=True, slots=True)
class Plan:
    """A dry run, and what it came to."""

    topic: str
    steps: list[Step]
    signed: str
    keeps_processed: bool
    is_compacted: bool
    """Offsets are more than records then."""
    call: str
    """The body of the same call over REST, once more as a dry run."""

    @property
    def reread(self) -> int:
        """Records that are read again."""
        return sum(step.reread for step in self.steps)

    @property
    def skipped(self) -> int:
        """Records that are not read."""
        return sum(step.skipped for step in self.steps)

    @property
    def changes(self) -> int:
        """Partitions whose offset changes."""
        return sum(1 for step in self.steps if step.before != step.after)


@require_http_methods(["GET", "HEAD", "POST"])
@requires("alter", "group")
def reset(request: HttpRequest, group: str) -> HttpResponse:
    """The form, and below it the plan that the address asks for; POST applies the plan that was shown."""
    found = group_progress.get(group, counted=False)
    asked = request.GET if request.GET.get("topic") else None
    form = ResetForm(found.topics, asked)
    context = frame(request, found) | {
        "form": form,
        "reason_form": ReasonForm(),
        "crumbs": [
            ("Consumer groups", reverse("admin:groups")),
            (group, reverse("admin:group", args=[group])),
            ("Reset offsets", None),
        ],
    }
    if asked is None:
        return render(request, "console/groups/reset.html", context)
    notice, status = "", 200
    earlier: list[Reset] = []
    if request.method == "POST" and form.is_valid():
        reason = ReasonForm(request.POST)
        context["reason_form"] = reason
        earlier, notice = _shown_before(request, group, form)
        if earlier and reason.is_valid():
            notice = _applied(request, group, form, earlier, reason.cleaned_data["reason"])
            if not notice:
                return HttpResponseRedirect(reverse("admin:group", args=[group]))
        status = 409 if notice else 422
    context |= {"notice": notice, "plan": None, "is_read": False}
    if form.is_valid():
        try:
            authorize(request, "describe", "topic", form.cleaned_data["topic"])
            context["plan"] = _plan(request, found, form, earlier)
        except GroupActive:
            context["is_read"], status = True, 409 if request.method == "POST" else status
        except (AccessDenied, InvalidValue, PartitionNotFound, TopicNotFound) as error:
            _explain(form, error)
    return render(request, "console/groups/reset.html", context, status=422 if form.errors else status)


def _explain(form: Form, error: AccessDenied | InvalidValue | PartitionNotFound | TopicNotFound) -> None:
    if isinstance(error, PartitionNotFound):
        form.add_error("partitions", f"{error.detail}.")
    elif isinstance(error, InvalidValue):
        form.explain(error)
    else:
        form.add_error("topic", f"{error.detail}.")


def _plan(request: HttpRequest, group: GroupProgress, form: ResetForm, earlier: list[Reset]) -> Plan:
    """The dry run; steps that are not as in `earlier`, if there is one, are marked."""
    topic = form.cleaned_data["topic"]
    made = groups.reset(group.group, topic, form.place(), partitions=form.cleaned_data["partitions"])
    earliest = {part.partition: part.earliest_offset for part in group.partitions if part.topic == topic}
    before = {planned.partition: planned for planned in earlier}
    steps = [
        Step(
            partition=planned.partition,
            before=planned.before,
            after=planned.after,
            reread=0 if planned.before is None else max(planned.before - planned.after, 0),
            skipped=0
            if planned.before is None
            else max(planned.after - max(planned.before, earliest.get(planned.partition, 0)), 0),
            is_new=bool(earlier) and planned != before.get(planned.partition),
        )
        for planned in made
    ]
    return Plan(
        topic=topic,
        steps=steps,
        signed=signing.dumps(_content(request, group.group, form, made), salt=_SALT, compress=True),
        keeps_processed=any(step.reread for step in steps) and group_progress.keeps_processed(group.group),
        is_compacted=topics.lookup(topic).compacted,
        call=json.dumps(form.call()),
    )


def _content(request: HttpRequest, group: str, form: ResetForm, made: list[Reset]) -> dict[str, Any]:
    """What is signed: for whom, for what, and the numbers shown."""
    return {"for": request.user.pk, "group": group, "asked": form.call(), "made": made}


def _shown_before(request: HttpRequest, group: str, form: ResetForm) -> tuple[list[Reset], str]:
    """The plan that the page posted, or why it cannot be applied."""
    try:
        content = signing.loads(request.POST.get("plan", ""), salt=_SALT, max_age=PLAN_SECONDS)
    except signing.SignatureExpired:
        return [], EXPIRED
    except signing.BadSignature:
        return [], OUTDATED
    made = [Reset(*planned) for planned in content["made"]]
    if content != json.loads(json.dumps(_content(request, group, form, made))):
        return [], OUTDATED
    return made, ""


def _applied(request: HttpRequest, group: str, form: ResetForm, plan: list[Reset], reason: str) -> str:
    """Applies a plan; answers why it could not be, or nothing."""
    topic = form.cleaned_data["topic"]
    authorize(request, "describe", "topic", topic)
    changing = [planned for planned in plan if planned.before != planned.after]
    try:
        groups.apply(group, topic, form.place(), changing, reason=reason, actor=actor(request))
    except (PlanOutdated, PartitionNotFound, TopicNotFound):
        return OUTDATED
    except GroupActive:
        return "Members have begun to read. Nothing was set: pause the group, then plan again."
    many = f"{len(changing)} partition{'' if len(changing) == 1 else 's'}"
    messages.success(request, f"Offsets of {group} on {topic} were reset in {many}.")
    return ""


@require_POST
@requires("alter", "group")
def undo(request: HttpRequest, group: str) -> HttpResponse:
    """Sets what was committed before the newest reset, and goes back to the group."""
    text = request.POST.get("entry", "")
    entry = int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0
    try:
        made = groups.undo(group, entry, actor=actor(request))
    except PlanOutdated:
        messages.error(request, "The reset cannot be undone any more: the group has committed since. Nothing was set.")
    except GroupActive:
        messages.error(request, f"Members of {group} are reading. Pause it first, then undo. Nothing was set.")
    else:
        messages.success(request, f"The reset on {made.topic} was undone: what was committed before it counts again.")
    return HttpResponseRedirect(reverse("admin:group", args=[group]))
