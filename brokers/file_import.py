"""Publishing a file's records so that an interruption neither loses nor doubles any.

Each chunk of records is appended in one transaction together with how far the import has come, so the same file can
be given again after any crash. Called by the `publish` command; what a line means is `record_files`' matter.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from gzip import GzipFile
from pathlib import Path
from typing import BinaryIO, Final, Self, cast

from django.db import transaction
from django.db.models.functions import Now

from brokers import metrics, record_files, record_input, topic_log, wakeup
from brokers.database import sqlstate, sync_cursor
from brokers.errors import BrokerError, Conflict, InvalidValue, TopicNotFound, Unavailable, shown
from brokers.models import FileImport, Topic
from brokers.outgoing import plan
from brokers.record_files import Chunk, Rules
from brokers.sql import load
from brokers.topics import TopicInfo, lookup

SQL = load("file_import")

FORMATS: Final = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}
_LOCK_CLASS: Final = 0x494D504F
"""First half of the advisory locks' keys; the second comes from the import's row."""
_LOCK_WAIT_MS: Final = 1500
"""A process that was killed lets go of its lock once the server has noticed, which takes a moment."""
_LOCK_NOT_AVAILABLE: Final = "55P03"
_MAX_KEY_NAME: Final = 500


class UnusableFile(BrokerError):
    """The file cannot be read, or is of no kind that is known here."""

    code = "unusable_file"


class ImportUnderWay(Conflict):
    """Another process is importing the same file into the same topic."""

    code = "import_under_way"
    retryable = True


@dataclass(frozen=True, slots=True)
class Progress:
    """Where an import is: the file's records that are in the topic, and how much of its bytes has been read."""

    records: int
    bytes_read: int
    bytes_total: int


def format_of(path: Path) -> str:
    """`csv` or `ndjson`, by the file's name, with or without `.gz`; raises `UnusableFile`."""
    name = path.name.lower().removesuffix(".gz")
    found = FORMATS.get(Path(name).suffix)
    if found is None:
        raise UnusableFile(f"{shown(path.name)} is neither .csv nor .ndjson (.jsonl), nor one of them with .gz")
    return found


class RunningImport:
    """One run of an import. Use it as a context manager, then go through `run()`.

    Entering reads the whole file once, to know it again, and raises `UnusableFile`, `TopicNotFound` or
    `ImportUnderWay`. Must not be used inside a transaction.
    """

    def __init__(self, topic: str, path: Path, key: str | None = None, *, again: bool = False) -> None:
        """`key` names the column or member that is the key; `again` publishes a finished file once more."""
        if key is not None and not 1 <= len(key) <= _MAX_KEY_NAME:
            raise InvalidValue(f"--key names a column or a member with 1 to {_MAX_KEY_NAME} characters")
        self._topic = lookup(topic)
        self._path = path
        self._format = format_of(path)
        self._key = key
        self._again = again
        self._open = ExitStack()
        self.resumed_after = 0
        """Records that earlier runs have published."""
        self.finished_at: datetime | None = None
        """When an earlier run finished the file: then `run` has nothing to do."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._raw = stack.enter_context(_opened(self._path))
            digest = hashlib.file_digest(self._raw, "sha256").digest()
            self._size = self._raw.tell()
            self._raw.seek(0)
            self._row = self._find(digest)
            self._lock(stack)
            self._begin()
            self._open = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    def _find(self, digest: bytes) -> FileImport:
        FileImport.objects.exclude(topic_id__in=Topic.objects.values("id")).delete()
        row, _ = FileImport.objects.get_or_create(
            topic_id=self._topic.id,
            content_sha256=digest,
            file_format=self._format,
            key_column=self._key or "",
        )
        return row

    def _lock(self, stack: ExitStack) -> None:
        """Holds a lock of this database session until the end, which comes also when this process is killed."""
        key = (_LOCK_CLASS, self._row.pk & 0x7FFFFFFF)
        try:
            with transaction.atomic(durable=True), sync_cursor() as cursor:
                cursor.execute(SQL.lock_wait, (str(_LOCK_WAIT_MS),))
                cursor.execute(SQL.lock, key)
        except Unavailable as error:
            if error.__cause__ is not None and sqlstate(error.__cause__) == _LOCK_NOT_AVAILABLE:
                raise self._under_way() from error
            raise
        stack.callback(_unlock, key)

    def _under_way(self) -> ImportUnderWay:
        return ImportUnderWay(f"an import of {self._path.name} into {self._topic.name} is under way")

    def _begin(self) -> None:
        self._row.refresh_from_db()
        if self._row.finished_at is not None and self._again:
            FileImport.objects.filter(pk=self._row.pk).update(records_done=0, finished_at=None, started_at=Now())
            self._row.refresh_from_db()
        self.resumed_after = self._row.records_done
        self.finished_at = self._row.finished_at

    def run(self) -> Iterator[Progress]:
        """Publishes what is left, and says after each chunk, once it is on disk, where it is.

        Raises `BadLine` after publishing all before that line, `TopicNotFound`, `Unavailable`, `ImportUnderWay`.
        """
        if self.finished_at is not None:
            return
        rules = Rules(
            topic=self._topic.name,
            key=self._key,
            max_record_bytes=self._topic.max_record_bytes,
            key_needed=self._topic.compacted,
        )
        done = self.resumed_after
        for chunk in record_files.read(_inflated(self._raw, self._path), self._format, rules, done):
            self._publish(chunk, done)
            done += len(chunk.records)
            yield Progress(done, self._raw.tell(), self._size)
            if chunk.fault is not None:
                raise chunk.fault

    def _publish(self, chunk: Chunk, done: int) -> None:
        info = self._current_topic()
        made = plan(info, record_input.outgoing(chunk.records)) if chunk.records else None
        finished = chunk.last and chunk.fault is None
        with transaction.atomic(durable=True):
            row = FileImport.objects.filter(pk=self._row.pk, records_done=done, finished_at=None)
            if not row.update(records_done=done + len(chunk.records), finished_at=Now() if finished else None):
                raise self._under_way()
            if made is not None:
                topic_log.append(info, made.batches)
        if made is not None:
            metrics.records_published.inc(made.count)
            wakeup.announce_partitions(made.partition_ids())

    def _current_topic(self) -> TopicInfo:
        info = lookup(self._topic.name)
        if info.id != self._topic.id:
            raise TopicNotFound(f"the topic {info.name} was deleted and made anew meanwhile")
        return info


def _unlock(key: tuple[int, int]) -> None:
    with sync_cursor() as cursor:
        cursor.execute(SQL.unlock, key)


def _opened(path: Path) -> io.BufferedReader:
    try:
        # Not to wait for somebody to write into a named pipe.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError as error:
        raise UnusableFile(f"cannot read {shown(path.name)}: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UnusableFile(f"{shown(path.name)} is no regular file, and only such an import could go on later")
    return io.BufferedReader(io.FileIO(descriptor), 1024 * 1024)


def _inflated(file: BinaryIO, path: Path) -> BinaryIO:
    if not path.name.lower().endswith(".gz"):
        return file
    return io.BufferedReader(cast("io.RawIOBase", GzipFile(fileobj=file)), 256 * 1024)
