"""The threads in which the asynchronous REST handlers run control-plane functions, which are ordinary Django code."""

from __future__ import annotations

from typing import Final

from brokers.threads import DjangoThreads

_threads: Final = DjangoThreads("rest", 8, 64, "too many administrative requests are waiting; try again in a second")
in_thread = _threads.run
