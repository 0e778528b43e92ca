"""Publishing to and fetching from topics over REST.

The hot path: a body is decoded once, its JSON values stay the bytes that came in, and fetched values are pasted into
the answer without being parsed again.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta

from brokers import idempotency, strict_json, topic_log
from brokers.coalescer import Coalescer
from brokers.codec import Row
from brokers.errors import (
    BatchTooLarge,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InvalidIdempotencyKey,
    InvalidValue,
    KeyRequired,
    OffsetOutOfRange,
    PartitionNotFound,
    RecordTooLarge,
    TopicNotFound,
)
from brokers.outgoing import Outgoing
from brokers.record import JSON, RAW
from brokers.record_input import NO_HEADERS, checked_headers
from brokers.record_json import record_json
from brokers.rest.operation import JSON_TYPE, NDJSON_TYPE, Access, Answer, Call, Operation
from brokers.rest.schemas import FetchedRecords, Offsets, RecordsToPublish, RecordToPublish
from brokers.settings import (
    DEFAULT_FETCH_BYTES,
    MAX_FETCH_BYTES,
    MAX_KEY_BYTES,
    MAX_RECORDS_PER_REQUEST,
    MAX_WAIT_MS,
)
from brokers.strict_json import ABSENT
from brokers.topics import TopicInfo, alookup
from brokers.wakeup import Hub

_reader = strict_json.BatchReader(
    RecordsToPublish,
    RecordToPublish,
    items=lambda body: body.records,
    values=lambda records: [ABSENT if record.value is UNSET else record.value for record in records],
)
_NULL = b"null"


class RecordRoutes:
    """The operations on records, over what they share: the coalescer and the hub that wakes long polls."""

    def __init__(self, coalescer: Coalescer, hub: Hub) -> None:
        self._coalescer = coalescer
        self._hub = hub

    def operations(self) -> list[Operation]:
        """Declarations of both operations."""
        return [
            Operation(
                method="POST",
                path="/api/v1/topics/{topic}/records",
                summary="Publish records",
                tag="Records",
                access=(Access("write", "topic", "topic"),),
                handler=self.post_records,
                body=RecordsToPublish,
                raw_body=True,
                media_types=(JSON_TYPE, NDJSON_TYPE),
                answers={200: Offsets},
                answer_headers=(("Idempotent-Replayed", "`true` when this is the answer of an earlier request."),),
                headers=(("Idempotency-Key", "A repeat within 24 hours gets the first answer and stores nothing."),),
                problems=(
                    TopicNotFound,
                    PartitionNotFound,
                    RecordTooLarge,
                    BatchTooLarge,
                    KeyRequired,
                    InvalidIdempotencyKey,
                    IdempotencyInProgress,
                    IdempotencyKeyReused,
                ),
            ),
            Operation(
                method="GET",
                path="/api/v1/topics/{topic}/partitions/{partition}/records",
                summary="Fetch records of one partition",
                tag="Records",
                access=(Access("read", "topic", "topic"),),
                handler=self.get_records,
                query=FetchQuery,
                answers={200: FetchedRecords},
                problems=(TopicNotFound, PartitionNotFound, OffsetOutOfRange),
            ),
        ]

    async def post_records(self, call: Call) -> Answer:
        """Stores 1 to 1000 records, all or none, and answers once they are on disk.

        As JSON, or one record a line as NDJSON.
        """
        records = read_records(call.raw, call.media_type)
        info = await alookup(call.path["topic"])
        key = call.headers.get(b"idempotency-key")
        if key is None:
            positions = await self._coalescer.publish(info, records)
            return Answer(body=offsets_json(positions))
        answer, replayed = await idempotency.publish_once(
            call.principal.name, info, idempotency.checked_key(key), call.raw, records, offsets_json
        )
        return Answer(body=answer, headers=[(b"idempotent-replayed", b"true")] if replayed else [])

    async def get_records(self, call: Call) -> Answer:
        """Reads on from an offset, or from the first record at or after a timestamp.

        With `wait_ms` the call is held until there is a record.
        """
        query: FetchQuery = call.query
        info = await alookup(call.path["topic"])
        partition = call.integer("partition")
        number = info.partition_id(partition)
        offset = await _start(info, partition, query)
        deadline = time.monotonic() + query.wait_ms / 1000
        while True:
            mark = self._hub.mark()
            found = await topic_log.afetch(info.name, partition, offset, query.limit, query.max_bytes)
            left = deadline - time.monotonic()
            if found.records or left <= 0 or self._hub.closing:
                return Answer(body=fetched_json(found))
            offset = max(offset, found.next_offset)
            await self._hub.wait((number,), left, mark)


class FetchQuery(msgspec.Struct):
    """Where to begin, and how much to read."""

    offset: Annotated[str, Meta(pattern=r"^(0|[1-9][0-9]{0,18}|earliest|latest)$")] = ""
    """A number, `earliest` or `latest`; `earliest` unless `timestamp` is given."""
    timestamp: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None
    """Begin at the first record at or after this instant, in Unix milliseconds."""
    limit: Annotated[int, Meta(ge=1, le=MAX_RECORDS_PER_REQUEST)] = 100
    max_bytes: Annotated[int, Meta(ge=1, le=MAX_FETCH_BYTES)] = DEFAULT_FETCH_BYTES
    """Stored bytes to read at most; at least one batch is read."""
    wait_ms: Annotated[int, Meta(ge=0, le=MAX_WAIT_MS)] = 0
    """Milliseconds to wait for a record when there is none."""


async def _start(info: TopicInfo, partition: int, query: FetchQuery) -> int:
    if query.timestamp is not None:
        if query.offset:
            raise InvalidValue("give offset or timestamp, not both", pointer="/timestamp")
        return await topic_log.aoffset_at(info, partition, query.timestamp)
    if query.offset in ("", "earliest"):
        return (await topic_log.abounds(info, partition)).earliest
    if query.offset == "latest":
        return (await topic_log.abounds(info, partition)).latest
    return strict_json.parse_integer(query.offset, pointer="/offset", minimum=0)


# -- reading a request --------------------------------------------------------------------------------------------


def read_records(raw: bytes, media_type: str) -> Outgoing:
    """The records of a body; raises what is wrong with it, with a pointer to where."""
    if media_type == NDJSON_TYPE:
        parsed, values = _reader.read_lines(raw)
        pointer = ""
    else:
        body, values = _reader.read(raw)
        parsed, pointer = body.records, "/records"
    if len(parsed) > MAX_RECORDS_PER_REQUEST:
        raise BatchTooLarge(f"{len(parsed)} records are more than {MAX_RECORDS_PER_REQUEST} in one request")
    if not parsed:
        raise InvalidValue("at least one record is needed", pointer=pointer)
    rows: list[Row] = []
    partitioned = stamped = False
    for index, (record, value) in enumerate(zip(parsed, values, strict=True)):
        if record.partition is not None:
            partitioned = True
        if record.timestamp is not None:
            stamped = True
        if record.value_base64 is None and record.key_base64 is None and record.headers is None and value:
            key = record.key
            key_bytes = None if key is None else key.encode()
            if key_bytes is not None and len(key_bytes) > MAX_KEY_BYTES:
                raise _long_key(key_bytes, index, pointer, "key")
            if value == _NULL:
                rows.append((0, key_bytes, None, RAW, NO_HEADERS))
            else:
                rows.append((0, key_bytes, value, JSON, NO_HEADERS))
        else:
            rows.append(_unusual(record, value, index, pointer))
    if stamped:
        rows = [(record.timestamp, *row[1:]) for record, row in zip(parsed, rows, strict=True)]
    return Outgoing(rows, [record.partition for record in parsed] if partitioned else None, stamped)


def _unusual(record: RecordToPublish, value: bytes, index: int, pointer: str) -> Row:
    """A record with bytes or headers, or without a value."""
    body: bytes | None = value
    encoding = JSON
    if record.value_base64 is None:
        if not value:
            raise _wrong(index, pointer, "value", "value or value_base64 is needed; null makes a tombstone")
        if value == _NULL:
            body, encoding = None, RAW
    elif value:
        raise _wrong(index, pointer, "value_base64", "give value or value_base64, not both")
    else:
        body, encoding = _from_base64(record.value_base64, index, pointer, "value_base64"), RAW
    key = None if record.key is None else record.key.encode()
    if record.key_base64 is not None:
        if key is not None:
            raise _wrong(index, pointer, "key_base64", "give key or key_base64, not both")
        key = _from_base64(record.key_base64, index, pointer, "key_base64")
    if key is not None and len(key) > MAX_KEY_BYTES:
        raise _long_key(key, index, pointer, "key" if record.key_base64 is None else "key_base64")
    try:
        headers = checked_headers(record.headers)
    except InvalidValue as error:
        raise _wrong(index, pointer, "headers", error.detail) from error
    return (0, key, body, encoding, headers)


def _long_key(key: bytes, index: int, pointer: str, field: str) -> InvalidValue:
    return _wrong(index, pointer, field, f"the key has {len(key)} bytes; {MAX_KEY_BYTES} are allowed")


def _wrong(index: int, pointer: str, field: str, detail: str) -> InvalidValue:
    return InvalidValue(f"record {index}: {detail}", pointer=f"{pointer}/{index}/{field}")


def _from_base64(text: str, index: int, pointer: str, field: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _wrong(index, pointer, field, "is not base64 (RFC 4648, section 4)") from error


# -- writing an answer --------------------------------------------------------------------------------------------


def offsets_json(positions: Iterable[tuple[int, int]]) -> bytes:
    """The answer to a publish, from partition and offset of each record."""
    return b'{"offsets":[%b]}' % b",".join([b'{"partition":%d,"offset":%d}' % pair for pair in positions])


def fetched_json(found: topic_log.Fetched) -> bytes:
    """The answer to a fetch; JSON values are the very bytes that were published."""
    return b'{"records":[%b],"next_offset":%d,"latest_offset":%d}' % (
        b",".join(map(record_json, found.records)),
        found.next_offset,
        found.latest_offset,
    )
