"""One dead letter: its payload, error, attempts, where it comes from, what was done about it, and its neighbours.

Who may describe its consumer sees that it is there; key, value, headers and stack traces need `view_payload` or `read`
on the topic or queue that it came from. To whom it is hidden it is not found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from brokers import dead_letter_headers, dead_letter_topics
from brokers.errors import DeadLetterNotFound
from brokers.models import ProcessedMessage
from brokers.processed import consumer_of_queue
from brokers.selectors import dead_letters as letter_reads
from brokers.selectors.dead_letter_filter import Filter, places, search
from brokers.selectors.dead_letters import Attempt, DeadLetter
from messaging_site.console import letter_history, payload, stack_trace
from messaging_site.console.failure_access import Reader
from messaging_site.console.failure_words import REASONS, Word, title
from messaging_site.console.letter_records import as_record, deaths, position
from messaging_site.console.permissions import may, requires

SHOWN_ATTEMPTS = 12
"""Attempts on the first tab."""
ALL_ATTEMPTS = 1000
"""Attempts on their own tab."""
_YES = Word("ok", "ok", "Yes")
_NO = Word("mute", "mute", "No")


@dataclass(frozen=True, slots=True)
class AttemptRow:
    """One attempt as a line; `differs` from the one before in its exception, `is_repeated` with its very message."""

    number: int
    revision: int
    replay_id: int | None
    begins_replay: bool
    started_at: datetime
    duration_ms: float | None
    delay_ms: int | None
    worker: str
    exception_class: str
    error: str
    is_lost: bool
    differs: bool
    is_repeated: bool


@require_safe
@requires("describe", "group", per_item=True)
def detail(request: HttpRequest, letter: int) -> HttpResponse:
    """One tab of a dead letter."""
    found = visible(request, letter)
    tab = request.GET.get("tab", "")
    context = frame(request, found)
    tab = tab if tab in {each for each, _, _ in context["tabs"]} else "message"
    context |= {"tab": tab, "tab_query": "" if tab == "message" else f"?{urlencode({'tab': tab})}"}
    if tab in ("message", "attempts"):
        limit = SHOWN_ATTEMPTS if tab == "message" else ALL_ATTEMPTS
        context["attempts"] = attempt_rows(letter_reads.attempts(letter, limit))
    if tab in ("message", "error"):
        context |= _error(found)
    if tab in ("message", "idempotency"):
        context |= _idempotency(found)
    if tab == "message":
        context |= _message(request, found, context["lacks_payload"])
    if tab == "history":
        context |= {"events": letter_history.events(found)}
    return render(request, "console/dead_letters/letter.html", context)


@require_safe
@requires("describe", "group", per_item=True)
def step(request: HttpRequest, letter: int, direction: str) -> HttpResponse:
    """Leads to the next older or newer dead letter of the same failure group and state."""
    found = visible(request, letter)
    wanted = Filter(fingerprint=found.fingerprint, state=found.state)
    with search() as cursor:
        side = {"before": found.place} if direction == "older" else {"after": found.place}
        beyond = places(cursor, wanted, 1, **side)
    target = beyond[0][1] if beyond else letter
    if not beyond:
        messages.info(request, f"There is no {direction} one in this failure group that is {found.state}.")
    tab = {"tab": request.GET["tab"]} if "tab" in request.GET else {}
    return HttpResponseRedirect(f"{reverse('admin:dead-letter', args=[target])}{'?' if tab else ''}{urlencode(tab)}")


@require_safe
@requires("describe", "group", per_item=True)
def download(request: HttpRequest, letter: int) -> HttpResponse:
    """The current value's bytes as a file that no browser opens by itself."""
    found = visible(request, letter)
    Reader(request).require_payload(found.consumer)
    response = HttpResponse(found.body.value or b"", content_type="application/octet-stream")
    response["Content-Disposition"] = f'attachment; filename="dead-letter-{letter}.bin"'
    response["X-Content-Type-Options"] = "nosniff"
    return response


def visible(request: HttpRequest, number: int) -> DeadLetter:
    """The dead letter; raises `DeadLetterNotFound`, also where the user may not know of it."""
    found = letter_reads.get(number)
    if not Reader(request).sees(*found.consumer):
        raise DeadLetterNotFound(f"there is no dead letter {number}")
    return found


def frame(request: HttpRequest, letter: DeadLetter) -> dict[str, Any]:
    """What every page of one dead letter needs: heading, breadcrumbs, tabs, what the user may do."""
    reader = Reader(request)
    name, message = title(letter.exception_class, letter.error.partition("\n")[0], letter.reason)
    lacks_payload = reader.lacks_payload(letter.consumer)
    group = reverse("admin:dead-letter-list") + "?" + urlencode({"fingerprint": letter.fingerprint})
    under_way = [replay.id for replay in letter.replays if replay.outcome == "waiting"]
    return {
        "title": f"Dead letter {letter.id}",
        "crumbs": [
            ("Failures", None),
            ("Dead letters", reverse("admin:dead-letters")),
            (f"{name[:60]}", group),
            (position(letter), None),
        ],
        "letter": letter,
        "name": name,
        "message": "" if lacks_payload else message,
        "position": position(letter),
        "reason": REASONS.get(letter.reason, letter.reason),
        "group_url": group,
        "lacks_replay": reader.lacks_replay([letter.consumer]),
        "lacks_payload": lacks_payload,
        "running_replay": under_way[-1] if under_way else None,
        "inert": ["Discard", "Resolve", "Edit", "Replay…"],
        "headers": sorted(dead_letter_headers.as_text(letter.body.headers).items()),
        "tabs": [
            ("message", "Message", None),
            ("headers", "Headers", None if lacks_payload else len(letter.body.headers)),
            ("error", "Error", None),
            ("attempts", "Attempts", letter.attempts),
            ("idempotency", "Idempotency", None),
            ("history", "History", None),
        ],
    }


def _message(request: HttpRequest, letter: DeadLetter, lacks_payload: str) -> dict[str, Any]:
    record = as_record(letter)
    shown = None if lacks_payload else payload.payload(record, request.GET.get("view"))
    is_topic = letter.source_kind == "topic" and letter.offset is not None
    may_read = is_topic and may(request, "read", "topic", letter.source)
    dead_letter_topic = dead_letter_topics.name_for(letter.source) if is_topic else None
    if dead_letter_topic is not None and not may(request, "read", "topic", dead_letter_topic):
        dead_letter_topic = None
    return {
        "payload": shown,
        "views": [(view, f"?view={view}") for view in shown.views] if shown is not None else [],
        "download_url": reverse("admin:dead-letter-value", args=[letter.id]),
        "payload_heading": "Payload",
        "lacks": lacks_payload,
        "key": None if lacks_payload else payload.key_text(record),
        "record_url": reverse("admin:record", args=[letter.source, letter.partition, letter.offset])
        if may_read
        else None,
        "dead_letter_topic": dead_letter_topic,
        "queue_url": reverse("admin:queue", args=[letter.source]) if letter.source_kind == "queue" else None,
        "deaths": [] if lacks_payload else deaths(letter),
        "envelope": letter.envelope,
    }


def _error(letter: DeadLetter) -> dict[str, Any]:
    trace = stack_trace.chain(letter.stacktrace or "", letter.frames)
    return {
        "trace": trace,
        "stacktrace": letter.stacktrace,
        "folded": sum(raised.folded for raised in trace),
    }


def _idempotency(letter: DeadLetter) -> dict[str, Any]:
    consumer = consumer_of_queue(letter.source) if letter.source_kind == "queue" else letter.group or letter.source
    processed_at = None
    if letter.idempotency_key:
        found = ProcessedMessage.objects.filter(consumer=consumer, message_key=letter.idempotency_key)
        processed_at = found.values_list("processed_at", flat=True).first()
    return {"processed_at": processed_at, "processed_consumer": consumer, "yes": _YES, "no": _NO}


def attempt_rows(attempts: Sequence[Attempt]) -> list[AttemptRow]:
    """The attempts as lines, each compared with the one before."""
    found: list[AttemptRow] = []
    before: Attempt | None = None
    for attempt in attempts:
        is_lost = attempt.ended_at is None
        took = None if attempt.ended_at is None else (attempt.ended_at - attempt.started_at).total_seconds() * 1000
        found.append(
            AttemptRow(
                number=attempt.number,
                revision=attempt.revision,
                replay_id=attempt.replay_id,
                begins_replay=attempt.replay_id is not None
                and (before is None or before.replay_id != attempt.replay_id),
                started_at=attempt.started_at,
                duration_ms=took,
                delay_ms=attempt.delay_ms,
                worker=attempt.worker,
                exception_class=attempt.exception_class,
                error=attempt.error,
                is_lost=is_lost,
                differs=before is not None and before.exception_class != attempt.exception_class,
                is_repeated=before is not None and before.error == attempt.error and bool(attempt.error),
            )
        )
        before = attempt
    return found
