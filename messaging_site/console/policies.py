"""The Policies screens: settings for all queues whose name matches a pattern; the list, adding, changing, deleting."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from brokers.errors import AccessDenied, InvalidName, InvalidValue, PolicyNotFound
from brokers.queues import policies as policy_writes
from brokers.queues import topology
from brokers.selectors import queue_console
from brokers.selectors.queue_console import Policy
from messaging_site.console import queue_words
from messaging_site.console.permissions import actor, authorize, may, requires
from messaging_site.console.queue_forms import PolicyForm, initial_limits

RESOURCE: Final = ("server", "policies")
"""What a permission on policies is granted on."""


@require_safe
@requires("describe", "server", per_item=True)
def listing(request: HttpRequest) -> HttpResponse:
    """All policies, those first that win, with what they set and how many queues they match."""
    authorize(request, "describe", *RESOURCE)
    found = queue_console.policies()
    context = {
        "title": "Queue policies",
        "crumbs": [("Queues", reverse("admin:queues")), ("Policies", None)],
        "rows": [(policy, queue_words.summary(policy.settings)) for policy in found],
        "is_cut": len(found) == queue_console.POLICIES_SHOWN,
        "may_alter": may(request, "alter", *RESOURCE),
    }
    return render(request, "console/policies/list.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires("alter", "server", per_item=True)
def create(request: HttpRequest) -> HttpResponse:
    """The form for a new policy."""
    authorize(request, "alter", *RESOURCE)
    form = PolicyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        name = form.cleaned_data["name"]
        if _exists(name):
            form.add_error("name", f"There is a policy {name} already.")
        elif _put(request, name, form):
            return HttpResponseRedirect(reverse("admin:policy", args=[name]))
    context = {
        "title": "New policy",
        "crumbs": [("Queues", reverse("admin:queues")), ("Policies", reverse("admin:policies")), ("New policy", None)],
        "form": form,
    }
    return render(request, "console/policies/create.html", context, status=422 if form.errors else 200)


def _exists(name: str) -> bool:
    try:
        queue_console.policy(name)
    except PolicyNotFound:
        return False
    return True


def _put(request: HttpRequest, name: str, form: PolicyForm) -> bool:
    settings: dict[str, Any] = form.settings()
    try:
        if settings.get("dead_letter_exchange"):
            authorize(request, "write", "exchange", settings["dead_letter_exchange"])
        is_new = policy_writes.put_policy(
            name,
            pattern=form.cleaned_data["pattern"],
            priority=form.cleaned_data["priority"],
            actor=actor(request),
            **settings,
        )
    except InvalidName as error:
        form.explain(error, otherwise="name")
        return False
    except (InvalidValue, AccessDenied) as error:
        form.explain(error)
        return False
    messages.success(request, f"Policy {name} was {'made' if is_new else 'changed'}. It holds from now on.")
    return True


@require_http_methods(["GET", "HEAD", "POST"])
@requires("describe", "server", per_item=True)
def detail(request: HttpRequest, policy: str) -> HttpResponse:
    """A policy and the queues that match it; POST changes it."""
    authorize(request, "describe", *RESOURCE)
    found = queue_console.policy(policy)
    form = PolicyForm(initial=_initial(found), is_new=False)
    if request.method == "POST":
        authorize(request, "alter", *RESOURCE)
        form = PolicyForm(request.POST, initial=_initial(found), is_new=False)
        if form.is_valid() and _put(request, policy, form):
            return HttpResponseRedirect(reverse("admin:policy", args=[policy]))
    routes = topology.fresh()
    matching = [name for name in queue_console.matching(found.pattern) if may(request, "describe", "queue", name)]
    applied = {name: queue.policy for name in matching if (queue := routes.queue(name)) is not None}
    context = {
        "title": policy,
        "crumbs": [("Queues", reverse("admin:queues")), ("Policies", reverse("admin:policies")), (policy, None)],
        "policy": found,
        "form": form,
        "matching": [(name, applied.get(name)) for name in matching],
        "may_alter": may(request, "alter", *RESOURCE),
    }
    return render(request, "console/policies/detail.html", context, status=422 if form.errors else 200)


def _initial(policy: Policy) -> dict[str, Any]:
    return {"pattern": policy.pattern, "priority": policy.priority} | initial_limits(policy.settings)


@require_POST
@requires("alter", "server", per_item=True)
def delete(request: HttpRequest, policy: str) -> HttpResponse:
    """Deletes a policy and goes back to the list."""
    authorize(request, "alter", *RESOURCE)
    policy_writes.delete_policy(policy, actor=actor(request))
    messages.success(request, f"Policy {policy} was deleted. Its queues have their own settings, or another policy's.")
    return HttpResponseRedirect(reverse("admin:policies"))
