"""What every process remembers of exchanges, queues, bindings and policies, and how it learns that they changed.

A `Topology` is one snapshot with its version. It is read again after `CACHE_SECONDS` (only its version, if that is the
same), at once where a change was made or heard of, and when a publish finds that it was routed by another version.
Called by publishing, claims, dead-lettering and every surface; `changed` is called by whatever declares.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from django.db import connection, transaction

from brokers import wakeup
from brokers.database import acquire, sync_cursor
from brokers.errors import ExchangeNotFound, QueueNotFound, shown
from brokers.queues.declared import (
    DEFAULT_EXCHANGE,
    NOTHING,
    BindingInfo,
    ExchangeInfo,
    QueueInfo,
    Settings,
    effective,
)
from brokers.queues.routes import Hop, Routes
from brokers.settings import CACHE_SECONDS
from brokers.sql import load

__all__ = ["BindingInfo", "ExchangeInfo", "Hop", "QueueInfo", "Topology"]

SQL = load("topology")

_UNKNOWN: Final = -1
"""No topology has this version."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Which queues a message would reach, and each step of its way."""

    queues: tuple[QueueInfo, ...]
    hops: tuple[Hop, ...]


class Topology:
    """All that was declared, as of one version. Nothing of it changes but what it remembers of routes."""

    def __init__(
        self,
        version: int,
        exchanges: Sequence[ExchangeInfo] = (),
        queues: Sequence[QueueInfo] = (),
        bindings: Sequence[BindingInfo] = (),
    ) -> None:
        self.version = version
        self.exchanges: Mapping[str, ExchangeInfo] = {exchange.name: exchange for exchange in exchanges}
        """By name, without the default exchange."""
        self.queues: Mapping[str, QueueInfo] = {queue.name: queue for queue in queues}
        self._by_id = {queue.id: queue for queue in queues}
        by_exchange: dict[str, list[BindingInfo]] = {}
        for binding in bindings:
            by_exchange.setdefault(binding.exchange, []).append(binding)
        self._routes = Routes(self.exchanges, self.queues, by_exchange)

    def queue(self, name: str) -> QueueInfo | None:
        """The queue of that name."""
        return self.queues.get(name)

    def queue_by_id(self, queue_id: int) -> QueueInfo | None:
        """The queue of that id."""
        return self._by_id.get(queue_id)

    def exchange(self, name: str) -> ExchangeInfo | None:
        """The exchange of that name; the empty one is the default exchange, whose id is 0."""
        return DEFAULT_EXCHANGE if name == DEFAULT_EXCHANGE.name else self.exchanges.get(name)

    def route(
        self, exchange: str, routing_keys: Sequence[str], headers: Mapping[str, Any] | None = None
    ) -> tuple[QueueInfo, ...]:
        """The queues that a message reaches, each once, by ascending id; `routing_keys` as of `routing.routing_keys`.

        Raises `ExchangeNotFound`. Remembers its answers, within bounds.
        """
        return self._routes.route(exchange, routing_keys, headers or {})

    def explain(
        self, exchange: str, routing_keys: Sequence[str], headers: Mapping[str, Any] | None = None
    ) -> Explanation:
        """As `route`, with the bindings that matched on the way and why. Raises `ExchangeNotFound`."""
        hops = tuple(self._routes.hops(exchange, routing_keys, headers or {}))
        return Explanation(self.route(exchange, routing_keys, headers), hops)


# -- reading -------------------------------------------------------------------------------------------------------

_SettingsRow = tuple[int | None, int | None, int | None, str | None, str | None, str | None, int | None]
_ExchangeRows = msgspec.json.Decoder(list[tuple[int, str, str, str | None]])
_QueueRows = msgspec.json.Decoder(
    list[tuple[int, str, int | None, bool, str, bool, bool, _SettingsRow, str | None, _SettingsRow | None]]
)
_BindingRows = msgspec.json.Decoder(list[tuple[int, str, str | None, str | None, str, str]])


def _built(row: tuple[Any, ...]) -> Topology:
    version, exchanges, queues, bindings = row
    return Topology(
        version,
        [ExchangeInfo(*fields) for fields in _ExchangeRows.decode(exchanges or "[]")],
        [_queue(*fields) for fields in _QueueRows.decode(queues or "[]")],
        [
            BindingInfo(number, source, queue, to_exchange, key, _arguments(arguments))
            for number, source, queue, to_exchange, key, arguments in _BindingRows.decode(bindings or "[]")
        ],
    )


def _arguments(text: str) -> Mapping[str, Any]:
    found: dict[str, Any] = {} if text == "{}" else msgspec.json.decode(text)
    return found


def _queue(
    number: int,
    name: str,
    max_priority: int | None,
    single_active_consumer: bool,
    dead_letters: str,
    paused: bool,
    temporary: bool,
    own: _SettingsRow,
    policy: str | None,
    of_policy: _SettingsRow | None,
) -> QueueInfo:
    settings = effective(Settings(*own), NOTHING if of_policy is None else Settings(*of_policy))
    assert settings.overflow is not None
    assert settings.delivery_limit is not None
    return QueueInfo(
        id=number,
        name=name,
        max_priority=max_priority,
        message_ttl_ms=settings.message_ttl_ms,
        expires_ms=settings.expires_ms,
        max_length=settings.max_length,
        overflow=settings.overflow,
        dead_letter_exchange=settings.dead_letter_exchange,
        dead_letter_routing_key=settings.dead_letter_routing_key,
        delivery_limit=settings.delivery_limit,
        single_active_consumer=single_active_consumer,
        dead_letters=dead_letters,
        paused=paused,
        temporary=temporary,
        policy=policy,
    )


# -- remembering ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Remembered:
    topology: Topology
    asked_at: float
    """When its reading began; it shows at least what was committed then."""
    forgotten: bool = False

    def fits(self, not_before: float) -> bool:
        return not self.forgotten and self.asked_at >= not_before


class _Own(threading.local):
    """What this thread's transaction has changed and not committed: what it reads then is for nobody else."""

    changing = False
    topology: Topology | None = None
    changes = 0
    """How many changes `topology` shows."""


_remembered: _Remembered | None = None
_forgotten = 0
"""Counts what was forgotten: an answer asked for before that is forgotten, too."""
_own = _Own()
_reading = threading.Lock()
_reading_async: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()


def forget() -> None:
    """Lets the next look read the topology again."""
    global _remembered, _forgotten
    _forgotten += 1
    if _remembered is not None:
        _remembered = _Remembered(_remembered.topology, _remembered.asked_at, forgotten=True)


def _fitting(not_before: float) -> Topology | None:
    found = _remembered
    return found.topology if found is not None and found.fits(not_before) else None


def _parameters() -> tuple[int, int, int]:
    found = _remembered
    known = _UNKNOWN if found is None else found.topology.version
    return known, known, known


def _remember(row: tuple[Any, ...] | None, asked_at: float, forgotten: int) -> Topology:
    global _remembered
    assert row is not None
    known = _remembered
    topology = known.topology if known is not None and known.topology.version == row[0] else _built(row)
    if known is None or known.asked_at <= asked_at:
        _remembered = _Remembered(topology, asked_at, forgotten=forgotten != _forgotten)
    return topology


def current() -> Topology:
    """What this process knows of the topology, read again after two seconds. Runs on Django's connection."""
    if _own.changing and (changes := _own_changes()):
        return _own.topology if _own.topology is not None and _own.changes == changes else _read_own(changes)
    return _fitting(time.monotonic() - CACHE_SECONDS) or fresh()


def fresh() -> Topology:
    """The topology as it is now. Runs on Django's connection, and sees what the caller's transaction has changed."""
    if _own.changing and (changes := _own_changes()):
        return _read_own(changes)
    wanted = time.monotonic()
    with _reading:
        found = _fitting(wanted)
        if found is not None:
            return found
        asked_at, forgotten = time.monotonic(), _forgotten
        with sync_cursor() as cursor:
            row = cursor.execute(SQL.load, _parameters()).fetchone()
        return _remember(row, asked_at, forgotten)


def _own_changes() -> int:
    """Changes that this thread's transaction may still commit; what was rolled back has left the list."""
    changes = sum(1 for hook in connection.run_on_commit if hook[1] is _tell)
    _own.changing = changes > 0
    return changes


def _read_own(changes: int) -> Topology:
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.load, (_UNKNOWN,) * 3).fetchone()
    assert row is not None
    _own.topology, _own.changes = _built(row), changes
    return _own.topology


async def acurrent() -> Topology:
    """`current` for async code, on the pool."""
    return _fitting(time.monotonic() - CACHE_SECONDS) or await afresh()


async def afresh() -> Topology:
    """`fresh` for async code, on the pool."""
    wanted = time.monotonic()
    lock = _reading_async.setdefault(asyncio.get_running_loop(), asyncio.Lock())
    async with lock:
        found = _fitting(wanted)
        if found is not None:
            return found
        asked_at, forgotten = time.monotonic(), _forgotten
        async with acquire() as conn:
            row = await (await conn.execute(SQL.load, _parameters())).fetchone()
        return _remember(row, asked_at, forgotten)


# -- looking up ----------------------------------------------------------------------------------------------------


def queue(name: str) -> QueueInfo:
    """The queue of that name; an unknown one is looked for in the database once. Raises `QueueNotFound`."""
    return current().queue(name) or _queue_of(fresh(), name)


async def aqueue(name: str) -> QueueInfo:
    """`queue` for async code."""
    return (await acurrent()).queue(name) or _queue_of(await afresh(), name)


def exchange(name: str) -> ExchangeInfo:
    """The exchange of that name; an unknown one is looked for in the database once. Raises `ExchangeNotFound`."""
    return current().exchange(name) or _exchange_of(fresh(), name)


async def aexchange(name: str) -> ExchangeInfo:
    """`exchange` for async code."""
    return (await acurrent()).exchange(name) or _exchange_of(await afresh(), name)


def _queue_of(topology: Topology, name: str) -> QueueInfo:
    found = topology.queue(name)
    if found is None:
        raise QueueNotFound(f"there is no queue {shown(name)}")
    return found


def _exchange_of(topology: Topology, name: str) -> ExchangeInfo:
    found = topology.exchange(name)
    if found is None:
        raise ExchangeNotFound(f"there is no exchange {shown(name)}")
    return found


# -- changing ------------------------------------------------------------------------------------------------------


def changed() -> None:
    """Begins a change: one transaction at a time holds the topology, until its end. On commit every process is told.

    Call it within a transaction and before looking at what is to be changed.
    """
    with sync_cursor() as cursor:
        cursor.execute(SQL.changed)
    _own.changing, _own.topology = True, None
    transaction.on_commit(_tell)


def _tell() -> None:
    _own.changing, _own.topology = False, None
    forget()
    wakeup.announce_change("x", "")
