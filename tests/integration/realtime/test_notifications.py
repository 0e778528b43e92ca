"""`notify` on the real database: numbers without a gap in the order of commits, and what is kept."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import User
from django.db import connection, connections, transaction

from brokers import wakeup
from brokers.database import close, in_handler
from brokers.errors import InvalidType, InvalidValue, TooLarge, UnencodableValue
from realtime import anotify, notifications, notify
from realtime.models import Inbox, Notification

pytestmark = pytest.mark.django_db(transaction=True)


class Undone(Exception):
    """Rolls a transaction back."""


@pytest.fixture
def announced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Hints as they are announced."""
    found: list[str] = []
    monkeypatch.setattr(wakeup, "announce_streams", found.extend)
    return found


@pytest.fixture
async def pool() -> AsyncIterator[None]:
    yield
    await close()
    await sync_to_async(connections.close_all)()


def kept(user: str) -> list[tuple[int, str, str]]:
    rows = Notification.objects.filter(inbox__user_name=user).order_by("number")
    return [(row.number, row.kind, row.payload) for row in rows]


def test_each_user_has_numbers_of_their_own(announced: list[str]) -> None:
    ann = User.objects.create_user("ann")
    assert [notify(ann, {"a": 1}), notify("bob", "b"), notify("ann", None, kind="bell")] == [1, 1, 2]
    assert kept("ann") == [(1, "message", '{"a":1}'), (2, "bell", "null")]
    inboxes = {inbox.user_name: f"n{inbox.id}" for inbox in Inbox.objects.all()}
    assert announced == [inboxes["ann"], inboxes["bob"], inboxes["ann"]]


def test_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "KEPT", 3)
    for n in range(5):
        notify("ann", n)
    assert [number for number, _, _ in kept("ann")] == [3, 4, 5]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("", 1), InvalidValue),
        (("x" * 151, 1), InvalidValue),
        (("a\0", 1), InvalidValue),
        ((None, 1), InvalidType),
        (("ann", object()), UnencodableValue),
        (("ann", "\ud800"), UnencodableValue),
        (("ann", "x" * notifications.MAX_PAYLOAD_BYTES), TooLarge),
    ],
)
def test_what_cannot_be_told_is_refused(arguments: tuple[Any, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        notify(*arguments)
    assert not Inbox.objects.exists()


@pytest.mark.parametrize("kind", ["", "k" * 65, "a\0", 7])
def test_a_kind_is_a_short_text(kind: Any) -> None:
    with pytest.raises(InvalidValue):
        notify("ann", 1, kind=kind)


# -- inside of transactions ---------------------------------------------------------------------------------------


def test_a_notification_is_part_of_the_callers_transaction(announced: list[str]) -> None:
    with transaction.atomic():
        notify("ann", 1)
        assert announced == []
    assert len(announced) == 1
    with pytest.raises(Undone), transaction.atomic():
        notify("ann", 2)
        raise Undone
    assert len(announced) == 1
    assert notify("ann", 3) == 2
    assert [payload for _, _, payload in kept("ann")] == ["1", "3"]


def test_numbers_become_visible_in_their_order() -> None:
    """Who notifies the same user waits for the transaction that did before: no stream may skip the lower number."""
    notify("ann", 0)
    second: list[int] = []

    def run() -> None:
        try:
            second.append(notify("ann", 2))
        finally:
            connection.close()

    waiting = threading.Thread(target=run)
    with transaction.atomic():
        assert notify("ann", 1) == 2
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        assert second == []
    waiting.join(10)
    assert second == [3]
    assert [payload for _, _, payload in kept("ann")] == ["0", "1", "2"]


# -- from asynchronous code -----------------------------------------------------------------------------------------


async def test_asynchronous_code_notifies_too(pool: None, announced: list[str]) -> None:
    assert [await anotify("ann", n) for n in range(3)] == [1, 2, 3]
    bounds = await notifications.open_inbox("ann")
    assert (bounds.last, bounds.first) == (3, 1)
    assert announced == [f"n{bounds.inbox}"] * 3
    assert [(one.number, one.payload) for one in await notifications.after(bounds.inbox, 1, 10)] == [(2, "1"), (3, "2")]
    assert await notifications.numbers([bounds.inbox, 0]) == {f"n{bounds.inbox}": 3}


async def test_an_inbox_is_there_before_its_first_notification(pool: None) -> None:
    bounds = await notifications.open_inbox("ann")
    assert (bounds.last, bounds.first) == (0, 1)
    assert await notifications.open_inbox("ann") == bounds


async def test_an_asynchronous_handlers_notification_is_part_of_its_transaction(pool: None) -> None:
    async def handler() -> None:
        await anotify("ann", 1)
        raise Undone

    def attempt() -> None:
        token = in_handler.set(True)
        try:
            with transaction.atomic():
                async_to_sync(handler)()
        finally:
            in_handler.reset(token)

    with pytest.raises(Undone):
        await sync_to_async(attempt)()
    assert await Notification.objects.acount() == 0
