"""Faults at random while records are published and handled: effects once, keys in order, dead letters once.

A publisher repeats each request until it is answered; listener workers, backends of PostgreSQL, PostgreSQL itself,
Valkey and the web process are killed or stopped meanwhile. `FAULT_SECONDS` says for how long (`make faults`: minutes).
The seed of a run is printed when it fails. The check is a function of what was seen, and is tested with what is wrong.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import signal
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx
import psutil
import psycopg
import pytest

from tests.acceptance.embedded_server import LISTENER, VALKEY, WEB, EmbeddedServer, embedded_server, until

SECONDS = float(os.environ.get("FAULT_SECONDS", "20"))
KINDS = ("plain",) * 14 + ("echo",) * 3 + ("flaky",) * 2 + ("poison",)
KEYS = 40
PARTITIONS = 4
STOPPED_SECONDS = 3.0
"""Longer than the session of the listener's members."""
QUIET_SECONDS = 90.0
"""How long the listeners may take to come to the end: a worker that died often starts again after half a minute."""


@dataclass(frozen=True)
class Entry:
    """A record that was published, and where."""

    name: str
    kind: str
    key: str
    partition: int
    offset: int


@dataclass
class Seen:
    """What is in the database when all is quiet."""

    effects: list[tuple[str, int, int]] = field(default_factory=list)
    """Name, partition and offset, in the order in which they were written."""
    dead: list[tuple[int, int, str]] = field(default_factory=list)
    """Partition, offset and state of each dead letter."""
    copies: int = 0
    """Records of the dead letter topic."""
    echoes: list[str] = field(default_factory=list)
    committed: dict[int, int] = field(default_factory=dict)
    latest: dict[int, int] = field(default_factory=dict)
    waiting: int = 0
    """Redeliveries and attempts that nobody has settled."""


def problems(entries: Sequence[Entry], seen: Seen) -> list[str]:
    """What is wrong with what was seen, given what was published."""
    found: list[str] = []
    times = Counter(name for name, _, _ in seen.effects)
    echoed = Counter(seen.echoes)
    dead = Counter((partition, offset) for partition, offset, _ in seen.dead)
    for entry in entries:
        effects = 0 if entry.kind == "poison" else 1
        if times[entry.name] != effects:
            found.append(f"{entry.kind} {entry.name} has {times[entry.name]} effects")
        if echoed[entry.name] != (entry.kind == "echo"):
            found.append(f"{entry.kind} {entry.name} was passed on {echoed[entry.name]} times")
        letters = dead[entry.partition, entry.offset]
        if letters != (entry.kind == "poison"):
            found.append(f"{entry.kind} {entry.name} has {letters} dead letters")
    known = {entry.name for entry in entries}
    found += [f"an effect of {name}, which nobody published" for name in times if name not in known]
    if seen.copies != len(seen.dead):
        found.append(f"{seen.copies} records on the dead letter topic for {len(seen.dead)} dead letters")
    for partition in range(PARTITIONS):
        offsets = sorted(entry.offset for entry in entries if entry.partition == partition)
        if offsets != list(range(len(offsets))):
            found.append(f"partition {partition} is not dense")
        if seen.latest.get(partition, 0) != len(offsets):
            found.append(f"partition {partition} ends at {seen.latest.get(partition)}, not at {len(offsets)}")
        if seen.committed.get(partition, 0) != len(offsets):
            found.append(f"partition {partition} is committed to {seen.committed.get(partition)} of {len(offsets)}")
        handled = [offset for _, number, offset in seen.effects if number == partition]
        if handled != sorted(handled):
            found.append(f"partition {partition} was handled out of order")
    if seen.waiting:
        found.append(f"{seen.waiting} attempts or redeliveries are left behind")
    return found


def _good() -> tuple[list[Entry], Seen]:
    entries = [Entry("a", "plain", "k", 0, 0), Entry("b", "echo", "k", 0, 1), Entry("c", "poison", "k", 0, 2)]
    seen = Seen([("a", 0, 0), ("b", 0, 1)], [(0, 2, "open")], 1, ["b"], {0: 3}, {0: 3})
    return entries, seen


def _twice(seen: Seen) -> None:
    seen.effects.append(("a", 0, 0))


def _lost(seen: Seen) -> None:
    del seen.effects[0]


def _disordered(seen: Seen) -> None:
    seen.effects.reverse()


def _kept(seen: Seen) -> None:
    seen.effects.append(("c", 0, 2))


def _dead_twice(seen: Seen) -> None:
    seen.dead.append((0, 2, "open"))


def _behind(seen: Seen) -> None:
    seen.committed[0] = 2


def _echoed_twice(seen: Seen) -> None:
    seen.echoes.append("b")


def _left_behind(seen: Seen) -> None:
    seen.waiting = 1


def test_the_check_passes_what_is_right() -> None:
    assert problems(*_good()) == []


@pytest.mark.parametrize(
    "spoil", [_twice, _lost, _disordered, _kept, _dead_twice, _behind, _echoed_twice, _left_behind]
)
def test_the_check_sees_what_is_wrong(spoil: Callable[[Seen], None]) -> None:
    entries, seen = _good()
    spoil(seen)
    assert problems(entries, seen)


class Publisher:
    """Publishes a few entries a request, each request until it is answered."""

    def __init__(self, server: EmbeddedServer, seed: int) -> None:
        self.entries: list[Entry] = []
        self._server = server
        self._dice = random.Random(seed)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._publish)

    def __enter__(self) -> Publisher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "a request was never answered"

    def _publish(self) -> None:
        client = self._server.client()
        number = 0
        while not self._stop.is_set():
            chosen: list[dict[str, object]] = []
            for _ in range(self._dice.randint(1, 12)):
                number += 1
                key = f"key-{self._dice.randrange(KEYS)}"
                chosen.append({"key": key, "value": {"name": f"e{number}", "kind": self._dice.choice(KINDS)}})
            client = self._until_answered(client, chosen)
            self._stop.wait(0.01)
        client.close()

    def _until_answered(self, client: httpx.Client, records: list[dict[str, object]]) -> httpx.Client:
        key = uuid.uuid4().hex
        while True:
            with contextlib.suppress(httpx.TransportError):
                answer = client.post(
                    "/api/v1/topics/ledger/records", json={"records": records}, headers={"Idempotency-Key": key}
                )
                if answer.status_code == 200:
                    break
                assert answer.status_code in (409, 503), answer.text
            client.close()
            client = self._server.client()
            time.sleep(0.05)
        for record, place in zip(records, answer.json()["offsets"], strict=True):
            value = record["value"]
            assert isinstance(value, dict)
            entry = Entry(value["name"], value["kind"], str(record["key"]), place["partition"], place["offset"])
            self.entries.append(entry)
        return client


class Nemesis:
    """One fault after the other, chosen by a seed, until the time is over; leaves nothing stopped."""

    def __init__(self, server: EmbeddedServer, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self._server = server
        self._dice = random.Random(seed)
        self._faults: list[Callable[[], None]] = [
            self.kill_a_listener,
            self.kill_a_listener,
            self.stop_a_listener,
            self.end_backends,
            self.end_backends,
            self.kill_valkey,
            self.kill_a_backend,
            self.kill_the_web_process,
        ]

    def rage(self, seconds: float) -> None:
        """Every kind of fault at least once, then at random."""
        deadline = time.monotonic() + seconds
        plan = list(dict.fromkeys(self._faults))
        self._dice.shuffle(plan)
        while plan or time.monotonic() < deadline:
            fault = plan.pop() if plan else self._dice.choice(self._faults)
            fault()
            self.done[fault.__name__] += 1
            time.sleep(self._dice.uniform(0.2, 1.5))

    def running(self, part: str) -> list[psutil.Process]:
        found = []
        for process in self._server.processes()[1:]:
            with contextlib.suppress(psutil.Error):
                if part in " ".join(process.cmdline()):
                    found.append(process)
        return found

    def _one_of(self, part: str) -> psutil.Process:
        """One that runs: what died again and again is started again within half a minute."""
        until(lambda: bool(self.running(part)), 45, f"{part} runs")
        return self._dice.choice(self.running(part))

    def _kill(self, part: str) -> None:
        with contextlib.suppress(psutil.NoSuchProcess):
            self._one_of(part).kill()

    def kill_a_listener(self) -> None:
        """SIGKILL."""
        self._kill(LISTENER)

    def stop_a_listener(self) -> None:
        """SIGSTOP for longer than a session, then SIGCONT: a zombie."""
        victim = self._one_of(LISTENER)
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.suspend()
            time.sleep(STOPPED_SECONDS)
            victim.resume()

    def end_backends(self) -> None:
        """PostgreSQL ends half of the sessions of the listeners and of the web process."""
        share = self._dice.choice((2, 3))
        with contextlib.suppress(psycopg.Error), psycopg.connect(self._server.database_url, autocommit=True) as admin:
            admin.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid() and pid %% %s = 0",
                [share],
            )

    def kill_a_backend(self) -> None:
        """SIGKILL of one session's process: PostgreSQL ends all others and recovers."""
        with contextlib.suppress(psycopg.Error, ProcessLookupError):
            with psycopg.connect(self._server.database_url, autocommit=True) as admin:
                rows = admin.execute(
                    "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"
                ).fetchall()
            if rows:
                os.kill(self._dice.choice(rows)[0], signal.SIGKILL)

    def kill_valkey(self) -> None:
        """SIGKILL; the supervisor starts it again."""
        self._kill(VALKEY)

    def kill_the_web_process(self) -> None:
        """SIGKILL; the supervisor starts it again."""
        self._kill(WEB)


def _look(server: EmbeddedServer) -> Seen:
    with psycopg.connect(server.database_url) as database:

        def rows(query: str) -> list[tuple[object, ...]]:
            return database.execute(query).fetchall()

        partitions = (
            "select p.number, %s from brokers_partition p join brokers_topic t on t.id = p.topic_id"
            " left join brokers_committed_offset c on c.partition_id = p.id where t.name = 'ledger'"
        )
        ends = (
            "(select sum(brokers_log_latest(p.id)) from brokers_partition p join brokers_topic t on t.id = p.topic_id"
        )
        copies = rows(f"select {ends} where t.name = 'ledger.DLT')")[0][0]
        waiting = rows(
            "select (select count(*) from brokers_redelivery) + (select count(*) from brokers_delivery_attempt)"
        )
        return Seen(
            effects=rows("select name, partition, record_offset from effects_effect order by partition, id"),  # type: ignore[arg-type]
            dead=rows("select partition, record_offset, state from brokers_dead_letter"),  # type: ignore[arg-type]
            copies=int(copies or 0),  # type: ignore[call-overload]
            committed=dict(rows(partitions % "coalesce(c.committed_offset, 0)")),  # type: ignore[arg-type]
            latest=dict(rows(partitions % "brokers_log_latest(p.id)")),  # type: ignore[arg-type]
            waiting=int(waiting[0][0]),  # type: ignore[call-overload]
        )


def _when_quiet(server: EmbeddedServer) -> Seen:
    """What there is once the listeners have come to the end."""
    deadline = time.monotonic() + QUIET_SECONDS
    while True:
        seen = _look(server)
        if seen.committed == seen.latest and not seen.waiting:
            return seen
        standing = f"{seen.committed} of {seen.latest}, {seen.waiting} attempts or redeliveries"
        assert time.monotonic() < deadline, f"not at the end: {standing}\n{server.output.read_text()[-6000:]}"
        time.sleep(0.1)


def _echoes(server: EmbeddedServer) -> list[str]:
    found: list[str] = []
    with server.client() as client:
        for partition in range(2):
            offset = 0
            while True:
                page = client.get(
                    f"/api/v1/topics/echoes/partitions/{partition}/records", params={"offset": offset, "limit": 1000}
                ).json()
                found += [record["value"] for record in page["records"]]
                offset = page["next_offset"]
                if offset >= page["latest_offset"]:
                    break
    return found


@pytest.mark.slow
@pytest.mark.timeout(300 + 2 * SECONDS)
def test_effects_happen_once_whatever_is_killed_or_stopped() -> None:
    logging.getLogger("httpx").setLevel(logging.WARNING)  # thousands of requests would hide what failed
    seed = int(os.environ.get("FAULT_SEED") or random.SystemRandom().randrange(1_000_000))
    print(f"FAULT_SEED={seed}")
    variables = {"WAYSTATION_APPS": "tests.acceptance.effects", "WAYSTATION_LISTENER_PROCESSES": "2"}
    with embedded_server(**variables) as server:
        nemesis = Nemesis(server, seed)
        with Publisher(server, seed) as publisher:
            nemesis.rage(SECONDS)
            server.wait_until_ready()
            until(lambda: bool(nemesis.running(LISTENER)), 45, "a listener runs")
        entries = publisher.entries

        seen = _when_quiet(server)
        seen.echoes = _echoes(server)
        log = server.output.read_text()
    kinds = Counter(entry.kind for entry in entries)
    assert set(kinds) == set(KINDS), kinds
    assert min(nemesis.done.values()) >= 1
    assert not problems(entries, seen), log[-5000:]
    assert "Traceback" not in log, log[log.index("Traceback") - 500 :][:3000]
