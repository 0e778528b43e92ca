"""What is done for a pool's threads around their tasks: Django's connections are looked after here.

As Django does around requests: a connection that is broken, too old, or in an odd state is closed before and after each
task. A thread that has nothing to do for its keep-alive time, or ends, holds none.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Protocol

from django.db import DatabaseError, close_old_connections, connections


class Care(Protocol):
    """Called in the threads of a pool."""

    def before(self) -> None:
        """A task begins."""

    def after(self) -> None:
        """A task has ended, or failed; its future is not done yet."""

    def idle(self) -> None:
        """The thread waits for longer, or ends."""


class ConnectionCare:
    """That of Django's connections. A thread whose last task has left none is not looked through before the next."""

    def __init__(self) -> None:
        self._here = threading.local()

    def before(self) -> None:
        """Closes connections that are broken or too old."""
        if getattr(self._here, "has_connections", False):
            close_old_connections()

    def after(self) -> None:
        """Closes connections that are broken, too old, or that the task has left within a transaction."""
        found = connections.all(initialized_only=True)
        for each in found:
            each.close_if_unusable_or_obsolete()
        self._here.has_connections = bool(found)

    def idle(self) -> None:
        """Closes all."""
        with contextlib.suppress(DatabaseError):  # it was broken already
            connections.close_all()


class NoCare:
    """For tasks that use no database."""

    def before(self) -> None:
        """Nothing."""

    def after(self) -> None:
        """Nothing."""

    def idle(self) -> None:
        """Nothing."""
