"""The messages of a queue: a look that changes nothing, one of them with its body, and those under a claim.

Routing keys, headers and properties need `read` on the queue, bodies `view_payload` as well; without it their place
says so. A claim's token is shown to nobody: whoever knows it can act as its holder.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from django.contrib import messages as notices
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from brokers.errors import NotFound
from brokers.queues import releasing
from brokers.queues.message import Message
from brokers.queues.topology import QueueInfo
from brokers.record import Record
from brokers.selectors import queue_console
from brokers.selectors import queues as queue_reads
from brokers.selectors.queue_console import Held, Seen
from messaging_site.console import formatting, payload, queue_words
from messaging_site.console.failure_words import Word
from messaging_site.console.fields import values_text
from messaging_site.console.permissions import actor, may, requires
from messaging_site.console.queues import frame

PAGE_SIZE: Final = 50
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Row:
    """One message as a line of the table."""

    message: Message
    state: Word
    preview: str | None
    size: int
    url: str
    is_open: bool


@require_safe
@requires("describe", "queue")
def listing(request: HttpRequest, queue: str) -> HttpResponse:
    """A page of messages, in the order in which they go, with one of them open beside it when the address says so."""
    detail = queue_reads.get(queue)
    context = frame(request, detail, "messages")
    after = request.GET.get("after", "")
    found: list[Seen] = []
    if context["may"]["read"]:
        found = queue_console.look(detail.effective, after, PAGE_SIZE + 1)
    shown = found[:PAGE_SIZE]
    here = {"after": after} if after else {}
    opened = _opened(request, detail.effective) if context["may"]["read"] else None
    context |= {
        "rows": [_row(seen, here, opened) for seen in shown],
        "after": after,
        "following": shown[-1].place if len(found) > PAGE_SIZE else None,
        "opened": opened,
        "close_url": f"?{urlencode(here)}",
    }
    if opened is not None:
        context |= _body(request, queue, opened, f"?{urlencode(here | {'open': opened.row})}&")
    return render(request, "console/queues/messages.html", context)


def _opened(request: HttpRequest, queue: QueueInfo) -> Message | None:
    text = request.GET.get("open", "")
    try:
        return queue_console.message(queue, int(text)) if _NUMBER.fullmatch(text) else None
    except NotFound:
        return None


@require_safe
@requires("read", "queue")
def detail(request: HttpRequest, queue: str, message: int) -> HttpResponse:
    """One message on a page of its own."""
    found = queue_reads.get(queue)
    opened = queue_console.message(found.effective, message)
    context = frame(request, found, "messages") | _body(request, queue, opened, "?")
    context["crumbs"] = [
        ("Queues", reverse("admin:queues")),
        (queue, reverse("admin:queue", args=[queue])),
        (f"{opened.id:,}", None),
    ]
    return render(request, "console/queues/message.html", context)


@require_safe
@requires("view_payload", "queue")
def download(request: HttpRequest, queue: str, message: int) -> HttpResponse:
    """The body's bytes as a file that no browser opens by itself."""
    opened = queue_console.message(queue_reads.get(queue).effective, message)
    response = HttpResponse(opened.body_bytes, content_type="application/octet-stream")
    response["Content-Disposition"] = f'attachment; filename="{queue}-{opened.id}.bin"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _row(seen: Seen, here: dict[str, str], opened: Message | None) -> Row:
    message = seen.message
    return Row(
        message=message,
        state=_state(message),
        preview=payload.preview(_as_record(message)),
        size=seen.size,
        url=f"?{urlencode(here | {'open': message.row})}",
        is_open=opened is not None and opened.row == message.row,
    )


def _state(message: Message) -> Word:
    if message.lease_until is not None:
        return queue_words.HELD
    return queue_words.DELAYED if message.due_at is not None else queue_words.READY


def _as_record(message: Message) -> Record:
    """The message's body as the payload viewer takes it."""
    return Record(0, None, message.body_bytes, message.encoding, {})


def _body(request: HttpRequest, queue: str, message: Message, view_base: str) -> dict[str, Any]:
    may_see = may(request, "view_payload", "queue", queue)
    shown = payload.payload(_as_record(message), request.GET.get("view")) if may_see else None
    headers = message.headers
    return {
        "message": message,
        "state_of_message": _state(message),
        "headers": [(name, _as_text(value)) for name, value in sorted(headers.items()) if name != "x-death"],
        "deaths": message.envelope.deaths,
        "properties": [
            (label, text)
            for label, text in (
                ("Message id", message.message_id),
                ("Correlation id", message.correlation_id),
                ("Reply to", message.reply_to),
                ("Content type", message.content_type),
                ("Type", message.type),
            )
            if text is not None
        ],
        "payload": shown,
        "views": [(view, f"{view_base}view={view}") for view in shown.views] if shown is not None else [],
        "lacks_payload": "" if may_see else f"view_payload on queue {queue}",
        "value_url": reverse("admin:message-body", args=[queue, message.row]),
    }


def _as_text(value: Any) -> str:
    """A header's value as a person would type it."""
    return formatting.shortened(values_text({"": value})[2:], 4000)


# -- under a claim --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeldRow:
    """One message under a claim as a line of the table; `share` of its lease is over, in hundredths."""

    held: Held
    is_over: bool
    share: int


@require_safe
@requires("describe", "queue")
def unacknowledged(request: HttpRequest, queue: str) -> HttpResponse:
    """Who holds which messages, since when and until when."""
    found = queue_reads.get(queue)
    held = queue_console.held(found.id)
    context = frame(request, found, "unacknowledged") | {
        "rows": [HeldRow(each, each.left_ms <= 0, _share(each)) for each in held],
        "is_cut": len(held) == queue_console.HELD_SHOWN,
    }
    return render(request, "console/queues/unacknowledged.html", context)


def _share(held: Held) -> int:
    if held.claimed_at is None or held.left_ms <= 0:
        return 100
    whole = (held.lease_until - held.claimed_at).total_seconds()
    return max(0, min(100, round(100 - held.left_ms / 10 / whole))) if whole > 0 else 100


@require_POST
@requires("alter", "queue")
def release(request: HttpRequest, queue: str) -> HttpResponse:
    """Takes one message from its holder by force and puts it back in its place."""
    text = request.POST.get("message", "")
    number = int(text) if _NUMBER.fullmatch(text) else 0
    done = releasing.release(queue, number, actor=actor(request))
    if done is None:
        notices.info(request, "The message is not under a claim any more. Nothing was changed.")
    else:
        notices.success(request, f"Message {done:,} is ready again. What its holder still does with it counts no more.")
    return HttpResponseRedirect(reverse("admin:queue-unacknowledged", args=[queue]))
