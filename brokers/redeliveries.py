"""The redelivery lane: records that reach one consumer group alone, besides its partitions of the log.

A retry that does not block parks its record here, and a replay gives dead letters back here. Each row belongs to a
partition of a group and is served by the partition's owner. Records of one key leave in the order in which they came:
one that waits for its time holds back those behind it. Called by listeners, replays and housekeeping; functions that
change a lane run in the caller's transaction, and whoever fills one calls `wakeup.announce_lanes` after the commit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from brokers.database import sync_cursor
from brokers.deliveries import Delivery, Redelivered
from brokers.record import Record
from brokers.settings import MAX_FETCH_BYTES
from brokers.sql import load

SQL = load("redeliveries")

_ROWS_AT_ONCE: Final = 1000
_decode_headers = msgspec.json.Decoder(dict[str, str]).decode
_encode_headers = msgspec.json.encode


class GivenBack(NamedTuple):
    """A dead letter on its way back to the group that failed; `headers` as they are to arrive."""

    item_id: int
    dead_letter_id: int
    group_id: int
    revision: int
    headers: dict[str, str]


def park(delivery: Delivery, delay_ms: int) -> None:
    """Puts a record that failed into its group's lane, due after the delay by the database's clock.

    One that came from the lane stays in its place there and becomes due again.
    """
    with sync_cursor() as cursor:
        if delivery.redelivery is not None:
            cursor.execute(SQL.postpone, (delay_ms, delivery.redelivery.id))
            return
        record = delivery.record
        row = {
            "group": delivery.group_id,
            "partition_id": delivery.partition_id,
            "topic": record.topic,
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "delay": delay_ms,
            "key": record.key_bytes,
            "value": record.value_bytes,
            "encoding": record.encoding,
            "headers": _encode_headers(record.headers),
        }
        cursor.execute(SQL.park, row, binary=True)


def due(
    group_id: int, partition_id: int, limit: int, held_back: Collection[bytes] = ()
) -> list[tuple[Redelivered, Record]]:
    """What of a lane may be handled now, in the order in which to do it; keys in `held_back` are left out.

    Before each record stand all earlier ones of its key. When one of them fails and stays in the lane, the later ones
    of its key in this list must not be handled: they come again. At most `limit` records, or about eight megabytes.
    """
    wanted = (group_id, partition_id, limit, MAX_FETCH_BYTES, list(held_back))
    with sync_cursor() as cursor:
        rows = cursor.execute(SQL.due, wanted, binary=True).fetchall()
    return [(Redelivered(*row[:6]), _record(*row[6:])) for row in rows]


def _record(
    timestamp: int,
    key: bytes | None,
    value: bytes | None,
    encoding: int,
    headers: bytes,
    offset: int,
    partition: int,
    topic: str,
) -> Record:
    return Record(timestamp, key, value, encoding, _decode_headers(headers), offset, partition, topic)


def next_due(group_id: int, partition_ids: Iterable[int]) -> dict[int, float]:
    """Seconds until the first record of each lane is due, 0.0 when one is; empty lanes are not there."""
    with sync_cursor() as cursor:
        return dict(cursor.execute(SQL.next_due, (group_id, list(partition_ids))).fetchall())


def newest(group_id: int, partition_id: int) -> int:
    """The highest id in a lane, 0 when it is empty: what comes later has a higher one."""
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.newest, (partition_id, group_id)).fetchone()
    return int(row[2]) if row is not None and row[:2] == (partition_id, group_id) else 0


def settle(deliveries: Sequence[Delivery], skipped: Collection[int] = ()) -> int:
    """Takes records that were handled out of the lane; those that came from the log are passed over.

    Their items have succeeded, or are skipped as `already_processed` when the redelivery's id is in `skipped`; their
    dead letters are replayed. Answers how many were still there. In the caller's transaction, before the fence.
    """
    ids = [delivery.redelivery.id for delivery in deliveries if delivery.redelivery is not None]
    if not ids:
        return 0
    with sync_cursor() as cursor:
        row = cursor.execute(SQL.settle, (ids, list(skipped))).fetchone()
    assert row is not None
    return int(row[0])


def give_back(letters: Sequence[GivenBack]) -> None:
    """Puts revisions of dead letters into the lanes of the groups that failed, due at once, in the order given.

    In the caller's transaction, which has made sure that topic, group and revision are there.
    """
    if not letters:
        return
    rows = {
        "items": [letter.item_id for letter in letters],
        "letters": [letter.dead_letter_id for letter in letters],
        "groups": [letter.group_id for letter in letters],
        "revisions": [letter.revision for letter in letters],
        "headers": [_encode_headers(letter.headers) for letter in letters],
    }
    with sync_cursor() as cursor:
        cursor.execute(SQL.give_back, rows)


def purge_orphans() -> int:
    """Empties lanes whose topic or group is no more, a bounded number of rows at a time: how many rows.

    Their items are skipped as `gone`, and their dead letters open again. Statements of their own.
    """
    removed = 0
    with sync_cursor() as cursor:
        for partition_id, group_id in cursor.execute(SQL.lost_lanes).fetchall():
            row = cursor.execute(SQL.remove_lost, (partition_id, group_id, _ROWS_AT_ONCE)).fetchone()
            assert row is not None
            removed += row[0]
    return removed
