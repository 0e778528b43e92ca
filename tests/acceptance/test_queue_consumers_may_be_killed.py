"""Consumers of a queue are killed and stopped while it is worked off: each message handled, its effects once.

`FAULT_MESSAGES` says how many there are, `FAULT_SEED` repeats a run's choices. The check is a function of what was
seen, and is tested with what is wrong.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psutil
import psycopg
import pytest

from tests.acceptance.embedded_server import LISTENER, EmbeddedServer, embedded_server, until

MESSAGES = int(os.environ.get("FAULT_MESSAGES", "20000"))
KINDS = ("plain",) * 94 + ("echo",) * 3 + ("flaky",) * 2 + ("poison",)
KILLS = 8
STOPPED_SECONDS = 3.0
"""Longer than a lease."""
QUIET_SECONDS = 90.0


@dataclass
class Seen:
    """What is in the database when the queue is worked off."""

    effects: Counter[str] = field(default_factory=Counter)
    letters: Counter[str] = field(default_factory=Counter)
    """Dead letters, by the name in their body."""
    copies: Counter[str] = field(default_factory=Counter)
    """Messages that the dead-letter exchange has brought to its queue."""
    passed_on: Counter[str] = field(default_factory=Counter)
    left_behind: int = 0
    """Messages, attempts and claims that nobody has settled."""


def problems(jobs: Mapping[str, str], seen: Seen) -> list[str]:
    """What is wrong with what was seen, given the kind of each job that was published."""
    found: list[str] = []
    for name, kind in jobs.items():
        poison, echo = kind == "poison", kind == "echo"
        wanted = {"effects": not poison, "letters": poison, "copies": poison, "passed_on": echo}
        for what, expected in wanted.items():
            times = getattr(seen, what)[name]
            if times != expected:
                found.append(f"{kind} {name} has {times} {what}")
    for what in ("effects", "letters", "copies", "passed_on"):
        found += [f"{what} of {name}, which nobody published" for name in getattr(seen, what) if name not in jobs]
    if seen.left_behind:
        found.append(f"{seen.left_behind} messages or attempts are left behind")
    return found


def _good() -> tuple[dict[str, str], Seen]:
    jobs = {"a": "plain", "b": "echo", "c": "poison", "d": "flaky"}
    return jobs, Seen(Counter("abd"), Counter("c"), Counter("c"), Counter("b"))


def _twice(seen: Seen) -> None:
    seen.effects["a"] += 1


def _lost(seen: Seen) -> None:
    del seen.effects["d"]


def _kept(seen: Seen) -> None:
    seen.effects["c"] += 1


def _dead_twice(seen: Seen) -> None:
    seen.letters["c"] += 1


def _no_copy(seen: Seen) -> None:
    del seen.copies["c"]


def _passed_on_twice(seen: Seen) -> None:
    seen.passed_on["b"] += 1


def _unknown(seen: Seen) -> None:
    seen.effects["x"] += 1


def _left_behind(seen: Seen) -> None:
    seen.left_behind = 1


def test_the_check_passes_what_is_right() -> None:
    assert problems(*_good()) == []


@pytest.mark.parametrize(
    "spoil", [_twice, _lost, _kept, _dead_twice, _no_copy, _passed_on_twice, _unknown, _left_behind]
)
def test_the_check_sees_what_is_wrong(spoil: Callable[[Seen], None]) -> None:
    jobs, seen = _good()
    spoil(seen)
    assert problems(jobs, seen)


def _publish(server: EmbeddedServer, dice: random.Random) -> dict[str, str]:
    jobs = {f"job-{number}": dice.choice(KINDS) for number in range(MESSAGES)}
    named = list(jobs.items())
    with server.client() as client:
        for first in range(0, len(named), 1000):
            messages = [{"body": {"name": name, "kind": kind}} for name, kind in named[first : first + 1000]]
            answer = client.post("/api/v1/queues/jobs/messages", json={"messages": messages})
            assert answer.status_code == 200, answer.text
    return jobs


def _listeners(server: EmbeddedServer) -> list[psutil.Process]:
    found = []
    for process in server.processes()[1:]:
        with contextlib.suppress(psutil.Error):
            if LISTENER in " ".join(process.cmdline()):
                found.append(process)
    return found


def _left(server: EmbeddedServer) -> int:
    with psycopg.connect(server.database_url) as database:
        row = database.execute(
            "select count(*) from brokers_message m join brokers_queue q on q.id = m.queue_id where q.name = 'jobs'"
        ).fetchone()
    assert row is not None
    return int(row[0])


def _disturb(server: EmbeddedServer, dice: random.Random) -> Counter[str]:
    """Kills, and now and then stops for longer than a lease, a worker each time that some more is worked off."""
    done: Counter[str] = Counter()
    for number in range(1, KILLS + 1):
        below = MESSAGES - number * MESSAGES // (KILLS + 2)
        until(lambda below=below: _left(server) <= below, QUIET_SECONDS, f"fewer than {below} messages are left")  # type: ignore[misc]
        until(lambda: bool(_listeners(server)), 45, "a listener runs")
        with contextlib.suppress(psutil.NoSuchProcess):
            victim = dice.choice(_listeners(server))
            if number % 4:
                victim.kill()
                done["killed"] += 1
            else:
                victim.suspend()
                time.sleep(STOPPED_SECONDS)
                victim.resume()
                done["stopped"] += 1
    return done


def _look(server: EmbeddedServer) -> Seen:
    with psycopg.connect(server.database_url) as database:

        def names(query: str) -> Counter[str]:
            return Counter(str(row[0]) for row in database.execute(query).fetchall())

        body = "convert_from({}, 'UTF8')::json"
        bodies = f"select {body.format('m.body')} %s from brokers_message m join brokers_queue q on q.id = m.queue_id"
        left = database.execute(
            "select (select count(*) from brokers_message m join brokers_queue q on q.id = m.queue_id"
            " where q.name = 'jobs') + (select count(*) from brokers_message_attempt)"
        ).fetchone()
        assert left is not None
        return Seen(
            names("select name from effects_effect"),
            names(
                f"select {body.format('r.value')} ->> 'name' from brokers_dead_letter d"
                " join brokers_dead_letter_revision r on r.dead_letter_id = d.id where d.source = 'jobs'"
            ),
            names(bodies % "->> 'name'" + " where q.name = 'jobs.dead'"),
            names(bodies % "#>> '{}'" + " where q.name = 'jobs.passed-on'"),
            int(left[0]),
        )


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_each_message_is_handled_once_whatever_consumer_is_killed() -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)
    seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"FAULT_SEED={seed}")
    dice = random.Random(seed)
    variables = {"WAYSTATION_APPS": "tests.acceptance.effects", "WAYSTATION_LISTENER_PROCESSES": "2"}
    with embedded_server(**variables) as server:
        jobs = _publish(server, dice)
        done = _disturb(server, dice)
        until(lambda: _left(server) == 0, QUIET_SECONDS, "the queue is worked off")
        seen = _look(server)
        log = server.output.read_text()
    assert done["killed"] >= KILLS // 2
    assert done["stopped"] >= 1
    assert not problems(jobs, seen), log[-5000:]
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]
