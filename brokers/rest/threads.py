"""Runs control-plane functions, which are ordinary Django code, for the asynchronous REST handlers.

A small pool of threads, each with a Django connection of its own; what waits longer than two seconds is refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from django.db import close_old_connections

from brokers.database import store_errors
from brokers.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 8
_WAITING_LIMIT = 64
_executor = ThreadPoolExecutor(THREADS, thread_name_prefix="rest")


async def in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """The function's result, computed in a thread; raises what it raises, and `Unavailable` when too many wait."""
    if _executor._work_queue.qsize() > _WAITING_LIMIT:
        raise Unavailable("too many administrative requests are waiting; try again in a second")

    def run() -> T:
        close_old_connections()
        try:
            with store_errors():
                return function(*args, **kwargs)
        finally:
            close_old_connections()

    return await asyncio.get_running_loop().run_in_executor(_executor, run)
