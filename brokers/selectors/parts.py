"""The state of the parts that Waystation is made of, for the Overview and for `readyz`."""

from __future__ import annotations

import time
from dataclasses import dataclass

import redis
from django.conf import settings

from brokers import processes
from brokers.database import sync_cursor
from brokers.errors import Unavailable
from brokers.sql import load

SQL = load("parts")

OLD_TRANSACTION_SECONDS = 300
"""A transaction open for longer keeps vacuum from removing anything newer."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part: `healthy`, `degraded` or `down`, with a sentence that says why."""

    name: str
    state: str
    detail: str


def stores() -> list[Part]:
    """PostgreSQL and Valkey (or Redis)."""
    return [_postgresql(), _redis()]


def health() -> list[Part]:
    """The stores, and the processes that report themselves."""
    found = stores()
    return found if found[0].state == "down" else found + _processes()


def _postgresql() -> Part:
    started = time.perf_counter()
    try:
        with sync_cursor() as cursor:
            row = cursor.execute(SQL.health).fetchone()
    except Unavailable as error:
        return Part("PostgreSQL", "down", error.detail)
    assert row is not None
    oldest, prepared, stranded = row
    took = (time.perf_counter() - started) * 1000
    if stranded:
        return Part("PostgreSQL", "degraded", f"{stranded} staged batches have outlived their transaction")
    if prepared:
        return Part("PostgreSQL", "degraded", f"{prepared} prepared transactions keep vacuum from working")
    if oldest > OLD_TRANSACTION_SECONDS:
        return Part("PostgreSQL", "degraded", f"a transaction is open for {oldest:.0f} s and slows everything")
    return Part("PostgreSQL", "healthy", f"{took:.1f} ms, oldest transaction {oldest:.1f} s")


def _redis() -> Part:
    started = time.perf_counter()
    try:
        with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.5, socket_connect_timeout=0.5) as client:
            client.ping()
    except redis.RedisError:
        return Part("Valkey", "degraded", "cannot be reached: waiters poll once a second")
    return Part("Valkey", "healthy", f"{(time.perf_counter() - started) * 1000:.1f} ms")


def _processes() -> list[Part]:
    found = []
    for kind, title in (("web", "Web"), ("listener", "Listeners")):
        live = processes.live(kind)
        if live:
            found.append(Part(title, "healthy", f"{live} {'process' if live == 1 else 'processes'}"))
        else:
            found.append(Part(title, "down", "no process has reported itself for ten seconds"))
    return found
