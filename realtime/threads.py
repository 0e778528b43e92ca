"""The threads in which sessions, which live on the event loop, run ordinary Django code."""

from __future__ import annotations

from typing import Final

from brokers.threads import DjangoThreads

threads: Final = DjangoThreads("realtime", 4, 1000, "too many sessions wait for a thread; try again in a second")
in_thread = threads.run
