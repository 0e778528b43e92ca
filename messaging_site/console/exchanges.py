"""The Exchanges screens: the list, declaring, one exchange with its bindings and where they lead, binding, deleting."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from brokers.errors import (
    AccessDenied,
    BindingNotFound,
    BrokerError,
    ExchangeNotFound,
    InvalidName,
    InvalidValue,
    PreconditionFailed,
    QueueNotFound,
)
from brokers.queues import bindings as binding_writes
from brokers.queues import declaring
from brokers.selectors import exchanges as exchange_reads
from brokers.selectors import queue_console
from brokers.selectors.exchanges import BindingDetail, ExchangeDetail
from messaging_site.console import route_graph, signing_in
from messaging_site.console.danger_forms import DangerForm
from messaging_site.console.exchange_forms import BindForm, DeclareForm
from messaging_site.console.fields import values_text
from messaging_site.console.permissions import actor, authorize, may, requires
from messaging_site.console.route_graph import Link

PAGE_SIZE: Final = 50
BINDINGS_SHOWN: Final = 50
_NAME_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,249}", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class BindingRow:
    """One binding as a line of the table; `lacks` names the permission that is missing to take it away."""

    binding: BindingDetail
    arguments: str
    may_see: bool
    """The destination's page."""
    lacks: str


@require_safe
@requires("describe", "exchange", per_item=True)
def listing(request: HttpRequest) -> HttpResponse:
    """All exchanges that the reader may see, by name, narrowed by the beginning of the name."""
    prefix = request.GET.get("q", "").strip()
    after = request.GET.get("after") or ""
    is_possible = _NAME_PREFIX.fullmatch(prefix) and _NAME_PREFIX.fullmatch(after)
    found, following = _visible(request, prefix, after) if is_possible else ([], None)
    context = {
        "title": "Exchanges",
        "crumbs": [("Messaging", None), ("Exchanges", None)],
        "exchanges": found,
        "prefix": prefix[:249],
        "after": after,
        "following": following,
        "any_exchanges": bool(found) or bool(_visible(request, "", "", 1)[0]),
    }
    return render(request, "console/exchanges/list.html", context)


def _visible(
    request: HttpRequest, prefix: str, after: str, limit: int = PAGE_SIZE
) -> tuple[list[ExchangeDetail], str | None]:
    return exchange_reads.page(after, limit, lambda name: may(request, "describe", "exchange", name), prefix=prefix)


@require_http_methods(["GET", "HEAD", "POST"])
@requires("create", "exchange", per_item=True)
def create(request: HttpRequest) -> HttpResponse:
    """The form for a new exchange; goes to the exchange once it exists."""
    form = DeclareForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and _declared(request, form):
        return HttpResponseRedirect(reverse("admin:exchange", args=[form.cleaned_data["name"]]))
    context = {
        "title": "New exchange",
        "crumbs": [("Exchanges", reverse("admin:exchanges")), ("New exchange", None)],
        "form": form,
    }
    return render(request, "console/exchanges/create.html", context, status=422 if form.errors else 200)


def _declared(request: HttpRequest, form: DeclareForm) -> bool:
    name, alternate = form.cleaned_data["name"], form.cleaned_data["alternate_exchange"] or None
    try:
        authorize(request, "create", "exchange", name)
        if alternate is not None:
            authorize(request, "write", "exchange", alternate)
        is_new = declaring.declare_exchange(
            name, type=form.cleaned_data["type"], alternate_exchange=alternate, actor=actor(request)
        )
    except (InvalidName, PreconditionFailed) as error:
        form.explain(error, otherwise="name")
        return False
    except (InvalidValue, AccessDenied) as error:
        form.explain(error)
        return False
    said = f"Exchange {name} was declared." if is_new else f"Exchange {name} was there already, as given."
    messages.success(request, said)
    return True


def frame(request: HttpRequest, exchange: ExchangeDetail, tab: str) -> dict[str, Any]:
    """What every page of one exchange needs: heading, breadcrumbs, tabs, what the user may do."""
    operations = ("read", "write", "delete")
    return {
        "title": exchange.name,
        "crumbs": [("Exchanges", reverse("admin:exchanges")), (exchange.name, None)],
        "exchange": exchange,
        "tab": tab,
        "may": {operation: may(request, operation, "exchange", exchange.name) for operation in operations},
    }


@require_http_methods(["GET", "HEAD", "POST"])
@requires("describe", "exchange")
def detail(request: HttpRequest, exchange: str) -> HttpResponse:
    """An exchange's bindings, where they lead, and the form for another one; POST binds."""
    found = exchange_reads.get(exchange)
    form = BindForm(found.type, request.POST or None, initial={"name": request.GET.get("queue", "")[:249]})
    if request.method == "POST":
        authorize(request, "read", "exchange", exchange)
        if form.is_valid() and _bound(request, exchange, form):
            return HttpResponseRedirect(reverse("admin:exchange", args=[exchange]))
    text = request.GET.get("after", "")
    after = int(text) if _NUMBER.fullmatch(text) else 0
    bindings, following = exchange_reads.bindings(
        exchange=exchange, after=after, limit=BINDINGS_SHOWN, may=lambda binding: _sees(request, binding)
    )
    context = frame(request, found, "bindings") | {
        "rows": [_row(request, binding) for binding in bindings],
        "after": after,
        "following": following,
        "graph": route_graph.draw(exchange, _links(request, exchange)),
        "form": form,
        "last": bindings[-1].id if bindings else 0,
    }
    return render(request, "console/exchanges/detail.html", context, status=422 if form.errors else 200)


def _sees(request: HttpRequest, binding: BindingDetail) -> bool:
    return may(request, "describe", *_destination(binding))


def _destination(binding: BindingDetail) -> tuple[str, str]:
    return ("queue", binding.queue) if binding.queue is not None else ("exchange", binding.to_exchange or "")


def _row(request: HttpRequest, binding: BindingDetail) -> BindingRow:
    return BindingRow(
        binding=binding,
        arguments=values_text(binding.arguments),
        may_see=_sees(request, binding),
        lacks=_lacks_binding(request, binding.exchange, *_destination(binding)),
    )


def _lacks_binding(request: HttpRequest, exchange: str, kind: str, name: str) -> str:
    """The permission missing to bind or unbind these; empty when none is."""
    if not may(request, "read", "exchange", exchange):
        return f"read on exchange {exchange}"
    return "" if may(request, "write", kind, name) else f"write on {kind} {name}"


def _links(request: HttpRequest, exchange: str) -> Sequence[Link]:
    """The steps from an exchange between places that the reader may see."""
    return [
        Link(*step)
        for step in queue_console.reach(exchange)
        if may(request, "describe", "exchange", step.source)
        and may(request, "describe", "queue" if step.is_queue else "exchange", step.destination)
    ]


def _bound(request: HttpRequest, exchange: str, form: BindForm) -> bool:
    kind, name = form.cleaned_data["destination"], form.cleaned_data["name"]
    try:
        authorize(request, "write", kind, name)
        _, is_new = binding_writes.bind(
            exchange,
            queue=name if kind == "queue" else None,
            to_exchange=name if kind == "exchange" else None,
            routing_key=form.cleaned_data["routing_key"],
            arguments=form.cleaned_data["arguments"],
            actor=actor(request),
        )
    except (QueueNotFound, ExchangeNotFound, InvalidName) as error:
        form.explain(error, otherwise="name")
        return False
    except (InvalidValue, AccessDenied) as error:
        form.explain(error)
        return False
    messages.success(request, f"Bound to {kind} {name}." if is_new else f"It was bound to {kind} {name} so already.")
    return True


@require_POST
@requires("describe", "exchange")
def unbind(request: HttpRequest, exchange: str) -> HttpResponse:
    """Takes a binding away and goes back to the exchange."""
    text = request.POST.get("binding", "")
    number = int(text) if _NUMBER.fullmatch(text) else 0
    back = HttpResponseRedirect(reverse("admin:exchange", args=[exchange]))
    try:
        binding = exchange_reads.binding(number)
        if binding.exchange != exchange or not _sees(request, binding):
            raise exchange_reads.no_binding(number)
        authorize(request, "read", "exchange", exchange)
        authorize(request, "write", *_destination(binding))
        binding_writes.unbind(number, actor=actor(request))
    except BindingNotFound:
        messages.info(request, "The binding is gone already.")
        return back
    kind, name = _destination(binding)
    messages.success(request, f"The binding to {kind} {name} was taken away.")
    return back


@require_http_methods(["GET", "HEAD", "POST"])
@requires("delete", "exchange")
def delete(request: HttpRequest, exchange: str) -> HttpResponse:
    """Says what deleting takes away, and deletes once the name has been typed."""
    found = exchange_reads.get(exchange)
    ask_password = not signing_in.password_is_fresh(request)
    form = DangerForm(
        exchange,
        request.user,
        request.POST or None,
        noun="exchange",
        undone="Nothing was deleted.",
        ask_password=ask_password,
        reason=False,
    )
    if request.method == "POST" and form.is_valid():
        if ask_password:
            signing_in.remember_password_given(request)
        try:
            declaring.delete_exchange(exchange, actor=actor(request))
        except BrokerError as error:
            form.explain(error)
        else:
            messages.success(request, f"Exchange {exchange} was deleted.")
            return HttpResponseRedirect(reverse("admin:exchanges"))
    context = frame(request, found, "bindings") | {"form": form}
    return render(request, "console/exchanges/delete.html", context, status=422 if form.errors else 200)
