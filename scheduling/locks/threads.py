"""Takes and gives back locks for asynchronous code, whose event loop must not wait for the database.

Once asked for, it is done: a caller that is cancelled meanwhile leaves no lock behind.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

from scheduling.locks import lease as leases
from scheduling.locks.lease import Lease
from scheduling.locks.terms import Terms

THREADS: Final = 4
_executor = ThreadPoolExecutor(THREADS, thread_name_prefix="locks")


def _begin_anew() -> None:
    global _executor
    _executor = ThreadPoolExecutor(THREADS, thread_name_prefix="locks")


os.register_at_fork(after_in_child=_begin_anew)


async def acquire(terms: Terms, give_back: Callable[[Lease], None]) -> Lease | None:
    """`lease.acquire` in a thread; `give_back` gets a lock whose caller was cancelled."""
    asked = _executor.submit(leases.acquire, terms)
    try:
        return await asyncio.shield(asyncio.wrap_future(asked))
    except asyncio.CancelledError:

        def undo(done: Future[Lease | None]) -> None:
            if done.exception() is None and (lease := done.result()) is not None:
                give_back(lease)

        asked.add_done_callback(undo)
        raise


async def release(lease: Lease, give_back: Callable[[Lease], None]) -> None:
    """`give_back` in a thread, which is done even when the caller is cancelled."""
    await asyncio.shield(asyncio.wrap_future(_executor.submit(give_back, lease)))
