"""A task of Celery alone, to compare durable background work with; it counts what was done in Valkey."""

from __future__ import annotations

import functools

import redis
from celery import shared_task
from django.conf import settings

COUNTER = "bench-celery-done"


@functools.cache
def client() -> redis.Redis:
    """This process's, made after the fork."""
    return redis.Redis.from_url(settings.REDIS_URL)


@shared_task(name="bench.celery-nothing", ignore_result=True, acks_late=True)  # type: ignore[untyped-decorator]
def celery_nothing() -> None:
    """Counts itself, since nothing else says that it was done."""
    client().incr(COUNTER)
