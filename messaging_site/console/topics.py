"""The Topics screens but for their records: the list, creating, partitions, settings, deleting."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from brokers import topics as topic_writes
from brokers.errors import AccessDenied, Conflict, InvalidName, InvalidValue, TopicExists
from brokers.selectors import topics as topic_reads
from brokers.selectors.topics import TopicDetail, TopicSummary
from messaging_site.console import signing_in
from messaging_site.console.permissions import actor, authorize, may, requires
from messaging_site.console.topic_forms import CreateForm, DeleteForm, SettingsForm

PAGE_SIZE = 50
_PAGES_SEARCHED = 20
"""Pages read at most to fill one for a reader who may see few of the topics."""
_NAME_PREFIX = re.compile(r"[A-Za-z0-9._-]{0,249}", re.ASCII)


@require_safe
@requires("describe", "topic", per_item=True)
def listing(request: HttpRequest) -> HttpResponse:
    """All topics that the reader may see, by name, narrowed by the beginning of the name."""
    prefix = request.GET.get("q", "").strip()
    after = request.GET.get("after") or None
    is_possible = _NAME_PREFIX.fullmatch(prefix) and (after is None or _NAME_PREFIX.fullmatch(after))
    found, following = _visible_page(request, prefix, after) if is_possible else ([], None)
    context = {
        "title": "Topics",
        "crumbs": [("Messaging", None), ("Topics", None)],
        "topics": found,
        "prefix": prefix[:249],
        "after": after,
        "following": following,
        "any_topics": bool(found) or bool(_visible_page(request, "", None, 1)[0]),
    }
    return render(request, "console/topics/list.html", context)


def _visible_page(
    request: HttpRequest, prefix: str, after: str | None, limit: int = PAGE_SIZE
) -> tuple[list[TopicSummary], str | None]:
    visible: list[TopicSummary] = []
    following = after
    for _ in range(_PAGES_SEARCHED):
        found, following = topic_reads.page(prefix, following, limit - len(visible))
        visible += [topic for topic in found if may(request, "describe", "topic", topic.name)]
        if following is None or len(visible) >= limit:
            break
    return visible, following


@require_http_methods(["GET", "HEAD", "POST"])
@requires("create", "topic", per_item=True)
def create(request: HttpRequest) -> HttpResponse:
    """The form for a new topic; goes to the topic once it exists."""
    form = CreateForm(request.POST or None)
    if request.method == "POST" and form.is_valid() and _created(request, form):
        name = form.cleaned_data["name"]
        messages.success(request, f"Topic {name} was created.")
        return HttpResponseRedirect(reverse("admin:topic", args=[name]))
    context = {
        "title": "New topic",
        "crumbs": [("Topics", reverse("admin:topics")), ("New topic", None)],
        "form": form,
    }
    return render(request, "console/topics/create.html", context, status=422 if form.errors else 200)


def _created(request: HttpRequest, form: CreateForm) -> bool:
    try:
        authorize(request, "create", "topic", form.cleaned_data["name"])
        topic_writes.create(**form.cleaned_data, actor=actor(request))
    except (InvalidName, TopicExists) as error:
        form.add_error("name", error.detail)
        return False
    except (InvalidValue, AccessDenied) as error:
        form.explain(error)
        return False
    return True


@require_safe
@requires("describe", "topic")
def partitions(request: HttpRequest, topic: str) -> HttpResponse:
    """The partitions of a topic with their bounds."""
    detail = topic_reads.get(topic)
    largest = max((partition.bytes for partition in detail.partition_list), default=0)
    context = frame(request, detail, "partitions") | {"largest": largest}
    return render(request, "console/topics/partitions.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires("describe", "topic")
def settings(request: HttpRequest, topic: str) -> HttpResponse:
    """A topic's settings; changing them needs `alter`."""
    detail = topic_reads.get(topic)
    form = SettingsForm.of(detail)
    if request.method == "POST":
        authorize(request, "alter", "topic", topic)
        form = SettingsForm.of(detail, request.POST)
        if form.is_valid() and _altered(request, topic, form):
            messages.success(request, "The settings were changed." if form.changed_data else "Nothing was changed.")
            return HttpResponseRedirect(reverse("admin:topic-settings", args=[topic]))
    context = frame(request, detail, "settings") | {
        "form": form,
        "may_alter": may(request, "alter", "topic", topic),
        "may_delete": may(request, "delete", "topic", topic),
    }
    return render(request, "console/topics/settings.html", context, status=422 if form.errors else 200)


def _altered(request: HttpRequest, topic: str, form: SettingsForm) -> bool:
    try:
        topic_writes.alter(topic, **form.cleaned_data, actor=actor(request))
    except Conflict as error:
        form.add_error("partitions", error.detail)
    except InvalidValue as error:
        form.explain(error)
    return not form.errors


@require_http_methods(["GET", "HEAD", "POST"])
@requires("delete", "topic")
def delete(request: HttpRequest, topic: str) -> HttpResponse:
    """Says what deleting takes away, and deletes once the name has been typed."""
    detail = topic_reads.get(topic)
    ask_password = not signing_in.password_is_fresh(request)
    form = DeleteForm(topic, request.user, request.POST or None, ask_password=ask_password)
    if request.method == "POST" and form.is_valid():
        if ask_password:
            signing_in.remember_password_given(request)
        topic_writes.delete(topic, actor=actor(request))
        records = f"{detail.records:,} record{'' if detail.records == 1 else 's'}"
        messages.success(request, f"Topic {topic} was deleted with {records}.")
        return HttpResponseRedirect(reverse("admin:topics"))
    context = frame(request, detail, "settings") | {"form": form}
    return render(request, "console/topics/delete.html", context, status=422 if form.errors else 200)


def frame(request: HttpRequest, topic: TopicDetail, tab: str) -> dict[str, Any]:
    """What every page of one topic needs: heading, breadcrumbs, tabs."""
    return {
        "title": topic.name,
        "crumbs": [("Topics", reverse("admin:topics")), (topic.name, None)],
        "topic": topic,
        "tab": tab,
        "may_write": may(request, "write", "topic", topic.name),
    }
