"""Resolving, discarding, reopening and noting dead letters: one at once, which can be undone, many after a question.

Up to a hundred are asked about in one sentence; more are a plan: how many will change and how many stay as they are,
frozen at the moment it was made, and a reason for the audit record.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.urls import reverse
from django.utils.html import format_html
from django.utils.text import capfirst
from django.views.decorators.http import require_http_methods, require_POST

from brokers import dead_letter_bulk, dead_letters
from brokers.dead_letter_texts import MAX_NOTE_CHARACTERS
from brokers.errors import BrokerError, Conflict, InvalidValue, SearchTooBroad
from messaging_site.console.dead_letter import visible
from messaging_site.console.failure_access import Reader, label
from messaging_site.console.fields import Form
from messaging_site.console.formatting import moment
from messaging_site.console.letter_selection import Selection
from messaging_site.console.permissions import actor, requires

ASKED = 100
"""Up to so many, one sentence asks; more are a plan with a reason."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing to do with dead letters: the state it leads to, its verb and what it is called when done."""

    state: str
    verb: str
    done: str
    explains: str


ACTIONS: Final = {
    "resolve": Action(
        "resolved",
        "Resolve",
        "resolved",
        "They count as settled elsewhere. Nothing is sent to any consumer, and each can be reopened.",
    ),
    "discard": Action(
        "discarded",
        "Discard",
        "discarded",
        "They will not be replayed. Nothing is deleted before their retention ends, and each can be reopened.",
    ),
    "reopen": Action("open", "Reopen", "reopened", "They can be edited and replayed again."),
}


@require_POST
@requires("replay", "group", per_item=True)
def change(request: HttpRequest, letter: int) -> HttpResponse:
    """Does one thing to one dead letter and goes back to it, where it can be undone."""
    found = visible(request, letter)
    Reader(request).require_replay([found.consumer])
    page = reverse("admin:dead-letter", args=[letter])
    name = request.POST.get("action", "")
    try:
        if name == "note":
            dead_letters.change_state([letter], None, actor(request), request.POST.get("note", "").strip())
            messages.success(request, "The note was saved.")
            return HttpResponseRedirect(f"{page}?tab=history")
        if name not in ACTIONS:
            raise InvalidValue("no such action")
        dead_letters.change_state([letter], ACTIONS[name].state, actor(request))
        _say(request, letter, name)
    except (Conflict, InvalidValue) as error:
        messages.error(request, f"{capfirst(error.detail)}.")
    return HttpResponseRedirect(page)


def _say(request: HttpRequest, letter: int, name: str) -> None:
    text = f"Dead letter {letter} was {ACTIONS[name].done}."
    undo = "resolve" if name == "reopen" else "reopen"
    if name == "reopen":
        messages.success(request, text)
        return
    button = '{} <button class="button-small" form="change-form" name="action" value="{}">Undo</button>'
    messages.success(request, format_html(button, text, undo))


# -- many ---------------------------------------------------------------------------------------------------------


class BulkForm(Form):
    """What is asked before many dead letters change."""

    reason = forms.CharField(
        max_length=MAX_NOTE_CHARACTERS,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Becomes the note of each of them, and stands in the audit record.",
    )

    def __init__(self, data: Any = None, *, required: bool) -> None:
        super().__init__(data)
        self.fields["reason"].required = required


@require_http_methods(["GET", "HEAD", "POST"])
@requires("replay", "group", per_item=True)
def bulk(request: HttpRequest) -> HttpResponse:
    """Asks about the selected dead letters, and with POST changes them."""
    data = request.POST if request.method == "POST" else request.GET
    back = reverse("admin:dead-letter-list")
    name = data.get("action", "")
    try:
        selection = Selection.of(data)
        if name not in ACTIONS:
            raise InvalidValue("no such action")
    except InvalidValue as error:
        messages.error(request, f"{capfirst(error.detail)}.")
        return HttpResponseRedirect(back)
    if selection is None:
        messages.warning(request, "No dead letter was selected.")
        return HttpResponseRedirect(f"{back}?{_without_action(data)}")
    return _asked(request, selection, ACTIONS[name], name)


def _asked(request: HttpRequest, selection: Selection, action: Action, name: str) -> HttpResponse:
    reader = Reader(request)
    frozen_at = _frozen_at(request)
    wanted = selection.filter
    if selection.ids is None and (wanted.until is None or wanted.until > frozen_at):
        wanted = replace(wanted, until=frozen_at)
    back = f"{reverse('admin:dead-letter-list')}?{selection.query}" if selection.ids is None else _list_of(request)
    context: dict[str, Any] = {
        "title": f"{action.verb} dead letters",
        "crumbs": [("Failures", None), ("Dead letters", reverse("admin:dead-letters")), (action.verb, None)],
        "action": action,
        "name": name,
        "parameters": selection.parameters,
        "back_url": back,
        "frozen_at": round(frozen_at.timestamp() * 1000),
    }
    try:
        outlook = dead_letter_bulk.outlook(wanted, action.state, reader.sees)
        reader.require_replay(outlook.consumers)
        is_plan = outlook.changing > ASKED
        form = BulkForm(request.POST if request.method == "POST" else None, required=is_plan)
        context |= {
            "outlook": outlook,
            "is_plan": is_plan,
            "is_more": outlook.changing > dead_letter_bulk.MAX_CHANGED,
            "changing_now": min(outlook.changing, dead_letter_bulk.MAX_CHANGED),
            "staying": outlook.selected - outlook.changing,
            "consumers": [label(consumer) for consumer in outlook.consumers],
            "form": form,
        }
        if request.method == "POST" and form.is_valid():
            note = form.cleaned_data["reason"] or None
            done = dead_letter_bulk.change(wanted, action.state, reader.sees, actor(request), note)
            messages.success(request, f"{done:,} dead letter{'' if done == 1 else 's'} {_were(done)} {action.done}.")
            return HttpResponseRedirect(back)
    except (Conflict, SearchTooBroad, InvalidValue) as error:
        return render(request, "console/dead_letters/bulk.html", context | _failed(error), status=422)
    return render(request, "console/dead_letters/bulk.html", context, status=422 if form.errors else 200)


def _frozen_at(request: HttpRequest) -> datetime:
    """When the page that asks was drawn: what fails later is left alone."""
    text = request.POST.get("frozen_at", "")
    asked = moment(int(text)) if text.isascii() and text.isdigit() and len(text) < 16 else None
    return datetime.now(UTC) if asked is None else min(asked, datetime.now(UTC))


def _failed(error: BrokerError) -> dict[str, Any]:
    return {"failed": error.detail}


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _without_action(data: QueryDict) -> str:
    kept = data.copy()
    for name in ("action", "csrfmiddlewaretoken", "ids", "all"):
        kept.pop(name, None)
    return kept.urlencode()


def _list_of(request: HttpRequest) -> str:
    """The list that the rows were ticked in, by its own filter's parameters."""
    data = request.POST if request.method == "POST" else request.GET
    kept = _without_action(data)
    return f"{reverse('admin:dead-letter-list')}{'?' if kept else ''}{kept}"
