"""A process that does runs, for tests that stop and kill it: reads their ids, answers how each attempt went.

With a lease of a second, and half a second to come to an end after a timeout.
"""

from __future__ import annotations

import hashlib
import os
import sys

import django

LEASE_SECONDS = 1.0
GRACE_SECONDS = 0.5


def main() -> None:
    """Takes the database's name; answers `begun` when a function was called, then `done`, `lost` or nothing."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "messaging_site.settings")
    django.setup()

    from django.db import connection

    from scheduling import runs, scheduled
    from scheduling.worker import keeper, performing

    connection.settings_dict["NAME"] = sys.argv[1]
    runs.LEASE_SECONDS = LEASE_SECONDS  # type: ignore[misc]
    keeper.BEAT_SECONDS = LEASE_SECONDS / 5  # type: ignore[misc]
    performing.GRACE_SECONDS = GRACE_SECONDS  # type: ignore[attr-defined]

    @scheduled(fixed_rate="PT1H", name="waits")
    def waits() -> str:
        """Until it is told to go on."""
        print("begun", flush=True)
        sys.stdin.readline()
        return "what came out"

    @scheduled(fixed_rate="PT1H", name="never comes back", timeout="PT0.2S")
    def never_comes_back() -> None:
        """In one call of C that no signal interrupts."""
        print("begun", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

    performer = performing.Performer()
    print("ready", flush=True)
    while run := sys.stdin.readline():
        performer.perform(int(run))
        print("done", flush=True)
    performer.close()


if __name__ == "__main__":
    main()
