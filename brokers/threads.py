"""Runs ordinary Django code for asynchronous callers: pools of threads, each with a Django connection of its own.

REST's handlers and live sessions have a pool each, so that neither waits for the other.
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


class DjangoThreads:
    """One pool; `refusal` is what a caller is told while more than `most_waiting` wait."""

    def __init__(self, name: str, size: int, most_waiting: int, refusal: str) -> None:
        self.size = size
        self._most_waiting = most_waiting
        self._refusal = refusal
        self.executor = ThreadPoolExecutor(size, thread_name_prefix=name)

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The function's result, computed in a thread; raises what it raises, and `Unavailable` when too many wait."""
        if self.executor._work_queue.qsize() > self._most_waiting:
            raise Unavailable(self._refusal)

        def call() -> T:
            close_old_connections()
            try:
                with store_errors():
                    return function(*args, **kwargs)
            finally:
                close_old_connections()

        return await asyncio.get_running_loop().run_in_executor(self.executor, call)
