"""A program of a user's: publishes in transactions together with rows of its own, whatever happens to the server.

Run by `test_acknowledged_records_survive` as a process of its own. It writes one line of JSON for each transaction when
it knows how that ended, and ends when its input does.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time

import django

django.setup()

import django.db  # noqa: E402
from django.contrib.auth.models import Group  # noqa: E402
from django.db import connection, transaction  # noqa: E402

from brokers import publish, publish_many  # noqa: E402
from brokers.errors import BrokerError  # noqa: E402


class Roll(Exception):
    """The user's own reason to roll back."""


def attempt(topic: str, name: str, values: list[str], dice: random.Random) -> str:
    """One transaction: a row and some records over several partitions. Answers `ok`, `refused` or `unknown`."""
    committing = False
    try:
        with transaction.atomic():
            Group.objects.create(name=name)
            for value in values[:2]:
                publish(topic, value, key=value)
            publish_many(topic, [{"value": value, "partition": n % 3} for n, value in enumerate(values[2:])])
            if dice.random() < 0.2:
                raise Roll
            committing = True
    except Roll:
        return "refused"
    except (BrokerError, django.db.Error):
        connection.close()
        time.sleep(0.02)
        return "unknown" if committing else "refused"
    return "ok"


def main(topic: str, writer: str) -> None:
    """Goes on until standard input ends."""
    ended = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    dice = random.Random(writer)
    for n in range(1_000_000):
        if ended.is_set():
            break
        name = f"{writer}-{n}"
        values = [f"{name}-{k}" for k in range(dice.randint(1, 6))]
        outcome = attempt(topic, name, values, dice)
        print(json.dumps({"name": name, "values": values, "outcome": outcome}), flush=True)
        time.sleep(0.004)


if __name__ == "__main__":
    main(*sys.argv[1:])
