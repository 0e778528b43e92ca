"""How far Celery's workers are behind: rings in their queue that nobody has heard. Called by the beat's sweep."""

from __future__ import annotations

from functools import cache
from typing import Any

import redis
from django.conf import settings

from scheduling.identity import queue_name


def count() -> int:
    """Rings that wait; 0 where Redis cannot say. Takes half a second at most."""
    try:
        waiting: Any = _client().llen(queue_name())
    except redis.RedisError:
        return 0
    return int(waiting)


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.5, socket_connect_timeout=0.5)
