"""The Queues screens but for messages: the list, declaring, consumers, bindings, settings, pausing and resuming."""

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
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from brokers.errors import AccessDenied, InvalidName, InvalidValue, PolicyNotFound, PreconditionFailed
from brokers.queues import declaring
from brokers.selectors import exchanges as exchange_reads
from brokers.selectors import queue_console
from brokers.selectors import queues as queue_reads
from brokers.selectors.queue_console import Consumer, Marks
from brokers.selectors.queues import Only, QueueDetail
from messaging_site.console import queue_words
from messaging_site.console.failure_words import Word
from messaging_site.console.fields import values_text
from messaging_site.console.permissions import actor, authorize, may, requires
from messaging_site.console.queue_forms import DeclareForm

PAGE_SIZE: Final = 50
BINDINGS_SHOWN: Final = 200
_NAME_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,249}", re.ASCII)
_NO_MARKS: Final = Marks(0, 0)


@dataclass(frozen=True, slots=True)
class Row:
    """One queue as a line of the list."""

    queue: QueueDetail
    state: Word
    dead_letters: int
    growth: int


@dataclass(frozen=True, slots=True)
class ConsumerRow:
    """One consumer as a line of the table."""

    consumer: Consumer
    state: Word


@require_safe
@requires("describe", "queue", per_item=True)
def listing(request: HttpRequest) -> HttpResponse:
    """All queues that the reader may see, by name, narrowed by the beginning of the name and by what they do."""
    prefix = request.GET.get("q", "").strip()
    after = request.GET.get("after") or ""
    only = _only(request.GET.get("only", ""))
    is_possible = _NAME_PREFIX.fullmatch(prefix) and _NAME_PREFIX.fullmatch(after)
    found, following = _visible(request, prefix, after, only) if is_possible else ([], None)
    context = {
        "title": "Queues",
        "crumbs": [("Messaging", None), ("Queues", None)],
        "rows": rows(found),
        "prefix": prefix[:249],
        "after": after,
        "only": only,
        "filters": queue_words.FILTERS,
        "following": following,
        "may_see_policies": may(request, "describe", "server", "policies"),
        "any_queues": bool(found) or bool(_visible(request, "", "", "", 1)[0]),
    }
    return render(request, "console/queues/list.html", context)


def _only(text: str) -> Only:
    known: dict[str, Only] = {
        "paused": "paused",
        "waiting": "waiting",
        "unconsumed": "unconsumed",
        "growing": "growing",
    }
    return known.get(text, "")


def _visible(
    request: HttpRequest, prefix: str, after: str, only: Only, limit: int = PAGE_SIZE
) -> tuple[list[QueueDetail], str | None]:
    return queue_reads.page(
        after, limit, lambda name: may(request, "describe", "queue", name), prefix=prefix, only=only
    )


def rows(queues: Sequence[QueueDetail]) -> list[Row]:
    """Queues as lines of a list."""
    found = queue_console.marks([queue.id for queue in queues]) if queues else {}
    return [_row(queue, found.get(queue.id, _NO_MARKS)) for queue in queues]


def _row(queue: QueueDetail, marks: Marks) -> Row:
    return Row(
        queue=queue,
        state=queue_words.STATES[queue_console.state(queue, marks.growth)],
        dead_letters=marks.dead_letters,
        growth=marks.growth,
    )


@require_http_methods(["GET", "HEAD", "POST"])
@requires("create", "queue", per_item=True)
def create(request: HttpRequest) -> HttpResponse:
    """The form for a new queue; goes to the queue once it exists."""
    form = DeclareForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and _declared(request, form):
        return HttpResponseRedirect(reverse("admin:queue", args=[form.cleaned_data["name"]]))
    context = {
        "title": "New queue",
        "crumbs": [("Queues", reverse("admin:queues")), ("New queue", None)],
        "form": form,
    }
    return render(request, "console/queues/create.html", context, status=422 if form.errors else 200)


def _declared(request: HttpRequest, form: DeclareForm) -> bool:
    name, settings = form.cleaned_data["name"], form.settings()
    try:
        authorize(request, "create", "queue", name)
        if settings.get("dead_letter_exchange"):
            authorize(request, "write", "exchange", settings["dead_letter_exchange"])
        is_new = declaring.declare_queue(name, actor=actor(request), **settings)
    except (InvalidName, PreconditionFailed) as error:
        form.explain(error, otherwise="name")
        return False
    except (InvalidValue, AccessDenied) as error:
        form.explain(error)
        return False
    messages.success(request, f"Queue {name} was declared." if is_new else f"Queue {name} was there already, as given.")
    return True


def frame(request: HttpRequest, queue: QueueDetail, tab: str) -> dict[str, Any]:
    """What every page of one queue needs: heading, breadcrumbs, figures, tabs, what the user may do."""
    marks = queue_console.marks([queue.id]).get(queue.id, _NO_MARKS)
    state = queue_console.state(queue, marks.growth)
    operations = ("read", "view_payload", "write", "alter", "delete")
    return {
        "title": queue.name,
        "crumbs": [("Queues", reverse("admin:queues")), (queue.name, None)],
        "queue": queue,
        "tab": tab,
        "state": queue_words.STATES[state],
        "meaning": queue_words.MEANINGS[state],
        "dead_letters": marks.dead_letters,
        "growth": marks.growth,
        "may": {operation: may(request, operation, "queue", queue.name) for operation in operations},
        "may_see_policies": may(request, "describe", "server", "policies"),
    }


@require_safe
@requires("describe", "queue")
def consumers(request: HttpRequest, queue: str) -> HttpResponse:
    """Who consumes a queue."""
    detail = queue_reads.get(queue)
    found = queue_console.consumers(detail.id)
    active = next((consumer for consumer in found if consumer.is_live), None)
    context = frame(request, detail, "consumers") | {
        "consumers": [_consumer_row(consumer, consumer is active, detail) for consumer in found],
        "is_cut": len(found) == queue_console.CONSUMERS_SHOWN,
    }
    return render(request, "console/queues/consumers.html", context)


def _consumer_row(consumer: Consumer, is_first: bool, queue: QueueDetail) -> ConsumerRow:
    if not consumer.is_live:
        return ConsumerRow(consumer, queue_words.LATE)
    is_active = is_first or not queue.effective.single_active_consumer
    return ConsumerRow(consumer, queue_words.ACTIVE if is_active else queue_words.STANDING_BY)


@require_safe
@requires("describe", "queue")
def bindings(request: HttpRequest, queue: str) -> HttpResponse:
    """What leads to a queue."""
    detail = queue_reads.get(queue)
    found, following = exchange_reads.bindings(
        queue=queue,
        limit=BINDINGS_SHOWN,
        may=lambda binding: may(request, "describe", "exchange", binding.exchange),
    )
    context = frame(request, detail, "bindings") | {
        "bindings": [(binding, values_text(binding.arguments)) for binding in found],
        "is_cut": following is not None,
    }
    return render(request, "console/queues/bindings.html", context)


@require_safe
@requires("describe", "queue")
def settings(request: HttpRequest, queue: str) -> HttpResponse:
    """What a queue was declared with, what its policy adds, and what holds."""
    detail = queue_reads.get(queue)
    context = frame(request, detail, "settings") | {
        "limits": queue_words.limits(detail.declared, _settings_of_policy(detail.policy), detail.effective),
        "dead_letters_here": queue_words.DEAD_LETTERS[detail.declared.dead_letters],
    }
    return render(request, "console/queues/settings.html", context)


def _settings_of_policy(name: str | None) -> Any:
    if name is None:
        return None
    try:
        return queue_console.policy(name).settings
    except PolicyNotFound:  # deleted since the queue was read
        return None


@require_POST
@requires("alter", "queue")
def pause(request: HttpRequest, queue: str) -> HttpResponse:
    """Pauses a queue and goes back to the page it came from."""
    declaring.pause_queue(queue, actor=actor(request))
    messages.success(request, f"Queue {queue} is paused. Messages are taken in and none is handed out.")
    return HttpResponseRedirect(return_to(request, queue))


@require_POST
@requires("alter", "queue")
def resume(request: HttpRequest, queue: str) -> HttpResponse:
    """Resumes a queue and goes back to the page it came from."""
    declaring.resume_queue(queue, actor=actor(request))
    messages.success(request, f"Queue {queue} is resumed.")
    return HttpResponseRedirect(return_to(request, queue))


def return_to(request: HttpRequest, queue: str) -> str:
    """The page that a form came from, or else the queue's."""
    target = request.POST.get("next", "")
    if url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure()):
        return target
    return reverse("admin:queue", args=[queue])
