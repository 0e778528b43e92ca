"""The list of dead letters: filters in the address, pages newest first, rows to be ticked for an action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from brokers.errors import InvalidValue, SearchTooBroad
from brokers.models.failures import STATES
from brokers.selectors import dead_letters as letter_reads
from brokers.selectors import failure_board
from brokers.selectors.dead_letters import DeadLetter
from brokers.selectors.failure_board import BoardGroup
from messaging_site.console import failure_groups, payload
from messaging_site.console.failure_access import Reader, label
from messaging_site.console.failure_words import title
from messaging_site.console.letter_records import as_record, position
from messaging_site.console.letter_selection import FilterForm
from messaging_site.console.permissions import requires

PAGE_SIZE = 50
_PREVIEW_BYTES = 4 * payload.PREVIEW_CHARACTERS
_REPLAY = ("replay", "Replay")
_SETTLE = (("resolve", "Resolve"), ("discard", "Discard"))
_REOPEN = ("reopen", "Reopen")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; `hidden` names the permission without which key and value are not shown."""

    letter: DeadLetter
    position: str
    name: str
    error: str
    consumer: str
    key: str | None
    preview: str | None
    hidden: str
    url: str


@require_safe
@requires("describe", "group", per_item=True)
def listing(request: HttpRequest) -> HttpResponse:
    """A page of dead letters, newest failure first."""
    reader = Reader(request)
    form = FilterForm(request.GET)
    after = request.GET.get("after", "")
    letters: list[DeadLetter] = []
    following, too_broad = None, ""
    if form.is_valid():
        try:
            wanted = form.filter()
            letters, following = letter_reads.page(
                wanted, after, PAGE_SIZE, reader.sees, may_view=reader.views, preview_bytes=_PREVIEW_BYTES
            )
        except SearchTooBroad as error:
            too_broad, letters, following = error.detail, [], None
        except InvalidValue as error:
            form.explain(error)
    fingerprint = form.data["fingerprint"]
    group = failure_board.group(fingerprint, reader.sees) if fingerprint else None
    failure = None if group is None else failure_groups.heading(reader, group)
    matching = len(letters) if following is None and not after else _matching(form, reader, group)
    kept = [("fingerprint", fingerprint)] if fingerprint else []
    context = {
        "title": "Dead letters",
        "crumbs": [("Failures", None), ("Dead letters", reverse("admin:dead-letters")), ("List", None)],
        "form": form,
        "failure": failure,
        "rows": _rows(reader, letters),
        "selection": form.address(),
        "actions": _actions(form.data["state"]),
        "lacks_replay": failure.lacks_replay if failure is not None else "",
        "matching": matching,
        "is_more": following is not None or bool(after),
        "following": following,
        "is_later_page": bool(after),
        "is_filtered": any(name != "fingerprint" for name, _ in form.address()) or bool(after),
        "clear_url": f"?{urlencode(kept)}",
        "too_broad": too_broad,
        "day_ago": f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%dT%H:%M}",
    }
    return render(request, "console/dead_letters/list.html", context, status=422 if form.errors else 200)


def _matching(form: FilterForm, reader: Reader, group: BoardGroup | None) -> int | None:
    """How many dead letters the filter finds, by the counters of failure groups; None where these do not tell."""
    given = dict(form.address())
    if {"since", "until", "q"} & given.keys():
        return None
    groups = failure_board.groups(reader.sees) if group is None else [group]
    states = [given["state"]] if "state" in given else STATES
    return sum(
        each.count(state)
        for each in groups
        if given.get("source", each.source) == each.source
        and given.get("group", each.group) == each.group
        and given.get("source_kind", each.source_kind) == each.source_kind
        for state in states
    )


def _actions(state: str) -> list[tuple[str, str]]:
    if state == "replayed":
        return []
    if state in ("resolved", "discarded"):
        return [_REOPEN]
    return [_REPLAY, *_SETTLE] if state else [_REPLAY, *_SETTLE, _REOPEN]


def _rows(reader: Reader, letters: Sequence[DeadLetter]) -> list[Row]:
    found = []
    for letter in letters:
        name, error = title(letter.exception_class, letter.error, letter.reason)
        hidden = reader.lacks_payload(letter.consumer)
        record = as_record(letter)
        found.append(
            Row(
                letter=letter,
                position=position(letter),
                name=name,
                error="" if hidden else error,
                consumer=label(letter.consumer),
                key=None if hidden else payload.key_text(record),
                preview=None if hidden else payload.preview(record),
                hidden=hidden,
                url=reverse("admin:dead-letter", args=[letter.id]),
            )
        )
    return found
