"""The route tester: which queues a message would reach from an exchange, by which bindings, and why. Sends nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from brokers.errors import InvalidValue
from brokers.queues import message_input, topology
from brokers.queues.routes import Hop
from brokers.queues.routing import check_key, routing_keys
from brokers.selectors import exchanges as exchange_reads
from messaging_site.console import exchanges
from messaging_site.console.exchange_forms import RouteForm
from messaging_site.console.fields import values_text
from messaging_site.console.permissions import may, requires

HOPS_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way, as a line of the table."""

    hop: Hop
    arguments: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where a message would go; what the reader may not see is counted and not named."""

    queues: list[str]
    hidden: int
    steps: list[Step]
    is_cut: bool
    keys: list[str]
    """More than one where headers add some."""


@require_safe
@requires("describe", "exchange")
def routes(request: HttpRequest, exchange: str) -> HttpResponse:
    """The form, and below it the way of the message that the address describes."""
    found = exchange_reads.get(exchange)
    asked = request.GET if "routing_key" in request.GET else None
    form = RouteForm(asked)
    verdict = _verdict(request, exchange, form) if asked is not None and form.is_valid() else None
    context = exchanges.frame(request, found, "routes") | {"form": form, "verdict": verdict}
    return render(request, "console/exchanges/routes.html", context, status=422 if form.errors else 200)


def _verdict(request: HttpRequest, exchange: str, form: RouteForm) -> Verdict | None:
    try:
        key = check_key(form.cleaned_data["routing_key"])
        headers = message_input.checked_headers(form.cleaned_data["headers"])
    except InvalidValue as error:
        form.explain(error)
        return None
    keys = list(routing_keys(key, headers))
    explained = topology.fresh().explain(exchange, keys, headers)
    seen = [queue.name for queue in explained.queues if may(request, "describe", "queue", queue.name)]
    hops = [hop for hop in explained.hops if _sees(request, hop)]
    return Verdict(
        queues=sorted(seen),
        hidden=len(explained.queues) - len(seen),
        steps=[
            Step(hop, "" if hop.binding is None else values_text(hop.binding.arguments)) for hop in hops[:HOPS_SHOWN]
        ],
        is_cut=len(hops) > HOPS_SHOWN,
        keys=list(keys),
    )


def _sees(request: HttpRequest, hop: Hop) -> bool:
    if not may(request, "describe", "exchange", hop.exchange):
        return False
    kind, name = ("queue", hop.queue) if hop.queue is not None else ("exchange", hop.to_exchange or "")
    return may(request, "describe", kind, name)
