"""Dead letters in a server's database, as its listeners would have left them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg

from tests.server import Server, unique

Json = dict[str, Any]


@dataclass
class Failures:
    """A topic, the consumer group that cannot handle its records, and the failure group of those."""

    connection: psycopg.Connection[Any]
    topic: str
    group: str
    fingerprint: str
    failure_group_id: int
    partition_id: int
    letters: list[int] = field(default_factory=list)

    def add(
        self,
        value: bytes | None = b'{"n": 1}',
        *,
        key: bytes | None = b"N14228",
        encoding: int = 1,
        headers: dict[str, str] | None = None,
        **columns: Any,
    ) -> int:
        """One more dead letter; its id."""
        stored = json.dumps(headers or {}).encode()
        row: Json = {
            "failure_group_id": self.failure_group_id,
            "source_kind": "topic",
            "source": self.topic,
            "group_name": self.group,
            "reason": "attempts_exhausted",
            "partition_id": self.partition_id,
            "partition": 0,
            "record_offset": len(self.letters),
            "record_timestamp": 1_600_000_000_000,
            "exception_class": "builtins.KeyError",
            "error": "'dep_time'",
            "size": len(key or b"") + len(value or b"") + len(stored),
            "attempts": 2,
            "first_failed_at": "2026-03-01T12:00:00Z",
            "failed_at": f"2026-03-01T{12 + len(self.letters) // 60:02}:{len(self.letters) % 60:02}:30Z",
        }
        row |= columns
        named, places = ", ".join(row), ", ".join(["%s"] * len(row))
        made = self.connection.execute(
            f"insert into brokers_dead_letter ({named}) values ({places}) returning id", list(row.values())
        ).fetchone()
        assert made is not None
        number = int(made[0])
        self.connection.execute(
            "insert into brokers_dead_letter_revision (dead_letter_id, number, key, value, encoding, headers)"
            " values (%s, 1, %s, %s, %s, %s)",
            [number, key, value, encoding, stored],
        )
        for attempt in (1, 2):
            self.connection.execute(
                "insert into brokers_dead_letter_attempt (dead_letter_id, number, started_at, ended_at, error,"
                " exception_class, stacktrace, frames) values (%s, %s, '2026-03-01T12:00:00Z', %s, %s, %s, %s, '[]')",
                [
                    number,
                    attempt,
                    "2026-03-01T12:00:01Z" if attempt == 2 else None,
                    "'dep_time'" if attempt == 2 else "",
                    "builtins.KeyError" if attempt == 2 else "",
                    "Traceback (most recent call last)" if attempt == 2 else "",
                ],
            )
        self.letters.append(number)
        return number


@contextmanager
def seeding(server: Server) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the server's database."""
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        yield connection


def failing(
    api: httpx.Client, connection: psycopg.Connection[Any], topic: str | None = None, group: str | None = None
) -> Failures:
    """A topic and a group, without dead letters yet."""
    topic, group, fingerprint = topic or unique(), group or unique("g"), unique("f")
    if api.get(f"/api/v1/topics/{topic}").status_code == 404:
        assert api.post("/api/v1/topics", json={"name": topic, "partitions": 1}).status_code == 201
    if api.get(f"/api/v1/groups/{group}").status_code == 404:
        joined = api.post(f"/api/v1/groups/{group}/members", json={"topics": [topic]})
        assert joined.status_code == 201
        api.delete(f"/api/v1/groups/{group}/members/{joined.json()['member_id']}")
    made = connection.execute(
        "insert into brokers_failure_group (fingerprint, version, source_kind, source, group_name, handler,"
        " exception_class, message, reason) values (%s, 1, 'topic', %s, %s, 'shop.handle', 'builtins.KeyError',"
        " '<text>', 'attempts_exhausted') returning id",
        [fingerprint, topic, group],
    ).fetchone()
    partition = connection.execute(
        "select p.id from brokers_partition p join brokers_topic t on t.id = p.topic_id where t.name = %s", [topic]
    ).fetchone()
    assert made is not None
    assert partition is not None
    return Failures(connection, topic, group, fingerprint, made[0], partition[0])
