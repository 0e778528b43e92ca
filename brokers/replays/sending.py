"""Sending items of a replay: each dead letter is looked at once more, then given back or published.

Everything is part of the caller's transaction, which holds the replay's row: lane rows or records, the items, their
dead letters, and how far the replay has come.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec
from django.db import transaction

from brokers import outgoing, publishing, redeliveries, task_calls, topics, wakeup
from brokers.codec import Row
from brokers.database import sync_cursor
from brokers.dead_letter_headers import OWN_PREFIX, arriving, as_text, decoded, without_own
from brokers.errors import KeyRequired, RecordTooLarge
from brokers.outgoing import Outgoing
from brokers.record import JSON
from brokers.redeliveries import GivenBack
from brokers.replays import messages, tasks
from brokers.replays.messages import Letter
from brokers.replays.plans import SQL
from brokers.replays.request import Contents, Target, patched
from brokers.replays.tasks import Call

_CHUNK_BYTES: Final = 16 * 1024 * 1024
"""Bytes of the dead letters of one transaction, about."""


class Order(NamedTuple):
    """What a replay does with its items."""

    replay_id: int
    created_by: str
    target: Target | None
    """Where to publish; None gives back to the consumer that failed."""
    patch: bytes | None


class _Next(NamedTuple):
    """An item and its dead letter; `why` is empty when it can be sent."""

    id: int
    position: int
    dead_letter_id: int
    revision: int
    why: str
    attempts: int
    group_id: int
    partition_id: int
    source_kind: str
    source: str
    queue_id: int | None
    """The queue that a message died in; None where it is no more."""
    headers: bytes
    encoding: int
    key: bytes | None
    value: bytes | None
    exchange: str | None
    routing_key: str | None
    message_id: str | None
    correlation_id: str | None
    envelope: bytes | None
    priority: int | None

    @property
    def is_record(self) -> bool:
        return self.source_kind == "topic"

    @property
    def is_task(self) -> bool:
        return self.source_kind == task_calls.KIND


class Sent(NamedTuple):
    """What one call came to; `next_position` is where to go on."""

    items: int
    next_position: int


def send(order: Order, position: int, most: int) -> Sent:
    """Sends up to `most` items from a position on; those that cannot be sent are skipped and count for nothing.

    The order of positions is the order of the lane or queue, or of what is published. Raises `TopicNotFound`,
    `QueueNotFound` and `ExchangeNotFound` when the target is gone.
    """
    ready = _next(order, position, most)
    if not ready:
        return Sent(0, position)
    skipped = [(item, item.why) for item in ready if item.why]
    chosen = [item for item in ready if not item.why]
    if order.patch is not None:
        chosen, refused = _revise(order, order.patch, chosen)
        skipped += refused
    if order.target is not None and order.target.topic is not None:
        chosen, refused = _publish(order, order.target.topic, chosen)
    elif order.target is not None:
        chosen, refused = _parted(chosen, messages.publish(order.target, [_letter(order, item) for item in chosen]))
    else:
        chosen, refused = _give_back(order, chosen)
    skipped += refused
    with sync_cursor() as cursor:
        for why in sorted({why for _, why in skipped}):
            cursor.execute(SQL.skipped, (why, [item.id for item, reason in skipped if reason == why]))
        if chosen:
            sent = {
                "items": [item.id for item in chosen],
                "letters": [item.dead_letter_id for item in chosen],
                "published": order.target is not None,
            }
            cursor.execute(SQL.sent, sent)
    return Sent(len(chosen), ready[-1].position + 1)


def _next(order: Order, position: int, most: int) -> list[_Next]:
    wanted = {
        "replay": order.replay_id,
        "position": position,
        "items": most,
        "bytes": _CHUNK_BYTES,
        "to_source": order.target is None,
        "patched": order.patch is not None,
    }
    with sync_cursor() as cursor:
        return [_Next(*row) for row in cursor.execute(SQL.next, wanted, binary=True).fetchall()]


def _revise(order: Order, patch: bytes, items: Sequence[_Next]) -> tuple[list[_Next], list[tuple[_Next, str]]]:
    """The items with their patched revisions, and those whose value is no JSON, or no task's arguments any more.

    What the patch leaves equal stays.
    """
    made: list[_Next] = []
    new: list[tuple[_Next, Contents]] = []
    refused: list[tuple[_Next, str]] = []
    for item in items:
        before = Contents(item.key, item.value, item.encoding, without_own(decoded(item.headers)))
        after = patched(before, patch)
        if after is None:
            refused.append((item, "not_json"))
        elif item.is_task and not task_calls.is_call(after.value, after.encoding):
            refused.append((item, task_calls.INVALID))
        elif after.value == item.value:
            made.append(item)
        else:
            item = item._replace(value=after.value, encoding=after.encoding, revision=item.revision + 1)
            made.append(item)
            new.append((item, after))
    if new:
        rows = {
            "items": [item.id for item, _ in new],
            "letters": [item.dead_letter_id for item, _ in new],
            "revisions": [item.revision for item, _ in new],
            "keys": [after.key for _, after in new],
            "values": [after.value for _, after in new],
            "headers": [msgspec.json.encode(after.headers) for _, after in new],
            "sizes": [after.size for _, after in new],
            "actor": order.created_by,
        }
        with sync_cursor() as cursor:
            cursor.execute(SQL.revise, rows)
    return made, refused


def _give_back(order: Order, items: Sequence[_Next]) -> tuple[list[_Next], list[tuple[_Next, str]]]:
    """Gives records to their groups, messages to their queues and tasks to workers; those that are not, with why."""
    records = [item for item in items if item.is_record]
    redeliveries.give_back(
        [
            GivenBack(item.id, item.dead_letter_id, item.group_id, item.revision, _marked(order, item))
            for item in records
        ]
    )
    partitions = {item.partition_id for item in records}
    if partitions:
        transaction.on_commit(partial(wakeup.announce_lanes, partitions), robust=True)
    letters = [_letter(order, item) for item in items if not item.is_record and not item.is_task]
    refused = messages.give_back(letters) if letters else {}
    calls = [_call(order, item) for item in items if item.is_task]
    return _parted(items, refused | tasks.give_back(calls) if calls else refused)


def _parted(items: Sequence[_Next], refused: dict[int, str]) -> tuple[list[_Next], list[tuple[_Next, str]]]:
    return (
        [item for item in items if item.id not in refused],
        [(item, refused[item.id]) for item in items if item.id in refused],
    )


def _call(order: Order, item: _Next) -> Call:
    return Call(
        item_id=item.id,
        dead_letter_id=item.dead_letter_id,
        revision=item.revision,
        task=item.source,
        value=item.value,
        encoding=item.encoding,
        replay_id=order.replay_id,
        created_by=order.created_by,
    )


def _letter(order: Order, item: _Next) -> Letter:
    return Letter(
        item_id=item.id,
        dead_letter_id=item.dead_letter_id,
        revision=item.revision,
        queue_id=item.queue_id,
        headers=_marked(order, item),
        value=item.value,
        encoding=item.encoding,
        exchange=item.exchange,
        routing_key=item.routing_key,
        message_id=item.message_id,
        correlation_id=item.correlation_id,
        envelope=item.envelope,
        priority=item.priority,
    )


def _publish(order: Order, topic: str, items: Sequence[_Next]) -> tuple[list[_Next], list[tuple[_Next, str]]]:
    """Publishes the items within the transaction; those that the topic does not take, with what it says."""
    info = topics.lookup(topic)
    rows: list[Row] = [(0, item.key, _value(item), item.encoding, as_text(_marked(order, item))) for item in items]
    refused: list[tuple[_Next, str]] = []
    chosen: list[_Next] = []
    taken: list[Row] = []
    for item, row in zip(items, rows, strict=True):
        why = _refusal(info, row)
        if why is None:
            chosen.append(item)
            taken.append(row)
        else:
            refused.append((item, why))
    if taken:
        publishing.publish_outgoing(info, Outgoing(taken))
    return chosen, refused


def _value(item: _Next) -> bytes | None:
    """A message's body as a record's value, where JSON's null is a tombstone."""
    is_null = not item.is_record and item.encoding == JSON and item.value == b"null"
    return None if is_null else item.value


def _refusal(info: topics.TopicInfo, row: Row) -> str | None:
    if info.compacted or outgoing.size_of(row) > info.max_record_bytes:
        try:
            outgoing.plan(info, Outgoing([row]))
        except (KeyRequired, RecordTooLarge) as error:
            return error.code
    return None


def _marked(order: Order, item: _Next) -> dict[str, Any]:
    """The headers as they arrive: they say that it is a replay, of what and by whom."""
    return without_own(arriving(item.headers, item.envelope)) | {
        f"{OWN_PREFIX}replay-id": str(order.replay_id),
        f"{OWN_PREFIX}replayed-from": str(item.dead_letter_id),
        f"{OWN_PREFIX}revision": str(item.revision),
        f"{OWN_PREFIX}attempt-base": str(item.attempts),
        f"{OWN_PREFIX}replayed-by": order.created_by,
    }
