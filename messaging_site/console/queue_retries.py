"""What becomes of a message that is not handled, drawn as a sequence: attempts, pauses, and where it goes in the end.

A listener's back-off is known where its application is loaded; the queue's own rules are the topology's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from brokers.listeners.queue_registration import QueueListener, declared_queue_listeners
from brokers.queues import topology
from brokers.queues.topology import QueueInfo
from brokers.retries.backoff import BackOff
from brokers.selectors import queues as queue_reads
from messaging_site.console import formatting, queue_words
from messaging_site.console.permissions import may, requires
from messaging_site.console.queues import frame

ATTEMPTS_DRAWN: Final = 6


class Step(NamedTuple):
    """One piece of the drawing: an `attempt`, a `pause` before the next, a `gap`, or the `end`."""

    kind: str
    text: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Course:
    """What happens to a message under one rule."""

    heading: str
    note: str
    steps: list[Step]


@dataclass(frozen=True, slots=True)
class Outlet:
    """The dead-letter exchange and what it leads to. `queues` is None where that depends on the message."""

    exchange: str
    exists: bool
    routing_key: str | None
    queues: list[str] | None
    hidden: int
    may_see: bool


@require_safe
@requires("describe", "queue")
def policy(request: HttpRequest, queue: str) -> HttpResponse:
    """How often a message is tried, what else ends its stay, and where it goes then."""
    detail = queue_reads.get(queue)
    listeners = [each for each in declared_queue_listeners() if each.queue == queue]
    context = frame(request, detail, "policy") | {
        "courses": [_course(listener) for listener in listeners] + [_of_queue(detail.effective)],
        "outlet": _outlet(request, detail.effective),
        "dead_letters_here": queue_words.DEAD_LETTERS[detail.declared.dead_letters],
    }
    return render(request, "console/queues/policy.html", context)


def _course(listener: QueueListener) -> Course:
    policy = listener.policy
    steps = steps_of(policy.back_off)
    return Course(
        heading=listener.name,
        note=_exceptions("Tried again only after", policy.retryable)
        or _exceptions("Given up at once after", policy.not_retryable)
        or "After any exception.",
        steps=[*steps, Step("end", "given up", "as a dead letter")],
    )


def _exceptions(words: str, classes: Sequence[type[BaseException]]) -> str:
    return f"{words} {', '.join(each.__name__ for each in classes)}." if classes else ""


def steps_of(back_off: BackOff) -> list[Step]:
    """Attempts with the pauses between them, those past the first few left out."""
    steps = [Step("attempt", "attempt 1")]
    for retry in range(1, ATTEMPTS_DRAWN):
        delay = back_off.delay_ms(retry)
        if delay is None:
            return steps
        steps += [Step("pause", formatting.duration(delay) if delay else "at once")]
        steps += [Step("attempt", f"attempt {retry + 1}")]
    if back_off.delay_ms(ATTEMPTS_DRAWN) is None:
        return steps
    if back_off.max_retries is None:
        return [*steps, Step("gap", "and so on without an end")]
    return [*steps, Step("gap", f"… {back_off.max_retries + 1:,} attempts in all")]


def _of_queue(queue: QueueInfo) -> Course:
    limit = queue.delivery_limit
    note = "Leases that lapse and failures count; a message that its consumer requeues is not counted."
    if limit < 0:
        steps = [Step("attempt", "delivery 1"), Step("gap", "and so on without an end")]
        return Course("Deliveries that fail", note, steps)
    steps = [Step("attempt", "delivery 1")]
    if limit == 1:
        steps += [Step("attempt", "delivery 2")]
    elif limit:
        steps += [Step("gap", "…"), Step("attempt", f"delivery {limit + 1:,}")]
    return Course("Deliveries that fail", note, [*steps, Step("end", "given up", "reason delivery_limit")])


def _outlet(request: HttpRequest, queue: QueueInfo) -> Outlet | None:
    exchange = queue.dead_letter_exchange
    if exchange is None:
        return None
    routes = topology.fresh()
    info = routes.exchange(exchange)
    reached: list[str] | None = None
    if info is not None and queue.dead_letter_routing_key is not None and info.type != "headers":
        reached = [found.name for found in routes.route(exchange, [queue.dead_letter_routing_key])]
    seen = None if reached is None else [name for name in reached if may(request, "describe", "queue", name)]
    return Outlet(
        exchange=exchange,
        exists=info is not None,
        routing_key=queue.dead_letter_routing_key,
        queues=seen,
        hidden=len(reached or []) - len(seen or []),
        may_see=bool(exchange) and info is not None and may(request, "describe", "exchange", exchange),
    )
