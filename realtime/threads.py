"""Runs ordinary Django code for sessions, which live on the event loop.

A small pool of threads, each with a Django connection of its own; what waits beyond its bound is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from django.db import close_old_connections

from brokers.database import store_errors
from brokers.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

THREADS: Final = 4
_WAITING_LIMIT: Final = 1000
_executor = ThreadPoolExecutor(THREADS, thread_name_prefix="realtime")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result, computed in a thread; raises what it raises, and `Unavailable` when too many wait."""
    if _executor._work_queue.qsize() > _WAITING_LIMIT:
        raise Unavailable("too many sessions wait for a thread; try again in a second")

    def run() -> T:
        close_old_connections()
        try:
            with store_errors():
                return function(*args, **kwargs)
        finally:
            close_old_connections()

    return await asyncio.get_running_loop().run_in_executor(_executor, run)
