"""The Locks screens: which locks are held, by whom and for how long; releasing one by force."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from brokers.errors import LockNotFound
from messaging_site.console import formatting, lock_words, signing_in
from messaging_site.console.danger_forms import DangerForm
from messaging_site.console.failure_words import Word
from messaging_site.console.lock_words import Holder
from messaging_site.console.permissions import actor, authorize, may, requires
from scheduling.locks import listing as lock_reads
from scheduling.locks import releasing
from scheduling.locks.errors import LockChanged
from scheduling.locks.listing import LockRow
from scheduling.tasks import board
from scheduling.tasks.board import LockUse

PAGE_SIZE: Final = 50
NAME_LENGTH: Final = 64
FILTERS: Final = (("", "All"), ("held", "Held"), ("free", "Free"))

SHOWN_USES: Final = 3


@dataclass(frozen=True, slots=True)
class Row:
    """One lock as a line of the list."""

    lock: LockRow
    state: Word
    meaning: str
    """The state in a sentence."""
    left_ms: int
    """Until it lapses."""
    share: int | None
    """How much of its lease is left, of a hundred; None where nobody knows how long a lease of it lasts."""
    release_url: str
    """Where it is released."""
    may_alter: bool
    is_renewed: bool
    holder: Holder
    uses: list[LockUse]
    """The tasks whose runs take it, of those that the user may see."""

    @property
    def shown_uses(self) -> list[LockUse]:
        """The first of them."""
        return self.uses[:SHOWN_USES]

    @property
    def further_uses(self) -> int:
        """How many there are besides."""
        return len(self.uses[SHOWN_USES:])

    @property
    def free_since(self) -> datetime:
        """When it was unlocked, released or lapsed."""
        return self.lock.until


@require_safe
@requires("describe", "lock", per_item=True)
def listing(request: HttpRequest) -> HttpResponse:
    """All locks that the user may see, by name."""
    prefix = request.GET.get("q", "").strip()[:NAME_LENGTH]
    only = request.GET.get("only", "")
    after = request.GET.get("after", "")[:NAME_LENGTH]

    def is_wanted(lock: LockRow) -> bool:
        fits = lock.name.startswith(prefix) and (only not in ("held", "free") or lock.is_held == (only == "held"))
        return fits and may(request, "describe", "lock", lock.name)

    found, following = lock_reads.page(after.replace("\0", ""), PAGE_SIZE, is_wanted)
    is_narrowed = bool(prefix or only or after)
    context = {
        "title": "Locks",
        "crumbs": [("Runtime", None), ("Locks", None)],
        "rows": _rows(request, found),
        "prefix": prefix,
        "only": only,
        "after": after,
        "filters": FILTERS,
        "following": following,
        "any_locks": bool(found) or (is_narrowed and _any(request)),
    }
    return render(request, "console/locks/list.html", context)


def _any(request: HttpRequest) -> bool:
    found, _ = lock_reads.page("", 1, lambda lock: may(request, "describe", "lock", lock.name))
    return bool(found)


def _rows(request: HttpRequest, locks: Sequence[LockRow]) -> list[Row]:
    uses = board.uses([lock.name for lock in locks])
    holders = lock_words.holders(locks)
    return [
        _row(request, lock, holders.get(lock.name, lock_words.UNKNOWN), [use for use in uses if use.lock == lock.name])
        for lock in locks
    ]


def _row(request: HttpRequest, lock: LockRow, holder: Holder, uses: list[LockUse]) -> Row:
    state = lock_words.state(lock, uses)
    left, whole = lock.until - lock.now, lock_words.lease_of(lock, uses)
    return Row(
        lock=lock,
        state=state,
        meaning=lock_words.TITLES[state],
        left_ms=max(left // timedelta(milliseconds=1), 0),
        share=min(max(round(100 * (left / whole)), 0), 100) if whole else None,
        release_url=_release_url(lock.name),
        may_alter=may(request, "alter", "lock", lock.name),
        is_renewed=lock_words.is_renewed(lock),
        holder=holder,
        uses=[use for use in uses if may(request, "describe", "schedule", use.task)],
    )


def _release_url(name: str) -> str:
    """By a parameter: a lock's name is any text."""
    return f"{reverse('admin:lock-release')}?{urlencode({'name': name})}"


@require_http_methods(["GET", "HEAD", "POST"])
@requires("alter", "lock", per_item=True)
def release(request: HttpRequest) -> HttpResponse:
    """Says who holds the lock and what releasing it means; POST releases it from that holder."""
    name = request.GET.get("name", "")[:NAME_LENGTH].replace("\0", "")
    authorize(request, "alter", "lock", name)
    lock = lock_reads.get(name)
    ask_password = not signing_in.password_is_fresh(request)
    data = request.POST if request.method == "POST" else None
    typed = formatting.visible(name).strip()
    form = DangerForm(typed, request.user, data, noun="lock", undone="Nothing was released.", ask_password=ask_password)
    if data is not None and form.is_valid() and _released(request, lock, form):
        return HttpResponseRedirect(reverse("admin:locks"))
    shown = lock_reads.get(name)
    context = {
        "title": f"Release {formatting.shortened(formatting.visible(name), 40)}",
        "crumbs": [("Locks", reverse("admin:locks")), (formatting.visible(name), None), ("Release", None)],
        "row": _rows(request, [shown])[0],
        "seen": _mark(shown),
        "form": form,
    }
    return render(request, "console/locks/release.html", context, status=422 if form.errors else 200)


def _mark(lock: LockRow) -> str:
    """Stands for the holder in the form, where its name might not survive as it is."""
    return hashlib.sha256(lock.locked_by.encode()).hexdigest()[:16]


def _released(request: HttpRequest, lock: LockRow, form: DangerForm) -> bool:
    shown = formatting.visible(lock.name)
    try:
        if lock.is_held and request.POST.get("seen") != _mark(lock):
            raise LockChanged("the lock is not held by whom the form showed")
        done = releasing.release(
            lock.name, actor=actor(request), held_by=lock.locked_by, reason=form.cleaned_data["reason"]
        )
    except LockChanged:
        form.add_error(None, "Another holds the lock by now: look again at what is below. Nothing was released.")
        return False
    except LockNotFound:
        done = False
    if done:
        messages.success(request, f"The lock {shown} was released. Its holder may still be at work.")
    else:
        messages.info(request, f"The lock {shown} was free already. Nothing was changed.")
    return True
