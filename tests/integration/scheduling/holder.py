"""A process that holds a lock, for tests that stop it: takes orders on standard input and answers a line each."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

import django


def main() -> None:
    """`hold NAME AT_MOST`, then any of `extend`, `fence`, `unlock`; answers `ok` or the error's name."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "messaging_site.settings")
    django.setup()

    from django.db import connection, transaction

    from scheduling import fence, scheduler_lock
    from scheduling.locks import LockLost

    connection.settings_dict["NAME"] = sys.argv[1]
    name, at_most_for = sys.argv[2:4]
    with ExitStack() as blocks:
        lock = blocks.enter_context(scheduler_lock(name, at_most_for))
        print("held" if lock is not None else "refused", flush=True)
        for line in sys.stdin:
            order = line.strip()
            try:
                if order == "extend":
                    assert lock is not None
                    lock = lock.extend()
                elif order == "unlock":
                    assert lock is not None
                    print("ok" if lock.unlock() else "LockLost", flush=True)
                    continue
                elif order == "fenced work":
                    with transaction.atomic(), connection.cursor() as cursor:
                        cursor.execute("insert into effects (name) values (%s)", (name,))
                        fence()
                elif order == "fence and wait":
                    with transaction.atomic():
                        fence()
                        print("fenced", flush=True)
                        sys.stdin.readline()
            except LockLost as error:
                print(type(error).__name__, flush=True)
            else:
                print("ok", flush=True)


if __name__ == "__main__":
    main()
