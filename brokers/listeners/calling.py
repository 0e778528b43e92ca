"""Keys and calls: which items of a transaction are to be handled, and how the handler is called with them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from asgiref.sync import async_to_sync

from brokers import processed
from brokers.listeners.handlers import Handler, Item
from brokers.listeners.work import UNDECODABLE, Failed, NotAwaited, Work

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What a value raises that is not what it says it is."""


def caller(listener: Handler) -> Callable[[Any], None]:
    """A function that calls the handler; an asynchronous one runs to its end, with its queries on this thread."""
    function = async_to_sync(listener.function) if listener.is_async else listener.function

    def call(argument: Any) -> None:
        answer = function(argument)
        if answer is not None and (inspect.isawaitable(answer) or inspect.isgenerator(answer)):
            close = getattr(answer, "close", None)
            if close is not None:
                close()
            raise NotAwaited(f"{listener.name} answered {type(answer).__name__}, of which nothing has run")

    return call


def undecodable(work: Work, item: Item) -> Failed | None:
    """Why a record or message cannot be given to a handler, if it is not the JSON that it says it is."""
    try:
        work.decode(item)
    except UNREADABLE as error:
        return Failed(error, UNDECODABLE)
    return None


class Keys:
    """The idempotency keys of one transaction's items: claimed all at once, given back where nothing was done."""

    def __init__(self, listener: Handler, work: Work) -> None:
        self._consumer = listener.consumer
        self._texts: list[str | None] = [None] * len(work.items)
        self._mine: list[bool] = [True] * len(work.items)
        self._key = listener.key
        self._work = work

    def name(self, index: int) -> None:
        """Asks the handler what it calls a record; raises what it raises."""
        assert self._key is not None
        self._texts[index] = processed.key_text(self._key(self._work.items[index]))

    def claim(self) -> None:
        """Claims the keys of all records that are to be handled, in the open transaction."""
        places = [index for index, text in enumerate(self._texts) if text is not None and index not in self._work.known]
        texts = [str(self._texts[index]) for index in places]
        chosen = processed.to_handle(texts, processed.claim(self._consumer, texts))
        for index, mine in zip(places, chosen, strict=True):
            self._mine[index] = mine

    def of(self, index: int) -> str | None:
        """A record's key."""
        return self._texts[index]

    def is_done(self, index: int) -> bool:
        """Whether a record was processed before, or is by one before it in this transaction."""
        return not self._mine[index]

    def give_back(self, indexes: Sequence[int]) -> None:
        """These records are not handled after all."""
        texts = [
            text
            for index in indexes
            if index not in self._work.known and self._mine[index] and (text := self._texts[index]) is not None
        ]
        if texts:
            processed.release(self._consumer, texts)
