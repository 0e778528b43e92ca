"""The Dead letters page: one line for each failure group, with filters, and the card that the Overview shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from brokers.selectors import failure_board
from brokers.selectors.dead_letter_filter import Consumer
from brokers.selectors.failure_board import BoardGroup, LastReplay
from messaging_site.console.failure_access import Reader
from messaging_site.console.failure_facets import Choice, facets
from messaging_site.console.failure_words import FAILED_AGAIN, LETTER_STATES, Word, place, title
from messaging_site.console.permissions import requires

PAGE_SIZE = 50


@dataclass(frozen=True, slots=True)
class Row:
    """One failure group as a line of the table."""

    group: BoardGroup
    name: str
    message: str
    module: str
    function: str
    consumer: Consumer
    others: list[tuple[int, str]]
    day: list[int]
    state: Word
    last_replay: LastReplay | None
    url: str
    replay_url: str
    lacks_replay: str


@require_safe
@requires("describe", "group", per_item=True)
def listing(request: HttpRequest) -> HttpResponse:
    """The failure groups that the reader may see, those with open dead letters first."""
    reader = Reader(request)
    everything = failure_board.groups(reader.sees)
    choice = Choice.of(request.GET.getlist)
    found = [group for group in everything if choice.matches(group)]
    found.sort(key=lambda group: (not group.open, -group.last_failed_at.timestamp()))
    begin = _page_of(request.GET.get("after", ""), found)
    shown = found[begin : begin + PAGE_SIZE]
    context = {
        "title": "Dead letters",
        "crumbs": [("Failures", None), ("Dead letters", None)],
        "rows": rows(reader, shown),
        "facets": facets(everything, choice),
        "choice": choice,
        "begin": begin + 1,
        "end": begin + len(shown),
        "total": len(found),
        "following": shown[-1].id if begin + len(shown) < len(found) else None,
        "open_letters": sum(group.open for group in everything),
        "open_groups": sum(group.open > 0 for group in everything),
        "any_groups": bool(everything),
        "last_replay_end": failure_board.last_replay_end(),
        "list_url": reverse("admin:dead-letter-list"),
    }
    return render(request, "console/dead_letters/groups.html", context)


def rows(reader: Reader, groups: Sequence[BoardGroup]) -> list[Row]:
    """The lines of these groups; two statements for all of them."""
    ids = [group.id for group in groups]
    days = failure_board.day(ids) if ids else {}
    replays = failure_board.last_replays(ids) if ids else {}
    return [_row(reader, group, days[group.id], replays.get(group.id)) for group in groups]


def heading(reader: Reader, group: BoardGroup, last_replay: LastReplay | None = None) -> Row:
    """A failure group as the head of a page, without its last day; no statement."""
    return _row(reader, group, [], last_replay)


def _row(reader: Reader, group: BoardGroup, day: list[int], last_replay: LastReplay | None) -> Row:
    name, message = title(group.exception_class, group.message, group.reason)
    module, function = place(group.frame)
    consumer = Consumer(group.source_kind, group.source, group.group)
    others = [
        (group.count(state), LETTER_STATES[state].text.lower())
        for state in ("replaying", "replayed", "resolved", "discarded")
        if group.count(state)
    ]
    chosen = {"fingerprint": group.fingerprint} | ({"state": "open"} if group.open else {})
    return Row(
        group=group,
        name=name,
        message=message,
        module=module,
        function=function,
        consumer=consumer,
        others=others,
        day=day,
        state=_state(group, last_replay),
        last_replay=last_replay,
        url=f"{reverse('admin:dead-letter-list')}?{urlencode(chosen)}",
        replay_url=f"{reverse('admin:replay-plan')}?{urlencode({'all': '1', **chosen})}",
        lacks_replay=reader.lacks_replay([consumer]),
    )


def _state(group: BoardGroup, last_replay: LastReplay | None) -> Word:
    if group.open:
        return FAILED_AGAIN if last_replay is not None and last_replay.has_returned else LETTER_STATES["open"]
    if group.replaying:
        return LETTER_STATES["replaying"]
    return LETTER_STATES[max(("replayed", "resolved", "discarded"), key=group.count)]


def _page_of(after: str, groups: Sequence[BoardGroup]) -> int:
    """Where the page begins that follows the group of this id; the first page when it is not among them."""
    return next((at + 1 for at, group in enumerate(groups) if str(group.id) == after), 0)
