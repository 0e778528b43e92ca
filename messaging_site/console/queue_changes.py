"""Changes of a queue that move or end messages: moving them as a plan, purging, deleting the queue.

The plan's address is the form, and nothing is stored. What it says is as of now: messages come and go.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.text import capfirst
from django.views.decorators.http import require_http_methods

from brokers.errors import AccessDenied, Conflict, InvalidName, InvalidValue, QueueFull, QueueNotFound
from brokers.queues import declaring, lengths, moving, topology
from brokers.queues.topology import QueueInfo
from brokers.selectors import exchanges as exchange_reads
from brokers.selectors import queue_console
from brokers.selectors import queues as queue_reads
from brokers.selectors.queues import QueueDetail
from messaging_site.console import signing_in
from messaging_site.console.danger_forms import DangerForm
from messaging_site.console.permissions import actor, authorize, may, requires
from messaging_site.console.queue_forms import MoveForm, MoveReasonForm
from messaging_site.console.queues import frame

BINDINGS_SHOWN: Final = 20
SECONDS: Final = 15
"""How long one request moves or purges; what is left is for the next."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What moving would do."""

    target: QueueInfo
    ready_there: int
    consumers_there: int
    moving: int
    staying: int
    """Ready ones beyond the limit, delayed ones and those under a claim."""
    cautions: list[str]


@require_http_methods(["GET", "HEAD", "POST"])
@requires("delete", "queue")
def move(request: HttpRequest, queue: str) -> HttpResponse:
    """The form, and below it the plan that the address asks for; POST moves."""
    authorize(request, "read", "queue", queue)
    found = queue_reads.get(queue)
    asked = request.GET if "target" in request.GET else None
    form = MoveForm(asked)
    reason = MoveReasonForm(request.POST) if request.method == "POST" else MoveReasonForm()
    context: dict[str, Any] = frame(request, found, "move") | {"form": form, "reason_form": reason, "plan": None}
    if asked is not None and form.is_valid():
        plan = _plan(request, found, form)
        context["plan"] = plan
        is_wanted = plan is not None and request.method == "POST" and reason.is_valid()
        if is_wanted and _moved(request, queue, form, reason.cleaned_data["reason"]):
            return HttpResponseRedirect(reverse("admin:queue", args=[queue]))
    status = 422 if form.errors or (request.method == "POST" and reason.errors) else 200
    return render(request, "console/queues/move.html", context, status=status)


def _plan(request: HttpRequest, source: QueueDetail, form: MoveForm) -> Plan | None:
    name, limit = form.cleaned_data["target"], form.cleaned_data["limit"]
    try:
        if name == source.name:
            raise InvalidName("Give another queue than this one")
        authorize(request, "write", "queue", name)
        target = topology.queue(name)
    except (AccessDenied, InvalidName, QueueNotFound) as error:
        form.add_error("target", f"{capfirst(error.detail)}.")
        return None
    count = source.ready if limit is None else min(limit, source.ready)
    ready = lengths.figures([target.id])[target.id].ready
    consumers = sum(consumer.is_live for consumer in queue_console.consumers(target.id))
    cautions = _cautions(source, target, count - max((target.max_length or 0) - ready, 0))
    if not consumers:
        cautions.append(f"{target.name} has no consumer now.")
    return Plan(target, ready, consumers, count, source.messages - count, cautions)


def _cautions(source: QueueDetail, target: QueueInfo, beyond: int) -> list[str]:
    """What may surprise; `beyond` is how many messages are more than a limit of the target's length allows."""
    cautions = []
    if target.max_length is not None and beyond > 0:
        what = "it refuses them" if target.overflow == "reject-publish" else "it gives up its oldest for them"
        cautions.append(f"{beyond:,} are more than {target.name} has room for: {what}.")
    if target.message_ttl_ms is not None:
        cautions.append(f"Messages expire in {target.name}, counted anew from when they come there.")
    if (source.effective.max_priority or 0) > (target.max_priority or 0):
        cautions.append(f"{target.name} knows fewer priorities: higher ones become its highest.")
    if target.paused:
        cautions.append(f"{target.name} is paused: nothing is handed out until it is resumed.")
    return cautions


def _moved(request: HttpRequest, queue: str, form: MoveForm, reason: str) -> bool:
    target, limit = form.cleaned_data["target"], form.cleaned_data["limit"]
    going = _for_now()
    try:
        count = moving.move(queue, target, limit, actor=actor(request), reason=reason, keep_going=going)
    except (InvalidValue, Conflict, QueueFull, QueueNotFound) as error:
        form.add_error(None, f"Nothing was moved: {error.detail}.")
        return False
    _say_done(request, f"{_many(count)} moved to {target}.", going)
    return True


def _for_now() -> Callable[[], bool]:
    """Whether a step more can be done before a browser would be kept waiting for too long."""
    end = time.monotonic() + SECONDS
    return lambda: time.monotonic() < end


def _say_done(request: HttpRequest, text: str, going: Callable[[], bool]) -> None:
    if going():
        messages.success(request, text)
    else:
        messages.warning(request, f"{text} That took {SECONDS} seconds, so the rest was left: do it again to go on.")


def _many(count: int) -> str:
    return f"{count:,} message{' was' if count == 1 else 's were'}"


@require_http_methods(["GET", "HEAD", "POST"])
@requires("delete", "queue")
def purge(request: HttpRequest, queue: str) -> HttpResponse:
    """Says what a purge takes away, and purges once the name has been typed and a reason given."""
    found = queue_reads.get(queue)
    form = _danger(request, queue, "Nothing was purged.", reason=True)
    if _confirmed(request, form):
        going = _for_now()
        count = lengths.purge(queue, actor(request), going, reason=form.cleaned_data["reason"])
        _say_done(request, f"{_many(count)} purged from {queue}.", going)
        return HttpResponseRedirect(reverse("admin:queue", args=[queue]))
    context = frame(request, found, "settings") | {"form": form, "going": found.ready + found.delayed}
    return render(request, "console/queues/purge.html", context, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@requires("delete", "queue")
def delete(request: HttpRequest, queue: str) -> HttpResponse:
    """Lists what goes with the queue, and deletes it once its name has been typed."""
    found = queue_reads.get(queue)
    form = _danger(request, queue, "Nothing was deleted.", reason=False)
    if _confirmed(request, form):
        count = declaring.delete_queue(queue, actor=actor(request))
        messages.success(request, f"Queue {queue} was deleted with {count:,} message{'' if count == 1 else 's'}.")
        return HttpResponseRedirect(reverse("admin:queues"))
    bindings, following = exchange_reads.bindings(
        queue=queue, limit=BINDINGS_SHOWN, may=lambda binding: may(request, "describe", "exchange", binding.exchange)
    )
    context = frame(request, found, "settings") | {
        "form": form,
        "bindings": bindings,
        "more_bindings": following is not None,
    }
    return render(request, "console/queues/delete.html", context, status=422 if form.errors else 200)


def _danger(request: HttpRequest, queue: str, undone: str, *, reason: bool) -> DangerForm:
    return DangerForm(
        queue,
        request.user,
        request.POST or None,
        noun="queue",
        undone=undone,
        ask_password=not signing_in.password_is_fresh(request),
        reason=reason,
    )


def _confirmed(request: HttpRequest, form: DangerForm) -> bool:
    if request.method != "POST" or not form.is_valid():
        return False
    if "password" in form.fields:
        signing_in.remember_password_given(request)
    return True
